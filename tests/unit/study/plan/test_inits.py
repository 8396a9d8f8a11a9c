"""Several initialisations on one split: their jobs, ids, keys and stacks, and whose references they are."""

import pytest

from lacewing.errors import UsageError
from lacewing.study.declared import load_study
from lacewing.study.plan import make_plan, only
from lacewing.training.loop import stream

SMALL = {
    "name": "small",
    "model": {"name": "mlp"},
    "train": {"epochs": 5, "precision": "fp32"},
    "networks": [{"method": "dense"}, {"method": "imp", "levels": 1, "fraction": 0.5}],
    "run": {"seeds": [0, 1]},
}
HALVES = {"data": {"split": "random-halves"}, "run": {"seeds": [0, 1, 2, 3, 4, 5], "inits": 2}}


def _plan(*overrides, **changes):
    return make_plan(load_study({**SMALL, **changes}, overrides), data_digest="0" * 64, models={"": {}})


def _keys(plan):
    return {job.id: job.key for job in (*plan.networks, *plan.attacks)}


@pytest.mark.parametrize("attack", ["discriminator", "lira-offline", "discriminator-imposed-mask"])
def test_the_first_initialisation_is_the_network_of_a_study_that_has_one(attack):
    change = f"attacks.names=['{attack}']"
    one, three = _keys(_plan(change)), _keys(_plan(change, "run.inits=3"))
    assert one.items() <= three.items()
    assert len(three) == len(set(three.values())) == 3 * len(one)
    assert three.keys() - one.keys() == {f"{name}.{init}" for name in one for init in (1, 2)}


def test_a_shadow_is_of_the_initialisation_of_its_target():
    for attack in _plan("run.inits=2").attacks:
        target, shadow = attack.target, attack.shadow.network
        assert (shadow.seed, shadow.init, shadow.role) == (target.seed, target.init, "shadow")
        assert attack.id == f"discriminator on {target.network}/target/{target.repeat}"


def test_no_reference_trains_on_the_records_of_the_attacked_network():
    plan = _plan("attacks.names=['lira-online', 'rmia-online']", **HALVES)
    for attack in plan.attacks:
        for side in (attack.side, attack.shadow):
            assert {job.seed // 2 for job in side.references}.isdisjoint({attack.target.seed // 2})
            assert {job.init for job in side.references} == {attack.target.init}
        assert len(attack.side.references) == 4


def test_streams_of_the_first_initialisation_are_those_of_a_study_that_has_one():
    first, second = (next(j for j in _plan("run.inits=2").networks if j.init == init) for init in (0, 1))
    for use in ("init", "train", "method"):
        assert stream(*first.stream(use)) == stream(0, "target", use)
        assert stream(*second.stream(use)) == stream(0, "target", use, 1)


def test_stacks_hold_initialisations_beside_seeds():
    stacks = _plan("run.inits=3", "train.stack=6").stacks
    assert {name: [seq[0].id for seq in found] for name, found in stacks.items()} == {
        f"dense/{role}/0": [f"dense/{role}/{repeat}" for repeat in ("0", "0.1", "0.2", "1", "1.1", "1.2")]
        for role in ("target", "shadow")
    }
    one = _keys(_plan("train.stack=6"))
    assert one["dense/target/0"] == _keys(_plan("train.stack=6", "run.inits=3"))["dense/target/0"]
    assert (
        _keys(_plan("train.stack=6", "run.seeds=[0]", "run.inits=3")).items()
        <= _keys(_plan("train.stack=6", "run.inits=3")).items()
    )


def test_a_slice_can_be_of_one_initialisation():
    part = only(_plan("run.inits=3"), {"init": "1", "role": "target"})
    assert {job.id for job in part.networks} == {f"{n}/target/{s}.1" for n in ("dense", "imp-01") for s in (0, 1)}


@pytest.mark.parametrize("inits", ["0", "101", "1.5"])
def test_a_number_of_initialisations_that_makes_no_sense_is_refused(inits):
    with pytest.raises(UsageError, match="inits"):
        load_study(SMALL, [f"run.inits={inits}"])


def test_more_networks_than_a_study_may_have_are_refused():
    with pytest.raises(UsageError, match=r"run\.seeds and run\.inits make 24,000 networks"):
        load_study(SMALL, [f"run.seeds={list(range(40))}", "run.inits=100"])
