"""Collapsed networks are found and others are not; overlaps of masks against brute force."""

from dataclasses import replace

import numpy as np
import pytest

from lacewing.results import NetworkResult
from lacewing.tradeoff.stability import collapsed, overlap, spreads


def _networks(accuracies, *, network="imp-03", role="target"):
    return [
        NetworkResult(network, "imp", role, seed, 0.2, 0.2, 100, 20, 1.0, accuracy, init=init)
        for seed, of_seed in enumerate(accuracies)
        for init, accuracy in enumerate(of_seed)
    ]


def test_a_network_far_below_the_others_and_one_at_chance_have_collapsed():
    found = collapsed(_networks([[0.61, 0.60, 0.42], [0.62, 0.60, 0.61]]), classes=30)
    assert [(each.id, each.others) for each in found] == [("imp-03/target/0.2", 0.61)]
    chance = _networks([[0.04, 0.05, 0.04], [0.05, 0.6, 0.05]])
    assert [each.id for each in collapsed(chance, classes=30)] == [
        f"imp-03/target/{repeat}" for repeat in ("0", "0.1", "0.2", "1", "1.2")
    ]


def test_a_recipe_that_spreads_widely_and_one_of_few_networks_have_not_collapsed():
    assert not collapsed(_networks([[0.61, 0.52, 0.45], [0.66, 0.5, 0.57]]), classes=30)
    assert not collapsed(_networks([[0.61, 0.60, 0.57], [0.61, 0.60, 0.61]]), classes=30)  # by less than 5 points
    assert not collapsed(_networks([[0.61, 0.40]]), classes=30)
    other_role = [*_networks([[0.6, 0.61, 0.6]]), *_networks([[0.4]], role="shadow")]
    assert not collapsed(other_role, classes=30)


def test_spreads_are_of_targets_by_recipe():
    networks = [*_networks([[0.6, 0.62], [0.5, 0.52]]), *_networks([[0.1, 0.9]], role="shadow")]
    networks += [replace(n, network="dense") for n in networks]
    found = spreads(networks, [], None, halves=False)
    assert [(s.network, s.measure) for s in found] == [("imp-03", "test accuracy"), ("dense", "test accuracy")]
    assert found[0].spread.mean == pytest.approx(0.56)
    assert found[0].spread.sd_within == pytest.approx(0.02 / 2**0.5)
    assert found[0].spread.sd_between == pytest.approx(((0.1**2 / 2) - 0.02**2 / 4) ** 0.5)


def test_under_random_halves_a_split_is_a_cut_and_not_a_seed():
    cuts = [[0.60, 0.62], [0.60, 0.62], [0.50, 0.52], [0.50, 0.52]]  # seeds 0 and 1 share a cut, and 2 and 3
    (found,) = spreads(_networks(cuts), [], None, halves=True)
    assert (found.spread.df_between, found.spread.df_within) == (1, 4)
    assert found.spread.sd_between == pytest.approx((0.1**2 / 2 - 0.02**2 / 4) ** 0.5)
    (one,) = spreads(_networks(cuts[:2]), [], None, halves=True)
    assert (one.spread.sd_between, one.spread.df_between) == (None, 0)


def test_the_overlap_is_that_of_single_weights_and_random_masks_are_drawn_by_hand():
    rng = np.random.default_rng(0)
    masks = [{"a": rng.random((20, 30)) < 0.3, "b": rng.random((10, 8)) < 0.6} for _ in range(3)]
    masks[1]["a"] = masks[0]["a"].copy()  # two that agree in one layer
    found = overlap("imp-01", [masks, [masks[0]]])
    pairs = []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        first, second = ({(k, i) for k in "ab" for i in np.flatnonzero(masks[m][k])} for m in (one, other))
        pairs.append(len(first & second) / len(first | second))
    assert (found.pairs, found.low, found.high) == (3, min(pairs), max(pairs))
    assert found.jaccard == pytest.approx(np.mean(pairs))
    drawn = []
    for _ in range(600):
        each = []
        for m in masks:
            each.append(np.concatenate([rng.permutation(m[k].ravel()) for k in "ab"]))
        drawn += [(each[i] & each[j]).sum() / (each[i] | each[j]).sum() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.random == pytest.approx(np.mean(drawn), abs=0.004)
    assert found.density == pytest.approx(np.mean([sum(m[k].sum() for k in "ab") / 680 for m in (*masks, masks[0])]))


def test_masks_that_keep_nothing_have_no_overlap():
    nothing = {"weight": np.zeros((3, 4), bool)}
    assert overlap("imp-09", [[nothing, nothing]]) is None
    some = {"weight": np.eye(3, 4, dtype=bool)}
    found = overlap("imp-09", [[nothing, nothing], [some, some]])
    assert (found.pairs, found.jaccard) == (1, 1.0)


def test_a_single_initialisation_has_no_overlap():
    assert overlap("imp-01", [[{"a": np.ones(3, bool)}], [{"a": np.ones(3, bool)}]]) is None
