"""Studies of any values: types are strict, everything is bounded, and whatever is refused is one sentence."""

import copy
import datetime
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lacewing.config import Attacks, Data, Model, Run, Signals, Train
from lacewing.errors import UsageError
from lacewing.methods import METHODS
from lacewing.study.declared import load_study, to_toml
from lacewing.support.text import visible

SMALL = {
    "name": "small",
    "data": {"records": 1000},
    "model": {"name": "resnet8"},
    "train": {"epochs": 30},
    "networks": [
        {"method": "dense"},
        {"method": "imp", "levels": 2, "fraction": 0.5},
        {"method": "butterfly", "segments": 2, "train": {"lr": 0.2}},
        {"method": "early-stopped", "shares": [0.5]},
    ],
}
PARTS = {"data": Data, "model": Model, "train": Train, "signals": Signals, "attacks": Attacks, "run": Run}


def _small(**changes):
    return {**copy.deepcopy(SMALL), **changes}


def _refused(study, *overrides):
    with pytest.raises(UsageError) as caught:
        load_study(study, overrides)
    sentence = str(caught.value)
    assert visible(sentence) == sentence.replace("\n", "")
    assert len(sentence) < 600
    assert sentence.endswith((".", "?"))
    return sentence


def _fields():
    """Every field of a study, with a value of its type."""
    study = load_study(_small())
    for part, kind in PARTS.items():
        for field in kind.model_fields:
            yield f"{part}.{field}", getattr(getattr(study, part), field)
    for index, network in enumerate(study.networks):
        for field in METHODS[network.method].model_fields:
            yield f"networks.{index}.{field}", getattr(network, field)
    yield from {"networks.1.train.epochs": 3, "networks.1.train.lr": 0.1, "schema": 1, "name": "small"}.items()


FIELDS = dict(_fields())
NUMBERS = {
    **{path: value for path, value in FIELDS.items() if isinstance(value, int | float) and not isinstance(value, bool)},
    "data.records": 1,
    "model.width": 1,
}
LISTS = {
    "model.hidden": 1,
    "train.milestones": 0.5,
    "train.augment": "flip",
    "signals.noise_sizes": 0.5,
    "attacks.names": "loss",
    "run.seeds": 1,
    "networks.2.ignore": "fc",
    "networks.3.epochs": 1,
    "networks.3.shares": 0.5,
}


def test_no_field_is_forgotten_here():
    lists = {path for path, value in FIELDS.items() if isinstance(value, tuple)}
    assert lists | {"model.hidden", "networks.3.epochs"} == set(LISTS)
    assert len(NUMBERS) >= 25


# ---------------------------------------------------------------------------------------------------------------- types


@pytest.mark.parametrize("path", NUMBERS)
@pytest.mark.parametrize("value", ["true", '"1"', '"0.1"', "'many'", "[1]", "{ a = 1 }", "1979-05-27", "nan", "inf"])
def test_a_number_is_no_boolean_no_text_and_no_list(path, value):
    assert path.rpartition(".")[2] in _refused(_small(), f"{path}={value}")


@pytest.mark.parametrize("path", [path for path, value in NUMBERS.items() if isinstance(value, int)])
def test_a_whole_number_has_no_point_and_a_number_may_have_none(path):
    assert "give a whole number" in _refused(_small(), f"{path}=1.0")
    assert load_study(_small(), ["train.lr=1"]).train.lr == 1.0


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("value", ["1", "true", "'loss'", "{ a = 1 }", "[[1]]", "[true]", "[{}]"])
def test_a_list_is_a_list_of_what_belongs_in_it(path, value):
    assert path.rpartition(".")[2] in _refused(_small(), f"{path}={value}")


@pytest.mark.parametrize("path", ["data.dataset", "model.name", "model.version", "train.schedule", "networks.1.rewind"])
@pytest.mark.parametrize("value", ["1", "true", "['a']", "{ a = 1 }", "1979-05-27"])
def test_text_is_text(path, value):
    assert path.rpartition(".")[2] in _refused(_small(), f"{path}={value}")


