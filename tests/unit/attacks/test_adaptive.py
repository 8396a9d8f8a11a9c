"""Adaptive attackers: each finds what only its knowledge shows, uses its own shadow, and needs what it says."""

import dataclasses

import numpy as np
import pytest

from lacewing.attacks import _discriminator
from lacewing.attacks._adaptive import ENTRIES
from lacewing.attacks._discriminator import ENTRIES as PLAIN
from lacewing.attacks._measure import perform
from lacewing.attacks._types import Evidence, Observed
from lacewing.errors import UsageError
from lacewing.results import NetworkResult

NETWORK = NetworkResult("imp-02", "imp", "target", 0, 0.1, 0.1, 100, 10, 1.0, 0.5)
ENTRY = {entry.name: entry for entry in (*PLAIN, *ENTRIES) if entry.name != "discriminator-queries"}
OTHER = {
    "discriminator-unaware": "dense",
    "discriminator-mismatched": "mismatched",
    "discriminator-imposed-mask": "imposed",
}
N = 200


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """One small, quick discriminator for nine: the choice among them is tested elsewhere."""
    monkeypatch.setattr(_discriminator, "EPOCHS", 30)
    monkeypatch.setattr(_discriminator, "HIDDEN", ((30,),))
    monkeypatch.setattr(_discriminator, "LEARNING_RATES", (3e-2,))


