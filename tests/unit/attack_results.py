"""Results of attacks built by hand, for the tests of the trade-off and of equal accuracy."""

import numpy as np

from lacewing import metrics
from lacewing.results import AttackResult, Epoch, NetworkResult

N = 1000  # members, and as many non-members


def net(name="dense", seed=0, *, test=0.8, density=1.0, method=None, role="target", train=1.0, epochs=0):
    return NetworkResult(
        name, method or name.split("-")[0], role, seed, density, density, 100, round(100 * density), train, test,
        curve=tuple(Epoch(e, 1.0, 0.5, 0.1) for e in range(1, epochs + 1)),
    )  # fmt: skip


def result(network, accuracy, *, n=N, rng=None):
    """An attack of exactly this balanced accuracy on n members and n non-members, and a network of its own accuracy.

    Who is hit and who is classified rightly is nested across networks (first records first), or random with ``rng``.
    """
    member = np.arange(2 * n) < n
    rank = np.arange(2 * n) % n
    hit = rank < round(accuracy * n)  # the attack decided rightly
    correct = np.where(member, True, rank[::-1] < round(network.test_accuracy * n))
    if rng is not None:
        for kind in (member, ~member):
            hit[kind], correct[kind] = rng.permutation(hit[kind]), rng.permutation(correct[kind])
    estimate = metrics.balanced_accuracy(hit == member, member)
    values = {"balanced_accuracy": estimate, "defence": metrics.defence(estimate)}
    return AttackResult(
        network, "discriminator", "mlp", "", n, n, values, {"classes": 10},
        record_N=np.arange(2 * n), member_N=member, hit_N=hit, correct_N=correct,
    )  # fmt: skip
