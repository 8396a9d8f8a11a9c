"""What a run folder holds of users' methods: enough for the same plan, and nothing that is not checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lacewing.config import Train
from lacewing.errors import FolderError, UsageError
from lacewing.methods import METHODS, RecordedMethod, find, of_entry, record
from lacewing.methods.dp_sgd import DRAWS
from lacewing.study.declared import Study, load_study, recorded_study
from lacewing.study.plan import make_plan

STUDY: dict[str, Any] = {
    "name": "own",
    "model": {"name": "mlp"},
    "train": {"epochs": 3},
    "networks": [{"method": "dense"}, {"method": "own_method:Halved", "share": 0.25, "train": {"lr": 0.01}}],
    "run": {"seeds": [0, 1]},
}


@pytest.fixture
def study(own_method: Path) -> Study:
    return load_study(STUDY)


@pytest.fixture
def content(study: Study) -> dict[str, Any]:
    """The record of the second entry, as it comes from JSON."""
    found: dict[str, Any] = json.loads(json.dumps(record(study.networks[1], study.train_of(study.networks[1]))))
    return found


def test_the_plan_is_the_same_without_the_code(study: Study, content: dict[str, Any]):
    again = recorded_study(study.as_dict(), {"1": content})
    assert isinstance(again.networks[1], RecordedMethod)
    assert again.as_dict() == study.as_dict()
    plans = [make_plan(each, data_digest="0" * 64, models={"": {}}) for each in (study, again)]
    told = [[(j.key, j.id, j.kind, j.family, j.spec.traits) for j in plan.networks] for plan in plans]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "dense"),
        ("source", "abc"),
        ("steps", []),
        ("steps", [{"network": "../up", "key": {}, "level": 0, "stop": None}]),
        ("steps", [{"network": "a", "key": {}, "level": -1, "stop": None}]),
        ("traits", ["other"]),
        ("masked", 1),
        ("more", 1),
    ],
)
def test_a_record_that_we_do_not_write_is_refused(study: Study, content: dict[str, Any], field: str, value: object):
    with pytest.raises((FolderError, UsageError), match="own_method:Halved"):
        recorded_study(study.as_dict(), {"1": {**content, field: value}})


def test_an_entry_without_a_record_is_refused_and_imports_nothing(study: Study):
    with pytest.raises((FolderError, UsageError), match="own_method:Halved"):
        recorded_study(study.as_dict(), {})


def test_the_role_of_the_dense_network_is_the_package_s_own(own_method: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "taken.py").write_text("from lacewing.methods import Dense\nclass Mine(Dense): pass\nnumber = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="has role 'dense'"):
        find("taken:Mine", "networks.0.method")
    with pytest.raises(UsageError, match=r"taken:number is not a subclass of lacewing\.methods\.Method"):
        find("taken:number", "networks.0.method")


def test_a_method_of_the_user_s_is_not_trained_in_stacks(own_method: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "pruned.py").write_text("from lacewing.methods import Imp\nclass Mine(Imp):\n    method: str\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = {"method": "pruned:Mine", "levels": 1}
    fields = {**STUDY, "networks": [{"method": "dense"}, entry]}
    assert len(load_study(fields).networks[1].steps(Train())) == 2
    with pytest.raises(UsageError, match="networks of method 'pruned:Mine' cannot be trained in stacks"):
        load_study({**fields, "train": {"stack": 2}})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_its_networks_and_starts_with_the_first(name: str):
    fields = METHODS[name].model_fields
    needed = {**({"levels": 3} if "levels" in fields else {}), **({"of": "imp-03"} if "of" in fields else {})}
    needed |= {"noise": 1.0} if "noise" in fields else {}
    method = of_entry({"method": name, **needed}, 0, {"epochs": 30})
    steps = method.steps(Train())
    assert [step.level for step in steps] == [*range(len(steps))]
    assert len({step.network for step in steps}) == len(steps)
    assert len({json.dumps(step.key, sort_keys=True) for step in steps}) == len(steps)
    named = {"of"} if method.mask_of else set()  # a job key has the key of the network whose mask is taken
    settings = {field: value for field, value in method.first().settings().items() if field not in named}
    draws = {"draws": DRAWS} if method.accounted else {}  # which random numbers a guarantee rests on
    assert steps[0].key == settings | draws
    assert method.source is None
    assert method.look is not None
