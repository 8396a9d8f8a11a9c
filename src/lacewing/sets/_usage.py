"""How many of these records were used? An estimate with an interval, calibrated on networks of known membership."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.attacks._measure import threshold
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Estimate, Floats
from lacewing.sets import _checked
from lacewing.support.text import entry

SCHEMA = 1  # of JSON
GRID = 2001  # shares at which the interval is tried


class Known(NamedTuple):
    """A network whose membership the attacker knows, and the same attack's scores of it."""

    score_N: npt.ArrayLike
    member_N: npt.ArrayLike


@dataclass(frozen=True)
class Usage:
    """How many of ``n`` records were used for training."""

    share: Estimate  # 95 %, or what was asked for
    n: int
    networks: int  # of known membership
    tpr: float  # of the threshold, mean over the known networks
    fpr: float
    plausible: bool  # whether any share explains so many decisions; else the records are unlike those of the networks
    notes: tuple[str, ...] = ()  # on how the networks were asked

    @property
    def count(self) -> Estimate:
        """The same in records."""
        return Estimate(*(self.n * value for value in self.share))

    @property
    def sentence(self) -> str:
        """The answer, with n, the interval and what it rests on."""
        known = f"{self.networks} network{'s' * (self.networks > 1)} of known membership"
        if not self.plausible:
            return (
                f"How many of the {self.n} records were used cannot be told: no share explains the scores, so that the "
                f"records, or the network, are unlike those of the {known}."
            )
        text = f"{self.share.text('.1f', percent=True)} of the {self.n} records were used"
        if self.networks == 1:
            known += ", so that the spread between networks is left out"
        return f"An estimated {text}; calibrated on {known}."

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``, with a ``schema`` number; no ``share`` and ``count`` if none is plausible."""
        share = self.share._asdict() if self.plausible else None
        count = self.count._asdict() if self.plausible else None
        names = ("n", "networks", "tpr", "fpr", "plausible")
        beside = {name: getattr(self, name) for name in names}
        return {
            "schema": SCHEMA,
            "sentence": self.sentence,
            "share": share,
            "count": count,
            **beside,
            "notes": [*self.notes],
        }

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(entry(f"note: {note}") for note in self.notes)])


def usage(score_N: npt.ArrayLike, known: Sequence[Known], *, confidence: float = 0.95) -> Usage:
    """How many of N records a network was trained on, from an attack's scores of them.

    After Tong, Ye, Zarifzadeh and Shokri, "How much of my dataset did you use? Quantitative data usage inference in
    machine learning" (ICLR 2025): decisions of single records, corrected for their false positives and misses,

        share = (decided members / N - FPR) / (TPR - FPR).

    Ours: the threshold of largest balanced accuracy over all known networks; rates are means over them; and the
    interval holds the shares p that a two-sided t test does not reject, whose variance is that of the N decisions,
    (p TPR (1 - TPR) + (1 - p) FPR (1 - FPR)) / N, of the rates' spread between networks, and of their estimation.
    Student's t has as many degrees of freedom as there are known networks, less one; with one network the normal law
    serves, the threshold is chosen on one half of its records and the rates are those of the other, and the spread
    between networks is left out: where there is some, 95 % intervals hold the share more rarely.

    Args:
        score_N: higher for members.
        known: networks of the same recipe, scored by the same attack, best on the same records.
        confidence: of the interval.

    Raises:
        UsageError: no record or no known network, scores that are not finite, a network that lacks members or
            non-members, or one network twice.
    """
    score = _checked.scores(score_N, "score")
    if isinstance(known, str) or not isinstance(known, Sequence) or not len(known):
        raise UsageError(
            "known is empty or no list: give at least one network of known membership, such as the shadow."
        )
    pairs = [_pair(one, place) for place, one in enumerate(known)]
    _refuse_copies(score, pairs)
    chosen_on = pairs
    if len(pairs) == 1:
        chosen_on, pairs = _halved(*pairs[0])
    cut = threshold(np.concatenate([s for s, _ in chosen_on]), np.concatenate([m for _, m in chosen_on]))
    rates = np.array([[(s[m] >= cut).mean(), (s[~m] >= cut).mean()] for s, m in pairs])
    sizes = np.array([[m.sum(), (~m).sum()] for _, m in pairs], np.float64)
    tpr, fpr = (float(rate) for rate in rates.mean(axis=0))
    decided = float((score >= cut).mean())
    p = np.linspace(0, 1, GRID)
    # At a rate of 0 or 1 the variance is that of half a decision, so that it is not taken for certain.
    noise = [np.maximum(rate * (1 - rate), 0.25 / (k + 1)) for rate, k in zip((tpr, fpr), sizes.sum(0), strict=True)]
    spread, estimated = _between(rates, noise, sizes), [part / k for part, k in zip(noise, sizes.sum(0), strict=True)]
    weights = (p, 1 - p)
    variance = sum(w * part for w, part in zip(weights, noise, strict=True)) / len(score)
    more = 1 + 1 / len(pairs)
    variance = variance + sum(w**2 * (more * s + e) for w, s, e in zip(weights, spread, estimated, strict=True))
    gap = np.abs(decided - (fpr + p * (tpr - fpr)))
    held = gap <= _quantile(confidence, len(pairs) - 1) * np.sqrt(variance)
    plausible = bool(held.any())
    if tpr > fpr:
        value = min(1.0, max(0.0, (decided - fpr) / (tpr - fpr)))
    else:
        value = 0.5
    low, high = (float(p[held].min()), float(p[held].max())) if plausible else (value, value)
    return Usage(Estimate(value, min(low, value), max(high, value)), len(score), len(pairs), tpr, fpr, plausible)


def _halved(score: Floats, member: Bools) -> tuple[list[tuple[Floats, Bools]], list[tuple[Floats, Bools]]]:
    """Two halves of the records, each with every other member and non-member in a random order."""
    order = np.random.default_rng(601).permutation(len(score))
    order = order[np.argsort(member[order], kind="stable")]
    parts = [order[0::2], order[1::2]]
    if min(min(member[rows].sum(), (~member[rows]).sum()) for rows in parts) < 1:
        raise UsageError("known: a single network needs at least two members and two non-members.")
    first, second = ([(score[rows], member[rows])] for rows in parts)
    return first, second


def _between(rates_K2: Floats, noise: Sequence[Floats], sizes_K2: Floats) -> list[float]:
    """The variance of each rate between networks, beyond that of its estimation; 0 for one network."""
    if len(rates_K2) == 1:
        return [0.0, 0.0]
    seen = rates_K2.var(axis=0, ddof=1)
    return [max(0.0, float(seen[i] - (noise[i] / sizes_K2[:, i]).mean())) for i in range(2)]


def _quantile(confidence: float, freedom: int) -> float:
    from scipy.special import ndtri, stdtrit

    if not isinstance(confidence, int | float) or not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence = {confidence!r} is out of range: give a share between 0 and 1.")
    tail = (1 + confidence) / 2
    return float(ndtri(tail)) if freedom == 0 else float(stdtrit(freedom, tail))


def _pair(one: Known, place: int) -> tuple[Floats, Bools]:
    if not isinstance(one, tuple) or len(one) != 2:
        raise UsageError(f"known[{place}] is a {type(one).__name__}: give lacewing.sets.Known(scores, members).")
    score = _checked.scores(one[0], f"known[{place}]: score")
    member = _checked.flags(one[1], f"known[{place}]: member")
    if member.shape != score.shape or member.all() or not member.any():
        of = f"{int(member.sum())} of {member.size} records are members"
        raise UsageError(f"known[{place}]: {of} beside {len(score)} scores: give a flag each, members and non-members.")
    return score, member


def _refuse_copies(score: Floats, pairs: Sequence[tuple[Floats, Bools]]) -> None:
    """One network twice has no spread between networks, and the audited one is not of known membership."""
    every = [score, *(own for own, _ in pairs)]
    for b, a in combinations(range(len(every)), 2):
        if np.array_equal(every[a], every[b]) and len(np.unique(every[a])) > 1:
            other = f"known[{b - 1}]" if b else "the audited network"
            raise UsageError(f"known[{a - 1}] has the scores of {other}: give every network once.")
