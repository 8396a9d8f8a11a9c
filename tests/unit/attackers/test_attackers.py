"""The table of attackers against closed forms, a planted leak and a null, and the words that it is told in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lacewing.attackers import KINDS, Attackers, answer, as_json, gathered, kind_of
from lacewing.attacks import ATTACKS
from lacewing.attribute import AttributeFindings
from lacewing.attribute import SeedRow as Column
from lacewing.attribute import summarised as columns_summarised
from lacewing.metrics import Estimate
from lacewing.property import Measured, One, PropertyFindings, SeedRow, summarised
from lacewing.results import AttackResult, NetworkResult

R = np.random.default_rng(0)
SEEDS = 5
DENSITY = {"dense": 1.0, "imp-01": 0.4, "imp-02": 0.1, "short": 1.0}
KIND = {"dense": "dense", "imp-01": "sparse", "imp-02": "sparse", "short": "control"}


def network(name: str, seed: int, role: str = "target") -> NetworkResult:
    density = DENSITY[name]
    method = name.split("-")[0] if name != "short" else "dense"
    return NetworkResult(
        name, method, role, seed, density, density, 100, round(100 * density), 1.0, 0.6, family=method, kind=KIND[name]  # type: ignore[arg-type]
    )  # fmt: skip


def areas(values: Mapping[tuple[str, str], Sequence[float]]) -> tuple[list[NetworkResult], list[AttackResult]]:
    """Networks, and attacks of these AUC by seed; each with an interval over records of .02 on either side."""
    names = dict.fromkeys(name for name, _ in values)
    seeds = max(map(len, values.values()))
    networks = [network(name, seed, role) for name in names for seed in range(seeds) for role in ("target", "shadow")]
    attacks = [
        AttackResult(
            network(name, seed), attack, "", "", 9, 9, {"auc": Estimate(v, max(v - 0.02, 0), min(v + 0.02, 1))}
        )
        for (name, attack), each in values.items()
        for seed, v in enumerate(each)
    ]
    return networks, attacks


def around(mean: float, sd: float = 0.01, seeds: int = SEEDS) -> np.ndarray:
    drawn = R.normal(size=seeds)
    return mean + sd * (drawn - drawn.mean()) / drawn.std(ddof=1)


def made(values: Mapping[tuple[str, str], Sequence[float]], **more: object) -> Attackers:
    return gathered(*areas(values), registry=ATTACKS, **more)  # type: ignore[arg-type]


def cells(found: Attackers) -> dict[tuple[str, str], object]:
    return {(row.recipe.network, kind): row.cells[kind] for row in found.rows for kind in KINDS}


def test_every_attack_of_the_registry_has_its_kind() -> None:
    kinds = {name: kind_of(attack) for name, attack in ATTACKS.items()}
    assert {name for name, kind in kinds.items() if kind == "reconstruction"} == {
        "span", "span-blind", "span-candidates", "span-candidates-blind"
    }  # fmt: skip
    assert {name for name, kind in kinds.items() if kind == "adaptive"} == {
        "discriminator-imposed-mask", "discriminator-dense-and-sparse", "discriminator-all-levels",
        "discriminator-mask-features", "gradient-norm-support", "trajectory-levels",
    }  # fmt: skip
    assert {name for name, kind in kinds.items() if kind is None} == {
        "discriminator-unaware", "discriminator-mismatched"
    }  # fmt: skip


def test_the_strongest_attack_stands_with_an_interval_corrected_for_their_number() -> None:
    values = {("dense", name): around(mean) for name, mean in (("loss", 0.7), ("lira-offline", 0.8), ("gap", 0.6))}
    cell = made(values).rows[0].cells["membership"]
    best = values["dense", "lira-offline"]
    low, high = stats.t.interval(1 - 0.05 / 3, SEEDS - 1, loc=best.mean(), scale=stats.sem(best))
    assert (cell.attack, cell.tried, cell.units) == ("lira-offline", 3, "5 seeds")
    assert (cell.low, cell.high) == pytest.approx((low, high))
    assert [name for name, _ in cell.others] == ["lira-offline", "loss", "gap"]
    assert cell.standing == "above"


def test_what_lies_at_or_below_the_baseline_says_so() -> None:
    found = made({("dense", "loss"): around(0.5), ("dense", "span"): around(0.4)})
    assert {kind: cell.standing for kind, cell in found.rows[0].cells.items()} == {
        "membership": "not above", "adaptive": "not run", "property": "not run", "reconstruction": "below",
        "attribute": "not run",
    }  # fmt: skip


def test_seeds_that_do_not_differ_have_the_interval_over_records() -> None:
    cell = made({("dense", "span"): [0.99] * SEEDS}).rows[0].cells["reconstruction"]
    assert cell.alike
    assert (cell.low, cell.high) == (pytest.approx(0.97), 1.0)


@pytest.mark.parametrize(("attacks", "corrected"), [(1, True), (8, False)])
def test_an_interval_over_records_is_not_called_corrected(attacks: int, corrected: bool) -> None:
    names = [name for name in ATTACKS if kind_of(ATTACKS[name]) == "membership"][:attacks]
    cell = made({("dense", name): [1.0] * SEEDS for name in names}).rows[0].cells["membership"]
    assert (cell.low, cell.high, cell.tried) == (pytest.approx(0.98), 1.0, attacks)
    assert cell.corrected is corrected
    assert made({("dense", "loss"): around(0.9), ("dense", "gap"): around(0.8)}).rows[0].cells["membership"].corrected


LOSS = {("dense", "loss"): around(0.75), ("imp-01", "loss"): around(0.70)}


@pytest.mark.parametrize("told", [True, False])
def test_an_attack_that_is_not_finished_decides_nothing(told: bool) -> None:
    """Whether or not the plan says so: of five seeds it has one."""
    waiting = [("imp-01", "lira-offline")] if told else []
    found = made({**LOSS, ("imp-01", "lira-offline"): [0.72]}, waiting=waiting)
    cell = found.rows[1].cells["membership"]
    assert (cell.attack, cell.standing, cell.tried, cell.waiting) == ("loss", "above", 1, ("lira-offline",))
    assert cell.difference is not None
    assert cell.difference.high < 0
    (said,) = answer(found)
    assert said.startswith("Not finished: attacks wait for networks (membership)")


def test_no_answer_is_given_while_any_network_waits() -> None:
    assert answer(made(LOSS))[0].startswith("Not excluded: imp-01")
    (said,) = answer(made(LOSS, waiting=[("imp-02", "span")]))
    assert said.startswith("Not finished: attacks wait for networks (reconstruction)")
    (said,) = answer(made(LOSS, properties=replace(worlds({"dense": around(0.7)}), missing=1)))
    assert said.startswith("Not finished: attacks wait for networks (property)")
    (said,) = answer(made(LOSS, columns=replace(columns({"dense": around(0.7)}), missing=1)))
    assert "(attribute)" in said
    alone = made({("dense", "loss"): around(0.9), ("imp-01", "loss"): [0.7]})
    assert alone.rows[1].cells["membership"].why == "it waits for networks"
    assert made(LOSS, waiting=[("imp-01", "discriminator-unaware")]).waiting == ()  # it is of no kind


def test_an_attack_on_the_dense_network_alone_makes_no_network_look_safer() -> None:
    equal = {(name, attack): around(mean) for attack, mean in (("loss", 0.8), ("gap", 0.84)) for name in KIND}
    strong = {("dense", "lira-offline"): around(0.96)}
    for values, lowered in ((equal, False), ({**equal, ("imp-01", "gap"): around(0.7)}, True)):
        cell = cells(made({**values, **strong}))["imp-01", "membership"]
        low, high = cell.difference[1:]  # type: ignore[attr-defined]
        best = "loss" if lowered else "gap"
        assert cell.compared == (best, "gap")  # type: ignore[attr-defined]
        difference = values["imp-01", best] - values["dense", "gap"]
        wanted = stats.t.interval(0.95, SEEDS - 1, loc=difference.mean(), scale=stats.sem(difference))
        assert (low, high) == pytest.approx(wanted)
        assert (high < 0) is lowered
    apart = made({**strong, ("imp-01", "loss"): around(0.6), ("imp-01", "trajectory-levels"): around(0.6)})
    assert {cell.difference for cell in apart.rows[1].cells.values()} == {None}
    assert "membership and adaptive attackers: no attack that the dense network has too" in answer(apart)[1]


def test_an_attack_on_the_mask_counts_though_no_dense_network_has_one() -> None:
    both = worlds({"dense": around(0.7), "imp-01": around(0.7)})
    mask = worlds({"imp-01": around(0.95)})
    told = replace(
        both,
        rows=(*both.rows, *(replace(row, attack="mask") for row in mask.rows)),
        seeds=(*both.seeds, *(replace(row, attack="mask") for row in mask.seeds)),
    )
    cell = made(LOSS, properties=told).rows[1].cells["property"]
    assert cell.compared == ("mask", "kl")
    assert cell.difference is not None
    assert cell.difference.low > 0


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_have_no_verdict(seeds: int) -> None:
    found = made({("dense", "loss"): [0.9] * seeds, ("imp-01", "loss"): [0.7] * seeds})
    assert [row.cells["membership"].standing for row in found.rows] == ["no verdict"] * 2
    assert all(row.cells["membership"].difference is None for row in found.rows)
    assert answer(found) == ["No verdict: fewer than three seeds."]


def test_halves_count_cuts() -> None:
    values = around(0.8, 0.05, 6)
    cell = made({("dense", "loss"): values}, halves=True).rows[0].cells["membership"]
    cuts = values.reshape(3, 2).mean(axis=1)
    assert (cell.low, cell.high) == pytest.approx(stats.t.interval(0.95, 2, loc=cuts.mean(), scale=stats.sem(cuts)))
    assert cell.units == "3 cuts (6 seeds)"


def test_adaptive_attackers_stand_beside_membership_on_the_dense_network() -> None:
    values = {
        ("dense", "loss"): around(0.9),
        ("imp-01", "loss"): around(0.7),
        ("imp-01", "trajectory-levels"): around(0.95),
    }
    found = cells(made(values))
    difference = values["imp-01", "trajectory-levels"] - values["dense", "loss"]
    wanted = stats.t.interval(0.95, SEEDS - 1, loc=difference.mean(), scale=stats.sem(difference))
    assert found["imp-01", "adaptive"].difference[1:] == pytest.approx(wanted)  # type: ignore[attr-defined]
    assert found["imp-01", "membership"].difference.high < 0  # type: ignore[attr-defined]


def test_a_weak_adaptive_attack_makes_no_network_look_safer() -> None:
    values = {
        ("dense", "loss"): around(0.9),
        ("imp-01", "loss"): around(0.9),
        ("imp-01", "trajectory-levels"): around(0.6),
    }
    found = cells(made(values))
    assert found["imp-01", "adaptive"].value == pytest.approx(0.6)  # type: ignore[attr-defined]
    difference = (values["imp-01", "loss"] - values["dense", "loss"]).mean()
    assert found["imp-01", "adaptive"].difference.value == pytest.approx(difference)  # type: ignore[attr-defined]


def test_a_cell_that_was_not_measured_says_why() -> None:
    values = {("dense", "loss"): around(0.9), ("imp-01", "loss"): around(0.9)}
    refused = {("dense", "trajectory-levels"): "it is about the levels of a pruning sequence."}
    found = cells(made(values, refused=refused, waiting=[("imp-01", "trajectory-levels")]))
    why = {key: cell.why for key, cell in found.items()}  # type: ignore[attr-defined]
    assert why["dense", "adaptive"] == "it is about the levels of a pruning sequence"
    assert why["imp-01", "adaptive"] == "it waits for networks"
    assert why["dense", "property"] == "the study has no [property]"
    assert why["dense", "attribute"] == "the study has no [attribute]"


def worlds(right: Mapping[str, Sequence[float]], attacked: int = 20) -> PropertyFindings:
    ones = []
    for name, shares in right.items():
        for seed, share in enumerate(shares):
            about = (name, name.split("-")[0], name, KIND[name], DENSITY[name], seed, 0.1, 0.2)
            row = SeedRow(*about, "kl", "kl", attacked, share, 0.5, 1.0, share, 0.6)  # type: ignore[arg-type]
            half = attacked // 2
            ones.append(One(row, Measured(half, half, half * share, half * share, share)))
    rows = tuple(summarised(ones))
    return PropertyFindings("class 7", 100, attacked, rows, tuple(one.row for one in ones))


def columns(surplus: Mapping[str, Sequence[float]], members: float = 0.6) -> AttributeFindings:
    rows = [
        Column(name, name.split("-")[0], name, KIND[name], DENSITY[name], seed, 0, "3", 2, "csmia", 50, 50, members,
               0.5, 0.7, 0.7, value, value - 0.1, value + 0.1, 0.6)  # type: ignore[arg-type]
        for name, each in surplus.items()
        for seed, value in enumerate(each)
    ]  # fmt: skip
    return AttributeFindings(("3",), tuple(columns_summarised(rows, halves=False)), tuple(rows))


def test_networks_that_are_all_told_apart_keep_the_exact_interval() -> None:
    found = made({("dense", "loss"): around(0.9)}, properties=worlds({"dense": [1.0] * SEEDS}))
    cell = found.rows[0].cells["property"]
    assert (cell.low, cell.high) == (pytest.approx(stats.beta.ppf(0.025, 100, 1)), 1.0)
    assert found.about["property"] == "is the share of “class 7” 0.1 or 0.2?"


def test_an_attacker_who_poisons_training_is_no_attacker_of_these_networks() -> None:
    plain = worlds({"dense": around(0.7)})
    poisoned = worlds({"dense": [1.0] * SEEDS})
    both = replace(
        plain,
        rows=(*plain.rows, *(replace(row, attack="snap") for row in poisoned.rows)),
        seeds=(*plain.seeds, *(replace(row, attack="snap") for row in poisoned.seeds)),
    )
    areas_ = {("dense", "loss"): around(0.9)}
    assert made(areas_, properties=both).rows[0].cells == made(areas_, properties=plain).rows[0].cells


def test_guesses_below_imputation_are_marked_even_where_members_have_a_surplus() -> None:
    found = made({("dense", "loss"): around(0.9)}, columns=columns({"dense": around(0.2)}))
    cell = found.rows[0].cells["attribute"]
    assert (cell.standing, cell.below_prior) == ("above", True)
    assert "imputation 70.0 %" in cell.about
    better = made({("dense", "loss"): around(0.9)}, columns=columns({"dense": around(0.2)}, members=0.8))
    assert not better.rows[0].cells["attribute"].below_prior


def everything(sparse: Mapping[str, float]) -> Attackers:
    """A study in which a sparse network's success is this much lower than the dense one's, by kind."""
    down = {kind: sparse.get(kind, 0.0) for kind in KINDS}
    values = {
        ("dense", "loss"): around(0.9),
        ("imp-01", "loss"): around(0.9 - down["membership"]),
        ("imp-01", "trajectory-levels"): around(0.9 - down["adaptive"]),
        ("dense", "span"): around(0.9),
        ("imp-01", "span"): around(0.9 - down["reconstruction"]),
    }
    told = worlds({"dense": around(0.9), "imp-01": around(0.9 - down["property"])})
    guessed = columns({"dense": around(0.2), "imp-01": around(0.2 - down["attribute"])})
    return made(values, properties=told, columns=guessed)


def test_the_answer_is_no_unless_every_kind_is_lowered() -> None:
    said = answer(everything(dict.fromkeys(KINDS, 0.15)))
    assert said[0].startswith("Not excluded: imp-01 lowers the success of all 5 kinds of attack that ran")
    for kept in KINDS:
        said = answer(everything({kind: 0.15 * (kind != kept) for kind in KINDS}))
        assert said[0].startswith("No: none of the 1 sparse recipes is shown to lower the success of all 5 kinds")
    raised = answer(everything({kind: 0.15 if kind != "adaptive" else -0.08 for kind in KINDS}))
    assert (
        "imp-01, 40 % of the weights: lowers membership, property, reconstruction and attribute; raises " in raised[1]
    )
    assert raised[1].endswith("raises adaptive attackers.")


def test_kinds_that_never_ran_are_named_and_a_study_without_sparse_networks_says_nothing() -> None:
    said = answer(made({("dense", "loss"): around(0.9), ("imp-01", "loss"): around(0.7)}))
    assert any(s.startswith("Not run: adaptive attackers, property, reconstruction and attribute.") for s in said)
    assert "cannot say whether" in answer(made({("dense", "loss"): around(0.9), ("short", "loss"): around(0.7)}))[0]


def test_nothing_is_found_of_attacks_that_guess_and_a_planted_leak_is() -> None:
    names = ("loss", "gap", "lira-offline", "rmia-offline", "gradient-norm", "entropy")
    above = 0
    for _ in range(200):
        values = {("dense", name): 0.5 + 0.03 * R.normal(size=SEEDS) for name in names}
        above += made(values).rows[0].cells["membership"].standing == "above"
    assert above <= 18
    planted = {("dense", name): 0.5 + 0.03 * R.normal(size=SEEDS) + 0.2 * (name == "gap") for name in names}
    cell = made(planted).rows[0].cells["membership"]
    assert (cell.attack, cell.standing) == ("gap", "above")


def test_rows_stand_dense_first_then_by_density_and_controls_last() -> None:
    values = {(name, "loss"): around(0.9) for name in ("short", "imp-02", "imp-01", "dense")}
    found = made(values)
    assert [row.recipe.network for row in found.rows] == ["dense", "imp-01", "imp-02", "short"]
    document = as_json(found)
    assert len(document["rows"]) == 4 * len(KINDS)
    assert {row["stands"] for row in document["rows"]} == {"above", "not run"}
