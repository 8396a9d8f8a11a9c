"""Property inference on the user's own training: networks of two worlds from ``refit``, and attacks that tell them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing import data as datasets
from lacewing.auditing import _cache, _inputs, _outputs, _pool, _refit, _statistics, _work
from lacewing.auditing._cost import cost
from lacewing.auditing._inputs import RawData
from lacewing.config import Property, validated
from lacewing.errors import UsageError
from lacewing.metrics import Bools
from lacewing.property import (
    ATTACKS,
    Known,
    One,
    PropertyFindings,
    PropertyRow,
    SeedRow,
    as_csv,
    as_json,
    infer,
    measured,
    summarised,
)
from lacewing.support import numbers
from lacewing.support.files import write_atomically
from lacewing.support.text import say

MOST_POOLS = 100
ROLES = ("shadow", "target")  # the attacker's own networks, and those that are attacked
NOTE = (
    "The attacker knows that the share is one of the two, and trains networks of both by your own refit on records of "
    "the same source. A property that is not found here may still be found by one who knows more."
)


@dataclass(frozen=True, eq=False)
class Worlds:
    """Two worlds of training sets, which differ in how many of their records have a property.

    Attributes:
        data: records that training sets are drawn from, ``(x, y)`` as for `lacewing.audit`; y whole numbers from 0.
        of: what some records have: ``"class 3"``, ``"feature 17"`` (above its median, or 1 where it is 0 or 1),
            ``"redrawn labels"``, or True for each record that has it, (N,).
        shares: of the two worlds, from 0 to 1.
        records: in each training set.
    """

    data: Any
    of: Any
    shares: tuple[float, float]
    records: int


@dataclass(frozen=True)
class PropertyAudit:
    """What networks of the user's training tell of a property; prints as a table."""

    findings: PropertyFindings
    notes: tuple[str, ...]
    folder: Path | None

    @property
    def rows(self) -> tuple[PropertyRow, ...]:
        """A row an attack."""
        return self.findings.rows

    def as_json(self) -> dict[str, Any]:
        """The document of ``property.json``, and the notes."""
        return {**as_json(self.findings), "notes": list(self.notes)}

    def __str__(self) -> str:
        first = self.rows[0]
        lines = [
            f"shares of {first.first:g} and {first.second:g} of '{self.findings.of}' among {self.findings.records:,} "
            f"training records; {first.attacked} networks attacked, {first.seeds} draw{'s' * (first.seeds > 1)} of the "
            "pools",
            f"{'attack':<10} {'accuracy':<22} {'AUC':>6} {'n_leaked':>9} {'p':>8}  looked at",
        ]
        for row in self.rows:
            leaked = "inf" if row.n_leaked is None else f"{row.n_leaked:.0f}"
            accuracy = f"{row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]"
            lines.append(f"{row.attack:<10} {accuracy:<22} {row.auc:>6.3f} {leaked:>9} {row.p:>8.2g}  {row.chosen}")
        unit = "over draws of the pools" if first.seeds > 1 else "over these networks, for this draw of the pools alone"
        return "\n".join([*lines, f"intervals: 95 %, {unit}; .5 is guessing", *(f"note: {n}" for n in self.notes)])


@dataclass(frozen=True)
class PropertyCost:
    """What `audit_property` would train: ``dry_run=True``."""

    networks: int
    there: int  # of them, in the folder already
    seconds_each: float  # of one that was trained for this, and not kept
    seconds: float  # until the rest is trained
    processes: int

    def as_json(self) -> dict[str, Any]:
        """Its fields, with a schema number."""
        return {"schema": 1, **asdict(self)}

    def __str__(self) -> str:
        left = self.networks - self.there
        return (
            f"{self.networks} networks, {self.there} of them there already; one takes {self.seconds_each:.2g} s, the "
            f"other {left} about {self.seconds:.0f} s on {self.processes} process{'es' * (self.processes > 1)}; "
            "nothing was kept"
        )