def seen(seed, leak, like=None, kept=0.0):
    """What is seen of one network: surer of its members by ``leak``; log gradient on kept weights moved by ``kept``."""
    rng = np.random.default_rng([seed, 7])
    member = rng.permutation(np.arange(N) < N // 2) if like is None else like.member_N
    label = rng.integers(3, size=N) if like is None else like.label_N
    record = rng.permutation(10 * N)[:N] if like is None else like.record_N
    logits = rng.normal(size=(N, 3))
    logits[np.arange(N), label] += 1 + leak * member
    size = rng.normal(scale=3.0, size=N)
    gradient = np.exp(np.stack([size + kept * member, size], axis=1) + 0.3 * rng.normal(size=(N, 2)))
    return Observed(logits, label, member, np.exp(rng.normal(size=N)), record, gradient_N2=gradient)


def evidence(seed, leak=0.0, dense=0.0, level=0.0, kept=0.0):
    """A network and its two denser versions, each with a leak of its own."""
    observed = seen(seed, leak, kept=kept)
    return Evidence(observed, related=(seen(seed + 1, dense, observed), seen(seed + 2, level, observed)))


def both(seed=0, **leaks):
    """A target with its shadow; the other shadows are like the shadow."""
    shadow = evidence(1000 + seed, **leaks)
    others = {
        kind: evidence(2000 + 100 * i + seed, **leaks) for i, kind in enumerate(("dense", "mismatched", "imposed"))
    }
    return dataclasses.replace(evidence(seed, **leaks), shadow=shadow, other_shadows=others)


def auc(name, held, seed=0):
    return perform(ENTRY[name], held, NETWORK, seed=seed).metrics["auc"]


@pytest.mark.parametrize(
    ("leak", "finders"),
    [
        ("dense", {"discriminator-dense-and-sparse", "discriminator-all-levels"}),
        ("level", {"discriminator-all-levels"}),
        ("kept", {"discriminator-mask-features"}),
    ],
)
def test_a_leak_elsewhere_is_found_only_by_those_who_look_there(leak, finders):
    held = both(**{leak: 4.0})
    found = {name: auc(name, held) for name in ENTRY}
    assert {name for name, area in found.items() if area.value > 0.85} == finders
    assert all(area.value < 0.65 for name, area in found.items() if name not in finders)


@pytest.mark.parametrize("name", OTHER)
def test_each_learns_on_the_shadow_that_it_is_named_for(name):
    target, alike, opposite = evidence(0, leak=3.0), evidence(1000, leak=3.0), evidence(2000, leak=-3.0)
    others = {kind: alike if kind == OTHER[name] else opposite for kind in OTHER.values()}
    held = dataclasses.replace(target, shadow=opposite, other_shadows=others)
    assert auc(name, held).value > 0.85
    assert auc("discriminator", held).value < 0.3
    with pytest.raises(UsageError, match=f"no '{OTHER[name]}' shadow"):
        ENTRY[name].function(dataclasses.replace(held, other_shadows={"other": alike}), seed=0)


def test_half_is_inside_the_intervals_where_nothing_leaks():
    held = []
    for seed in range(3):
        world = both(seed=10 * seed)
        for entry in ENTRY.values():
            found = perform(entry, world, NETWORK, seed=seed).metrics
            held += [found[m].low <= 0.5 <= found[m].high for m in ("auc", "balanced_accuracy")]
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("name", ENTRY)
def test_the_order_of_the_target_records_does_not_matter(name):
    held, order = both(leak=2.0), np.random.default_rng(0).permutation(N)

    def turned(observed):
        arrays = {f.name: getattr(observed, f.name) for f in dataclasses.fields(observed)}
        return Observed(**{k: v[order] if isinstance(v, np.ndarray) else v for k, v in arrays.items()})

    related = tuple(turned(other) for other in held.related)
    moved = dataclasses.replace(held, observed=turned(held.observed), related=related)
    scores = ENTRY[name].function(held, seed=0).scores_N
    np.testing.assert_allclose(ENTRY[name].function(moved, seed=0).scores_N, scores[order], rtol=1e-9)


@pytest.mark.parametrize("name", ENTRY)
def test_an_entry_finds_a_leak_with_what_it_says_it_needs_and_with_nothing_less(name):
    entry, full = ENTRY[name], both(leak=4.0)

    def only(needs):
        def cut(observed):
            kept = {"sensitivity_N": "sensitivity", "gradient_N2": "gradients"}
            return dataclasses.replace(observed, **{field: None for field, need in kept.items() if need not in needs})

        def part(held):
            related = held.related if "levels" in needs else held.related[:1] if "dense" in needs else ()
            return Evidence(cut(held.observed), related=tuple(map(cut, related)))

        others = {kind: part(other) for kind, other in full.other_shadows.items() if f"{kind}-shadow" in needs}
        shadow = part(full.shadow) if "shadow" in needs else None
        return dataclasses.replace(part(full), shadow=shadow, other_shadows=others)

    found = perform(entry, full, NETWORK, seed=0)
    assert found.metrics["auc"].value > 0.85
    again = perform(entry, only(entry.needs), NETWORK, seed=0)
    assert again.score_N.tobytes() == found.score_N.tobytes()
    for need in entry.needs:
        with pytest.raises(UsageError, match=f"'{name}' needs"):
            perform(entry, only(entry.needs - {need}), NETWORK, seed=0)


def test_extreme_logits_and_vanished_gradients_give_finite_scores():
    held = both(leak=2.0)
    wild = dataclasses.replace(
        held.observed, logits_NC=1e4 * held.observed.logits_NC, gradient_N2=np.zeros((N, 2), np.float32)
    )
    held = dataclasses.replace(held, observed=wild)
    assert all(np.isfinite(entry.function(held, seed=0).scores_N).all() for entry in ENTRY.values())


@pytest.mark.parametrize("name", ["discriminator-dense-and-sparse", "discriminator-all-levels"])
@pytest.mark.parametrize("side", ["target", "shadow"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda o: dataclasses.replace(o, record_N=np.roll(o.record_N, 1)), "other records or in another order"),
        (lambda o: dataclasses.replace(o, label_N=np.roll(o.label_N, 1)), "other labels"),
        (lambda o: dataclasses.replace(o, logits_NC=np.zeros((N, 4))), "4 classes"),
        (lambda o: dataclasses.replace(o, sensitivity_N=None), "no sensitivity"),
    ],
)
def test_a_related_network_that_saw_something_else_is_refused(name, side, change, said):
    held = both()
    where = held if side == "target" else held.shadow
    broken = dataclasses.replace(where, related=(change(where.related[0]), *where.related[1:]))
    held = broken if side == "target" else dataclasses.replace(held, shadow=broken)
    with pytest.raises(UsageError, match=f"{side}'s related network 0.*{said}"):
        ENTRY[name].function(held, seed=0)


def test_chains_of_unequal_length_and_gradients_that_are_no_norms_are_refused():
    held = both()
    short = dataclasses.replace(held, shadow=dataclasses.replace(held.shadow, related=held.shadow.related[:1]))
    with pytest.raises(UsageError, match="related networks are 1 and the target's 2"):
        ENTRY["discriminator-all-levels"].function(short, seed=0)
    without = dataclasses.replace(held, shadow=dataclasses.replace(held.shadow, related=()))
    with pytest.raises(UsageError, match="shadow has no related"):
        ENTRY["discriminator-dense-and-sparse"].function(without, seed=0)
    for bad, said in ((np.ones((N, 1)), "two columns"), (-np.ones((N, 2)), "negative")):
        changed = dataclasses.replace(held, observed=dataclasses.replace(held.observed, gradient_N2=bad))
        with pytest.raises(UsageError, match=f"target.*{said}"):
            ENTRY["discriminator-mask-features"].function(changed, seed=0)
