"""Property inference on the user's own training: networks of two worlds from ``refit``, and attacks that tell them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing import data as datasets
from lacewing.auditing import _cache, _inputs, _outputs, _pool, _refit, _statistics, _work
from lacewing.auditing._cost import cost
from lacewing.auditing._gather import nowhere, to_stderr
from lacewing.auditing._inputs import RawData
from lacewing.auditing._property_result import Learned, PropertyAudit, PropertyCost
from lacewing.config import Property, validated
from lacewing.errors import UsageError
from lacewing.metrics import Bools
from lacewing.property import ATTACKS, Known, One, PropertyFindings, SeedRow, infer, measured, summarised
from lacewing.support import numbers
from lacewing.support.files import out_folder

Indices = npt.NDArray[np.int64]
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
        poison: so large a share of each training set is put there by the attacker of ``snap``, who poisons training:
            records with the property, labelled ``poison_label``. As many networks again are trained for it. 0: none.
        poison_label: the class that poisoned records are labelled with; None where ``poison`` is 0.
    """

    data: Any
    of: Any
    shares: tuple[float, float]
    records: int
    poison: float = 0.0
    poison_label: int | None = None


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
    folder = out_folder(out, "references")
    pools = numbers.whole("pools", pools, 1, MOST_POOLS, why="networks are trained for each")
    records, has, declared = _declared(worlds, networks, asked)
    count = pools * 2 * declared.networks * (1 + bool(declared.poison))
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
    draws = [seed * MOST_POOLS + number for number in range(pools)]
    sets = [_sets(found, declared, draw, len(records)) for draw, found in zip(draws, drawn, strict=True)]
    clean = _work.Work(
        refit=refit,
        records=records,
        population=None,
        in_KN=np.concatenate(sets),
        seed_K=tuple(1000 * seed + k for k in range(pools * 2 * declared.networks)),
        queries=1,
        white_box=False,
        signals=(),
        size=_cache.Size(),
        outputs=outputs,
        statistics=True,
    )
    poisons = _poisons(records, drawn, declared, draws)
    works = [clean] if poisons is None else [clean, _poisoned(clean, drawn, declared, draws, poisons)]
    processes = numbers.processes(processes)
    if dry_run:
        return PropertyCost.of([cost(work, folder=folder, version=version, processes=processes) for work in works])
    answers, notes = [], list[str]()
    for work in works:
        found, more = _refit.references(
            work,
            None,
            unchanged=lambda: True,
            folder=folder,
            version=version,
            processes=processes,
            say=to_stderr if progress else nowhere,
        )
        answers.append(found)
        notes += (note for note in more if note not in notes)
    ones, learned = [], list[Learned]()
    for number, pool in enumerate(drawn):
        ones += _told(clean, pool, pool.asked, None, declared, number, answers[0])
        if poisons is not None:
            asked_ = np.setdiff1d(pool.asked, poisons[number])
            ones += _told(works[1], pool, asked_, declared.poison_label, declared, number, answers[1])
        learned += _learned(clean, declared, number, answers[0])
    findings = PropertyFindings(
        of=worlds.of if isinstance(worlds.of, str) else "the given property",
        records=declared.records,
        networks=declared.networks,
        rows=tuple(summarised(ones)),
        seeds=tuple(one.row for one in ones),
        poison=declared.poison,
        poison_label=declared.poison_label,
    )
    audit = PropertyAudit(findings, (*notes, NOTE), folder, Learned.mean(learned))
    if folder is not None:
        audit.save(folder)
    return audit


