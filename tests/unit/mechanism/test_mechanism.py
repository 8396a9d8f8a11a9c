"""What networks do to their records and what predicts their leak: against brute force, scikit-learn, planted worlds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from lacewing import mechanism
from lacewing.attacks import ATTACKS, phi
from lacewing.errors import UsageError
from lacewing.mechanism._held_out import SEED, errors, shuffled_r2
from lacewing.metrics import auc


def _world(networks=12, records=400, gap=2.0, spread=1.0, seed=0):
    """Log-odds of networks in pairs of complements: a centre a record, a gap, noise."""
    rng = np.random.default_rng(seed)
    inside = np.stack([rng.permutation(records) < records // 2 for _ in range(networks // 2)]).repeat(2, axis=0)
    inside[1::2] = ~inside[1::2]
    centre = rng.normal(0, 3, records)
    return centre + gap * inside + rng.normal(0, spread, inside.shape), inside


def _brute(phi_MN, in_MN, group_M, of, audited_N):
    gap = {True: [], False: []}
    variance = {True: [], False: []}
    for n in np.flatnonzero(audited_N):
        member = bool(in_MN[of, n])
        others = [m for m in range(len(phi_MN)) if group_M[m] != group_M[of]]
        same = [phi_MN[m, n] for m in others if in_MN[m, n] == member]
        opposite = [phi_MN[m, n] for m in others if in_MN[m, n] != member]
        if opposite:
            gap[member].append((phi_MN[of, n] - np.mean(opposite)) * (1 if member else -1))
        if same:
            variance[member].append((phi_MN[of, n] - np.mean(same)) ** 2 * len(same) / (len(same) + 1))
    return (
        np.mean([np.mean(values) for values in gap.values()]),
        math.sqrt(np.mean([np.mean(values) for values in variance.values()])),
    )


def test_gap_and_spread_are_those_of_a_loop_over_records():
    rng = np.random.default_rng(3)
    phi_MN, in_MN = rng.normal(0, 2, (7, 60)), rng.random((7, 60)) < 0.4  # uneven: some records have no other of a kind
    group_M, audited_N = np.array([0, 1, 1, 2, 3, 4, 4]), rng.random(60) < 0.8
    for of in range(7):
        found = mechanism.log_odds(phi_MN, in_MN, group_M, of, audited_N)
        assert (found.gap, found.spread) == pytest.approx(_brute(phi_MN, in_MN, group_M, of, audited_N), rel=1e-12)
        assert found.ratio == pytest.approx(found.gap / found.spread)


def test_the_planted_gap_and_spread_are_found_and_their_mean_is_the_recipes():
    phi_MN, in_MN = _world(gap=2.0, spread=0.7, records=4000)
    everything = np.ones(4000, bool)
    found = [mechanism.log_odds(phi_MN, in_MN, np.arange(12), m, everything) for m in range(12)]
    assert np.mean([one.spread for one in found]) == pytest.approx(0.7, abs=0.01)
    of_recipe = np.nanmean(
        np.nanmean(np.where(in_MN, phi_MN, np.nan), axis=0) - np.nanmean(np.where(in_MN, np.nan, phi_MN), axis=0)
    )
    assert np.mean([one.gap for one in found]) == pytest.approx(of_recipe, abs=0.005)
    assert of_recipe == pytest.approx(2.0, abs=0.03)


def test_without_another_network_there_is_no_gap():
    phi_MN, in_MN = _world(networks=2)
    alone = mechanism.log_odds(phi_MN[:1], in_MN[:1], np.zeros(1, int), 0, np.ones(400, bool))
    assert alone == (None, None)
    assert alone.ratio is None
    # Another initialisation on the same records is no other network.
    twins = mechanism.log_odds(phi_MN, in_MN[[0, 0]], np.zeros(2, int), 0, np.ones(400, bool))
    assert twins == (None, None)
    # A complement tells the gap, but not the spread.
    pair = mechanism.log_odds(phi_MN, in_MN, np.arange(2), 0, np.ones(400, bool))
    assert pair.gap is not None
    assert pair.spread is None


def test_the_calibration_error_is_that_of_scikit_learns_bins():
    rng = np.random.default_rng(0)
    confidence = np.r_[rng.uniform(0.2, 1, 3000) ** 0.5, 1.0, 1 / 15, 3 / 15, 1.0]
    right = rng.random(len(confidence)) < confidence**2
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    place = np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence)
    weight = np.bincount(place)[np.unique(place)] / len(confidence)
    expected = float((weight * np.abs(accuracy - mean)).sum())
    assert mechanism.calibration_error(confidence, right) == pytest.approx(expected, abs=1e-3)
    brute = sum(
        abs((right[inside] - confidence[inside]).sum())
        for b in range(15)
        if (inside := (confidence > b / 15) & (confidence <= (b + 1) / 15)).any()
    ) / len(confidence)
    assert mechanism.calibration_error(confidence, right) == pytest.approx(brute, abs=1e-3)
    assert mechanism.calibration_error(np.full(10, 0.8), np.arange(10) < 8) == pytest.approx(0.0)
    assert mechanism.calibration_error(np.full(10, 0.9), np.zeros(10, bool)) == pytest.approx(0.9)
    for confidence_, right_ in (([], []), ([0.5], [True, False]), ([1.5], [True]), ([math.nan], [True])):
        with pytest.raises(UsageError):
            mechanism.calibration_error(confidence_, right_)


def test_confidence_and_the_fit_of_redrawn_labels_are_counted_by_side():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.05, 0.9, 0.05]]))
    label, member = np.array([0, 0, 2, 1]), np.array([True, True, False, False])
    found = mechanism.outputs(logits, label, member, np.array([False, True, True, False]))
    assert found.member_confidence == pytest.approx(0.75)
    assert found.other_confidence == pytest.approx(0.65)
    assert (found.redrawn, found.redrawn_fit) == (1, 0.0)  # record 1 alone is a member with a redrawn label
    assert mechanism.outputs(logits, label, member).redrawn_fit is None
    softer = mechanism.outputs(logits, label, member, temperature=2.0)
    p = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    assert softer.member_confidence == pytest.approx(p.max(axis=1)[:2].mean())


def test_a_temperature_is_found_that_gives_the_wanted_confidence():
    logits = [np.random.default_rng(seed).normal(0, 4, (300, 5)) for seed in range(2)]
    temperature = mechanism.matching_temperature(logits, 0.6)
    p = [np.exp(each / temperature) / np.exp(each / temperature).sum(axis=1, keepdims=True) for each in logits]
    assert np.mean([each.max(axis=1).mean() for each in p]) == pytest.approx(0.6, abs=1e-6)
    assert mechanism.matching_temperature(logits, 0.1) is None  # less sure than five equal classes
    assert mechanism.matching_temperature([], 0.6) is None


def test_lira_ranks_the_log_odds_that_it_is_given():
    """Of log-odds as two-class logits LiRA says what it says of the logits that they come from."""
    phi_MN, in_MN = _world()
    evidence = mechanism.evidence_of(phi_MN[0], in_MN[0], phi_MN[2:], in_MN[2:])
    assert phi(evidence.observed.logits_NC, evidence.observed.label_N) == pytest.approx(phi_MN[0])
    scores = ATTACKS["lira-online"].function(evidence, seed=0).scores_N
    from lacewing.attacks import lira

    direct = lira(phi_MN[0][:, None], phi_MN[2:, :, None], in_MN[2:], variance="pooled")
    assert scores == pytest.approx(direct)
    assert auc(scores, in_MN[0]).value > 0.85


def _held_out(x, y, family, unit, degree):
    """With scikit-learn, a network at a time."""
    error, spread = 0.0, 0.0
    for i in range(len(x)):
        fitted = [j for j in range(len(x)) if family[j] != family[i] and unit[j] != unit[i]]
        features = PolynomialFeatures(degree).fit(x[fitted, None])
        line = LinearRegression().fit(features.transform(x[fitted, None]), y[fitted])
        at = np.clip(x[i], x[fitted].min(), x[fitted].max())
        error += (y[i] - line.predict(features.transform([[at]]))[0]) ** 2
        spread += (y[i] - y[fitted].mean()) ** 2
    return 1 - error / spread


@pytest.mark.parametrize("degree", [1, 2])
def test_held_out_r_squared_is_that_of_a_loop_over_networks(degree):
    rng = np.random.default_rng(1)
    recipe, unit = np.repeat(np.arange(6), 8), np.tile(np.arange(4).repeat(2), 6)
    x = rng.normal(recipe, 0.5)
    y = np.stack([np.sin(x / 3) + rng.normal(0, 0.1, 48), rng.normal(size=48)], axis=1)
    found = mechanism.held_out_r2(x, y, recipe, unit, degree=degree)
    expected = [_held_out(x, y[:, a], recipe, unit, degree) for a in range(2)]
    assert found == pytest.approx(expected, abs=1e-9)


def test_held_out_r_squared_by_hand():
    """Leaks 0, 1, 2, 3, 4 of five recipes in two units, on a line: perfect between, the nearest one at the ends."""
    recipe, unit = np.arange(5).repeat(2), np.tile([0, 1], 5)
    x = recipe.astype(float)
    # Recipes 1, 2 and 3 are predicted exactly. Recipe 0 is predicted at x = 1: 1, and recipe 4 at 3: each 1 off.
    # The means of the other four recipes are 2.5, 2.25, 2, 1.75, 1.5: squared distances 6.25, 1.5625, 0, 1.5625, 6.25.
    found = mechanism.held_out_r2(x, x[:, None], recipe, unit, degree=1)
    assert found[0] == pytest.approx(1 - 2 / 15.625)


def _recipes(seed, leak_of, recipes=10, units=6):
    """Networks of ten recipes that differ in gap, confidence and size, independently; a leak and noise."""
    rng = np.random.default_rng(seed)
    recipe, unit = np.repeat(np.arange(recipes), units), np.tile(np.arange(units), recipes)
    of_recipe = {name: rng.permutation(recipes) for name in ("ratio", "member_confidence", "nonzero", "own")}
    values = {name: of[recipe] / recipes + rng.normal(0, 0.01, len(recipe)) for name, of in of_recipe.items()}
    leak = leak_of(values) + rng.normal(0, 0.01, len(recipe))
    quantities = {name: list(values[name]) for name in ("ratio", "member_confidence", "nonzero")}
    names = [f"recipe-{r}" for r in recipe]
    leaks = {("lira-online", "auc"): list(leak)}
    return mechanism.predictors(quantities, leaks, names, names, list(unit), {"lira-online": "lira"})[0]


def test_a_leak_that_follows_from_the_gap_alone_is_found():
    share = np.mean([[p.best for p in _recipes(s, lambda v: np.sqrt(v["ratio"] + 0.1))[:3]] for s in range(4)], axis=0)
    assert share[0] > 0.9
    assert max(share[1:]) < 0.2


def test_a_leak_that_nothing_predicts_is_predicted_by_nothing():
    """Recipes differ in their leak for reasons of their own: a curve through their means must not count as found."""
    found = [_recipes(s, lambda v: v["own"]) for s in range(8)]
    shares = np.array([[(p.r2, p.r2_line, p.r2_same_recipes) for p in one[:3]] for one in found])
    assert shares[:, :, 0].mean() < 0
    assert shares[:, :, 1].mean() < 0
    assert shares[:, :, 2].mean() > 0.1  # leaving out the unit alone rewards chance
    assert all(one[3].quantity == mechanism.RECIPE and one[3].r2_same_recipes > 0.95 for one in found)


def test_what_is_part_of_an_attack_is_marked():
    quantities = {"ratio": [1.0], "member_confidence": [1.0], "train_accuracy": [1.0], "nonzero": [1.0]}
    families = {"lira-online": "lira", "loss": "threshold", "gap": "threshold", "mine:x": "own"}
    leaks = {(attack, "auc"): [0.5] for attack in families}
    found, largest = mechanism.predictors(quantities, leaks, ["a"], ["a"], [0], families)
    marked = {attack: [p.part_of_attack for p in found if p.attack == attack][:4] for attack in families}
    assert marked == {
        "lira-online": [True, False, False, False],
        "loss": [True, True, False, False],
        "gap": [False, False, True, False],
        "mine:x": [None, None, None, False],
    }
    assert all(p.r2 is None and p.best is None for p in found)  # a single network
    assert not largest


def test_every_family_of_attacks_says_what_is_part_of_it():
    families = {name: attack.family for name, attack in ATTACKS.items()}
    leaks = {(name, "auc"): [0.5] for name in ATTACKS}
    found, _ = mechanism.predictors({"ratio": [1.0]}, leaks, ["a"], ["a"], [0], families)
    assert all(p.part_of_attack is not None for p in found)


def test_too_few_families_and_what_does_not_vary_have_none():
    recipe, unit = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
    y = np.random.default_rng(0).normal(size=(16, 1))
    assert np.isnan(mechanism.held_out_r2(recipe + 0.0, y, recipe, unit, degree=2)).all()
    recipe, unit = np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)
    y = np.random.default_rng(0).normal(size=(24, 1))
    assert np.isnan(mechanism.held_out_r2(np.ones(24), y, recipe, unit, degree=2)).all()
    assert np.isnan(mechanism.held_out_r2(recipe + 0.0, np.ones((24, 1)), recipe, unit, degree=2)).all()
    assert np.isnan(mechanism.held_out_r2(recipe + 0.0, y, recipe, np.zeros(24, int), degree=2)).all()
    # A quantity that varies only through one recipe tells nothing of that recipe where it is left out.
    one = mechanism.held_out_r2((recipe == 0) + 0.0, y, recipe, unit, degree=2)
    assert one[0] <= 0.5


SIZES = (2, 5, 2, 3, 3, 4, 2, 2)  # recipes of each family


def _families(rng, quantities, within=0.2):
    """Quantities and a leak of networks whose families differ, for reasons of their own, and siblings less."""
    family, units = np.repeat(np.arange(len(SIZES)), SIZES), 6
    recipe, unit = np.repeat(np.arange(len(family)), units), np.tile(np.arange(units) // 2, len(family))
    of = family[recipe]

    def drawn():
        mean, deviation = rng.normal(size=len(SIZES)), within * rng.normal(size=len(family))
        return mean[of] + deviation[recipe] + 0.05 * rng.normal(size=len(of))

    values = {f"quantity-{i}": list(drawn()) for i in range(quantities)}
    return values, drawn(), [f"recipe-{r}" for r in recipe], [f"family-{f}" for f in of], list(unit)


def test_siblings_do_not_let_an_unrelated_quantity_predict():
    rng = np.random.default_rng(5)
    by_family, by_recipe = [], []
    for _ in range(30):
        values, y, recipe, family, unit = _families(rng, 1)
        for names, found in ((family, by_family), (recipe, by_recipe)):
            who, x = np.unique(names, return_inverse=True)[1], np.array(values["quantity-0"])
            r2 = [mechanism.held_out_r2(x, y[:, None], who, np.array(unit), degree=degree)[0] for degree in (1, 2)]
            found.append(max(r2))
    assert np.mean(by_recipe) > np.mean(by_family) + 0.2


def test_the_largest_of_unrelated_quantities_is_what_permuted_families_reach():
    rng = np.random.default_rng(6)
    above_median, above_upper = [], []
    for _ in range(24):
        values, y, recipe, family, unit = _families(rng, 4, within=0.5)
        found, (row,) = mechanism.predictors(values, {("mine:a", "auc"): list(y)}, recipe, family, unit, {})
        best = max((p.best, p.quantity) for p in found if p.quantity != mechanism.RECIPE)
        assert (row.r2, row.quantity, row.quantities) == (*best, 4)
        above_median.append(row.r2 > row.null_median)
        above_upper.append(row.r2 > row.null_upper)
    assert 0.25 < np.mean(above_median) < 0.75
    assert np.mean(above_upper) <= 3 / 24


def test_a_quantity_that_predicts_lies_above_the_largest_of_permuted_families():
    rng = np.random.default_rng(7)
    values, y, recipe, family, unit = _families(rng, 5)
    values["cause"] = list(y + 0.1 * rng.normal(size=len(y)))
    _, (row,) = mechanism.predictors(values, {("mine:a", "auc"): list(y)}, recipe, family, unit, {})
    assert row.quantity == "cause"
    assert row.r2 > 0.8 > row.null_upper
    again = mechanism.predictors(values, {("mine:a", "auc"): list(y)}, recipe, family, unit, {})[1]
    assert again == [row]


def test_permuted_leaks_keep_the_values_of_families_recipes_and_networks():
    """Against a loop that writes the permuted leaks out, with the permutations that they imply."""
    rng = np.random.default_rng(8)
    values, y, recipe, family, unit = _families(rng, 1)
    x, who, of = (np.asarray(each) for each in (values["quantity-0"], recipe, family))
    who, of, when = np.unique(who, return_inverse=True)[1], np.unique(of, return_inverse=True)[1], np.asarray(unit)
    found = shuffled_r2(errors(x, of, when, degree=1), y[:, None], who, of)[:, 0]
    rng = np.random.default_rng(SEED)
    families = rng.permuted(np.tile(np.arange(8)[:, None], mechanism.PERMUTATIONS), axis=0)
    recipes = np.tile(np.arange(23)[:, None], mechanism.PERMUTATIONS)
    owner = np.array([of[who == r][0] for r in range(23)])
    for f in range(8):
        recipes[owner == f] = rng.permuted(recipes[owner == f], axis=0)
    for b in (0, 5, 998):
        shuffled = np.empty_like(y)
        for i in range(len(y)):
            swapped = recipes[who[i], b]
            deviation = y[who == swapped].mean() - y[of == owner[swapped]].mean()
            shuffled[i] = y[of == families[of[i], b]].mean() + deviation + y[i] - y[who == who[i]].mean()
        expected = mechanism.held_out_r2(x, shuffled[:, None], of, when, degree=1)[0]
        assert found[b] == pytest.approx(expected, abs=1e-9)
