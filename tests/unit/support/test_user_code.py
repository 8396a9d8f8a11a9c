"""Users' own mistakes are told as theirs: the place, their lines, and exit code 2 before training, 3 in a job."""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing import cli
from lacewing.errors import UserCodeError
from lacewing.study.declared import load_study
from lacewing.study.engine._perform import Performer
from lacewing.study.jobs import Workspace, try_networks
from lacewing.study.plan import make_plan
from lacewing.study.store import Store
from lacewing.support.user_code import blamed, told

STUDY = """
schema = 1
name = "own"
[data]
dataset = "digits"
records = {records}
[model]
factory = "{factory}"
[train]
epochs = 1
batch_size = 20
precision = "fp32"
[[networks]]
method = "dense"
[run]
seeds = [0]
"""

MODULE = """
import sys
import torch
from torch import nn

def good(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def last_layer(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))

def first_layer(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(63, classes))

def embedding(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Embedding(16, classes))

def no_arguments():
    return nn.Linear(64, 10)

def leaves(shape, classes):
    sys.exit(0)

def endless(shape, classes):
    return endless(shape, classes)

def no_parameters(shape, classes):
    return nn.Flatten()

def frozen(shape, classes):
    return good(shape, classes).requires_grad_(False)

def lazy(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.linear = nn.Linear(64, classes)
        self.norm = nn.BatchNorm1d(64)

    def forward(self, x):
        return self.linear(x.flatten(1))

class Raises(Net):
    def forward(self, x):
        raise ValueError("boom\\nover \\x1b[2Jtwo lines")

class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no words")

class Wordless(Net):
    def forward(self, x):
        raise Silent

class Exits(Net):
    def forward(self, x):
        sys.exit("enough")

class Nan(Net):
    def forward(self, x):
        return super().forward(x) * float("nan")

class Pair(Net):
    def forward(self, x):
        return super().forward(x), x

class Squeezed(Net):
    def forward(self, x):
        return super().forward(x).squeeze(0)

class Whole(Net):
    def forward(self, x):
        return super().forward(x).argmax(1, keepdim=True).expand(-1, 10)

class Detached(Net):
    def forward(self, x):
        return super().forward(x).detach()

class Remembers(Net):
    past = 0.0
    def forward(self, x):
        self.past = super().forward(x) + self.past
        return self.past

class OnlyTrains(Net):
    def forward(self, x):
        if not self.training:
            raise NotImplementedError("evaluation")
        return super().forward(x)

class InPlace(Net):
    def forward(self, x):
        x.clamp_(0, 1)
        return super().forward(x)

class Normed(Net):
    def forward(self, x):
        return self.linear(self.norm(x.flatten(1)))

class BigBatches(Net):
    def forward(self, x):
        if len(x) > 8:
            raise ValueError("too many at once")
        return super().forward(x)

class LeavesLate(Net):
    def forward(self, x):
        if len(x) > 8:
            sys.exit(4)
        return super().forward(x)

class Needs(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.scale = torch.linspace(0, 1, 64).max().item()
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        return self.linear(x.flatten(1) * self.scale)

for _kind in list(vars().values()):
    if isinstance(_kind, type) and issubclass(_kind, nn.Module) and _kind is not Net:
        vars()[_kind.__name__.lower()] = lambda shape, classes, kind=_kind: kind(classes)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the user's module, which is the working directory."""
    (tmp_path / "own_net.py").write_text(MODULE)
    (tmp_path / "own_broken.py").write_text("import torch\nraise OSError('no licence')\n")
    (tmp_path / "own_exit.py").write_text("import sys\nsys.exit(1)\n")
    (tmp_path / "own_import.py").write_text("import nothing_of_that_name\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        sys.modules.pop(name)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lacewing", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def study_file(folder: Path, factory: str, records: int = 160) -> Path:
    path = folder / "study.toml"
    path.write_text(STUDY.format(factory=factory, records=records))
    return path


WANTED = "it must return logits of shape (8, 10)"
BROKEN = {
    "own_net:last_layer": ["returns float32 of shape (8, 7) to 8 records in training mode", WANTED],
    "own_net:first_layer": [
        "in training mode on 8 records of shape (1, 8, 8), failed with RuntimeError: mat1 and mat2"
    ],
    "own_net:embedding": ["failed with RuntimeError: Expected tensor for argument #1 'indices'"],
    "own_net:no_arguments": ["failed with TypeError: no_arguments() takes 0", "the shape of a record and the number"],
    "own_net:leaves": ["failed with SystemExit: 0", "own_net.py, line 22, in leaves: sys.exit(0)"],
    "own_net:endless": ["failed with RecursionError", " more\n", "in endless: return endless(shape, classes)"],
    "own_net:no_parameters": ["has no parameters to train"],
    "own_net:frozen": ["has no parameters to train"],
    "own_net:lazy": ["has lazy layers: give every layer its sizes"],
    "own_net:raises": ["failed with ValueError: boom over \\x1b[2Jtwo lines.", ', in forward: raise ValueError("boom'],
    "own_net:wordless": ["failed with Silent: (it cannot say what)"],
    "own_net:exits": ["failed with SystemExit: enough", 'in forward: sys.exit("enough")'],
    "own_net:nan": ["returns NaN or infinite values in training mode, before any training"],
    "own_net:pair": ["returns a tuple in training mode", WANTED],
    "own_net:squeezed": ["returns float32 of shape (10,) to 1 record in evaluation mode"],
    "own_net:whole": ["returns int64 of shape (8, 10)"],
    "own_net:detached": [
        "a training step on 8 records failed with RuntimeError: element 0 of tensors does not require"
    ],
    "own_net:remembers": ["a training step on 8 records failed with RuntimeError: Trying to backward"],
    "own_net:onlytrains": [
        "in evaluation mode on 8 records of shape (1, 8, 8), failed with NotImplementedError: evaluation"
    ],
    "own_net:inplace": ["changes its input in place in training mode: let it work on a copy"],
    "own_net:nothing": ["does not define 'nothing'"],
    "own_broken:net": [
        "importing 'own_broken' failed with OSError: no licence; mend",
        "own_broken.py, line 2, in <mod",
    ],
    "own_exit:net": ["importing 'own_exit' failed with SystemExit: 1"],
    "own_import:net": ["importing 'own_import' failed with ModuleNotFoundError: No module named 'nothing_of_that_nam"],
    "own_absent:net": ["cannot import 'own_absent'", "run from its folder"],
}


@pytest.mark.parametrize("factory", BROKEN)
def test_a_factory_or_model_that_does_not_work_ends_with_2_and_nothing_is_written(
    own: Path, command: Any, factory: str
) -> None:
    study, before = study_file(own, factory), sorted(own.rglob("*"))
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    code, out, err = command("run", study, "--dry-run")
    assert code == 2, err
    assert out == ""
    assert err.startswith("lacewing: model.factory: ")
    for part in BROKEN[factory]:
        assert part in err
    assert "site-packages" not in err
    assert "lacewing/" not in err
    assert len(err.splitlines()) < 9
    assert sorted([*own.rglob("*")]) == sorted([*before, study] if study not in before else before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_each_file_of_a_long_trace_is_looked_at_once(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some packages raise the recursion limit to 100,000."""
    import own_net

    looked_at: list[Path] = []
    resolve = Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda path: looked_at.append(path) or resolve(path))
    with pytest.raises(RecursionError) as raised:
        own_net.endless(None, None)
    assert "own_net.py" in str(told("building", raised.value))
    assert blamed(raised.value)
    assert blamed(raised.value, alone=True)
    assert len(looked_at) < 20


def _try(folder: Path, factory: str, **train: Any) -> None:
    text = STUDY.format(factory=factory, records=160)
    path = folder / "study.toml"
    path.write_text(text)
    study = load_study(path, [f"train.{name}={value}" for name, value in train.items()])
    work = Workspace.open(study, Store(folder / "run"), None)
    try_networks(work, make_plan(study, data_digest="0" * 64, models={"": {}}).networks)


def test_a_last_batch_of_one_record_is_tried(own: Path) -> None:
    _try(own, "own_net:normed")  # 40 records a network
    with pytest.raises(UserCodeError, match=r"last of 4 batches: 40 records, train.batch_size = 13; choose another"):
        _try(own, "own_net:normed", batch_size=13)
    with pytest.raises(UserCodeError, match="Expected more than 1 value per channel"):
        _try(own, "own_net:normed", batch_size=1)


@pytest.mark.parametrize("factory", ["own_net:good", "own_net:needs"])
def test_what_works_passes_the_trial(own: Path, command: Any, factory: str) -> None:
    """A factory that computes with the values of its weights, too."""
    _try(own, factory)
    assert lw.plan_table(study_file(own, factory))[0]["parameters"] == 650


def test_one_of_our_own_models_that_fails_is_a_fault_of_ours(
    own: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 1 / 0)
    study = study_file(own, "x:y")
    study.write_text(study.read_text().replace('factory = "x:y"', 'name = "mlp"'))
    code, _, err = command("run", study, "--dry-run", "--set", "train.batch_size=13")  # the last batch: one record
    assert code == 70
    assert "internal error (ZeroDivisionError" in err


# --------------------------------------------------------------------------------------------------------------- jobs


def _performed(folder: Path, factory: str) -> dict[str, Any]:
    study = load_study(study_file(folder, factory))
    work = Workspace.open(study, Store(folder / "run"), None)
    threads = torch.get_num_threads()
    performer = Performer(work)
    try:
        return performer.perform({"kind": "sequence", "keys": [next(iter(performer.networks))]})
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("own_net:bigbatches", "failed with ValueError: too many at once."),
        ("own_net:leaveslate", "failed with SystemExit: 4."),
        ("own_net:first_layer", "failed with RuntimeError: mat1 and mat2"),  # raised in torch's module
    ],
)
def test_in_a_job_it_costs_the_job(own: Path, factory: str, said: str) -> None:
    event = _performed(own, factory)
    assert event["event"] == "failed"
    assert event["user_code"]
    assert event["message"].startswith(f"dense/target/0: model.factory: {factory} ")
    assert said in event["message"]
    assert event["traceback"] is None


def test_what_is_ours_in_a_job_stays_ours(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lacewing.training import loop as training

    monkeypatch.setattr(training, "lr_at", operator.truediv)  # which is not called so
    event = _performed(own, "own_net:good")
    assert event["error"] == "TypeError"
    assert "user_code" not in event
    assert event["traceback"]


def test_memory_that_runs_out_is_left_to_the_pool(own: Path) -> None:
    (own / "own_memory.py").write_text(MODULE.replace('ValueError("too many at once")', "MemoryError"))
    event = _performed(own, "own_memory:bigbatches")
    assert event["error"] == "MemoryError"
    assert "user_code" not in event


@pytest.mark.slow
def test_real_workers_list_the_job_and_do_the_others(own: Path, command: Any) -> None:
    study = study_file(own, "own_net:bigbatches")
    more = "\n[[networks]]\nmethod = 'dense'\nname = 'small-batches'\ntrain = { batch_size = 8 }\n"
    text = (own / "own_net.py").read_text().replace("len(x) > 8", "self.training and len(x) > 8")
    (own / "own_net.py").write_text(text)
    study.write_text(study.read_text().replace("[run]", f"{more}[run]"))
    code, out, err = command("run", study, "--json")
    assert code == 3, err
    found = json.loads(out)
    assert {row["network"] for row in found["networks"]} == {"small-batches"}
    assert any(s.startswith("dense/target/0: model.factory: own_net:bigbatches failed") for s in found["failed"])
    assert all("Traceback" not in sentence for sentence in found["failed"])
    assert "in forward: raise ValueError" in err
    assert not list(own.glob("lacewing-fault-*"))


def test_a_factory_for_sparsify(own: Path, command: Any) -> None:
    code, _, err = command("sparsify", "--model", "own_net:leaves", "--density", "0.5", "--to", "x.safetensors")
    assert code == 2
    assert "--model: own_net:leaves failed with TypeError" in err
    words = ["--model", "own_net:leaves", "--shape", "64", "--classes", "10", "--density", "0.5"]
    code, _, err = command("sparsify", *words, "--to", "x.safetensors")
    assert code == 2
    assert "failed with SystemExit: 0.\n      own_net.py, line 22, in leaves: sys.exit(0)" in err
