"""Who stands by when an attack runs: shadows, references, denser versions; and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lacewing.attacks import ATTACKS
from lacewing.config import Model
from lacewing.errors import UsageError
from lacewing.methods import Method
from lacewing.study.declared import load_study
from lacewing.study.plan import Plan, make_plan, unavailable

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"population": 0.1},
    "model": {"name": "resnet8"},
    "train": {"epochs": 5, "precision": "fp32"},
    "networks": [
        {"method": "dense"},
        {"method": "imp", "levels": 2, "fraction": 0.5},
        {"method": "butterfly", "segments": 2},
        {"method": "butterfly", "segments": 3},
    ],
    "run": {"seeds": [0, 1]},
}
HALVES = ("data.split=random-halves", "run.seeds=[0,1,2,3,4,5]")
HALVES_ALONE = {name for name, attack in ATTACKS.items() if "in-references" in attack.needs}
# The study has no early stops, and no perceptrons.
NOT_HERE = {"trajectory-checkpoints"} | {n for n, attack in ATTACKS.items() if attack.family == "span"}
PERCEPTRONS_ALONE = {name for name, attack in ATTACKS.items() if attack.family == "span"}


def _study(*overrides: str, attacks: Any = ("discriminator",)) -> Any:
    fields = {**copy.deepcopy(SMALL), "attacks": {"names": list(attacks)}}
    return load_study(fields, overrides)


def _plan(*overrides: str, attacks: Any = ("discriminator",)) -> Plan:
    return make_plan(_study(*overrides, attacks=attacks), data_digest="0" * 64, models={"": {"name": "resnet8"}})


@pytest.mark.parametrize(
    ("overrides", "without"),
    [((), HALVES_ALONE | NOT_HERE), (HALVES, NOT_HERE)],
)
def test_every_attack_is_planned_and_no_two_jobs_share_an_id_or_a_key(
    overrides: tuple[str, ...], without: set[str]
) -> None:
    assert set(unavailable(_study(*overrides))) == without
    plan = _plan(*overrides, attacks=[name for name in ATTACKS if name not in without])
    for jobs in (plan.networks, plan.attacks):
        assert len({job.id for job in jobs}) == len({job.key for job in jobs}) == len(jobs)
    keys = {job.key for job in plan.networks}
    for attack in plan.attacks:
        assert {job.key for job in attack.networks} <= keys  # nothing is read that is not planned
        about = {"imp": {"sparse", "masked", "levels"}, "butterfly": {"sparse"}}.get(attack.target.method, set())
        assert ATTACKS[attack.attack].about <= about


def test_under_random_halves_nothing_that_an_attacker_holds_gives_the_target_away() -> None:
    plan = _plan(*HALVES, attacks=["lira-online", "rmia-offline", "discriminator"])
    for attack in plan.attacks:
        target, shadow = attack.target.seed, attack.shadow
        assert shadow is not None
        assert shadow.network.network == attack.target.network
        barred = {target, target ^ 1}  # the complement's members are the target's non-members
        assert shadow.network.seed not in barred
        if attack.attack == "discriminator":
            continue
        for side, hidden in ((attack.side, barred), (shadow, barred | {shadow.network.seed, shadow.network.seed ^ 1})):
            seeds = [job.seed for job in side.references]
            assert set(seeds) == set(range(6)) - hidden
            assert all(seed ^ 1 in seeds for seed in seeds)  # whole pairs: every record has both kinds
            assert {job.network for job in side.references} == {attack.target.network}


def test_under_the_four_way_split_networks_of_other_seeds_and_roles_are_references() -> None:
    for attack in _plan(attacks=["lira-offline"]).attacks:
        assert attack.shadow is not None
        for side in (attack.side, attack.shadow):
            own = (side.network.role, side.network.seed)
            others = {(role, seed) for role in ("target", "shadow") for seed in (0, 1)} - {own}
            assert {(job.role, job.seed) for job in side.references} == others


def test_denser_versions_are_those_of_the_same_sequence_and_other_shadows_are_what_they_say() -> None:
    names = [name for name, attack in ATTACKS.items() if attack.family == "adaptive"]
    for attack in _plan(attacks=names).attacks:
        target, others = attack.target, dict(attack.other_shadows)
        assert all((job.role, job.seed) == ("target", target.seed) for job in attack.side.related)
        if attack.attack == "discriminator-all-levels":
            assert [job.level for job in attack.side.related] == list(range(target.level))
        if attack.attack == "discriminator-dense-and-sparse":
            assert [job.method for job in attack.side.related] == ["dense"]
        if attack.attack == "discriminator-unaware":
            assert (others["dense"].method, others["dense"].role) == ("dense", "shadow")
        if attack.attack == "discriminator-mismatched":
            assert others["mismatched"].method == target.method
            assert others["mismatched"].network != target.network
        if attack.attack == "discriminator-imposed-mask":
            mask, origin = others["imposed"].needs
            assert others["imposed"].imposed
            assert (mask.key, origin.role) == (target.key, "shadow")


def test_checkpoints_are_earlier_states_of_the_same_training_the_earliest_first() -> None:
    fields = {**copy.deepcopy(SMALL), "attacks": {"names": ["trajectory-checkpoints", "trajectory-levels"]}}
    fields["networks"] += [{"method": "early-stopped", "epochs": [1, 3]}]
    plan = make_plan(load_study(fields), data_digest="0" * 64, models={"": {"name": "resnet8"}})
    held = {a.id.rpartition("/")[0]: a for a in plan.attacks if a.attack == "trajectory-checkpoints"}
    assert {name.split()[-1] for name in held} == {"dense/target", "early-003/target"}
    for name, before in (("dense", [1, 3]), ("early-003", [1])):
        attack = held[f"trajectory-checkpoints on {name}/target"]
        for side in (attack.side, attack.shadow):
            assert side is not None
            assert [job.stop for job in side.related] == before
            assert {(job.role, job.seed) for job in side.related} == {(side.network.role, side.network.seed)}
    assert "earlier states" in plan.refused["imp-02", "trajectory-checkpoints"]
    levels = [a for a in plan.attacks if a.attack == "trajectory-levels"]
    assert {a.target.network: [job.level for job in a.side.related] for a in levels} == {
        "imp-01": [0],
        "imp-02": [0, 1],
    }


def test_attacks_that_ask_more_change_no_network_but_what_is_asked_of_it() -> None:
    plain, queried, probed = (
        _plan(attacks=["discriminator", *more]) for more in ([], ["lira-offline"], ["gradient-norm"])
    )
    assert [job.key for job in plain.networks] == [job.key for job in queried.networks]
    assert [job.key for job in plain.networks] == [job.key for job in probed.networks]
    assert {job.probes for job in plain.networks} == {()}
    assert {kind for job in queried.networks for kind, _ in job.probes} == {"queries"}
    assert {kind for job in probed.networks for kind, _ in job.probes} == {"gradients"}


def test_an_attack_added_later_has_asked_only_what_is_new_and_leaves_the_others_as_they_are() -> None:
    before, after = (_plan(attacks=["lira-offline", *more]) for more in ([], ["label-noise", "gradient-norm"]))
    for old, new in zip(before.networks, after.networks, strict=True):
        assert [kind for kind, _ in new.probes] == ["queries", "noise", "gradients"]
        assert set(old.probes) < set(new.probes)
    assert {job.key for job in before.attacks} < {job.key for job in after.attacks}
    keys = [key for job in after.networks for _, key in job.probes]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("attack", "change", "kinds"),
    [
        ("lira-offline", "signals.queries=6", {"queries"}),
        ("label-augmentation", "signals.queries=6", {"queries"}),
        ("label-noise", "signals.queries=6", set()),
        ("label-noise", "signals.noise_draws=3", {"noise"}),
        ("label-boundary", "signals.boundary_queries=200", {"boundary"}),
        ("white-box-learned", "signals.boundary_queries=200", set()),
        ("rmia-offline", "data.population=0.3", {"population"}),
        ("gradient-norm", "signals.queries=6", set()),
    ],
)
def test_what_changes_a_question_changes_its_key_and_that_of_the_attacks_that_ask_it(
    attack: str, change: str, kinds: set[str]
) -> None:
    one, other = _plan(attacks=[attack]), _plan(change, attacks=[attack])
    for old, new in zip(one.networks, other.networks, strict=True):
        assert {kind for (kind, a), (_, b) in zip(old.probes, new.probes, strict=True) if a != b} == kinds
    assert {job.key for job in one.attacks}.isdisjoint(job.key for job in other.attacks) == bool(kinds)


@pytest.mark.parametrize(
    ("attack", "overrides", "said"),
    [
        ("lira-online", (), "random-halves"),
        ("rmia-offline", ("data.population=0.0",), "data.population"),
        ("population", ("data.population=0.0",), "data.population"),
        ("lira-offline", ("run.seeds=[0]",), "needs 3 reference networks, and there are 1"),
        ("lira-online", ("data.split=random-halves", "run.seeds=[0,1,2,3]"), "needs 3 reference networks"),
        ("lira-online", ("data.split=random-halves", "run.seeds=[0,2,4,6,8]"), "complementary halves"),
        ("nig-t-online", ("data.split=random-halves", "run.seeds=[0,1]"), "at least two networks that are no complem"),
        ("discriminator", ("data.split=random-halves",), "at least two networks that are no complements"),
    ],
)
def test_an_attack_that_no_network_allows_is_refused_with_the_mend(
    attack: str, overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=f"attacks.names: '{attack}' cannot run in this study: .*{said}"):
        _plan(*overrides, attacks=[attack])
    assert said in unavailable(_study(*overrides))[attack]


def test_networks_that_a_declared_attack_is_not_about_are_told_with_the_reason() -> None:
    found = _plan(attacks=["discriminator-all-levels", "loss"]).refused
    assert set(found) == {
        (name, "discriminator-all-levels") for name in ("dense", "butterfly-s2-l2", "butterfly-s3-l2")
    }
    assert "about the levels of a pruning sequence" in found["dense", "discriminator-all-levels"]


@pytest.mark.parametrize(
    ("augment", "queries", "shown"),
    [
        ([], 18, (0,)),
        (["flip"], 4, (0, 1)),
        (["crop"], 12, (0, *range(2, 10))),
        (["flip", "crop"], 18, tuple(range(18))),
        (["flip", "crop"], 1, (0,)),
    ],
)
def test_lira_averages_over_the_queries_that_training_showed(
    augment: list[str], queries: int, shown: tuple[int, ...]
) -> None:
    overrides = (f"train.augment={augment}".replace("'", '"'), f"signals.queries={queries}")
    plan = _plan(*overrides, attacks=["lira-offline", "discriminator"])
    assert {a.trained_queries for a in plan.attacks if a.attack == "lira-offline"} == {shown}
    assert {a.trained_queries for a in plan.attacks if a.attack == "discriminator"} == {None}


@pytest.mark.parametrize("entries", [4, 16])
def test_planning_compares_methods_and_models_no_more_often_than_there_are_networks(
    monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    compared: list[str] = []
    for kind in (Method, Model):
        plain = kind.__eq__

        def equal(self: Any, other: object, plain: Any = plain) -> Any:
            compared.append(type(self).__name__)
            return plain(self, other)

        monkeypatch.setattr(kind, "__eq__", equal)
    imp = [{"method": "imp", "name": f"imp-{n}", "levels": 3, "fraction": 0.1 + n / 100} for n in range(entries)]
    dense = [{"method": "dense", "name": f"short-{n}", "train": {"epochs": 10 + n}} for n in range(entries)]
    wide = [{"method": "butterfly", "name": f"factors-{n}", "train": {"lr": 0.1 + n / 100}} for n in range(entries)]
    attacks = ("discriminator-all-levels", "discriminator-mismatched", "discriminator-dense-and-sparse")
    fields = {**copy.deepcopy(SMALL), "attacks": {"names": list(attacks)}}
    study = load_study({**fields, "networks": [SMALL["networks"][0], *imp, *dense, *wide], "run": {"seeds": [0]}})
    compared.clear()
    plan = make_plan(study, data_digest="0" * 64, models={"": {"name": "resnet8"}})
    assert {job.attack for job in plan.attacks} == set(attacks)
    assert len(compared) <= 8 * len(plan.networks)