def audit_property(
    refit: Callable[[Any, Any, int], Any],
    worlds: Worlds,
    *,
    networks: int = 16,
    pools: int = 1,
    asked: float = 0.2,
    out: Path | str | None = None,
    seed: int = 0,
    version: str | None = None,
    processes: int | None = None,
    progress: bool = True,
    outputs: _outputs.Outputs | None = None,
    dry_run: bool = False,
) -> PropertyAudit | PropertyCost:
    """Whether networks of this training tell which of two shares of a property their training records have.

    Args:
        refit: trains a new model, ``refit(x, y, seed) -> model``, see `lacewing.audit`.
        worlds: the two worlds.
        networks: of each world and draw of the pools; half are the attacker's own, half are attacked. Even.
        pools: how often records are redrawn into the attacker's, those of the attacked networks, and those that are
            asked. With two or more, intervals take a draw as the unit.
        asked: share of the records that no network trains on.
        out: folder for property.csv and property.json and for the answers of finished networks: a call that was
            interrupted goes on from there. None: nothing is kept.
        seed: of the draws; network k gets ``1000 * seed + k``.
        version: see `lacewing.audit`, as are ``processes``, ``progress`` and ``outputs``.
        dry_run: train a network or two, keep nothing, and say what all would take.

    Returns:
        What attacks found; with ``dry_run`` what they would cost.

    Raises:
        UsageError: an argument is not as described, or the records cannot make such worlds.
    """
    if os.environ.get(_pool.WORKING):
        raise UsageError(
            "audit_property was called while a worker imports this module: put it under `if __name__ == '__main__':`."
        )
    if not callable(refit):
        raise UsageError(f"refit is a {type(refit).__name__}: give a function (x, y, seed) -> model.")
    if not isinstance(worlds, Worlds):
        raise UsageError(f"worlds is a {type(worlds).__name__}: give lacewing.Worlds(data, of, shares, records).")
    _outputs.check("classification", outputs)
    pools = numbers.whole("pools", pools, 1, MOST_POOLS, why="networks are trained for each")
    records, has, declared = _declared(worlds, networks, asked)
    count = pools * 2 * declared.networks
    most = (2**32 - 1 - count) // 1000
    seed = numbers.whole("seed", seed, 0, most, why="since refit gets 1000 * seed + k, and numpy takes 32 bits")
    if has is None:
        records = _doubled(records, seed)
    drawn = [
        datasets.pools(
            has, len(records) // (2 if has is None else 1), seed * MOST_POOLS + number, asked=asked, field=""
        )
        for number in range(pools)
    ]
    sets = [_sets(found, declared, seed * MOST_POOLS + number, len(records)) for number, found in enumerate(drawn)]
    work = _work.Work(
        refit=refit,
        records=records,
        population=None,
        in_KN=np.concatenate(sets),
        seed_K=tuple(1000 * seed + k for k in range(count)),
        queries=1,
        white_box=False,
        signals=(),
        size=_cache.Size(),
        outputs=outputs,
        statistics=True,
    )
    folder = None if out is None else Path(out)
    processes = numbers.processes(processes)
    if dry_run:
        return PropertyCost(*cost(work, folder=folder, version=version, processes=processes))
    answers, notes = _refit.references(
        work,
        None,
        unchanged=lambda: True,
        folder=folder,
        version=version,
        processes=processes,
        say=_to_stderr if progress else _nowhere,
    )
    return _findings(worlds, declared, records, drawn, answers, notes, folder)


def _to_stderr(text: str) -> None:
    say(text, sys.stderr)


def _nowhere(text: str) -> None:
    pass


def _declared(worlds: Worlds, networks: int, asked: float) -> tuple[RawData, Bools | None, Property]:
    """The records, which of them have the property (None: redrawn labels), and the settings, checked."""
    records = _inputs.read(worlds.data, "worlds.data")
    named = isinstance(worlds.of, str)
    shares = tuple(worlds.shares) if isinstance(worlds.shares, tuple | list) else worlds.shares
    fields = {
        "of": worlds.of if named else "class 0",
        "shares": [shares],
        "networks": networks,
        "records": worlds.records,
        "asked": asked,
    }
    try:
        declared = validated(Property, fields)
    except UsageError as error:
        raise UsageError(f"worlds: {error}") from None
    if not named:
        has = np.asarray(worlds.of)
        if has.shape != (len(records),) or has.dtype != np.bool_:
            raise UsageError(
                f"worlds.of is {has.dtype} of shape {has.shape} beside {len(records)} records: give True for each that "
                "has the property, or words such as 'class 3'."
            )
        if has.all() or not has.any():
            raise UsageError(
                f"worlds.of: {'every' if has.all() else 'no'} record has the property; some must, some not."
            )
        return records, has, declared
    kind, number = declared.what
    if kind == "redrawn":
        return records, None, declared
    classes = int(records.y.max()) + 1
    return records, datasets.having(records.x, records.y, classes, kind, number, "worlds.of"), declared


