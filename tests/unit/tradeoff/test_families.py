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
from lacewing.tradeoff import History, Waiting, answers, tradeoff
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
    assert found.bracketed == sum(bracketed)
    enough = (
        sum(bracketed) >= 2 and expected.sum() >= 6 and min((expected & first).sum(), (expected & ~first).sum()) >= 2
    )
    assert found.enough == enough


# ---------------------------------------------------------------------------------------------------- the difference


@pytest.mark.parametrize("shift", [-0.03, 0.0, 0.02])
def test_a_planted_difference_is_recovered_exactly_where_there_is_no_noise(shift):
    accuracy, leak = families(shift=shift, noise=0.0)
    leak[:, 0] += [1e-6, -1e-6, 0, 2e-6, -2e-6]  # so that there is a spread over seeds
    found = difference(accuracy, leak, SPARSE)
    assert found.estimate.value == pytest.approx(shift, abs=1e-5)  # the curve is a quadratic


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
    assert "do not determine a curve" in difference(np.full((3, 10), 0.7), families(seeds=3)[1], SPARSE)


def test_seeds_that_do_not_differ_leave_nothing_to_test():
    """Rounding alone must not make a difference."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        accuracy, leak = families(seeds=4, rng=rng, noise=0.0)
        assert "do not differ" in difference(
            accuracy + rng.normal(0, 0.004, accuracy.shape), np.full_like(leak, 0.7), SPARSE
        )
    (found,) = ask([replaced(r, 0.7) for r in study()])
    assert (found.verdict, found.p) == ("no verdict", None)


def replaced(result, leak):
    return dataclasses.replace(result, metrics={name: Estimate(leak, leak, leak) for name in result.metrics})


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
    assert f"(half of it takes {d.detectable.seeds_for_half})" in found.sentence


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


@pytest.mark.parametrize("shift", [-0.05, 0.05])
def test_of_many_control_families_the_sentence_quotes_the_one_that_decides(shift):
    (found,) = ask(study(shift=shift, families_of=("epochs", "decay", "width", "smooth")))
    assert len(found.differences) == 4
    sides = {d.against: d.p_less if shift < 0 else d.p_more for d in found.differences}
    decides = max(sides, key=sides.get) if shift < 0 else min(sides, key=sides.get)
    quoted = [d.against for d in found.differences if f"{d.estimate.value:+.3f} [" in found.sentence]
    assert decides in quoted
    assert found.sentence.count("imp - ") == 1
    assert f"imp - {decides}: " in found.sentence
    assert f"of 4: imp - {decides}" in found.sentence


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
    lacking = [n for n in shadows if n.id != "imp-02/shadow/1"]
    (gone, *_) = tradeoff(results, networks=[*networks, *lacking]).differences
    assert (gone.estimate, gone.reason) == (
        None,
        "the shadow network of a recipe is missing, whose accuracy decides what is compared",
    )
    far = [dataclasses.replace(n, test_accuracy=0.3) if n.family == "imp" else n for n in shadows]
    (found, *_) = tradeoff(results, networks=[*networks, *far]).differences
    assert found.reason.startswith("no common accuracy (test accuracy of shadow networks: imp .300, epochs .6")
    assert "no recipe has one of the other family within 0.02 below it and one within 0.02 above it" in found.reason
    (answer,) = ask(results, networks=[*networks, *far])
    assert answer.verdict == "no common accuracy"
    halves = tradeoff(results, networks=[*networks, *far], halves=True).differences[0]
    assert "no common accuracy" not in (halves.reason or "")  # there are no shadows under random halves


def test_a_recipe_that_lacks_a_seed_is_left_out():
    results = [r for r in study() if r.network.id != "imp-02/target/3"]
    d = tradeoff(results).differences[0]
    assert "imp-02" not in d.recipes
    assert d.seeds == 4


def test_a_dense_network_that_imp_begins_with_does_not_take_its_family_away():
    """An IMP entry with settings of its own trains its level 0, which comes first and is dense."""
    results = study(shift=-0.05)
    level0 = [
        dataclasses.replace(r, network=dataclasses.replace(r.network, network="imp-00", family="imp", kind="control"))
        for r in results
        if r.network.network == "dense"
    ]
    (found,) = ask([*level0, *results])
    assert found.verdict == "leaks less"
    assert found == ask(results)[0]
    stops = [r for r in study(method="early-stopped") if r.network.family == "epochs"]
    last = [
        dataclasses.replace(
            r, network=dataclasses.replace(r.network, network="early-030", family="epochs", kind="control")
        )
        for r in results
        if r.network.network == "dense"
    ]
    described = tradeoff([*last, *stops, *(r for r in results if r.network.family == "imp")]).differences
    assert {d.against for d in described} == {"epochs"}


def test_a_control_family_is_not_held_against_itself():
    results = study(families_of=("epochs", "decay"), shift=-0.05)
    (found,) = ask(results, primary={"family": "epochs", "against": "controls", "metric": "discriminator.auc"})
    assert [d.against for d in found.differences] == ["decay"]


@pytest.mark.parametrize(
    ("shift", "verdict", "said"),
    [
        (-0.05, "leaks less", "It leaks less than the 1 of 2 control families that have a common accuracy."),
        (
            0.0,
            "no measurable difference",
            "No difference from the 1 of 2 control families that have a common accuracy is established.",
        ),
    ],
)
def test_a_control_without_common_accuracy_is_left_out_in_words(shift, verdict, said):
    results = study(shift=shift, families_of=("epochs", "decay"))
    far = [
        dataclasses.replace(r, network=dataclasses.replace(r.network, test_accuracy=0.4 + r.network.test_accuracy / 10))
        if r.network.family == "decay"
        else r
        for r in results
    ]
    (found,) = ask(far)
    assert found.verdict == verdict
    assert said in found.sentence


def test_cuts_are_called_cuts():
    (found,) = ask(study(seeds=range(8), shift=-0.05), halves=True)
    assert found.differences[0].unit == "cut"
    assert "4 cuts" in found.sentence
    assert "4 seeds" not in found.sentence


def test_a_question_declared_after_results_has_no_verdict():
    (found,) = ask(study(shift=-0.05), history=History(late=True))
    assert (found.verdict, found.p, found.differences[0].estimate) == ("no verdict", None, None)
    assert "declared when results were there already" in found.sentence
    (extended,) = ask(study(shift=-0.05), history=History(seeds_then=3))
    assert extended.verdict == "leaks less"
    assert "begun with 3 seeds" in extended.sentence
    (extended,) = ask(study(seeds=range(8), shift=-0.05), halves=True, history=History(seeds_then=6))
    assert "begun with 3 cuts (6 seeds)" in extended.sentence


def test_an_unfinished_study_holds_no_p_anywhere():
    found = tradeoff(study(shift=-0.05), finished=False)
    assert all((d.p, d.estimate, d.p_less) == (None, None, None) for d in found.differences)
    assert {d.reason for d in found.differences if d.at == "test accuracy"} == {"not finished"}
    assert found.slope.verdict == "not finished"
    assert found.slope.p_paper is None
    (answer,) = ask(study(shift=-0.05), waiting=[Waiting("discriminator", "imp", "sparse")])
    assert all((d.p, d.estimate) == (None, None) for d in answer.differences)


def test_a_comparison_that_waits_does_not_help_the_others_in_holms_correction():
    results = study(shift=-0.012, rng=np.random.default_rng(8))
    asked = [{**PRIMARY, "metric": "discriminator.auc"}, {**PRIMARY, "metric": "lira.auc"}]
    both = [*results, *(dataclasses.replace(r, attack="lira") for r in results)]
    alone = ask(results, primary=asked[0])[0].p
    first, second = ask(both, primary=None, comparisons=asked, waiting=[Waiting("lira", "imp", "sparse")])
    assert first.p_corrected == pytest.approx(min(1, 2 * alone))
    assert second.p is None


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
        (("discriminator", "epochs", "dense"), False),  # the dense network may be one of the controls
        (("discriminator", "butterfly", "sparse"), True),
        (("lira-offline", "imp", "sparse"), True),
    ],
)
def test_a_study_that_is_not_finished_has_no_verdict_yet(waits, answered):
    (found,) = ask(study(shift=-0.05), waiting=[Waiting(*waits)])
    assert (found.verdict == "leaks less") == answered
    assert ("1 attack of it has not run" in found.sentence) == (not answered)
    assert (found.p is None) == (not answered)


def test_an_attack_without_results_yet_is_said():
    (found,) = ask(study(), primary={**PRIMARY, "metric": "lira.auc"})
    assert found.verdict == "no verdict"
    assert "no results of these families" in found.sentence


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
    with_method = 1 - np.var(leak - fitted) / np.var(leak)
    adjusted = [1 - (1 - share) * 29 / (30 - k) for share, k in ((found.r_squared, 3), (with_method, 5))]
    assert found.method_adds == pytest.approx(adjusted[1] - adjusted[0])
    assert tradeoff(results[:24]).explained is None  # five for each of five coefficients are the fewest


def test_noise_explains_little():
    rng = np.random.default_rng(1)
    shares, adds = [], []
    for _ in range(200):
        results = []
        for i in range(40):
            leak = rng.uniform(0.5, 0.7)
            network = net(
                f"{('imp', 'dense', 'butterfly')[i % 3]}-{i}",
                0,
                method=("imp", "dense", "butterfly")[i % 3],
                train=rng.uniform(0.81, 1),
            )
            results.append(
                AttackResult(
                    network, "discriminator", "", "", 10, 10, {"balanced_accuracy": Estimate(leak, leak, leak)}
                )
            )
        found = tradeoff(results).explained
        shares.append(found.r_squared)
        adds.append(found.method_adds)
    assert np.mean(shares) < 0.08
    assert abs(np.mean(adds)) < 0.01
