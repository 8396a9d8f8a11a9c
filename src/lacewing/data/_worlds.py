"""Training sets that differ in how many of their records have a property: the worlds of property inference."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Labels
from lacewing.data._split import Indices, Records, Role
from lacewing.errors import UsageError
from lacewing.support.mapped import Stored, blocks, take

_POOLS, _WORLD, _LABELS, _POISON = 108, 109, 110, 111  # streams, see `lacewing.data._split`
_FEWEST = 2  # records with the property, and without it, that are asked


@dataclass(frozen=True, eq=False)
class Pools:
    """Disjoint records that the attacker's networks, those that are attacked, and nobody is trained on.

    ``has_N`` says which records have the property. Where the property is a redrawn label, each record stands there
    twice: at i with its own label, at i + ``twin`` with a redrawn one; else ``twin`` is None.
    """

    has_N: npt.NDArray[np.bool_]
    attacker: Indices
    attacked: Indices
    asked: Indices
    twin: int | None = None

    @property
    def asked_has(self) -> npt.NDArray[np.bool_]:
        """Which of the asked records have the property; all where it is a redrawn label, which any could have."""
        return np.ones(len(self.asked), bool) if self.twin is not None else self.has_N[self.asked]

    def of(self, role: Role) -> Indices:
        """The pool that networks of a role are trained on: a shadow is the attacker's own."""
        return self.attacked if role == "target" else self.attacker


def having(
    x: Stored, y: Labels, classes: int, kind: str, number: int, field: str = "property.of"
) -> npt.NDArray[np.bool_]:
    """(N,) which records have the property: a class, or a value of a feature above its median.

    A feature that is only ever 0 or 1 counts where it is 1.

    Raises:
        UsageError: there is no such class or feature, or no record, or every record, has it.
    """
    width = math.prod(x.shape[1:])
    has: npt.NDArray[np.bool_]
    if kind == "class":
        if number >= classes:
            raise UsageError(f"{field}: there is no class {number}; the classes are 0 to {classes - 1}.")
        has = y == number
    else:
        if number >= width:
            raise UsageError(f"{field}: there is no feature {number}; the features are 0 to {width - 1}.")
        values = np.concatenate([block.reshape(len(block), -1)[:, number] for block in blocks(x)])
        has = values > 0 if np.isin(values, (0, 1)).all() else values > np.median(values)
    if not has.any() or has.all():
        told = "no record has it" if not has.any() else "every record has it"
        raise UsageError(
            f"{field} = '{kind} {number}': {told}; choose a property that some records have and some lack."
        )
    return has


def redrawn(y: Labels, classes: int, seed: int, field: str = "property.of") -> Labels:
    """Another label for each record, uniform over the other classes.

    Raises:
        UsageError: there is one class.
    """
    if classes < 2:
        raise UsageError(f"{field} = 'redrawn labels': the records have one class, so there is no other label.")
    other: Labels = (y + np.random.default_rng([_LABELS, seed]).integers(1, classes, size=len(y))) % classes
    return other


def doubled(records: Records, seed: int) -> Records:
    """The records, and behind them each once more with a redrawn label. Raises `UsageError`, see `redrawn`."""
    twice = np.tile(np.arange(len(records)), 2)
    y = np.concatenate([records.y, redrawn(records.y, records.classes, seed)])
    return replace(
        records,
        x=take(records.x, twice),
        y=y,
        clean_y=np.concatenate([records.clean_y] * 2),
        id=np.concatenate([records.id] * 2),
        canary_N=np.concatenate([records.canary_N] * 2),
    )


