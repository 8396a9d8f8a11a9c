"""Which records a study uses, how they are cut into the four sets, and the numbers that standardise them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lacewing.data._dataset import Dataset, Inputs, Labels
from lacewing.data._groups import Codes, deal, group_codes, pick
from lacewing.errors import DataError
from lacewing.support.mapped import blocks, take

Role = Literal["target", "shadow"]
ROLES: tuple[Role, ...] = ("target", "shadow")
Indices = npt.NDArray[np.int64]

# Each use of randomness has a stream of its own, so that equal seeds never make two draws depend on each other.
_DRAW, _NOISE, _SPLIT, _HOLDOUT, _CANARY, _POPULATION, _HALVES = 101, 102, 103, 104, 105, 106, 107
_SMALLEST = 40  # records in a four-way split: ten a set


@dataclass(frozen=True, eq=False)
class Records:
    """The N records of a study, with the labels that networks are trained on (``y``) and those before redrawing.

    ``id`` is each record's index in the data set ``dataset``.
    """

    x: Inputs
    y: Labels
    clean_y: Labels
    id: Indices
    classes: int
    dataset: str
    canary_N: npt.NDArray[np.bool_]  # True: given a wrong label on purpose
    # Records of one code stay together; a code is the index in the data set of a record of the group. None: no groups.
    group_N: Codes | None = None

    def __len__(self) -> int:
        return len(self.y)


def prepare(
    dataset: Dataset,
    *,
    records: int | None,
    label_noise: float,
    seed: int = 0,
    canaries: int = 0,
    group_N: Codes | None = None,
) -> Records:
    """Draw ``records`` of the data set at random (None: all, in order), then redraw labels, once for every set.

    ``canaries`` records, chosen at random, get a wrong label (uniform over the other classes), whatever noise gave
    them: what a network says of them shows the worst case that averages hide (Aerni, Zhang, Tramer 2024). Exactly
    round(label_noise * n) records, chosen at random, get a label drawn uniformly from all classes, so a redrawn label
    equals the old one with probability 1/classes. A function of the data set's size and ``seed`` alone.

    ``group_N`` are codes of the data set's records. With them canaries and redrawn labels come to whole groups, so that
    their numbers are only nearly those asked for, and records of one group and one label get one new label.

    Raises DataError that names data.records, data.label_noise or data.canaries.
    """
    n = len(dataset) if records is None else records
    if not 1 <= n <= len(dataset):
        raise DataError(
            f"data.records: {n} records asked of {dataset.name}, which has {len(dataset)}: ask for 1 to that many, or "
            "leave it out for all."
        )
    if not 0 <= label_noise <= 1:
        raise DataError(f"data.label_noise: {label_noise} is not a share between 0 and 1.")
    chosen = np.arange(len(dataset), dtype=np.int64)
    if records is not None:
        chosen = np.sort(np.random.default_rng([_DRAW, seed]).permutation(chosen)[:n])
    clean = dataset.y[chosen]
    groups = None
    if group_N is not None:
        _, first, group = np.unique(group_N[chosen], return_index=True, return_inverse=True)
        groups = chosen[first[group]]
    noisy = clean.copy()
    rng = np.random.default_rng([_NOISE, seed])
    redrawn = _some(n, groups, round(label_noise * n), rng)
    noisy[redrawn] = _draws(redrawn, groups, clean, 0, dataset.classes, rng)
    if not 0 <= canaries <= n:
        raise DataError(f"data.canaries: {canaries} canaries among {n} records: ask for at most that many.")
    rng = np.random.default_rng([_CANARY, seed])
    canary = np.zeros(n, bool)
    canary[_some(n, groups, canaries, rng)] = True
    wrong = np.flatnonzero(canary)
    noisy[wrong] = (clean[wrong] + _draws(wrong, groups, clean, 1, dataset.classes, rng)) % dataset.classes
    x = dataset.x if records is None else take(dataset.x, chosen)
    return Records(x, noisy, clean, chosen, dataset.classes, dataset.name, canary, groups)


def _some(n: int, groups: Codes | None, size: int, rng: np.random.Generator) -> Indices:
    """``size`` of n records at random, or whole groups of about as many."""
    if groups is None:
        return rng.permutation(n)[:size]
    return np.flatnonzero(pick(groups, size, rng))


def _draws(
    rows: Indices, groups: Codes | None, label: Labels, low: int, high: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """A whole number from ``low`` to below ``high`` for each row; the same for rows of one group and label."""
    if groups is None:
        return rng.integers(low, high, size=len(rows))
    alike = group_codes(zip(groups[rows].tolist(), label[rows].tolist(), strict=True))
    drawn: npt.NDArray[np.int64] = rng.integers(low, high, size=alike.max(initial=-1) + 1)
    return drawn[alike]


def unused(dataset: Dataset, records: Records, share: float, seed: int = 0, group_N: Codes | None = None) -> Indices:
    """The population of a four-way study: round(share * n) records of the data set outside its n, sorted indices.

    None of them is of a group that the study has a record of, by the codes ``group_N`` of the data set's records.

    Raises DataError that names data.population where so many are not left, or the share is less than one record.
    """
    size = round(share * len(records))
    if share and not size:
        raise DataError(f"data.population: {share:g} of {len(records)} records is none: raise it.")
    left = np.setdiff1d(np.arange(len(dataset), dtype=np.int64), records.id)
    if group_N is not None:
        left = left[~np.isin(group_N[left], group_N[records.id])]
    if size > len(left):
        raise DataError(
            f"data.population: {size} records asked for, and the study leaves {len(left)} of {dataset.name} unused"
            f"{'' if group_N is None else ' that are of no group that it uses'}: lower data.population or data.records."
        )
    return np.sort(np.random.default_rng([_POPULATION, seed]).permutation(left)[:size])


@dataclass(frozen=True, eq=False)
class Split:
    """Membership, stored explicitly: four disjoint sets of sorted indices into ``Records``."""

    target_train: Indices
    target_test: Indices
    shadow_train: Indices
    shadow_test: Indices

    def members(self, role: Role) -> Indices:
        """The records that the network of this role is trained on."""
        return {"target": self.target_train, "shadow": self.shadow_train}[role]

    def nonmembers(self, role: Role) -> Indices:
        """The records that the network of this role is tested on, and never trained on."""
        return {"target": self.target_test, "shadow": self.shadow_test}[role]

    def part_N(self, n: int) -> npt.NDArray[np.uint8]:
        """The set of each of n records: 0 target-train, 1 target-test, 2 shadow-train, 3 shadow-test, 255 none."""
        part = np.full(n, 255, np.uint8)
        for code, indices in enumerate((self.target_train, self.target_test, self.shadow_train, self.shadow_test)):
            part[indices] = code
        return part


def four_way(n: int, seed: int, *, groups: Codes | None = None) -> Split:
    """Cut n records at random into four sets of n // 4 (up to three records stay unused), anew for each seed.

    The split of Gonon et al. (arXiv 2304.10553). With ``groups``, codes (n,), whole groups come to one set, no
    record stays unused, and the sizes may differ (see `deal`). Raises DataError for fewer than 40 records, and for
    groups that are too large or too few.
    """
    if n < _SMALLEST:
        raise DataError(
            f"data.records: a four-way split needs at least {_SMALLEST} records, {n} given; raise it or use a larger "
            "data set."
        )
    quarter = n // 4
    rng = np.random.default_rng([_SPLIT, seed])
    if groups is not None:
        part = deal(groups, 4, rng, "a four-way split")
        return Split(*(np.flatnonzero(part == k) for k in range(4)))
    order = rng.permutation(n).astype(np.int64)
    return Split(*(np.sort(order[k * quarter : (k + 1) * quarter]) for k in range(4)))


@dataclass(frozen=True, eq=False)
class Halves:
    """Membership under random halves: sorted indices into ``Records``, with the methods of ``Split``."""

    inside: Indices
    outside: Indices
    population: Indices

    def members(self, role: Role) -> Indices:
        """The half that the network is trained on, whatever its role."""
        return self.inside

    def nonmembers(self, role: Role) -> Indices:
        """The other half."""
        return self.outside

    def part_N(self, n: int) -> npt.NDArray[np.uint8]:
        """The set of each of n records: 0 trained on, 1 tested on, 4 population."""
        part = np.full(n, 255, np.uint8)
        for code, indices in ((0, self.inside), (1, self.outside), (4, self.population)):
            part[indices] = code
        return part


def random_halves(n: int, seed: int, *, population: float, data_seed: int = 0, groups: Codes | None = None) -> Halves:
    """Set round(population * n) records aside for every seed alike, and cut the rest in two at random.

    Seeds 2j and 2j + 1 train on complementary halves of one cut, so that each pair has every record in one network
    and out of the other; different pairs are independent. A record too many goes to the population. With ``groups``,
    codes (n,), whole groups are set aside, and whole groups come to one half, so that sizes are only nearly those asked
    for (see `deal`). Raises DataError for fewer than 20 records a half, and for groups that are too large
    or too few.
    """
    rng = np.random.default_rng([_POPULATION, data_seed])
    reserved = round(population * n)
    if groups is None:
        kept, rest = np.split(rng.permutation(n).astype(np.int64), [reserved + (n - reserved) % 2])
    else:
        aside = pick(groups, reserved, rng)
        kept, rest = np.flatnonzero(aside), np.flatnonzero(~aside)
    half = len(rest) // 2
    if half < _SMALLEST // 2:
        raise DataError(
            f"data.records: random halves of {n} records without their population hold {half} records, and at least "
            f"{_SMALLEST // 2} are needed; raise data.records or lower data.population."
        )
    rng = np.random.default_rng([_HALVES, seed // 2])
    if groups is None:
        cut = rng.permutation(np.sort(rest))
        first, second = np.sort(cut[:half]), np.sort(cut[half:])
    else:
        part = deal(groups[rest], 2, rng, "random halves")
        first, second = rest[part == 0], rest[part == 1]
    inside, outside = (first, second) if seed % 2 == 0 else (second, first)
    return Halves(inside, outside, np.sort(kept))


def holdout(train_idx: Indices, share: float, seed: int, *, groups: Codes | None = None) -> tuple[Indices, Indices]:
    """Cut ``train_idx`` into (kept, held): the share held out for tuning is drawn at random, both keep their order.

    round(share * n) records are held out, at least one unless ``share`` is 0; with ``groups``, the codes of
    ``train_idx``, whole groups of about as many. Raises DataError that names train.holdout when the share is outside
    0..1 or would leave nothing to train on.
    """
    n = len(train_idx)
    if not 0 <= share < 1:
        raise DataError(f"train.holdout: {share} is not a share from 0 to below 1.")
    size = max(round(share * n), 1) if share else 0
    if size >= n:
        raise DataError(f"train.holdout: {share} of {n} training records leaves none to train on: lower it.")
    held = np.zeros(n, bool)
    held[_some(n, groups, size, np.random.default_rng([_HOLDOUT, seed]))] = True
    if held.all():
        raise DataError(f"train.holdout: {share} of {n} training records takes every group of data.groups: lower it.")
    return train_idx[~held], train_idx[held]


def normalisation(x: Inputs) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation that standardise ``x``: (x - mean) / std, in the units in which ``x`` is stored.

    Images (N, C, H, W): one pair a channel, shape (C,). Tabular data (N, D): one pair a feature, shape (D,).
    Pixels count as the raw numbers 0..255: nothing divides by 255 first. Tabular features that are only ever 0 or 1
    are left as they are (mean 0, std 1), and what is constant has std 1. Raises DataError when there is no record.
    """
    if len(x) == 0:
        raise DataError("normalisation needs at least one record, and there are none.")
    width, count = x.shape[1], x.size // x.shape[1]
    total, low, high, binary = np.zeros(width), *_extremes(x[:1]), np.ones(width, bool)
    for block in _flat(x):
        total += block.sum(axis=(0, 2), dtype=np.float64)
        smallest, largest = _extremes(block)
        low, high = np.minimum(low, smallest), np.maximum(high, largest)
        if x.ndim == 2:
            binary &= ((block == 0) | (block == 1)).all(axis=(0, 2))
    mean = total / count
    square = np.zeros(width)
    for block in _flat(x):
        apart = block - mean[:, None]
        square += np.square(apart, out=apart).sum(axis=(0, 2))
    std = np.sqrt(square / count).astype(np.float32)
    std[(low == high) | (std == 0)] = 1
    mean32 = mean.astype(np.float32)
    if x.ndim == 2:
        mean32[binary], std[binary] = 0, 1
    return mean32, std


def _flat(x: Inputs) -> Iterator[npt.NDArray[Any]]:
    """Blocks of (N, C, pixels) or (N, D, 1), which bound the memory that float64 takes."""
    for block in blocks(x, 1024):
        yield block.reshape(len(block), x.shape[1], -1)


def _extremes(block: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The smallest and the largest value of each channel or feature."""
    flat = block.reshape(len(block), block.shape[1], -1)
    return flat.min(axis=(0, 2)), flat.max(axis=(0, 2))
