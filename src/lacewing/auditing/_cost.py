"""What training references would take."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from lacewing.auditing import _cache, _refit
from lacewing.auditing._work import Work, address_of, can_be_written

_BRIEF = 20.0  # seconds of a first training that may be loading modules more than training: a second one is timed


class Cost(NamedTuple):
    """How many networks there are to train, how many are there, and how long the rest takes."""

    networks: int
    there: int
    seconds_each: float
    seconds: float
    processes: int


def cost(work: Work, *, folder: Path | None, version: str | None, processes: int | None) -> Cost:
    """What `lacewing.auditing._refit.references` would take: the first network is trained, or two, and not kept."""
    there = 0
    if folder is not None:
        keys, _ = _refit.keys_of(work, version)
        paths = [folder / "references" / f"{key}.npz" for key in keys or ()]
        there = sum(_cache.read(path, len(work.records), frozenset()) is not None for path in paths)
    with TemporaryDirectory() as aside, _refit.threads(1):
        each = _refit.train_one(work, 0, Path(aside) / "first.npz")
        if each < _BRIEF:
            each = _refit.train_one(work, 1, Path(aside) / "second.npz")
    workers = min(_refit.cores(processes), len(work)) if address_of(work.refit) and can_be_written(work) else 1
    return Cost(len(work), there, each, each * math.ceil((len(work) - there) / workers), workers)
