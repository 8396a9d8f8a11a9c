"""Bootstrap draws of losses and gains over the records of each seed, for studies of fewer than three seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats, resampled_means
from lacewing.results import AttackResult


class Draws(NamedTuple):
    """B bootstrap draws of P pairs of a network and the dense one of its seed."""

    loss_BP: Floats
    gain_BP: Floats


def draws_over_records(
    dense: Mapping[int, AttackResult], sparse: Mapping[int, Sequence[AttackResult]], resamples: int, seed: int
) -> Draws | None:
    """Paired: within a seed each draw takes the same records for the dense and every sparse network.

    None where the results hold no records, as those that were read from results.csv.
    """
    if not all(r.record_N.size for s in dense for r in (dense[s], *sparse[s])):
        return None
    losses, gains = [np.zeros((resamples, 0))], [np.zeros((resamples, 0))]
    for s in dense:
        attacked, accuracy = resampled([dense[s], *sparse[s]], resamples, np.random.default_rng([seed, s]))
        defence = 2 * (1 - attacked)
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw without its denominator counts as undefined
            losses.append(1 - accuracy[:, 1:] / accuracy[:, :1])
            gains.append(defence[:, 1:] / defence[:, :1] - 1)
    return Draws(np.concatenate(losses, axis=1), np.concatenate(gains, axis=1))


def resampled(results: Sequence[AttackResult], resamples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """B draws of the attack's balanced and of the test accuracy of J networks of one seed, (B, J) each.

    Members and non-members are drawn with replacement, in each draw the same for all networks.
    """
    hit_NJ, correct_NJ, member = _aligned(results)
    tpr_BJ = resampled_means(hit_NJ[member], resamples, rng)
    both_N2J = np.concatenate([hit_NJ[~member], correct_NJ[~member]], axis=1)
    tnr_BJ, accuracy_BJ = np.split(resampled_means(both_N2J, resamples, rng), 2, axis=1)
    return (tpr_BJ + tnr_BJ) / 2, accuracy_BJ


def check_same_records(results: Sequence[AttackResult]) -> None:
    """Refuse networks of one seed that were not attacked on the same records; results without records pass.

    Raises:
        UsageError: it names two networks.
    """
    if any(r.record_N.size for r in results):
        _aligned(results)


def _aligned(results: Sequence[AttackResult]) -> tuple[Bools, Bools, Bools]:
    """Hits and correct classifications (N, J) of J networks of one seed, and membership (N), in record order."""
    first = results[0]
    order = [np.argsort(r.record_N, kind="stable") for r in results]
    for r, o in zip(results, order, strict=True):
        if not r.record_N.size or not len(r.record_N) == len(r.member_N) == len(r.hit_N) == len(r.correct_N):
            raise UsageError(
                f"{r.network.id}: record, member, hit and correct must be there, one value for each record."
            )
        same = np.array_equal(r.record_N[o], first.record_N[order[0]])
        if not same or not np.array_equal(r.member_N[o], first.member_N[order[0]]):
            raise UsageError(
                f"{r.network.id} and {first.network.id} were not attacked on the same records: attack both again."
            )
    hit = np.stack([r.hit_N[o] for r, o in zip(results, order, strict=True)], axis=1)
    correct = np.stack([r.correct_N[o] for r, o in zip(results, order, strict=True)], axis=1)
    return hit, correct, first.member_N[order[0]]


def attack_accuracy(result: AttackResult) -> float:
    estimate = result.metrics.get("balanced_accuracy")
    if estimate is None:
        raise UsageError(f"{result.network.id}: the attack '{result.attack}' has no balanced accuracy.")
    return estimate.value
