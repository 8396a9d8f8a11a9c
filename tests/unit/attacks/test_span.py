"""Span attacks: what a first layer's weights tell of the records that it was trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.attacks import ATTACKS, Evidence, FirstLayer, Observed, _subspace
from lacewing.attacks._span import span_scores
from lacewing.errors import UsageError
from lacewing.metrics import auc
from lacewing.reconstruction import first_layer

N, D, H = 16, 60, 48


def evidence(
    weights: np.ndarray, x: np.ndarray, initial: np.ndarray | None = None, kept: np.ndarray | None = None
) -> Evidence:
    """Of records whose first half are members."""
    n = len(x)
    return Evidence(
        Observed(
            logits_NC=np.zeros((n, 2)),
            label_N=np.zeros(n, np.int64),
            member_N=np.arange(n) < n // 2,
            sensitivity_N=None,
            record_N=np.arange(n),
            inputs_ND=x,
            first_layer=FirstLayer(weights, np.ones(weights.shape, bool) if kept is None else kept, n // 2, initial),
        )
    )


def trained(
    *, weight_decay: float = 0.0, kept: np.ndarray | None = None, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights before and after SGD with momentum in double precision, and the records, N members first."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(2 * N, D, generator=rng, dtype=torch.float64) + 0.5
    y = torch.randint(3, (2 * N,), generator=rng)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 3)).double()
    mask = torch.ones(H, D, dtype=torch.float64) if kept is None else torch.from_numpy(kept).double()
    with torch.no_grad():
        model[0].weight.mul_(scale * mask)
    initial = model[0].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)
    for step in range(60):
        rows = torch.arange(N)[step % 2 :: 2]
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model[0].weight.mul_(mask)
    return initial.numpy(), model[0].weight.detach().numpy(), x.numpy()


def area(scores: np.ndarray) -> float:
    return auc(scores, np.arange(len(scores)) < len(scores) // 2).value


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_members_of_a_trained_network_lie_in_the_span_entirely(weight_decay: float) -> None:
    initial, weights, x = trained(weight_decay=weight_decay)
    scores = span_scores(evidence(weights, x, initial), initialisation=True, candidates=False)
    np.testing.assert_allclose(scores[:N], 1.0, atol=1e-6)
    # Others: their projection onto the members, by least squares.
    fitted = np.linalg.lstsq(x[:N].T, x[N:].T, rcond=None)[0].T @ x[:N]
    np.testing.assert_allclose(scores[N:], (fitted**2).sum(1) / (x[N:] ** 2).sum(1), atol=1e-3)


def test_the_share_left_of_the_initialisation_is_the_product_of_the_decays() -> None:
    initial, weights, _ = trained(weight_decay=1e-2)
    state, speed = 1.0, 0.0  # the same recursion of SGD with momentum for one number without a loss
    for _ in range(60):
        speed = 0.9 * speed + 1e-2 * state
        state -= 0.1 * speed
    assert state < 0.6
    assert _subspace.share_left(weights, initial, N) == pytest.approx(state, abs=1e-5)


def test_a_small_unknown_initialisation_hides_nothing_and_a_usual_one_a_part() -> None:
    _, weights, x = trained(scale=1e-3)
    small = span_scores(evidence(weights, x), initialisation=False, candidates=False)
    assert area(small) == 1.0
    assert small[:N].min() > 0.99
    _, weights, x = trained()
    usual = span_scores(evidence(weights, x), initialisation=False, candidates=False)
    assert usual[:N].max() < 0.95
    known = span_scores(evidence(weights, x, np.zeros_like(weights)), initialisation=True, candidates=False)
    assert area(usual) > 0.6
    assert known[:N].min() < 0.99  # a wrong initialisation is none


def test_a_mask_is_completed_and_what_was_pruned_is_never_read() -> None:
    kept = np.random.default_rng(0).random((H, D)) < 0.75
    initial, weights, x = trained(kept=kept, weight_decay=1e-3)
    scores = span_scores(evidence(weights, x, initial, kept), initialisation=True, candidates=False)
    zeros = span_scores(evidence(weights, x, initial), initialisation=True, candidates=False)
    assert area(scores) == 1.0
    assert scores[:N].min() > 0.98 > zeros[:N].mean()
    for candidates in (False, True):
        spoiled = [np.where(kept, values, 7.0) for values in (weights, initial)]
        again = span_scores(evidence(spoiled[0], x, spoiled[1], kept), initialisation=True, candidates=candidates)
        first = span_scores(evidence(weights, x, initial, kept), initialisation=True, candidates=candidates)
        np.testing.assert_allclose(again, first, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("known", [True, False])
def test_candidates_together_are_found_where_too_few_weights_are_left_to_complete(known: bool) -> None:
    kept = np.random.default_rng(1).random((H, D)) < 0.25  # 720 of 1,472 numbers of a matrix of rank 16
    initial, weights, x = trained(kept=kept, weight_decay=1e-3)
    held = evidence(weights, x, initial if known else None, kept)
    together = span_scores(held, initialisation=known, candidates=True)
    alone = span_scores(held, initialisation=known, candidates=False)
    assert together.sum() == pytest.approx(1.0)
    assert area(together) > (0.99 if known else 0.8)
    assert area(together) > area(alone) + 0.05


def test_trust_is_the_squared_cosine_with_the_true_direction() -> None:
    rng = np.random.default_rng(5)
    cosines, trusts = [], []
    for _ in range(20):
        direction = np.linalg.qr(rng.normal(size=(300, 1)))[0][:, 0]
        unit = np.linalg.qr(rng.normal(size=(120, 1)))[0][:, 0]
        found = _subspace.unknown(
            0.05 * rng.normal(size=(120, 300)) + 1.2 * np.outer(unit, direction), np.ones((120, 300), bool), 5
        )
        cosines.append(float(found.rows_RD[0] @ direction) ** 2)
        trusts.append(found.trust_R[0])
        assert found.trust_R[5:].max() < 0.25  # of the noise
    assert np.mean(trusts) == pytest.approx(np.mean(cosines), abs=0.05)


def test_as_many_records_as_inputs_are_refused() -> None:
    with pytest.raises(UsageError, match=r"60 training records span all 60 inputs.*fewer training records"):
        FirstLayer(np.zeros((H, D)), np.ones((H, D), bool), D)
    with pytest.raises(UsageError, match="mask"):
        FirstLayer(np.zeros((H, D)), np.ones((D, H), bool), 3)
    with pytest.raises(UsageError, match="NaN"):
        FirstLayer(np.full((H, D), np.nan), np.ones((H, D), bool), 3)
    held = evidence(np.ones((H, D)), np.ones((2 * N, D)))
    with pytest.raises(UsageError, match="initialisation"):
        span_scores(held, initialisation=True, candidates=False)
    with pytest.raises(UsageError, match="beside a first layer of 60"):
        dataclasses.replace(held.observed, inputs_ND=np.ones((2 * N, 5)))


def test_decisions_come_from_the_shadow_and_without_its_layer_there_are_none() -> None:
    initial, weights, x = trained()
    held = evidence(weights, x, initial)
    shadow = evidence(weights, x, initial)
    scored = ATTACKS["span"].function(dataclasses.replace(held, shadow=shadow), seed=0)
    assert scored.decision_N is not None
    np.testing.assert_array_equal(scored.decision_N, held.observed.member_N)
    bare = dataclasses.replace(shadow, observed=dataclasses.replace(shadow.observed, first_layer=None))
    assert ATTACKS["span"].function(dataclasses.replace(held, shadow=bare), seed=0).decision_N is None


def test_the_first_layer_must_see_the_record_itself() -> None:
    x = torch.randn(4, 1, 3, 3)
    plain = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2))
    assert first_layer(plain, x) == "2"
    assert plain.training
    assert plain[1].training
    with pytest.raises(UsageError, match="Conv2d"):
        first_layer(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)), x)
    with pytest.raises(UsageError, match="does not see the record itself"):
        first_layer(nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(9, 2)), x)
    with pytest.raises(UsageError, match="none"):
        first_layer(nn.Flatten(), x)
