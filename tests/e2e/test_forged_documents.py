"""A run folder whose JSON was forged and sealed again: impossible content is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from forged import (
    Made,
    attempt,
    path_of,
    rest_slow,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded everything")


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
        path = path_of(run, place)
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
        path = path_of(run, place)
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
    fields = _fields(forging.read(path_of(made.folder / "run", place)))
    assert fields
    for number, (steps, (kind, wrong)) in enumerate((f, w) for f in fields for w in WRONG.items()):

        def forge(run: Path, outside: Path, steps: tuple[Any, ...] = steps, wrong: Any = wrong) -> None:
            path = path_of(run, place)
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