def test_true_is_not_one():
    assert "train.channels_last = 1: give true or false." in _refused(_small(), "train.channels_last=1")


# --------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("path", sorted(set(NUMBERS) - {"data.seed"}))
def test_every_number_is_bounded(path):
    value = 1e300 if isinstance(NUMBERS[path], float) else 2**62
    assert path.rpartition(".")[2] in _refused(_small(), f"{path}={value!r}")
    assert path.rpartition(".")[2] in _refused(_small(), f"{path}={-value!r}")
    assert "more than 64 bits" in _refused(_small(), f"{path}={2**64}")


@pytest.mark.parametrize("path", LISTS)
def test_every_list_is_bounded(path):
    made = {1: range(1, 20_001), 0.5: np.linspace(0.001, 0.999, 20_000), "loss": [f"a{i}" for i in range(20_000)]}
    value = list(made.get(LISTS[path], ["flip"] * 20_000))
    study = _small()
    part, *index, field = path.split(".")
    (study["networks"][int(index[0])] if index else study.setdefault(part, {}))[field] = value
    if field == "epochs":
        del study["networks"][3]["shares"]
        study["train"]["epochs"] = 50_000
    assert field in _refused(study)


@pytest.mark.parametrize("path", [path for path, value in FIELDS.items() if isinstance(value, str)])
def test_every_text_is_bounded_and_printable(path):
    assert path.rpartition(".")[2] in _refused(_small(), f"{path}={'a' * 5000}")
    assert path.rpartition(".")[2] in _refused(_small(), f'{path}="a\\u001b[2Jb"')


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "networks.1.levels=2147483648",
            "networks.1.levels = 2147483648: at most 200, since after that nothing is left to prune.",
        ),
        ("networks.1.levels=50", "networks.1.levels = 50: at most 39 with fraction = 0.5, since after that nothing is"),
        ("networks.1.fraction=1e-9", "networks.1.fraction = 1e-09"),
        ("signals.noise_draws=9223372036854775807", "signals.noise_draws = 9223372036854775807: at most 1,000, since"),
        ("signals.noise_sizes=[0.8, 0.4]", "signals.noise_sizes: [0.8, 0.4] must ascend, no size twice."),
        ("train.milestones=[0.75, 0.5]", "train.milestones: [0.75, 0.5] must ascend, no share twice."),
        ("train.augment=['flip', 'flip']", "train.augment: ['flip', 'flip'] names one twice."),
        ("attacks.names=['loss', 'loss']", "attacks.names: ['loss', 'loss'] names an attack twice."),
        ("data.canaries=1001", "data.canaries = 1,001 is more than data.records = 1,000; lower it."),
        ("networks.1.rewind=epoch 99999999999999999999", "networks.1.rewind: 'epoch 99999999999999999999' must be"),
        ("networks.1.rewind=epoch \u0663", "networks.1.rewind: 'epoch \u0663' must be 'init' or 'epoch K'"),
        ("train.epochs=1e999", "train.epochs = inf: give a whole number."),
        ("train.epochs=99999999999999999999", "train.epochs is a whole number of more than 64 bits; give a smaller"),
        (f"train.epochs={'9' * 5000}", "holds a number with too many digits; give a smaller one."),
        (f"train.epochs=0x{'f' * 5000}", "train.epochs is a whole number of more than 64 bits"),
        ("train.epochs=2.0", "train.epochs = 2.0: give a whole number."),
        ("networks.2.train.epochs=true", "networks.2.train: epochs = True: give a whole number."),
        ("networks.2.train=3", "networks.2.train = 3: give a table of fields."),
        ("networks.0=3", "networks.0 = 3: give a table of fields."),
        ("networks=3", "networks = 3: give a list."),
        ("networks.1.method=3", "networks.1.method is 3; name one of dense"),
        ("run.seeds=[-1]", "run.seeds.0 = -1"),
        ("model={ factory = 'a..b:f' }", "factory 'a..b:f' is not of the form"),
        ("name=nul", "name: 'nul' cannot name a folder on Windows; choose another name."),
        ("name=com1.x", "name: 'com1.x' cannot name a folder on Windows"),
        ("name=ends.", "name: 'ends.' cannot name a folder on Windows"),
        (f"name={'a' * 65}", "has 65 characters: at most 64, since it names a folder."),
        ("networks.0.name=aux", "networks.0.name: 'aux' cannot name a folder on Windows"),
    ],
)
def test_what_no_study_means_is_refused_with_the_reason(override, said):
    assert said in _refused(_small(), override)


