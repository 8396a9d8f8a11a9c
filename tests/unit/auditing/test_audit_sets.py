"""Audits of ranges and of usage on models: planted cases, nulls, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing.errors import UsageError

R = np.random.default_rng(0)
X = R.normal(size=(240, 6)).astype(np.float32)
Y = R.integers(2, size=240)
MEMBERS, NONMEMBERS = (X[:120], Y[:120]), (X[120:], Y[120:])
WIDE = 0.3
AROUND = {"low": X - WIDE, "high": X + WIDE, "label": Y}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def remembers(x, leak=4.0):
    """Logits that lean to the label of the nearest member, the more the nearer it is."""
    apart = ((np.asarray(x)[:, None] - MEMBERS[0][None]) ** 2).sum(axis=2)
    sign = 2 * MEMBERS[1][apart.argmin(axis=1)] - 1
    odds = leak * sign * np.exp(-apart.min(axis=1)) + np.asarray(x)[:, 0]
    return np.stack([-odds, odds], axis=1)


def test_ranges_around_members_are_found_by_a_model_that_remembers_them_and_by_no_other():
    found = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, **AROUND)
    assert found.metrics["auc"].low > 0.7
    assert found.sentence.startswith("Leakage found: ranges with a member")
    assert (found.member_S == (np.arange(240) < 120)).all()
    null = lw.audit_ranges(lambda x: remembers(x, 0.0), MEMBERS, NONMEMBERS, **AROUND)
    assert null.metrics["auc"].low < 0.5 < null.metrics["auc"].high
    beside = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, others=[lambda x: remembers(x, 0.0)], **AROUND)
    assert beside.metrics["auc"].value > found.metrics["auc"].value  # what is hard for every model is taken off
    again = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, **AROUND)
    assert again.score_S.tobytes() == found.score_S.tobytes()


@pytest.mark.slow
def test_at_most_18_of_200_nulls_of_ranges_find_leakage():
    missed = 0
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(240)
        sides = [(X[rows], Y[rows]) for rows in (order[:120], order[120:])]
        found = lw.audit_ranges(lambda x: remembers(x, 0.0), *sides, points=4, seed=seed, **AROUND)
        missed += not found.metrics["auc"].low <= 0.5 <= found.metrics["auc"].high
    assert missed <= 18


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"low": X + 50, "high": X + 51}, "240 of 240 hold no record of their class"),
        ({"low": X[:, :3], "high": X[:, :3]}, "twice, of a table"),
        ({"points": 0}, "points = 0"),
        ({"task": "regression"}, "needs a classifier|holds"),
        ({"others": [3]}, r"others\[0\] is a int"),
    ],
)
def test_ranges_that_cannot_be_audited_are_refused(change, says):
    with pytest.raises(UsageError, match=says):
        lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, **(AROUND | change))


def refit(x, y, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("used", [0, 60, 120])
def test_the_interval_holds_how_many_records_were_used(used):
    fresh = np.random.default_rng(1).normal(size=(120, 6)).astype(np.float32)
    coins = np.random.default_rng(2).integers(2, size=120)
    owned, bought = 2 * np.arange(used), np.arange(120 - used)  # the model was trained on 120 records in all
    model = refit(np.concatenate([X[owned], fresh[bought]]), np.concatenate([Y[owned], coins[bought]]), 7)
    found = lw.audit_usage(model, (X, Y), refit=refit, references=4, progress=False)
    assert found.share.low <= used / 240 <= found.share.high
    assert found.share.value == pytest.approx(used / 240, abs=0.2)
    assert found.share.high - found.share.low < 0.65
    assert (found.n, found.networks) == (240, 4)


def test_too_few_references_and_other_tasks_are_refused():
    model = refit(*MEMBERS, 0)
    for options, says in (
        ({"references": 2}, "references = 2"),
        ({"task": "multi-label"}, "needs a classifier"),
        ({"refit": 3}, "refit is a int"),
    ):
        with pytest.raises(UsageError, match=says):
            lw.audit_usage(model, (X, Y), **({"refit": refit} | options))