def _declared(worlds: Worlds, networks: int, asked: float) -> tuple[RawData, Bools | None, Property]:
    """The records, which of them have the property (None: redrawn labels), and the settings, checked."""
    records = _inputs.read(worlds.data, "worlds.data")
    named = isinstance(worlds.of, str)
    shares = tuple(worlds.shares) if isinstance(worlds.shares, tuple | list) else worlds.shares
    fields = {
        "of": worlds.of if named else "feature 0",  # a class would be held against the label of poison
        "shares": [shares],
        "networks": networks,
        "records": worlds.records,
        "asked": asked,
        "poison": worlds.poison,
        "poison_label": worlds.poison_label,
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


def _poisons(
    records: RawData, drawn: Sequence[datasets.Pools], declared: Property, draws: Sequence[int]
) -> list[Indices] | None:
    """For each draw of the pools the records that the attacker poisons with; None: nobody poisons."""
    if declared.poison_label is None:
        return None
    classes, label = int(records.y.max()) + 1, declared.poison_label
    return [
        datasets.poison(found, records.y, classes, declared.poisoned, label, draw, "worlds.")
        for found, draw in zip(drawn, draws, strict=True)
    ]


def _poisoned(
    clean: _work.Work,
    drawn: Sequence[datasets.Pools],
    declared: Property,
    draws: Sequence[int],
    poisons: Sequence[Indices],
) -> _work.Work:
    """Networks of both worlds whose training sets hold poison: it stands behind the other records, draw after draw."""
    records, n, count = clean.records, len(clean.records), declared.poisoned
    rows = np.concatenate(poisons)
    label = np.full(len(rows), declared.poison_label, records.y.dtype)
    fewer = declared.model_copy(update={"records": declared.records - count})
    sets = []
    for number, (found, draw) in enumerate(zip(drawn, draws, strict=True)):
        inside = _sets(found, fewer, draw, n + len(rows))
        inside[:, n + number * count : n + (number + 1) * count] = True
        sets.append(inside)
    return replace(
        clean,
        records=replace(records, x=np.concatenate([records.x, records.x[rows]]), y=np.concatenate([records.y, label])),
        in_KN=np.concatenate(sets),
        seed_K=tuple(seed + len(clean) for seed in clean.seed_K),
        statistics=False,
    )


def _told(
    work: _work.Work,
    found: datasets.Pools,
    asked: Indices,
    poison_label: int | None,
    declared: Property,
    number: int,
    answers: Sequence[Any],
) -> list[One]:
    """What every attack that is about these networks says of those of one draw of the pools."""
    (pair,), half = declared.shares, declared.networks // 2
    second = np.arange(declared.networks) >= half
    own = list(answers[4 * half * number :][: 4 * half])
    statistics = _statistics.shared(own)
    logits, label = np.stack([each.logits_NC[asked] for each in own]), work.records.y[asked]
    has = found.asked_has[np.isin(found.asked, asked)]

    def known(rows: slice) -> Known:
        return Known(
            logits[rows], label, has, {name: values[rows] for name, values in statistics.items()}, poison_label
        )

    attacked = slice(2 * half, 4 * half)
    accuracy = float((logits[attacked].argmax(axis=2) == label).mean())
    ones = []
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
    return ones


def _learned(work: _work.Work, declared: Property, number: int, answers: Sequence[Any]) -> list[Learned]:
    """How well each attacked network of a draw answers its own training records."""
    found = []
    for k in range(2 * declared.networks * number + declared.networks, 2 * declared.networks * (number + 1)):
        label = work.records.y[work.in_KN[k]]
        right = answers[k].logits_NC[work.in_KN[k]].argmax(axis=1) == label
        found.append(Learned(float(right.mean()), float(np.bincount(label).max() / len(label))))
    return found


def audit_property_files(
    *,
    refit: str,
    data: Path | str,
    of: str,
    shares: tuple[float, float],
    records: int,
    poison: float = 0.0,
    poison_label: int | None = None,
    **options: Any,
) -> PropertyAudit | PropertyCost:
    """``audit_property`` as the command line has it.

    Args:
        refit: ``"package.module:function"``.
        data: an ``.npz`` with ``x``, ``y`` and, optionally, ``property`` (1 or 0), which ``of="property"`` takes.
        of: see `Worlds`, as are ``shares``, ``records``, ``poison`` and ``poison_label``.
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
    worlds = Worlds((arrays["x"], arrays["y"]), has, shares, records, poison, poison_label)
    return audit_property(load_function(refit, "refit"), worlds, **options)
