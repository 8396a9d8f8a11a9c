"""Two networks of one training are hardly ever told apart; one that memorised is told from one that did not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lacewing.attacks import ATTACKS, Evidence, Observed
from lacewing.attacks._measure import perform
from lacewing.auditing._pair_difference import differences
from lacewing.results import NetworkResult

NETWORK = NetworkResult("n", "dense", "target", 0, 1.0, 1.0, 1, 1, 1.0, 1.0)
NAMES = ("loss", "gap", "entropy", "modified-entropy")
SIDE, FEATURES, CLASSES, HIDDEN = 150, 20, 3, 24


def networks(pairs: int, steps: tuple[int, int], seed: int):
    """Logits (pairs, 2, N, C) and labels (pairs, N): in each pair two networks on the same members, trained at once.

    The networks of a pair have an initialisation each and are trained for ``steps``; the first half of N are members.
    """
    torch.manual_seed(seed)
    y = torch.randint(CLASSES, (pairs, 2 * SIDE))
    x = torch.randn(pairs, 2 * SIDE, FEATURES) + 0.6 * torch.nn.functional.one_hot(y, FEATURES)
    answers = []
    for count in steps:
        first = (torch.randn(pairs, FEATURES, HIDDEN) / FEATURES**0.5).requires_grad_()
        second = (torch.randn(pairs, HIDDEN, CLASSES) / HIDDEN**0.5).requires_grad_()
        optimiser = torch.optim.Adam([first, second], lr=0.02)
        for _ in range(count):
            logits = torch.relu(x[:, :SIDE] @ first) @ second
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y[:, :SIDE].flatten(), reduction="sum")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        answers.append((torch.relu(x @ first) @ second).detach())
    return torch.stack(answers, dim=1).numpy(), y.numpy()


def told(logits_2NC, label_N):
    member = np.arange(2 * SIDE) < SIDE
    results = []
    for logits in logits_2NC:
        seen = Evidence(Observed(logits, label_N, member, None, np.arange(2 * SIDE)))
        results.append([perform(ATTACKS[name], seen, NETWORK, seed=0) for name in NAMES])
    return [d for d in differences(*results) if d.established]


@pytest.mark.slow
def test_of_200_pairs_of_one_training_at_most_18_are_told_apart():
    torch.set_num_threads(1)
    logits, label = networks(200, (80, 80), seed=1)
    right = (logits.argmax(-1) == label[:, None]).mean(axis=(0, 1))
    assert right[:SIDE].mean() > 0.9 > 0.75 > right[SIDE:].mean()  # they memorise, so that there is a leak to differ in
    assert sum(bool(told(*pair)) for pair in zip(logits, label, strict=True)) <= 18


def test_a_network_that_memorised_is_told_from_one_that_stopped_early():
    torch.set_num_threads(1)
    found = [told(*pair) for pair in zip(*networks(3, (150, 12), seed=2), strict=True)]
    for of in found:
        assert {d.established for d in of} == {"less"}
        assert any(d.metric == "auc" and d.attack == "loss" for d in of)
