"""What every attack of the registry promises: one table of worlds that each of them must pass."""

from __future__ import annotations

import dataclasses
import warnings
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lacewing.attacks import (
    ATTACKS,
    Evidence,
    FirstLayer,
    Observed,
    Population,
    References,
    _discriminator,
    _samia,
    perform,
    phi,
)
from lacewing.metrics import Estimate
from lacewing.results import METRICS, NetworkResult

NETWORK = NetworkResult("imp-02", "imp", "target", 0, 0.1, 0.1, 100, 10, 1.0, 0.5)
C, K, Q, S, Z = 4, 8, 4, 3, 120
H, D = 40, 200  # of a first layer
REPEATS, MOST = 200, 18
FEW, MOST_OF_FEW = 40, 7  # in tests that are not slow
SMALL: tuple[tuple[Any, str, Any], ...] = (  # learned attacks in a size that hundreds of fits allow
    (_discriminator, "EPOCHS", 15),
    (_discriminator, "HIDDEN", ((8,),)),
    (_discriminator, "LEARNING_RATES", (1e-2,)),
    (_samia, "LEARNING_RATES", (3e-3,)),
    (_samia, "EPOCHS", (2, 2)),
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`SMALL`: their choice among nine networks is tested elsewhere."""
    for change in SMALL:
        monkeypatch.setattr(*change)


def world(seed: int, leak: float, n: int = 120, scale: float = 1.0) -> Evidence:
    """Everything that an attacker can hold about networks that know their members better by ``leak`` nats.

    A record has a label, a difficulty of its own and, of each network, an answer; all that is observed follows from
    the answer's margin. ``scale`` multiplies the logits.
    """
    rng, more = (np.random.default_rng([seed, stream]) for stream in (11, 12))
    layers = np.random.default_rng([seed, 13])

    def first_layer(member: Any) -> tuple[npt.NDArray[np.float64], FirstLayer]:
        """Inputs of the records, and a layer that moved within the span of the members; without a leak, of others."""
        inputs, others = layers.normal(size=(2, len(member), D))
        trained_on = inputs[member] if leak else others[: member.sum()]
        initial = layers.uniform(-1, 1, (H, D)) / np.sqrt(D)
        weights = 0.9 * initial + layers.normal(size=(H, len(trained_on))) @ trained_on / 20
        return inputs, FirstLayer(weights, np.ones((H, D), bool), len(trained_on), initial)

    def records(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        return rng.integers(C, size=count), rng.normal(scale=1.5, size=count)

    def answers(label: Any, hardness: Any, member: Any) -> npt.NDArray[np.float64]:
        logits = rng.normal(size=(len(label), C))
        logits[np.arange(len(label)), label] += 1.0 + hardness + leak * member
        return scale * logits

    def observed(label: Any, hardness: Any, member: Any, record: Any) -> Observed:
        logits = answers(label, hardness, member)
        margin = np.clip(phi(logits, label), -50, 50)
        size = np.exp(-margin / 2)
        phi_NQ = margin[:, None] + np.r_[0.0, np.full(Q - 1, 0.5)] * rng.normal(size=(len(label), Q))
        inputs, layer = first_layer(member)
        right_NS = (margin[:, None, None] + rng.normal(size=(len(label), S, 2)) * np.arange(1, S + 1)[:, None]) > 0
        return Observed(
            logits_NC=logits,
            label_N=label,
            member_N=member,
            sensitivity_N=size * np.exp(0.3 * rng.normal(size=len(label))),
            record_N=record,
            phi_NQ=phi_NQ,
            right_NQ=phi_NQ > 0,
            right_NS=right_NS.mean(axis=2),
            gradient_N2=size[:, None] * np.exp(0.3 * rng.normal(size=(len(label), 2))),
            boundary_N=np.maximum(margin, 0) * np.exp(0.3 * more.normal(size=len(label))),
            asked_N=np.full(len(label), 900),
            layer_NF=np.log(size)[:, None] + 0.3 * more.normal(size=(len(label), 5)),
            inputs_ND=inputs,
            first_layer=layer,
        )

    def evidence(shadow: Evidence | None = None, **others: Evidence) -> Evidence:
        label, hardness = records(n)
        member, record = rng.permutation(np.arange(n) < n // 2), rng.permutation(10 * n)[:n]
        half = rng.random((K // 2, n)).argsort(axis=1) < n // 2
        inside = np.concatenate([half, ~half])
        logits_KNC = np.stack([answers(label, hardness, trained) for trained in inside])
        noise = np.r_[0.0, np.full(Q - 1, 0.5)]
        phi_KN = np.clip([phi(logits, label) for logits in logits_KNC], -50, 50)
        population_label, population_hardness = records(Z)
        outside = np.zeros(Z, bool)
        return Evidence(
            observed=observed(label, hardness, member, record),
            references=References(
                logits_KNC,
                inside,
                tuple(map(str, range(K))),
                phi_KN[..., None] + noise * rng.normal(size=(K, n, Q)),
            ),
            population=Population(
                answers(population_label, population_hardness, outside),
                population_label,
                np.stack([answers(population_label, population_hardness, outside) for _ in range(K)]),
            ),
            related=tuple(observed(label, hardness, member, record) for _ in range(2)),
            shadow=shadow,
            other_shadows=others,
        )

    return evidence(evidence(), **{kind: evidence() for kind in ("dense", "mismatched", "imposed")})


def reordered(held: Evidence, order: npt.NDArray[np.int64]) -> Evidence:
    """The same evidence with the audited records in another order."""

    def turned(seen: Observed) -> Observed:
        return Observed(
            **{name: values[order] if isinstance(values, np.ndarray) else values for name, values in vars(seen).items()}
        )

    of = held.references
    assert of is not None
    assert of.phi_KNQ is not None
    references = References(of.logits_KNC[:, order], of.in_KN[:, order], of.name_K, of.phi_KNQ[:, order])
    related = tuple(turned(other) for other in held.related)
    return dataclasses.replace(held, observed=turned(held.observed), references=references, related=related)


def holds(estimate: Estimate | None) -> bool:
    return estimate is None or estimate.low <= 0.5 <= estimate.high


@pytest.mark.parametrize("name", ATTACKS)
def test_a_planted_leak_is_found(name: str, request: pytest.FixtureRequest) -> None:
    if not ATTACKS[name].in_all:
        request.getfixturevalue("small")
    result = perform(ATTACKS[name], world(1, leak=4.0, n=300), NETWORK, seed=0)
    area, accuracy = result.metrics["auc"], result.metrics["balanced_accuracy"]
    assert area is not None
    assert accuracy is not None  # with a shadow or references, every attack decides
    assert area.low > 0.5
    assert accuracy.low > 0.5


def misses(name: str, repeats: int) -> tuple[int, int]:
    """In how many of the nulls the interval of AUC, and of balanced accuracy, leaves out 0.5."""
    found = [perform(ATTACKS[name], null(seed), NETWORK, seed=seed).metrics for seed in range(repeats)]
    auc, accuracy = ([not holds(metrics[m]) for metrics in found] for m in ("auc", "balanced_accuracy"))
    return sum(auc), sum(accuracy)


@lru_cache(maxsize=REPEATS)
def null(seed: int) -> Evidence:
    return world(seed, leak=0.0)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("small")
def test_half_is_inside_the_intervals_of_nearly_all_nulls(name: str) -> None:
    assert max(misses(name, FEW)) <= MOST_OF_FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("small")
def test_at_most_18_of_200_nulls_find_something(name: str) -> None:
    assert max(misses(name, REPEATS)) <= MOST


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("small")
def test_scores_follow_the_records_in_any_order_and_are_the_same_again(name: str) -> None:
    held = world(2, leak=1.0)
    order = np.random.default_rng(0).permutation(len(held.observed.label_N))
    first, again, moved = (ATTACKS[name].function(given, seed=3) for given in (held, held, reordered(held, order)))
    np.testing.assert_array_equal(first.scores_N, again.scores_N)
    np.testing.assert_allclose(moved.scores_N, first.scores_N[order], rtol=1e-6, atol=1e-9)
    assert (first.decision_N is None) == (again.decision_N is None) == (moved.decision_N is None)
    if first.decision_N is not None and again.decision_N is not None:
        np.testing.assert_array_equal(first.decision_N, again.decision_N)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("small")
def test_extreme_logits_give_finite_scores_without_a_warning(name: str) -> None:
    held = world(3, leak=2.0, scale=4000.0)
    assert np.abs(held.observed.logits_NC).max() > 1e4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = perform(ATTACKS[name], held, NETWORK, seed=0)
    assert np.isfinite(result.score_N).all()
    assert result.metrics["auc"] is not None


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("small")
def test_membership_of_the_target_is_read_by_nobody(name: str) -> None:
    held = world(4, leak=2.0)
    flipped = dataclasses.replace(held.observed, member_N=~held.observed.member_N)
    related = tuple(dataclasses.replace(other, member_N=flipped.member_N) for other in held.related)
    other = dataclasses.replace(held, observed=flipped, related=related)
    attack = partial(ATTACKS[name].function, seed=0)
    np.testing.assert_array_equal(attack(held).scores_N, attack(other).scores_N)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.usefixtures("small")
def test_every_metric_is_there_and_refused_where_n_is_too_small(name: str) -> None:
    result = perform(ATTACKS[name], world(5, leak=1.0, n=240), NETWORK, seed=0)
    assert set(result.metrics) == set(METRICS)
    assert result.metrics["tpr_at_fpr_0.01"] is not None
    assert result.metrics["tpr_at_fpr_0.001"] is None  # 1/120 is above 0.001
    assert (result.n_members, result.n_nonmembers) == (120, 120)
    for metric, estimate in result.metrics.items():
        assert estimate is None or estimate.low <= estimate.value <= estimate.high, metric
