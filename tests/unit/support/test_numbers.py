"""Numbers of the command line and of Python: of the right type and within bounds, or one sentence and exit code 2."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

import lacewing
from lacewing import bench, cli
from lacewing.auditing import _gates, _result
from lacewing.errors import UsageError
from lacewing.sparsify import files
from lacewing.study import estimate, plan
from lacewing.study.declared import load_study
from lacewing.study.plan import make_plan
from lacewing.support import numbers

NO_WHOLE = [True, "1", 1.0, None, math.nan, math.inf, -1, 10**400, [1], np.float64(1)]
NO_NUMBER = [True, "1", None, math.nan, math.inf, -math.inf, -0.1, 1e300, 10**400, [1]]


@pytest.mark.parametrize("value", NO_WHOLE)
def test_a_whole_number_is_one_within_its_bounds(value):
    with pytest.raises(UsageError, match=r"^threads = .*: give a whole number from 0 to 1,024, or fewer\.$"):
        numbers.whole("threads", value, 0, 1024, why="or fewer")


@pytest.mark.parametrize("value", NO_NUMBER)
def test_a_number_is_one_within_its_bounds(value):
    with pytest.raises(UsageError, match=r"^seconds = .*: give a number from 0 to 3,600\.$"):
        numbers.number("seconds", value, 0, 3600)


def test_numbers_of_numpy_are_numbers():
    assert numbers.whole("n", np.int16(7), 0, 9) == numbers.whole("n", np.uint64(7), 7, 7) == 7
    assert numbers.number("x", np.float32(0.5), 0, 1) == 0.5
    assert numbers.number("x", 1, 0, 1) == numbers.number("x", np.int64(1), 0, 1) == 1


def _nobody(shape, classes):
    raise AssertionError("was called")


X, Y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
GIVEN = (lambda x: x, (X, Y), (X, Y))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lacewing.run(budget=math.nan), "budget = nan: give a number from 0"),
        (lambda: lacewing.run(budget=1e400), "budget = inf"),
        (lambda: lacewing.run(budget=-1), "budget = -1"),
        (lambda: lacewing.run(budget="9m"), "budget = '9m'"),
        (lambda: lacewing.run(processes=0), "processes = 0: give a whole number from 1 to 1,024."),
        (lambda: lacewing.run(processes=10**6), "processes = 1000000"),
        (lambda: lacewing.run(processes=True), "processes = True"),
        (lambda: estimate.estimate(processes=10**6), "processes = 1000000"),
        (
            lambda: lacewing.audit(*GIVEN, references=10**9),
            "references = 1000000000: give a whole number",
        ),
        (lambda: lacewing.audit(*GIVEN, references=True), "references = True"),
        (lambda: lacewing.audit(*GIVEN, references=-1), "references = -1"),
        (lambda: lacewing.audit(*GIVEN, seed=-1), "seed = -1"),
        (lambda: lacewing.audit(*GIVEN, seed=2**64), "seed = a number of more than 64 bits"),
        (
            lambda: lacewing.audit(*GIVEN, refit=_nobody, references=4, seed=20261128),
            "since refit gets 1000 * seed + k",
        ),
        (lambda: lacewing.audit(*GIVEN, queries=0), "queries = 0"),
        (lambda: lacewing.audit(*GIVEN, queries=10**6), "queries = 1000000: give a whole number from 1 to 256"),
        (lambda: lacewing.audit(*GIVEN, processes=0), "processes = 0"),
        (lambda: lacewing.audit(*GIVEN, delta=math.nan), "delta = nan is out of range"),
        (lambda: lacewing.audit_scores({"member": [1]}, seed=1.5), "seed = 1.5"),
        (lambda: lacewing.audit_scores({"member": [1]}, delta="0.1"), "delta = '0.1' is out of range"),
        (lambda: bench.train(seconds=math.nan), "seconds = nan"),
        (lambda: bench.train(seconds=0), "seconds must be above 0"),
        (lambda: bench.train(repeats=10**6), "repeats = 1000000"),
        (lambda: bench.butterfly(seconds=-1), "seconds = -1"),
        (lambda: bench.butterfly(seconds=math.inf), "seconds = inf"),
        (lambda: bench.butterfly(threads=10**6), "threads = 1000000"),
        (lambda: bench.butterfly(sizes=[0]), "sizes = 0"),
        (lambda: bench.butterfly(sizes=[10**6]), "sizes = 1000000: give a whole number from 1 to 16,384"),
        (lambda: bench.butterfly(sizes=[]), "sizes: 0 are given"),
        (lambda: bench.butterfly(batches=[10**9]), "batches = 1000000000"),
        (lambda: bench.butterfly(sizes=[16384], batches=[2**20]), "sizes and batches: the largest of both"),
        (lambda: _result.check_delta(0), "delta = 0"),
        (lambda: _result.check_delta(1), "delta = 1"),
        (lambda: _result.check_delta(True), "delta = True"),
    ],
)
def test_arguments_are_bounded_before_anything_is_done(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        call()
    assert str(caught.value).startswith(said) or said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"density": math.nan}, "--density nan must lie"),
        ({"density": 0}, "--density 0 must lie"),
        ({"density": 1.5}, "--density 1.5 must"),
        ({"pattern": "0:0"}, "--pattern '0:0' must have the form N:M"),
        ({"pattern": "4:2"}, "--pattern '4:2'"),
        ({"pattern": "2:" + "9" * 5000}, "--pattern '2:999"),
        ({"pattern": "٢:٤"}, "must have the form N:M"),
        ({"density": 0.5, "method": "butterfly", "factors": 10**6}, "--factors = 1000000"),
        ({"density": 0.5, "seed": -1}, "--seed = -1"),
        ({"density": 0.5, "shape": (10**9,), "classes": 10}, "--shape 1000000000: at most 8 numbers"),
        ({"density": 0.5, "shape": (1,) * 9, "classes": 10}, "--shape 1,1,1"),
        ({"density": 0.5, "shape": (3,), "classes": 10**9}, "--classes = 1000000000"),
    ],
)
def test_sparsify_is_bounded_before_anything_is_loaded(options, said, tmp_path):
    with pytest.raises(UsageError, match=".*" + said.replace("(", r"\(")):
        files.sparsify_files(model="builtins:print", weights=None, to=tmp_path / "out.safetensors", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["loss.auc > 60", "loss.auc > 1" + "0" * 400, "loss.epsilon > 1" + "0" * 400])
def test_a_gate_that_never_fails_is_refused(text):
    with pytest.raises(UsageError, match="so this is never or always true"):
        _gates.parse(text)


@pytest.mark.parametrize(
    "command",
    [
        "run --budget 1e400h",
        "run --budget 999999999h",
        "run --budget " + "9" * 400 + "h",
        "run --budget ٣m",
        "run --budget -1s",
        "run --processes 9999999999",
        "run --processes " + "9" * 5000,
        "run --only seed=0,seed=1",
        "run --only seed=" + "9" * 5000,
        "run --dry-run --processes 99999999",
        "audit x.npz --seed " + "9" * 30,
        "audit x.npz --delta nan",
        "audit x.npz --delta 0",
        "audit --model a:b --weights w --data d --references 99999999",
        "audit x.npz --fail-if any.auc>60",
        "bench butterfly --sizes 99999999",
        "bench butterfly --sizes 99999999999999999999",
        "bench butterfly --sizes 256,",
        "bench butterfly --batches 999999999",
        "bench butterfly --seconds nan",
        "bench butterfly --threads 99999999",
        "bench train --seconds inf",
        "bench train --seconds -1",
        "bench train --repeats 99999999",
        "sparsify --model builtins:print --to o.safetensors --density nan",
        "sparsify --model builtins:print --to o.safetensors --pattern 0:0",
        "sparsify --model builtins:print --to o.safetensors --density .5 --shape 99999,99999,99999 --classes 2",
        "sparsify --model builtins:print --to o.safetensors --density .5 --shape 2 --classes 99999999999",
        "sparsify --model builtins:print --to o.safetensors --density .5 --seed 99999999999999999999999",
    ],
)
def test_options_are_bounded_and_end_with_2(command, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lacewing", *command.split(" ")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr().err.strip()
    assert (end.value.code, told.count("\n")) == (2, 0), told
    assert len(told) < 5500
    assert list(tmp_path.iterdir()) == []


def test_a_seed_of_a_slice_may_be_a_number():
    study = load_study("digits").resolved("fp32")
    whole = make_plan(study, data_digest="0" * 64, models={"": {}})
    slice_ = plan.only(whole, {"seed": 1})
    assert {job.seed for job in slice_.networks} == {1}
    assert slice_ == plan.only(whole, {"seed": "1"})
