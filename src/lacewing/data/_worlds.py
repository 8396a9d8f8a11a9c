"""Training sets that differ in how many of their records have a property: the worlds of property inference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import digest_of
from lacewing.data._split import Indices, Records, Role
from lacewing.errors import UsageError

_POOLS, _WORLD, _LABELS = 108, 109, 110  # streams, see `lacewing.data._split`
_FEWEST = 2  # records with the property, and without it, that are asked


@dataclass(frozen=True, eq=False)
class Pools:
    """Disjoint records that the attacker's networks, those that are attacked, and nobody is trained on.

    ``records`` are what networks are trained on, and ``has_N`` says which of them have the property. Where the
    property is a redrawn label, each record stands there twice: at i with its own label, at i + ``twin`` with a redrawn
    one; else ``twin`` is None.
    """

    records: Records
    has_N: npt.NDArray[np.bool_]
    attacker: Indices
    attacked: Indices
    asked: Indices
    twin: int | None = None

    def of(self, role: Role) -> Indices:
        """The pool that networks of a role are trained on: a shadow is the attacker's own."""
        return self.attacked if role == "target" else self.attacker


def having(records: Records, kind: str, number: int, field: str = "property.of") -> npt.NDArray[np.bool_]:
    """(N,) which records have the property: a class, or a value of a feature above its median.

    A feature that is only ever 0 or 1 counts where it is 1.

    Raises:
        UsageError: there is no such class or feature, or no record, or every record, has it.
    """
    flat = records.x.reshape(len(records), -1)
    has: npt.NDArray[np.bool_]
    if kind == "class":
        if number >= records.classes:
            raise UsageError(f"{field}: there is no class {number}; the classes are 0 to {records.classes - 1}.")
        has = records.y == number
    else:
        if number >= flat.shape[1]:
            raise UsageError(f"{field}: there is no feature {number}; the features are 0 to {flat.shape[1] - 1}.")
        values = flat[:, number]
        has = values > 0 if np.isin(values, (0, 1)).all() else values > np.median(values)
    if not has.any() or has.all():
        told = "no record has it" if not has.any() else "every record has it"
        raise UsageError(
            f"{field} = '{kind} {number}': {told}; choose a property that some records have and some lack."
        )
    return has


def pools(records: Records, kind: str, number: int, seed: int, *, asked: float, field: str = "property") -> Pools:
    """Cut the records into three pools, anew for each seed, each with about the same share of the property.

    Args:
        records: of the study.
        kind: "class", "feature" or "redrawn".
        number: of the class or feature.
        seed: redraws the pools; for "redrawn" the labels too, uniform over the other classes.
        asked: share of the records that no network trains on; the rest is halved.
        field: what errors call the property.

    Raises:
        UsageError: see `having`; too few records are left to ask or to train on.
    """
    n, rng = len(records), np.random.default_rng([_POOLS, seed])
    if kind == "redrawn":
        if records.classes < 2:
            raise UsageError(f"{field}.of = 'redrawn labels': the records have one class; there is no other label.")
        parts = [np.arange(n)]
    else:
        has = having(records, kind, number, f"{field}.of")
        parts = [np.flatnonzero(has), np.flatnonzero(~has)]
    cut: list[list[Indices]] = [[], [], []]
    for part in parts:
        order = rng.permutation(part).astype(np.int64)
        ask = round(asked * len(order))
        half = (len(order) - ask) // 2
        if ask < _FEWEST or half < 1:
            raise UsageError(
                f"{field}.asked = {asked:g} of {len(order)} records of one kind leaves {ask} to ask and {half} to "
                f"train on in each pool; {_FEWEST} and 1 are needed: change it or use more records."
            )
        for place, some in enumerate((order[:ask], order[ask : ask + half], order[ask + half : ask + 2 * half])):
            cut[place].append(some)
    ask_, first, second = (np.sort(np.concatenate(each)) for each in cut)
    if kind != "redrawn":
        return Pools(records, has, first, second, ask_)
    draw = np.random.default_rng([_LABELS, seed]).integers(1, records.classes, size=n)
    y = np.concatenate([records.y, (records.y + draw) % records.classes])
    x = np.concatenate([records.x, records.x])
    twice = replace(
        records,
        x=x,
        y=y,
        clean_y=np.concatenate([records.clean_y] * 2),
        id=np.concatenate([records.id] * 2),
        digest=digest_of(x, y),
        canary_N=np.concatenate([records.canary_N] * 2),
    )
    return Pools(twice, np.repeat([False, True], n), first, second, ask_, twin=n)


def world(
    found: Pools, role: Role, share: float, size: int, seed: int, number: int, field: str = "property"
) -> Indices:
    """The training records of network ``number`` of a world: sorted indices into ``found.records``.

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
            raise UsageError(f"{field}.records = {size}: a pool of this data set has {len(pool)} records; lower it.")
        drawn = rng.permutation(pool)[:size]
        return np.sort(np.concatenate([drawn[:with_it] + found.twin, drawn[with_it:]]))
    has = found.has_N[pool]
    drawn_parts = []
    for name, want, there in (("with", with_it, pool[has]), ("without", size - with_it, pool[~has])):
        if want > len(there):
            raise UsageError(
                f"{field}.shares: a world of {share:g} needs {want} records {name} the property for {field}.records = "
                f"{size}, and a pool has {len(there)}; lower {field}.records or choose another share."
            )
        drawn_parts.append(rng.permutation(there)[:want])
    return np.sort(np.concatenate(drawn_parts))