def _doubled(records: RawData, seed: int) -> RawData:
    """The records, and behind them each once more with a redrawn label."""
    other = datasets.redrawn(records.y, int(records.y.max()) + 1, seed, "worlds.of")
    return RawData(np.concatenate([records.x] * 2), np.concatenate([records.y, other]), records.form)


def _sets(found: datasets.Pools, declared: Property, seed: int, n: int) -> Bools:
    """(2 networks, n): the training sets of the attacker's own networks of both worlds, then of the attacked ones."""
    (pair,) = declared.shares
    inside = np.zeros((2 * declared.networks, n), bool)
    k = 0
    for role in ROLES:
        for share in pair:
            for number in range(declared.networks // 2):
                members = datasets.world(found, role, share, declared.records, seed, number, "worlds.")  # type: ignore[arg-type]
                inside[k, members] = True
                k += 1
    return inside


def _findings(
    worlds: Worlds,
    declared: Property,
    records: RawData,
    drawn: Sequence[datasets.Pools],
    answers: Sequence[Any],
    notes: Sequence[str],
    folder: Path | None,
) -> PropertyAudit:
    (pair,) = declared.shares
    half, ones = declared.networks // 2, []
    second = np.arange(declared.networks) >= half
    for number, found in enumerate(drawn):
        own = list(answers[2 * declared.networks * number :][: 2 * declared.networks])
        statistics = _statistics.shared(own)
        logits = np.stack([each.logits_NC[found.asked] for each in own])
        label = records.y[found.asked]

        def known(
            rows: slice, *, logits: Any = logits, label: Any = label, found: Any = found, of: Any = statistics
        ) -> Known:
            return Known(logits[rows], label, found.asked_has, {name: values[rows] for name, values in of.items()})

        attacked = slice(2 * half, 4 * half)
        accuracy = float((logits[attacked].argmax(axis=2) == label).mean())
        for name in ATTACKS:
            told = infer(name, known(slice(0, half)), known(slice(half, 2 * half)), known(attacked))
            if told is None:
                continue
            counts = measured(told.score_M, second)
            row = SeedRow(
                network="model", method="dense", family="model", kind=None, density=1.0, seed=number, first=pair[0],
                second=pair[1], attack=name, chosen=told.chosen, attacked=len(second), accuracy=counts.accuracy,
                binomial_low=counts.binomial[0], binomial_high=counts.binomial[1], auc=counts.auc,
                test_accuracy=accuracy,
            )  # fmt: skip
            ones.append(One(row, counts))
    of = worlds.of if isinstance(worlds.of, str) else "the given property"
    findings = PropertyFindings(
        of, declared.records, declared.networks, tuple(summarised(ones)), tuple(one.row for one in ones)
    )
    audit = PropertyAudit(findings, (*notes, NOTE), folder)
    if folder is not None:
        write_atomically(folder / "property.csv", as_csv(findings.seeds), within=folder)
        write_atomically(folder / "property.json", json.dumps(audit.as_json(), indent=1), within=folder)
    return audit


def audit_property_files(
    *, refit: str, data: Path | str, of: str, shares: tuple[float, float], records: int, **options: Any
) -> PropertyAudit | PropertyCost:
    """``audit_property`` as the command line has it.

    Args:
        refit: ``"package.module:function"``.
        data: an ``.npz`` with ``x``, ``y`` and, optionally, ``property`` (1 or 0), which ``of="property"`` takes.
        of: see `Worlds`, as are ``shares`` and ``records``.
        options: of `audit_property`.

    Raises:
        UsageError: a file is missing or of another kind; see also `audit_property`.
    """
    from lacewing.support.formats import read_arrays
    from lacewing.support.loading import load_function

    path = Path(data)
    if not path.is_file():
        raise UsageError(f"data: there is no file {path}; give an .npz with x and y.")
    arrays = read_arrays(path)
    wanted = ["x", "y", *(["property"] if of == "property" else [])]
    if missing := [name for name in wanted if name not in arrays]:
        raise UsageError(f"data: {path} lacks {' and '.join(missing)}: it must hold {', '.join(wanted)}.")
    has: str | npt.NDArray[Any] = of
    if of == "property":
        flags = arrays["property"]
        if not np.isin(flags, (0, 1)).all():
            raise UsageError(f"data: {path}: property must hold 1 for each record that has it and 0 for the others.")
        has = flags.astype(bool)
    worlds = Worlds((arrays["x"], arrays["y"]), has, shares, records)
    return audit_property(load_function(refit, "refit"), worlds, **options)
