"""Entries that take the mask of another network: which are refused, in which order they are planned, their keys."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from lacewing.errors import UsageError
from lacewing.study.accounting import count_networks
from lacewing.study.declared import difference, load_study
from lacewing.study.plan import NetworkJob, Plan, make_plan, only

IMP = {"method": "imp", "levels": 3, "fraction": 0.5}
OWN_SEQUENCE = """
from lacewing.methods import Dense, Step
from own_method import Halved


class Follows(Halved):
    def first(self):
        return Dense.alike(self)

    def steps(self, train):
        return (Step(f"{self.entry}-00", self.first().settings()), Step(f"{self.entry}-01", self.settings(), 1))

    @property
    def mask_of(self):
        return "imp-01"
"""


def study(*networks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "name": "masks",
        "data": {"records": 80},
        "model": {"name": "mlp", "hidden": [8]},
        "train": {"epochs": 3, "precision": "fp32"},
        "networks": [{"method": "dense"}, *networks],
        "run": {"seeds": [0, 1]},
        **fields,
    }


def plan_of(*networks: dict[str, Any], **fields: Any) -> Plan:
    return make_plan(load_study(study(*networks, **fields)), data_digest="0" * 64, models={"": {}})


def jobs_of(plan: Plan) -> dict[str, NetworkJob]:
    return {job.id: job for job in plan.networks}


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([IMP, {"method": "ticket", "of": "imp-04"}], "networks.2.of = 'imp-04': no network is called so; .*imp-03"),
        (
            [IMP, {"method": "ticket", "of": "imp"}],
            "networks.2.of = 'imp': no network is called so; did you mean 'imp-0",
        ),
        ([IMP, {"method": "random-mask", "of": "dense"}], "networks.2.of = 'dense' has no mask; .*imp-01"),
        ([IMP, {"method": "random-mask", "of": "imp-00"}], "networks.2.of = 'imp-00' has no mask; did you mean 'imp-0"),
        (
            [IMP, {"method": "early-stopped", "epochs": [1]}, {"method": "ticket", "of": "early-001"}],
            "networks.3.of = 'early-001' has no mask",
        ),
        (
            [IMP, {"method": "butterfly", "name": "fly"}, {"method": "ticket", "of": "fly"}],
            "networks.3.of = 'fly' has no mask",
        ),
        ([{"method": "reinitialised", "of": "dense"}], "networks.1.of = 'dense': no network of the study has a mask"),
        (
            [{"method": "ticket", "name": "a", "of": "a"}],
            "networks.1.of = 'a': no network of the study has a mask; add an entry of IMP",
        ),
        (
            [IMP, {"method": "ticket", "name": "a", "of": "b"}, {"method": "random-mask", "name": "b", "of": "a"}],
            "networks.2.of: 'a' takes that of 'b' takes that of 'a'; name a network that is pruned by itself",
        ),
        ([IMP, {"method": "ticket", "name": "a", "of": "a"}], "networks.2.of: 'a' takes that of 'a'; name a network"),
        (
            [IMP, {"method": "ticket", "of": "imp-01"}, {"method": "ticket", "name": "other", "of": "imp-01"}],
            "'ticket-imp-01' and 'other' are made alike",
        ),
        ([IMP, {"method": "random-mask"}], "networks.2.*of.*missing"),
        ([IMP, {"method": "shuffled-mask", "of": "imp-01", "within": "layers"}], "networks.2.within"),
    ],
)
def test_a_mask_that_there_is_not_is_refused(networks: list[dict[str, Any]], message: str):
    with pytest.raises(UsageError, match=message):
        load_study(study(*networks))


def test_a_model_of_other_shapes_is_refused_before_training():
    found = load_study(study(IMP, {"method": "ticket", "of": "imp-01", "model": {"hidden": [4]}}))
    plan = make_plan(found, data_digest="0" * 64, models={"": {}})
    message = (
        r"network 'ticket-imp-01' takes the mask of 'imp-01', and their models differ: '1.weight' is of shape "
        r"\(4, 64\) in 'ticket-imp-01' and of shape \(8, 64\) in 'imp-01'; give both the same model"
    )
    with pytest.raises(UsageError, match=message):
        count_networks(found, plan, (64,), 10)


def test_networks_that_start_from_a_dense_one_take_no_mask(own_method: Any):
    path = own_method.with_name("follows.py")
    path.write_text(OWN_SEQUENCE)
    with pytest.raises(UsageError, match=r"networks.2: .* take the mask of another one may not start"):
        load_study(study(IMP, {"method": "follows:Follows"}))


@pytest.mark.parametrize("split", ["four-way", "random-halves"])
def test_the_mask_is_that_of_the_same_seed_role_and_initialisation(split: str):
    run = {"seeds": [0, 1, 2, 3], "inits": 2}
    plan = plan_of({"method": "random-mask", "of": "imp-02"}, IMP, data={"split": split, "records": 80}, run=run)
    controls = [job for job in plan.networks if job.method == "random-mask"]
    assert len(controls) == (16 if split == "four-way" else 8)
    for job in controls:
        assert job.mask is not None
        assert job.mask.network == "imp-02"
        assert (job.mask.seed, job.mask.role, job.mask.init) == (job.seed, job.role, job.init)
        assert job.kind == "control"
    assert len({job.key for job in controls}) == len(controls)


def test_a_key_holds_the_key_of_the_other_network_and_not_its_name():
    control = {"method": "ticket", "name": "ticket", "of": "imp-02"}
    key = jobs_of(plan_of(IMP, control))["ticket/target/0"].key
    renamed = jobs_of(plan_of({**IMP, "name": "cut"}, {**control, "of": "cut-02"}))
    assert renamed["ticket/target/0"].key == key
    assert jobs_of(plan_of({**IMP, "levels": 2}, control))["ticket/target/0"].key == key
    others = [
        plan_of({**IMP, "fraction": 0.4}, control),
        plan_of({**IMP, "train": {"lr": 0.2}}, control),  # of IMP alone
        plan_of(IMP, {**control, "of": "imp-01"}),
        plan_of(IMP, {**control, "train": {"epochs": 2}}),
        plan_of(IMP, {**control, "method": "random-mask"}),
    ]
    keys = [jobs_of(plan)["ticket/target/0"].key for plan in others]
    assert len({key, *keys}) == 1 + len(keys)


def test_a_family_varies_the_level_or_the_schedule():
    plan = plan_of(
        IMP,
        {"method": "random-mask", "vary": {"of": ["imp-01", "imp-02", "imp-03"]}},
        {"method": "ticket", "name": "brief", "of": "imp-03", "vary": {"train.epochs": [1, 2]}},
    )
    found = jobs_of(plan)
    random = [found[f"random-mask-imp-0{n}/shadow/1"] for n in (1, 2, 3)]
    assert [job.mask.network for job in random if job.mask] == ["imp-01", "imp-02", "imp-03"]
    assert {(job.family, job.kind) for job in random} == {("random-mask", "control")}
    brief = [found[f"brief-00{n}/target/0"] for n in (1, 2)]
    assert [(job.family, job.kind, job.train.epochs) for job in brief] == [
        ("brief", "sparse", 1),
        ("brief", "sparse", 2),
    ]


def test_masks_of_masks_are_planned_behind_them_wherever_they_stand():
    chain = [
        {"method": "random-mask", "name": "third", "of": "second"},
        {"method": "shuffled-mask", "name": "second", "of": "first"},
        {"method": "ticket", "name": "first", "of": "imp-01"},
    ]
    found = load_study(study(*chain, IMP))
    plan = make_plan(found, data_digest="0" * 64, models={"": {}})
    jobs = jobs_of(plan)
    for name, other in pairwise(["third", "second", "first", "imp-01"]):
        assert jobs[f"{name}/target/0"].mask == jobs[f"{other}/target/0"]
    counts = count_networks(found, plan, (64,), 10)
    assert {counts[name]["nonzero"] for name in ("third", "second", "first", "imp-01")} == {8 * 64 // 2 + 40 + 18}


@pytest.mark.parametrize("stack", [1, 2])
def test_a_slice_brings_the_network_whose_mask_it_takes(stack: int):
    train = {"epochs": 3, "precision": "fp32", "stack": stack}
    plan = plan_of(IMP, {"method": "random-mask", "name": "control", "of": "imp-02"}, train=train)
    found = only(plan, {"network": "control", "seed": "1", "role": "shadow"})
    seeds = (0, 1) if stack == 2 else (1,)  # a stack is trained together
    wanted = {(name, seed) for name in ("dense", "imp-01", "imp-02", "control") for seed in seeds}
    assert {(job.network, job.seed) for job in found.networks} == wanted
    assert {job.role for job in found.networks} == {"shadow"}


def test_another_mask_is_another_study():
    old, new = (load_study(study(IMP, {"method": "ticket", "name": "a", "of": of})) for of in ("imp-01", "imp-02"))
    assert difference(old, new) == "network 'a': of is 'imp-02' now and 'imp-01' in the folder"