@pytest.mark.parametrize("name", ["null", "console", "com", "com10", "lpt", "a.nul", "auxiliary"])
def test_names_that_only_look_like_devices_are_names(name):
    assert load_study(_small(name=name)).name == name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": {"seeds": list(range(700))}}, "run.seeds: 9,800 networks of 700 seeds make 6,860,000 pairs"),
        (
            {"networks": [{"method": "imp", "levels": 200, "fraction": 0.01, "name": f"n{i}"} for i in range(100)]},
            "networks and run.seeds make 120,600 networks: at most 10,000",
        ),
        (
            {"networks": [{"method": "early-stopped", "name": f"n{i}", "train": {"epochs": 5000}} for i in range(900)]},
            "networks and run.seeds make ",
        ),
    ],
)
def test_a_plan_is_bounded_before_it_is_made(changes, said):
    assert said in _refused(_small(**changes))


def test_large_studies_that_somebody_may_run_are_not_refused():
    load_study("paper", ["run.seeds=[" + ",".join(map(str, range(40))) + "]"])
    load_study("digits-halves", ["run.seeds=[" + ",".join(map(str, range(256))) + "]"])
    load_study(_small(), ["train.epochs=100000", "signals.queries=256", "signals.draws=1000", "networks.1.levels=39"])
    load_study(_small(), [f"run.seeds=[0, {2**63 - 1}]", f"data.seed={2**63 - 1}", "networks.2.factors=8"])


# -------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("content", "said"),
    [
        # Too deep, or not valid: how deep Python reads depends on what else has run in the process.
        (b"a = " + b"[" * 100_000, "study.toml is n"),
        (b"a = " + b"{b=" * 20_000, "study.toml is n"),
        (b"[train]\nepochs = " + b"9" * 5_000, "a number with too many digits"),
        (b"\xff\xfe", "is not a text file in UTF-8"),
        (b'name = "\x07"', "is not valid TOML"),
        (b'name = "\\u0007"', "name holds the control character U+0007; leave it out."),
        (b'name = "\\u202e"', "name holds the control character U+202E; leave it out."),
        (b"#" * (2**20 + 1), "is larger than 1,048,576 bytes"),
        (b"a." * 100_000 + b"b = 1", "has a line with more than 2,000 dots"),
        (b"a." * 500 + b"b = 1", "lies more than 10 tables or lists deep"),
        (b"a" * 10_000 + b" = 1", "a field whose name has 10,000 characters"),
        (b"[run]\nseeds = [" + b"1," * 60_000 + b"]", "more than 50,000 values"),
        (b"", "'name' is missing; add it."),
    ],
)
def test_what_no_reader_of_toml_should_meet_is_one_sentence(tmp_path, content, said):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    assert said in _refused(path)


def test_what_is_no_file_is_one_sentence(tmp_path):
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    assert "folder.toml is a folder" in _refused(folder)
    assert "no study file" in _refused(tmp_path / f"{'long' * 100}.toml")
    assert "unknown study" in _refused("x" * 300)
    assert "is neither a name nor the path of a file" in _refused("x" * 5000)
    assert "is neither a name nor the path of a file" in _refused("a\0.toml")
    assert "study is a int; give a built-in name, a TOML file or a mapping." in _refused(3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_does_not_hang(tmp_path):
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    assert "is not a regular file" in _refused(pipe)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("name=1\nmodel=2", "sets more than one field; give each its own --set."),
        ('name="x"\n[train]\nepochs=1', "sets more than one field"),
        ("train.epochs=" + "[" * 100_000, "is nested too deeply"),
        ("a." * 100_000 + "b=1", "the field lies more than 10 tables deep"),
        (f"networks.{'9' * 5000}.levels=1", "is not a position from 0 to 3 of that list."),
        ("train.epochs={" + "a." * 100_000 + "b=1}", "has a line with more than 2,000 dots"),
        ("x" * 1_000_000 + "=1", "a field whose name has 1,000,000 characters"),
        ("train.epochs=" + "x" * 2_000_000, "is longer than 1,048,576 characters"),
        ("run.seeds=[" + "1," * 60_000 + "]", "more than 50,000 values"),
    ],
)
def test_a_set_of_anything_is_one_sentence(override, said):
    assert said in _refused(_small(), override)


