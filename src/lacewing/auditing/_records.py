"""The records of an audit: read, checked, set aside as population, and grouped where they are not independent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.attacks._types import Attack, Task
from lacewing.auditing import _inputs
from lacewing.auditing._inputs import RawData, Reading
from lacewing.data import group_codes, merge_groups
from lacewing.errors import UsageError
from lacewing.metrics import Bools

Codes = npt.NDArray[np.int64]
SHARE, LEAST_POPULATION = 0.2, 100  # of the non-members, set aside where no population is given
_PERMUTATIONS = 199  # of membership, to tell whether copies stand on one side by chance
_BY_CHANCE = 0.05
_OVERLAP = 0.1  # share of the population that may be audited, unless the sides share as many records
_SAME_TRANSFORM = 0.9999  # confidence at which the two sides' random transforms must differ to be refused
_MOST = 1000  # records of a side and features that the transforms are compared on
_TRANSFORM_PERMUTATIONS = 999


@dataclass(frozen=True, eq=False)
class Records:
    """The records of an audit, and the attacks that are refused for want of a population."""

    audited: RawData
    member_N: Bools
    population: RawData | None
    refused: dict[str, str]
    together_N: Codes  # records that a reference trains on together: of one group, or equal, on either side
    group_N: Codes | None  # records that count as one; None: each counts
    varying: bool  # whether records differ each time that they are read
    seen: int  # audited non-members that are equal to a member, where more are than chance explains


def read(
    members: Any,
    nonmembers: Any,
    population: Any,
    *,
    groups: Any = None,
    task: Task = "classification",
    chosen: Sequence[Attack] = (),
    seed: int = 0,
    augmented: bool = False,
    reading: Reading | None = None,
    notes: list[str],
) -> Records:
    """The given records, checked and in one form: members, then non-members, and the population apart.

    Raises `UsageError` where they are not as `lacewing.audit` describes them.
    """
    reading = reading or Reading()
    sides = {"members": members, "nonmembers": nonmembers}
    sides |= {} if population is None else {"population": population}
    every = _inputs.read_all(sides, task, reading=reading)
    vary = {name: _inputs.varies(sides[name], every[name], name, task, reading) for name in every}
    every = _inputs.alike(every)
    inside, outside, given = every["members"], every["nonmembers"], every.get("population")
    varying = _varying(members, nonmembers, vary, augmented)
    if given is not None and vary["population"] != varying:
        raise UsageError("population must be read as members and nonmembers are: with or without a random transform.")
    inside_codes, outside_codes = _given_groups(groups, len(inside), len(outside))
    chosen_names = [attack.name for attack in chosen if "population" in attack.needs and task in attack.tasks]
    outside, reserve, outside_codes, refused = _population(outside, outside_codes, given, chosen_names, seed, notes)
    parts = {"members": inside, "nonmembers": outside} | ({} if reserve is None else {"population": reserve})
    everything = _inputs.join(parts)
    n = len(inside) + len(outside)
    reserve = None if reserve is None else everything.at(np.arange(n, len(everything)))
    audited, member = everything.at(np.arange(n)), np.arange(n) < len(inside)
    seen = _note_shared(inside, outside, reserve, notes)
    own = np.concatenate([inside_codes, outside_codes]) if groups is not None else np.arange(n)
    copies = audited.copies()
    together = merge_groups(own, copies)
    group = counted(copies, member, None if groups is None else own, seed, notes, what="records")
    _inputs.check_enough_groups(group, member)
    if seen and _pairs_by_chance(copies, member, seed)[1] > _BY_CHANCE:
        seen = 0  # rows of few features repeat on both sides by nature, and to leave them out would be a bias
    return Records(audited, member, reserve, refused, together, group, varying, seen)


def counted(
    copy_N: Codes, member_N: Bools, group_N: Codes | None, seed: int, notes: list[str], *, what: str
) -> Codes | None:
    """The groups that count as one: the given ones and, where they do not stand on both sides by chance, copies.

    Copies of natural data, such as rows of few binary features, fall on both sides as any records do, and each is a
    record of its own. Copies that stand on one side (a patient's rows, an oversampled class) are no further evidence:
    they count once. Which of the two it is, a permutation test of the pairs on one side says.

    Args:
        copy_N: (N,) codes that equal records share.
        member_N: (N,) membership.
        group_N: (N,) codes of the user's groups; None: there are none.
        seed: of the permutations.
        notes: sentences about it are added here.
        what: the equal things, for the notes.
    """
    sided = 2 * copy_N + member_N
    further = len(sided) - np.array([len(np.unique(sided[kind])) for kind in (member_N, ~member_N)]).sum()
    merged = group_N if group_N is None else merge_groups(group_N, group_codes(sided))
    if further == 0:
        return merged
    counts = [int(kind.sum()) - len(np.unique(copy_N[kind])) for kind in (member_N, ~member_N)]
    said = (
        f"{counts[0]} of the {member_N.sum()} members and {counts[1]} of the {(~member_N).sum()} audited non-members "
    )
    said += f"are exact copies of other {what} of their side"
    if group_N is not None:
        notes.append(f"{said}.")
        return merged
    if _pairs_by_chance(copy_N, member_N, seed)[0] > _BY_CHANCE:
        notes.append(f"{said}, and copies stand on both sides as by chance: each counts.")
        return None
    notes.append(f"{said}, which chance does not explain: copies count once, so that n counts distinct {what}.")
    return group_codes(sided)


def _pairs_by_chance(copy_N: Codes, member_N: Bools, seed: int) -> tuple[float, float]:
    """Permutation p-values of so many, and of so few, pairs of copies on one side under random membership."""
    _, code = np.unique(copy_N, return_inverse=True)
    size = np.bincount(code)
    copied = size[code] > 1
    code = code[copied]
    size = np.bincount(code, minlength=len(size)).astype(np.float64)
    rng = np.random.default_rng([seed, 305])

    def pairs(member: Bools) -> float:
        inside = np.bincount(code, member[copied], minlength=len(size))
        return float((inside * (inside - 1) + (size - inside) * (size - inside - 1)).sum())

    found = pairs(member_N)
    drawn = np.array([pairs(rng.permutation(member_N)) for _ in range(_PERMUTATIONS)])
    many, few = ((1 + int(as_extreme.sum())) / (1 + _PERMUTATIONS) for as_extreme in (drawn >= found, drawn <= found))
    return many, few


def _varying(members: Any, nonmembers: Any, vary: Mapping[str, bool], augmented: bool) -> bool:
    """Whether records differ each time they are read. Raises `UsageError` where they do and must not."""
    sides = {"members": members, "nonmembers": nonmembers}
    differ = [name for name in sides if vary[name]]
    if not differ:
        return False
    if not augmented:
        raise UsageError(
            f"{differ[0]} hands out other values each time a record is read, as a random transform does: give both "
            "sides without augmentation, through the transform that is used for testing. If such copies are what you "
            "mean to audit, say augmented=True and give both sides through the same transform."
        )
    if len(differ) < len(sides):
        other = next(name for name in sides if name not in differ)
        raise UsageError(
            f"{differ[0]} hands out other values each time a record is read, and {other} does not: give both sides "
            "through the same transform."
        )
    first, second = (_inputs.transform_of(given) for given in sides.values())
    known = first is not None and second is not None and first is not second
    if known and " at 0x" not in f"{first!r}{second!r}" and repr(first) != repr(second):
        raise UsageError("members and nonmembers go through different transforms: give both sides through the same.")
    return True


def check_same_variation(first: Records, second: Records) -> None:
    """Raises `UsageError` where the sides' random transforms change records more, or other features, on one side.

    The latter is told by a permutation test of membership (p <= 0.001): its statistic is the largest standardised
    difference of the sides' mean squared change over features.
    """
    change = (first.audited.x.astype(np.float64) - second.audited.x).reshape(len(first.member_N), -1)
    found = metrics.auc((change**2).mean(axis=1), first.member_N, _SAME_TRANSFORM)
    if found.low > 0.5 or found.high < 0.5:
        more = "members" if found.low > 0.5 else "nonmembers"
        raise UsageError(
            f"The random transform changes {more} more than the other side: give both sides through the same transform."
        )
    rng = np.random.default_rng(306)
    rows = np.concatenate([rng.permutation(np.flatnonzero(side))[:_MOST] for side in (first.member_N, ~first.member_N)])
    squared = change[np.ix_(rows, rng.permutation(change.shape[1])[:_MOST])] ** 2
    spread = squared.std(axis=0)
    squared = squared[:, spread > 0] / spread[spread > 0]
    member = first.member_N[rows]
    weight = np.where(member, 1 / member.sum(), -1 / (~member).sum())
    drawn = np.stack([weight, *(rng.permutation(weight) for _ in range(_TRANSFORM_PERMUTATIONS))])
    largest = np.abs(drawn @ squared).max(axis=1, initial=0.0)
    if (largest[1:] < largest[0]).all():
        raise UsageError(
            "The random transform changes other features of members than of nonmembers: give both sides through the "
            "same transform."
        )


def _given_groups(groups: Any, inside: int, outside: int) -> tuple[Codes, Codes]:
    """(members' codes, non-members' codes) of the user's ids."""
    if groups is None:
        return np.arange(inside), np.arange(inside, inside + outside)
    if not isinstance(groups, tuple | list) or len(groups) != 2:
        raise UsageError("groups must be two lists of ids, (of the members, of the nonmembers).")
    ids = [np.asarray(side.to_numpy() if hasattr(side, "to_numpy") else side) for side in groups]
    for name, side, count in zip(("members", "nonmembers"), ids, (inside, outside), strict=True):
        if side.shape != (count,) or side.dtype.kind not in "iuUSO":
            raise UsageError(
                f"groups: the ids of {name} have shape {side.shape} and dtype {side.dtype}: give one whole number or "
                f"word a record, {count} of them."
            )
    member = np.arange(inside + outside) < inside
    codes = _inputs.group_codes_of([*ids[0].tolist(), *ids[1].tolist()], member, "groups")
    return codes[:inside], codes[inside:]


def _population(
    outside: RawData, code_N: Codes, given: RawData | None, asked: Sequence[str], seed: int, notes: list[str]
) -> tuple[RawData, RawData | None, Codes, dict[str, str]]:
    """(audited non-members, population, the former's groups, attacks refused for want of a population)."""
    if given is not None or not asked:
        return outside, given, code_N, {}
    # Copies stay together, so that no record of the population equals an audited non-member.
    groups, code = np.unique(merge_groups(code_N, outside.copies()), return_inverse=True)
    n, grouped = len(groups), len(groups) < len(outside)
    units = f"groups of {len(outside)} non-members" if grouped else "non-members"
    if n < 2 * LEAST_POPULATION:
        why = (
            f"It needs a population, and {n} {units} are too few to set 20 %, at least {LEAST_POPULATION}, of them "
            f"aside: pass population=(x, y), or at least {2 * LEAST_POPULATION} {'groups of ' * grouped}non-members."
        )
        return outside, None, code_N, dict.fromkeys(asked, why)
    size = max(LEAST_POPULATION, round(SHARE * n))
    aside = np.isin(code, np.random.default_rng([seed, 302]).permutation(n)[:size])
    notes.append(
        f"No population was given: {size} of the {n} {units} (20 %, at least {LEAST_POPULATION}), drawn at random, "
        "were set aside as population and are not audited."
    )
    return outside.at(~aside), outside.at(aside), code_N[~aside], {}


def _note_shared(inside: RawData, outside: RawData, reserve: RawData | None, notes: list[str]) -> int:
    """Note records that stand in two parts; returns how many of the non-members are equal to a member."""
    same = _inputs.shared(inside, outside)
    if same == len(outside):
        raise UsageError(
            "nonmembers are all among the members, value for value: give records that the model never saw."
        )
    if same:
        notes.append(
            f"{same} of the {len(outside)} audited non-members are equal to a member, value for value, so that they "
            "were trained on: the leak may be larger than it looks."
        )
    for name, part in (("members", inside), ("audited non-members", outside)):
        if reserve is not None and (again := _inputs.shared(part, reserve)):
            # Rows of few features repeat everywhere by nature, between the sides too.
            if again > _OVERLAP * len(reserve) and same < _OVERLAP * len(outside) * again / len(reserve):
                raise UsageError(
                    f"population: {again} of {len(reserve)} records are equal to one of the {name}, value for value: "
                    "give records that are not audited."
                )
            notes.append(f"{again} of the {len(reserve)} population records are equal to one of the {name}.")
    return same
