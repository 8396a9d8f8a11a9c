"""Family against family at equal accuracy, declared questions, and what explains the leak."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from attack_results import net
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing.config import Tradeoff
from lacewing.results import AttackResult, Estimate
from lacewing.tradeoff import Waiting, answers, tradeoff
from lacewing.tradeoff._equal import common, difference

SPARSE = np.array([False] * 6 + [True] * 4)


def leaks(accuracy):
    """A common curve: the more accurate, the leakier."""
    return 0.63 + 1.5 * (accuracy - 0.71) + 4 * (accuracy - 0.71) ** 2


def families(seeds=5, shift=0.0, noise=0.004, rng=None, controls=6, sparse=4, low=0.67, high=0.75):
    """Accuracies and leaks (S, J), the controls first; the sparse family leaks ``shift`` more at equal accuracy."""
    rng = rng or np.random.default_rng(0)
    true = np.r_[np.linspace(0.66, 0.76, controls), np.linspace(low, high, sparse)]
    leak = leaks(true) + shift * np.r_[np.zeros(controls), np.ones(sparse)]
    return tuple(each + noise * rng.standard_normal((seeds, len(true))) for each in (true, leak))


# ------------------------------------------------------------------------------------------------- common accuracy


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(60, 80), st.booleans()), min_size=1, max_size=12))
def test_recipes_at_common_accuracy_by_brute_force(recipes):
    accuracy = np.array([a for a, _ in recipes]) / 100
    first = np.array([f for _, f in recipes])
    hundredths = [a for a, _ in recipes]
    others = [[b for b, g in recipes if g != f] for _, f in recipes]
    bracketed = [
        any(a - 2 <= b <= a for b in other) and any(a <= b <= a + 2 for b in other)
        for a, other in zip(hundredths, others, strict=True)
    ]
    near = [
        any(abs(a - b) <= 2 and inside and g != f for (b, g), inside in zip(recipes, bracketed, strict=True))
        for a, f in recipes
    ]
    expected = np.array(bracketed) | np.array(near)
    found = common(accuracy, first)
    assert np.array_equal(found.kept_J, expected)
    enough = (
        sum(bracketed) >= 2 and expected.sum() >= 6 and min((expected & first).sum(), (expected & ~first).sum()) >= 2
    )
    assert (found.reason is None) == enough


def test_families_apart_have_no_common_accuracy_and_the_ranges_are_named():
    found = common(np.array([0.64, 0.65, 0.66, 0.58, 0.60, 0.61]), np.array([False] * 3 + [True] * 3))
    assert found.reason == "no common accuracy: .580-.610 and .640-.660"


# ---------------------------------------------------------------------------------------------------- the difference


@pytest.mark.parametrize("shift", [-0.03, 0.0, 0.02])
def test_a_planted_difference_is_recovered_exactly_where_there_is_no_noise(shift):
    accuracy, leak = families(shift=shift, noise=0.0)
    found = difference(accuracy, leak, SPARSE)
    assert found.estimate.value == pytest.approx(shift, abs=1e-9)  # the curve is a quadratic


def test_the_estimate_is_the_coefficient_of_least_squares_with_a_jackknife_over_seeds():
    accuracy, leak = families(shift=-0.01, seeds=4)

    def shift_of(rows):
        a, y = accuracy[rows].mean(axis=0), leak[rows].mean(axis=0)
        u = (a - a.min()) / (a.max() - a.min())
        return np.linalg.solve(*normal(np.stack([np.ones_like(u), u, u**2, SPARSE], axis=1), y))[-1]

    def normal(columns, y):
        return columns.T @ columns, columns.T @ y

    whole = shift_of([0, 1, 2, 3])
    pseudo = [4 * whole - 3 * shift_of([s for s in range(4) if s != out]) for out in range(4)]
    found = difference(accuracy, leak, SPARSE)
    assert found.estimate.value == pytest.approx(whole)
    half = scipy.stats.t.ppf(0.975, 3) * scipy.stats.sem(pseudo)
    assert found.estimate.low <= whole - half + 1e-12  # the hull of this shape and of the broken line
    assert found.estimate.high >= whole + half - 1e-12
    assert found.sd >= np.std(pseudo, ddof=1) - 1e-12


def test_p_and_hull_say_the_same():
    rng = np.random.default_rng(4)
    for _ in range(200):
        found = difference(*families(seeds=3, rng=rng, noise=0.006, shift=0.01), SPARSE)
        excludes = found.estimate.low > 0 or found.estimate.high < 0
        assert (found.p < 0.05) == excludes
        assert found.p == pytest.approx(min(1, 2 * min(found.p_less, found.p_more)))


def test_a_sparse_family_that_is_secretly_a_control_is_seldom_called_different():
    """1,000 studies under the null: at most 5 % and some noise; comparing the least points errs in 6 to 100 %."""
    rng = np.random.default_rng(11)
    false = [
        difference(*families(seeds=3, rng=rng, noise=0.01, low=0.665, high=0.69), SPARSE).p < 0.05 for _ in range(1000)
    ]
    assert np.mean(false) < 0.065


def test_one_seed_and_equal_accuracies_give_a_sentence():
    accuracy, leak = families(seeds=1)
    assert "one seed" in difference(accuracy, leak, SPARSE)
    assert "too close" in difference(np.full((3, 10), 0.7), families(seeds=3)[1], SPARSE)


# ------------------------------------------------------------------------------------------------ results of a study


def study(seeds=(0, 1, 2, 3), shift=0.0, noise=0.004, rng=None, families_of=("epochs",), method="dense", metric="auc"):
    """A dense network, control families on one curve, and IMP with ``shift``; results hold no records."""
    rng = rng or np.random.default_rng(1)
    recipes = [
        (f"{name}-{i}", name, method, "control", a)
        for name in families_of
        for i, a in enumerate(np.linspace(0.66, 0.76, 6))
    ]
    recipes += [(f"imp-{i:02d}", "imp", "imp", "sparse", a) for i, a in enumerate(np.linspace(0.67, 0.75, 4), 1)]
    found = []
    for s in seeds:
        for name, family, how, kind, true in [("dense", "dense", "dense", "dense", 0.77), *recipes]:
            accuracy, leak = true + noise * rng.standard_normal(), leaks(true) + noise * rng.standard_normal()
            leak += shift * (family == "imp")
            network = dataclasses.replace(
                net(name, s, test=accuracy, density=0.1 if kind == "sparse" else 1.0, method=how),
                family=family,
                kind=kind,
            )
            values = {key: Estimate(leak, leak - 0.02, leak + 0.02) for key in ("balanced_accuracy", metric)}
            found.append(AttackResult(network, "discriminator", "mlp", "", 1000, 1000, values))
    return found


PRIMARY = {"family": "imp", "against": "controls", "metric": "discriminator.auc"}


def ask(results, primary=PRIMARY, comparisons=(), **options):
    return answers(Tradeoff(primary=primary, comparisons=comparisons), results, **options)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-0.05, "leaks less"), (0.05, "leaks more"), (0.0, "no measurable difference")]
)
def test_the_declared_question_is_answered(shift, verdict):
    (found,) = ask(study(shift=shift))
    assert found.primary
    assert found.verdict == verdict
    (d,) = found.differences
    assert (d.family, d.against, d.seeds, d.descriptive) == ("imp", "epochs", 4, False)
    assert d.estimate.low <= shift <= d.estimate.high
    assert found.sentence.startswith("Primary question: does 'imp' leak less than every control")
    assert f"{d.estimate.value:+.3f}" in found.sentence


def test_less_needs_every_control_family_and_more_a_single_one():
    results = study(shift=-0.05, families_of=("epochs", "decay"))
    assert ask(results)[0].verdict == "leaks less"
    apart = [
        r
        if r.network.family != "decay"
        else dataclasses.replace(r, metrics=r.metrics | {"auc": Estimate(*(e - 0.1 for e in r.metrics["auc"]))})
        for r in results
    ]
    (found,) = ask(apart)  # imp lies below one family of controls and above the other
    assert found.verdict == "leaks more"
    assert "than at least one" in found.sentence
    less = [d.p_less for d in found.differences]
    assert min(less) < 0.025 < max(less)


def test_networks_observed_in_mid_schedule_are_described_and_never_tested():
    results = study(shift=-0.05, method="early-stopped")
    (found,) = ask(results)
    assert found.verdict == "no verdict"
    assert found.differences == ()
    described = [d for d in tradeoff(results).differences if (d.metric, d.at) == ("auc", "test accuracy")]
    assert [(d.against, d.descriptive, d.estimate, d.p) for d in described] == [("epochs", True, None, None)]
    assert described[0].value == pytest.approx(-0.05, abs=0.02)


def test_two_seeds_give_a_number_and_no_verdict():
    (found,) = ask(study(seeds=(0, 1), shift=-0.05))
    assert (found.verdict, found.p) == ("no verdict", None)
    assert "2 of at least 3 seeds" in found.sentence
    assert found.differences[0].value == pytest.approx(-0.05, abs=0.02)
    (halves,) = ask(study(seeds=(0, 1, 2, 3), shift=-0.05), halves=True)
    assert "2 of at least 3 cuts" in halves.sentence


def test_equal_train_accuracy_is_description():
    found = tradeoff(study(shift=-0.05)).differences
    assert {(d.at, d.descriptive) for d in found} == {("test accuracy", False), ("train accuracy", True)}


def test_the_shadows_accuracy_decides_who_is_compared():
    results = study(shift=-0.05)
    networks = [r.network for r in results]
    shadows = [dataclasses.replace(n, role="shadow") for n in networks]
    assert tradeoff(results, networks=[*networks, *shadows]).differences == tradeoff(results).differences
    far = [dataclasses.replace(n, test_accuracy=0.3) if n.family == "imp" else n for n in shadows]
    (found, *_) = tradeoff(results, networks=[*networks, *far]).differences
    assert "no common accuracy" in found.reason
    (answer,) = ask(results, networks=[*networks, *far])
    assert answer.verdict == "no common accuracy"
    halves = tradeoff(results, networks=[*networks, *far], halves=True).differences[0]
    assert "no common accuracy" not in (halves.reason or "")  # there are no shadows under random halves


def test_a_recipe_that_lacks_a_seed_is_left_out():
    results = [r for r in study() if r.network.id != "imp-02/target/3"]
    d = tradeoff(results).differences[0]
    assert "imp-02" not in d.recipes
    assert d.seeds == 4


def test_families_of_one_recipe_are_named_and_left_out():
    found = tradeoff(study())
    assert {(d.family, d.against) for d in found.differences} == {("imp", "epochs")}
    assert any("dense" in note and "one recipe" in note for note in found.notes)


def test_declared_comparisons_are_corrected_after_holm():
    rng = np.random.default_rng(8)
    results = study(shift=-0.012, rng=rng)
    asked = [{**PRIMARY, "metric": f"discriminator.{m}"} for m in ("auc", "balanced_accuracy")]
    alone = [ask(results, primary=each)[0].p for each in asked]
    found = ask(results, primary=None, comparisons=asked)
    order = np.argsort(alone)
    expected = np.empty(2)
    expected[order[0]] = min(1, 2 * alone[order[0]])
    expected[order[1]] = max(expected[order[0]], alone[order[1]])
    assert [a.p_corrected for a in found] == pytest.approx(list(expected))
    assert all("after Holm" in a.sentence and not a.primary for a in found)


@pytest.mark.parametrize(
    ("waits", "answered"),
    [
        (("discriminator", "imp", "sparse"), False),
        (("discriminator", "decay", "control"), False),
        (("discriminator", "butterfly", "sparse"), True),
        (("lira-offline", "imp", "sparse"), True),
    ],
)
def test_a_study_that_is_not_finished_has_no_verdict_yet(waits, answered):
    (found,) = ask(study(shift=-0.05), waiting=[Waiting(*waits)])
    assert (found.verdict == "leaks less") == answered
    assert ("1 attack of it has not run yet" in found.sentence) == (not answered)
    assert (found.p is None) == (not answered)


def test_an_attack_without_results_yet_is_said():
    (found,) = ask(study(), primary={**PRIMARY, "metric": "lira.auc"})
    assert found.verdict == "no verdict"
    assert "no results of these families yet" in found.sentence


# ------------------------------------------------------------------------------------------------- what explains it


def test_the_explained_share_is_that_of_a_quadratic_and_the_method_adds_the_rest():
    rng = np.random.default_rng(0)
    results = []
    for i, (train, how) in enumerate(zip(rng.uniform(0.81, 1, 30), ["imp", "dense", "butterfly"] * 10, strict=True)):
        leak = 0.5 + (train - 0.8) ** 2 * 4 + 0.02 * (how == "butterfly") + rng.normal(0, 0.005)
        network = net(f"{how}-{i}", 0, method=how, train=train)
        metrics = {"balanced_accuracy": Estimate(leak, leak, leak)}
        results.append(AttackResult(network, "discriminator", "", "", 10, 10, metrics))
    low = net("imp-99", 0, method="imp", train=0.5)
    results.append(AttackResult(low, "discriminator", "", "", 10, 10, {"balanced_accuracy": Estimate(0.9, 0.9, 0.9)}))
    found = tradeoff(results).explained
    train, leak = np.array([(r.network.train_accuracy, r.metrics["balanced_accuracy"].value) for r in results[:-1]]).T
    fit = np.polynomial.Polynomial.fit(train, leak, 2)
    assert found.networks == 30
    assert found.r_squared == pytest.approx(1 - np.var(leak - fit(train)) / np.var(leak))
    c0, c1, c2 = found.coefficients
    assert c0 + c1 * 0.9 + c2 * 0.81 == pytest.approx(fit(0.9))
    which = np.array([[r.network.method == m for m in ("dense", "imp")] for r in results[:-1]], float)
    columns = np.c_[np.ones(30), train, train**2, which]
    fitted = columns @ np.linalg.lstsq(columns, leak, rcond=None)[0]
    assert found.method_adds == pytest.approx(1 - np.var(leak - fitted) / np.var(leak) - found.r_squared)
    assert tradeoff(results[:7]).explained is None
