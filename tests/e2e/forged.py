"""The run folder and the commands of the tests of forged folders."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

STUDY = """
schema = 1
name = "small"
[data]
dataset = "digits"
records = 80
[model]
name = "mlp"
hidden = [8]
[train]
epochs = 2
batch_size = 10
precision = "fp32"
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 1
fraction = 0.5
[attacks]
names = ["loss"]
[run]
seeds = [0]
"""
FALSE = 0.98765  # the number that a forger puts in
SIGNS = ("98765", "98.765", "98.77", "98.8", "0.988")  # of it, in what is written and said
COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status", "run"),
    "report": ("report", "run"),
    "compare": ("compare", "run", "dense", "imp-01", "--attack", "loss"),
    "export": ("export", "run", "imp-01", "--to", "x.safetensors"),
    "merge": ("merge", "merged", "run"),
    "run": ("run", "small.toml", "--out", "run"),
    "reuse": ("run", "small.toml", "--out", "again", "--reuse", "run"),
    "dry run": ("run", "small.toml", "--out", "run", "--dry-run"),
}
READERS = {"status", "compare", "export", "merge", "reuse", "dry run"}  # these leave the folder that they read as it is
Forge = Callable[[Path, Path], object]  # of the run folder, and a folder outside


class Made(NamedTuple):
    """The server that runs the command, and a finished run folder beside its study."""

    server: Any
    folder: Path

    @property
    def rows(self) -> list[str]:
        """Of its results.csv."""
        return (self.folder / "run" / "results.csv").read_text().splitlines()


def rest_slow(values: Iterable[Any], *fast: Any) -> list[Any]:
    """Parameters of which these run in `make test`, and all in `make test-slow`."""
    listed = list(values)
    assert set(fast) <= set(listed)
    marks = [() if value in fast else (pytest.mark.slow,) for value in listed]
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=mark)
        for value, mark in zip(listed, marks, strict=True)
    ]


class Tried(NamedTuple):
    """How a command ended on a forged folder, and where."""

    name: str
    ended: Any
    place: Path

    def written(self) -> str:
        """Everything of results that the command said or wrote."""
        texts = [self.ended.said]
        for folder in ("run", "merged", "again"):
            for name in ("results.csv", "tradeoff.json", "report.html", "model_card.md"):
                path = self.place / folder / name
                if path.is_file() and not path.is_symlink():
                    texts.append(path.read_text("utf-8"))
        return "\n".join(texts)


def attempt(made: Made, tmp_path: Path, forge: Forge, names: Any = COMMANDS) -> list[Tried]:
    """Every command on a fresh copy of the forged folder; what must hold of all is asserted here."""
    tried = []
    for name in names:
        around = tmp_path / name.replace(" ", "-")
        place, outside = around / "work" / "here", around / "outside"
        place.mkdir(parents=True)
        for folder in (outside, around / "work"):
            _canaries(folder)
        shutil.copytree(made.folder / "run", place / "run")
        shutil.copy(made.folder / "small.toml", place)
        forge(place / "run", outside)
        before, within = _tree(around, without=place), _tree(place / "run")
        ended = made.server.run(*COMMANDS[name], folder=place)
        assert not ended.faults(), (name, ended)
        assert ended.code in (0, 2, 3, 74), (name, ended)
        assert _tree(around, without=place) == before, (name, "something outside was touched")
        if name in READERS:
            assert _tree(place / "run") == within, (name, "the folder that is read was changed")
        known = {"run", "small.toml", "merged", "again", "x.safetensors"}
        assert {path.name for path in place.iterdir()} <= known, name
        tried.append(Tried(name, ended, place))
    return tried


def _canaries(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for name in ("canary", "x", "sub/results.csv", "sub/job.json", "sub/tradeoff.svg"):
        (folder / name).write_text(f"a canary called {name}")


def _tree(folder: Path, without: Path | None = None) -> dict[str, tuple[Any, ...]]:
    """What a folder holds: type, size, times, content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if without is not None and (path == without or without in path.parents):
            continue
        if path.name in (".lock", ".lacewing.lock", "work") or path == without:
            continue
        seen = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        times = (seen.st_mtime_ns, seen.st_size) if path.is_file() else ()
        found[str(path)] = (seen.st_mode, content, times, str(path.readlink()) if path.is_symlink() else "")
    return found


def job(run: Path, name: str) -> Path:
    """The folder of a finished job: ``dense/target/0``, ``loss on imp-01/target/0``."""
    return next(path.parent for path in run.glob("jobs/*/job.json") if json.loads(path.read_bytes())["job"] == name)


DENSE, IMP, ATTACK = "dense/target/0", "imp-01/target/0", "loss on imp-01/target/0"


def path_of(run: Path, place: str) -> Path:
    first, *rest = place.split("/")
    named = {"JOB": IMP, "ATTACK": ATTACK}
    return (job(run, named[first]) if first in named else run / first).joinpath(*rest)