def test_a_value_may_span_lines():
    assert load_study(_small(), ["run.seeds=[\n 0, # the first\n 1,\n]"]).run.seeds == (0, 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"dataset": object()}, "study: data.dataset is a object; a study holds text, numbers, true or false"),
        ({"dataset": b"x.npz"}, "data.dataset is a bytes"),
        ({"seed": {1}}, "data.seed is a set"),
        ({"seed": 1 + 2j}, "data.seed is a complex"),
        ({"seed": datetime.date(2026, 1, 1)}, "data.seed is a date"),
        ({"seed": np.datetime64(3, "ns")}, "data.seed is a datetime64"),
        ({"seed": iter([1])}, "data.seed is a list_iterator"),
        ({"seed": np.arange(10**6)}, "data.seed is a ndarray"),
        ({"seed": 10**5000}, "data.seed is a whole number of more than 64 bits"),
        ({"seed": np.bool_(True)}, "data.seed = True: give a whole number."),
        ({3: 4}, "data has a field named by a int"),
    ],
)
def test_a_mapping_of_what_is_no_plain_data_is_refused_by_its_field(data, said):
    assert said in _refused(_small(data=data))


def test_a_mapping_that_holds_itself_is_refused():
    study = _small()
    study["data"]["dataset"] = study
    assert "lies more than 10 tables or lists deep" in _refused(study)


def test_numbers_and_arrays_of_numpy_and_paths_are_plain_data():
    study = load_study(
        _small(
            data={"dataset": Path("own.npz"), "label_noise": np.float32(0.5)},
            run={"seeds": np.arange(3)},
            signals={"noise_sizes": (np.float64(0.1), 1)},
            train={"channels_last": np.bool_(False), "epochs": np.int16(3)},
        )
    )
    assert (study.data.dataset, study.data.label_noise, study.run.seeds) == ("own.npz", 0.5, (0, 1, 2))
    assert (study.signals.noise_sizes, study.train.channels_last, study.train.epochs) == ((0.1, 1.0), False, 3)


# ------------------------------------------------------------------------------------------------------------- anything

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 2, 10, 2**31, 2**63 - 1, 2**63, -(2**63), 10**400]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["dense", "imp", "epoch 1", "init", "all", "mlp", "\x1b[2J", "\ud800", "a" * 5000]),
    st.dates(),
    st.binary(max_size=3),
)
names = st.sampled_from(sorted({step for path in FIELDS for step in path.split(".") if not step.isdecimal()}))
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=3), inner, max_size=4)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), anything, max_size=4), st.dictionaries(names, anything))
def test_a_study_of_anything_is_a_study_or_one_sentence(changes, more):
    fields = {**_small(), **more} if len(more) < 3 else more
    for path, value in changes.items():
        *steps, last = path.split(".")
        here = fields
        for step in steps:
            if isinstance(here, dict):
                here = here.get(step)
            elif isinstance(here, list) and step.isdecimal() and int(step) < len(here):
                here = here[int(step)]
            else:
                break
        if isinstance(here, dict):
            here[last] = value
    try:
        study = load_study(fields)
    except UsageError as error:
        sentence = str(error)
    else:
        sentence = "."
        assert load_study(tomllib.loads(to_toml(study))) == study
    assert visible(sentence) == sentence.replace("\n", "")
    assert sentence.endswith((".", "?"))
    assert len(sentence) < 600
