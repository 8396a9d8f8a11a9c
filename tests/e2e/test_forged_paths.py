"""A run folder with forged names, links, pipes and folders: nothing outside it is touched."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from forged import (
    DENSE,
    IMP,
    Made,
    attempt,
    job,
    path_of,
    rest_slow,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded everything")


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


FILES = ("study.toml", "plan.json", "failed.json", "results.csv", "tradeoff.json", "report.html", "model_card.md")
LOCKS = (".lock", ".run", f".worker-{'0' * 32}.lock")
PLACES = (*FILES, *LOCKS, "jobs", "figures", "work", "figures/tradeoff.svg", "JOB", "JOB/job.json",
          "JOB/metrics.json", "JOB/signals.npz", "JOB/model.safetensors", "ATTACK/scores.npz")  # fmt: skip


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
        path = path_of(run, place)
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
        path = path_of(run, place)
        _aside(path)
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
            (path / "kept").write_text("")

    attempt(made, tmp_path, forge, ("status", "report", "merge", "run", "compare"))
