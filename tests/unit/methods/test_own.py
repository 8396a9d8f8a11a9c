"""Users' methods whose answers cannot be planned with: one sentence before anything is trained."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lacewing.attacks import ATTACKS
from lacewing.errors import UsageError, UserCodeError
from lacewing.methods import METHODS, find
from lacewing.study.accounting import count_networks
from lacewing.study.declared import Study, load_study, recorded_study
from lacewing.study.folder import facts_of
from lacewing.study.plan import fingerprints, make_plan, unavailable
from lacewing.support.user_code import blamed

HEAD = """
from typing import ClassVar
from lacewing.methods import Dense, Imp, Method, Step
class Mine(Method):
"""
number = count()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The study of a method whose class has this body; each has a module of its own."""
    monkeypatch.syspath_prepend(tmp_path)

    def made(body: str, **fields: Any) -> Study:
        name = f"own_{next(number)}"
        (tmp_path / f"{name}.py").write_text(HEAD + "\n".join(f"    {line}" for line in body.splitlines()) + "\n")
        networks = [{"method": "dense"}, {"method": f"{name}:Mine", "name": "mine"}]
        return load_study(
            {"name": "own", "model": {"name": "mlp"}, "networks": networks, "run": {"seeds": [0]}, **fields}
        )

    return made


STEPS = "def steps(self, train):\n    return {}"
BEHIND = "def first(self):\n    return Dense(train=self.train, model=self.model)\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (STEPS.format("()"), "steps: List should have at least 1 item"),
        (STEPS.format("(Step('Half_01', {}),)"), "'Half_01' must be lower-case letters"),
        (STEPS.format("(Step('a', {}), Step('a', {'n': 1}, 1))"), "two of its steps have one name"),
        (STEPS.format("(Step('a', {}), Step('b', {'n': 1}))"), "the levels of its steps must be 0, 1, 2"),
        (STEPS.format("(Step('a', {'n': float('nan')}),)"), "must be plain data"),
        (STEPS.format("(Step('a', {'n': object()}),)"), "must be plain data"),
        (STEPS.format("(Step('a', {'n': (1, 2)}),)"), "must be plain data"),
        (STEPS.format("(Step('a', {'method': 'dense'}),)"), "first() must return the method itself"),
        (STEPS.format("(Step('a', {}), Step('b', {'n': 1}, 1, 3))"), "may keep its states or stop it early"),
        ("@property\ndef keeps(self):\n    return (1,)", "may keep its states or stop it early"),
        ("def first(self):\n    return Dense(train={'lr': 0.5})", "first() must return the method itself"),
        (
            "def default_name(self):\n    return 'x'\n@property\ndef entry(self):\n    return '../up'",
            "must be lower-case",
        ),
        ("complete: ClassVar[bool] = False", "sets complete = False"),
        ("look = 'red'", "has a look that is a str; make it a Look"),
        ("@property\ndef source(self):\n    return None", "defines 'source', which the package needs"),
        ("adds: ClassVar[frozenset] = frozenset({'nope'})", "adds must be a frozenset of names of its fields"),
    ],
)
def test_answers_that_cannot_be_planned_with_are_refused(make: Any, body: str, said: str):
    with pytest.raises(UsageError, match=r"networks\.1") as refused:
        make(body)
    assert said in str(refused.value)


@pytest.mark.parametrize("function", ["steps(self, train)", "first(self)"])
def test_a_function_that_fails_is_the_user_s_and_shows_the_line(make: Any, function: str):
    with pytest.raises(UserCodeError, match=r"networks\.1: method own_\d+:Mine failed with KeyError") as refused:
        make(f"def {function}:\n    return {{}}['gone']")
    assert "return {}['gone']" in str(refused.value)


def test_entries_whose_steps_have_one_key_are_told_and_none_is_left_out(make: Any):
    study = make("share: float = 0.5\n" + STEPS.format("(Step(self.entry, {'method': self.method}),)"))
    other = study.networks[1].model_copy(update={"name": "other", "share": 0.25})
    both = study.model_copy(update={"networks": (*study.networks, other)})
    with pytest.raises(UsageError, match="makes 'mine' and 'other' alike; give each step a key of its own"):
        make_plan(both, data_digest="0" * 64, models={"": {}})