def pools(has_N: npt.NDArray[np.bool_] | None, n: int, seed: int, *, asked: float, field: str = "property.") -> Pools:
    """Cut n records into three pools, anew for each seed, each with about the same share of the property.

    Args:
        has_N: which have it; None: it is a redrawn label, which any record can have.
        n: records.
        seed: redraws the pools.
        asked: share of the records that no network trains on; the rest is halved.
        field: what comes before the names of arguments in errors.

    Raises:
        UsageError: too few records are left to ask or to train on.
    """
    rng = np.random.default_rng([_POOLS, seed])
    parts = [np.arange(n)] if has_N is None else [np.flatnonzero(has_N), np.flatnonzero(~has_N)]
    cut: list[list[Indices]] = [[], [], []]
    for part in parts:
        order = rng.permutation(part).astype(np.int64)
        ask = round(asked * len(order))
        half = (len(order) - ask) // 2
        if ask < _FEWEST or half < 1:
            raise UsageError(
                f"{field}asked = {asked:g} of {len(order)} records of one kind leaves {ask} to ask and {half} to train "
                f"on in each pool; {_FEWEST} and 1 are needed: change it or use more records."
            )
        for place, some in enumerate((order[:ask], order[ask : ask + half], order[ask + half : ask + 2 * half])):
            cut[place].append(some)
    ask_, first, second = (np.sort(np.concatenate(each)) for each in cut)
    if has_N is None:
        return Pools(np.repeat([False, True], n), first, second, ask_, twin=n)
    return Pools(has_N, first, second, ask_)


def world(
    found: Pools, role: Role, share: float, size: int, seed: int, number: int, field: str = "property."
) -> Indices:
    """The training records of network ``number`` of a world: sorted indices into ``found.has_N``.

    round(share * size) of them have the property; drawn without replacement from the role's pool, anew for each number.

    Raises:
        UsageError: the pool has too few records of a kind.
    """
    pool = found.of(role)
    with_it = round(share * size)
    code = int.from_bytes(np.float64(share).tobytes()[:8], "little")
    rng = np.random.default_rng([_WORLD, seed, role == "target", code, number])
    if found.twin is not None:
        if size > len(pool):
            raise UsageError(f"{field}records = {size}: a pool of this data set has {len(pool)} records; lower it.")
        drawn = rng.permutation(pool)[:size]
        return np.sort(np.concatenate([drawn[:with_it] + found.twin, drawn[with_it:]]))
    has = found.has_N[pool]
    drawn_parts = []
    for name, want, there in (("with", with_it, pool[has]), ("without", size - with_it, pool[~has])):
        if want > len(there):
            raise UsageError(
                f"{field}shares: a world of {share:g} needs {want} records {name} the property for {field}records = "
                f"{size}, and a pool has {len(there)}; lower {field}records or choose another share."
            )
        drawn_parts.append(rng.permutation(there)[:want])
    return np.sort(np.concatenate(drawn_parts))


def poison(
    found: Pools, y: Labels, classes: int, count: int, label: int, seed: int, field: str = "property."
) -> Indices:
    """The records that an attacker puts into training sets under the label ``label``: sorted, into ``found.has_N``.

    They have the property and another label, are drawn of the records that are asked, and are not asked any more, as in
    the authors' code of SNAP (Chaudhari et al. 2023, arXiv 2208.12348), where they are test records as well.

    Raises:
        UsageError: there is no such class, or too few records of that kind are left to ask.
    """
    if label >= classes:
        raise UsageError(f"{field}poison_label: there is no class {label}; the classes are 0 to {classes - 1}.")
    there = found.asked[found.asked_has & (y[found.asked] != label)]
    if count + _FEWEST > len(there):
        raise UsageError(
            f"{field}poison takes {count} of the {len(there)} asked records that have the property and another label "
            f"than {label}, and at least {_FEWEST} must be left to ask: lower it, or raise {field}asked."
        )
    return np.sort(np.random.default_rng([_POISON, seed]).permutation(there)[:count])


def relabelled(records: Records, rows: Indices, label: int) -> Records:
    """The records with one label on some of them."""
    y = records.y.copy()
    y[rows] = label
    return replace(records, y=y)