def test_a_check_says_which_field_does_not_fit(make: Any):
    with pytest.raises(UsageError, match=r"networks\.1\.lr: no"):
        make("def check(self, train):\n    raise ValueError('lr: no')")


@pytest.mark.parametrize("found", ["100.5", "-4", "None", "True", "float('nan')"])
def test_a_count_is_a_whole_number(make: Any, found: str):
    study = make(f"def count(self, model, step):\n    return {found}")
    plan = make_plan(study, data_digest="0" * 64, models={"": {}})
    with pytest.raises(UserCodeError, match=r"network 'mine': count\(\) of method own_\d+:Mine returns"):
        count_networks(study, plan, (4,), 3)


def test_what_is_built_is_a_module(make: Any):
    study = make("reshapes: ClassVar[bool] = True\ndef build(self, model):\n    return None")
    plan = make_plan(study, data_digest="0" * 64, models={"": {}})
    with pytest.raises(UserCodeError, match=r"build\(\) of method own_\d+:Mine returns a NoneType"):
        count_networks(study, plan, (4,), 3)


def test_a_network_larger_than_the_study_s_model_is_refused():
    wide = {"method": "dense", "name": "wide", "model": {"hidden": [99]}}
    networks = [{"method": "dense"}, wide]
    study = load_study({"name": "own", "model": {"name": "mlp", "hidden": [8]}, "networks": networks})
    plan = make_plan(study, data_digest="0" * 64, models=fingerprints(study))
    with pytest.raises(UsageError, match="network 'wide' has 795 parameters that are not zero, more than"):
        count_networks(study, plan, (4,), 3)


def test_the_package_s_own_classes_go_by_their_names_and_may_be_extended(make: Any, tmp_path: Path):
    with pytest.raises(UsageError, match="is the package's own"):
        find("lacewing.methods:RecordedMethod", "networks.0.method")
    (tmp_path / "extended.py").write_text("from lacewing.methods import Imp\nclass Cut(Imp): pass\n")
    entry = {"method": "extended:Cut", "levels": 2}
    study = load_study({"name": "own", "model": {"name": "mlp"}, "networks": [{"method": "dense"}, entry]})
    assert [step.network for step in study.networks[1].steps(study.train)] == ["imp-00", "imp-01", "imp-02"]


def test_a_masked_control_behind_a_dense_network_has_no_imposed_shadow(make: Any):
    """The dense version of a control is not known, so no shadow can start from its rewind point."""
    study = make(
        'role: ClassVar[str] = "control"\nmasked: ClassVar[bool] = True\n'
        + BEHIND
        + STEPS.format("(Step('mine-0', {'method': 'dense'}), Step('mine-1', {'method': self.method, 'n': 1}, 1))")
    )
    assert "discriminator-imposed-mask" in unavailable(study)
    plan = make_plan(study, data_digest="0" * 64, models={"": {}})
    assert [job.network for job in plan.networks if job.role == "target"] == ["dense", "mine-1"]
    facts = facts_of(study, {"": {}})
    again = make_plan(recorded_study(study.as_dict(), facts["methods"]), data_digest="0" * 64, models={"": {}})
    assert [job.key for job in again.networks] == [job.key for job in plan.networks]
    assert {*ATTACKS} > {*unavailable(study)}
    assert study.networks[1].method not in METHODS


def test_what_our_code_raises_inside_a_user_s_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "passes.py").write_text("def on(function):\n    return function()\n\ndef fails():\n    raise OSError\n")
    monkeypatch.syspath_prepend(tmp_path)
    import passes

    def raised(function: Any) -> BaseException:
        with pytest.raises(Exception) as caught:
            passes.on(function)
        return caught.value

    from lacewing.support.formats import parse_json

    ours, theirs = raised(lambda: parse_json("{", "a file")), raised(passes.fails)
    assert blamed(ours)
    assert not blamed(ours, alone=True)
    assert blamed(theirs, alone=True)
