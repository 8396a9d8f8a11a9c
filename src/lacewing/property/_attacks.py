"""Attacks that tell two worlds apart, from what networks answer and from their weights and masks.

Each learns from the attacker's own networks of both worlds and scores others: above 0 it says "the second world".
Nothing is chosen on the networks that are attacked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import Floats
from lacewing.property._snap import snap_scores

_RIDGES = (0.01, 0.1, 1.0, 10.0)  # shrinkage, in units of the mean square of the standardised statistics
_FEWEST = 2  # networks of each world that an attacker learns from


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of M networks.

    Attributes:
        logits_MAC: what they answer to A records that no network was trained on.
        label_A: the labels of these.
        has_A: which of them have the property; all, where every record could have it.
        statistics: by name, numbers of each network's weights (M, W) or mask: "weights", "fixed" and names that begin
            with "mask".
        poison_label: what the attacker labelled the records that he put into the training sets of these networks; None:
            nobody poisoned them.
    """

    logits_MAC: npt.NDArray[np.floating]
    label_A: npt.NDArray[np.integer]
    has_A: npt.NDArray[np.bool_]
    statistics: Mapping[str, Floats] = field(default_factory=dict)
    poison_label: int | None = None

    def __len__(self) -> int:
        return len(self.logits_MAC)


class Inferred(NamedTuple):
    """What an attack says: a score for each attacked network, above 0 for the second world, and what it looked at."""

    score_M: Floats
    chosen: str


class Attack(NamedTuple):
    """An attack by name: its threat model in a sentence, and its function."""

    threat_model: str
    function: Callable[[Known, Known, Known], Inferred]
    needs: str = ""  # a statistic, or what its name begins with
    poisons: bool = False  # it is about networks whose training sets the attacker poisoned, and the others are not


def infer(name: str, first: Known, second: Known, attacked: Known) -> Inferred | None:
    """Run an attack; None where it needs what these networks do not have, such as a mask, or poisoned training.

    Args:
        name: one of `ATTACKS`.
        first: the attacker's networks of the first world.
        second: those of the second.
        attacked: the networks whose world it is to tell.

    Raises:
        UsageError: fewer than two networks of a world, or no record has the property; or numbers are not finite, or not
            of the same records, classes and statistics for all networks.
    """
    attack = ATTACKS[name]
    for known in (first, second):
        if len(known) < _FEWEST:
            raise UsageError(f"property: {len(known)} network of a world to learn from; give at least {_FEWEST}.")
    _refuse_unlike(first, second, attacked)
    if not attacked.has_A.any():
        raise UsageError("property: none of the records that are asked has the property; ask some that have it.")
    if attack.poisons != (attacked.poison_label is not None):
        return None
    if attack.needs and not any(each.startswith(attack.needs) for each in attacked.statistics):
        return None
    return attack.function(first, second, attacked)


def _refuse_unlike(*sides: Known) -> None:
    """Refuse what is not finite, and networks that were not asked, or not counted, alike."""
    shapes = {(*known.logits_MAC.shape[1:], len(known.label_A), len(known.has_A)) for known in sides}
    widths = {tuple((name, values.shape[1]) for name, values in sorted(known.statistics.items())) for known in sides}
    same = all(np.array_equal(known.label_A, sides[0].label_A) for known in sides[1:])
    if len(shapes) > 1 or len(widths) > 1 or not same:
        raise UsageError(
            "property: the networks were not asked the same records, or have not the same classes or statistics; "
            "describe them all alike."
        )
    numbers = (values for known in sides for values in (known.logits_MAC, *known.statistics.values()))
    if not all(np.isfinite(values).all() for values in numbers):
        raise UsageError("property: answers or statistics hold NaN or infinity; measure these networks again.")


def threshold_scores(first_M: npt.ArrayLike, second_M: npt.ArrayLike, attacked_M: npt.ArrayLike) -> Floats:
    """Signed distance of one number a network from the threshold that tells the attacker's own networks apart best.

    Of equally good thresholds the middle one; above 0 on the side on which most of the second world's networks are.
    After the threshold test of Suri and Evans (arXiv 2109.06024), with log-odds instead of accuracy.
    """
    low, high = np.asarray(first_M, np.float64), np.asarray(second_M, np.float64)
    values = np.unique(np.concatenate([low, high]))
    cuts = np.concatenate([[values[0] - 1.0], (values[1:] + values[:-1]) / 2, [values[-1] + 1.0]])
    below_first = np.searchsorted(np.sort(low), cuts, side="right") / len(low)
    below_second = np.searchsorted(np.sort(high), cuts, side="right") / len(high)
    right = below_first - below_second  # twice the accuracy of "above it is the second world", minus 1
    sign = 1.0 if right.max() >= -right.min() else -1.0
    best = np.flatnonzero(np.isclose(sign * right, (sign * right).max()))
    distance: Floats = np.asarray(attacked_M, np.float64) - cuts[best[len(best) // 2]]
    return sign * distance


def kl_votes(first: Known, second: Known, attacked: Known) -> Floats:
    """Share of pairs of the attacker's networks of both worlds that vote for the second, minus a half.

    A pair votes for the world whose network's answers are nearer: KL(own || attacked), averaged over the asked records.
    The KL attack of Suri, Lu, Chen and Evans, "Dissecting distribution inference" (SaTML 2023, arXiv 2212.07591), as
    the authors' code has it (KL(own || attacked), votes of pairs, a half as threshold), with every pair instead of a
    random part of them, and softmax over all classes.
    """
    theirs_MAC = _log_softmax(attacked.logits_MAC)
    near = [_divergence(_log_softmax(known.logits_MAC), theirs_MAC) for known in (first, second)]
    order = np.sort(near[0], axis=1)  # a pair votes for the second world where the first one's network is farther
    nearer = [
        (len(row) - np.searchsorted(row, others, "right") + 0.5 * _ties(row, others)).mean() / len(row)
        for row, others in zip(order, near[1], strict=True)
    ]
    return np.array(nearer) - 0.5


def _ties(row: Floats, others: Floats) -> npt.NDArray[np.intp]:
    return np.searchsorted(row, others, "right") - np.searchsorted(row, others, "left")


def _divergence(own_KAC: Floats, theirs_MAC: Floats) -> Floats:
    """(M, K): the mean over records of KL(own || theirs)."""
    own = np.exp(own_KAC)
    entropy_K = (own * own_KAC).sum(axis=(1, 2))
    cross_MK = theirs_MAC.reshape(len(theirs_MAC), -1) @ own.reshape(len(own), -1).T
    mean: Floats = (entropy_K - cross_MK) / own_KAC.shape[1]
    return mean


def _log_softmax(logits: npt.NDArray[np.floating]) -> Floats:
    z = logits.astype(np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    log: Floats = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return log


class Ridge(NamedTuple):
    """Scores of a ridge classifier, and how many of the attacker's own networks it tells wrongly when left out."""

    score_M: Floats
    wrong: float
    squared: float


def ridge_scores(first_MW: npt.ArrayLike, second_MW: npt.ArrayLike, attacked_MW: npt.ArrayLike) -> Ridge:
    """A linear meta-classifier: ridge regression of -1 and 1 on standardised statistics of networks.

    The shrinkage is the one of `_RIDGES` with the fewest of the attacker's networks on the wrong side when each is left
    out (in closed form: residual / (1 - leverage)), the smaller squared error where several have as few.
    """
    a, b, t = (np.asarray(each, np.float64) for each in (first_MW, second_MW, attacked_MW))
    known = np.concatenate([a, b])
    centre, scale = known.mean(axis=0), known.std(axis=0)
    moves = scale > 1e-9 * np.maximum(1.0, np.abs(centre))
    truth = np.concatenate([-np.ones(len(a)), np.ones(len(b))])
    if not moves.any():
        return Ridge(np.zeros(len(t)), len(truth) / 2, float(len(truth)))
    z = (known[:, moves] - centre[moves]) / scale[moves]
    q = (t[:, moves] - centre[moves]) / scale[moves]
    gram, cross = z @ z.T / z.shape[1], q @ z.T / z.shape[1]
    n = len(truth)
    mean = truth.mean()
    found = []
    for ridge in _RIDGES:
        inverse = np.linalg.inv(gram + ridge * np.eye(n))
        weights = inverse @ (truth - mean)
        hat = gram @ inverse + 1.0 / n  # of the fit with its intercept; columns of z have mean 0
        fitted = gram @ weights + mean
        left_out = truth - (truth - fitted) / np.maximum(1.0 - np.diag(hat), 1e-9)
        wrong = float((left_out * truth < 0).sum() + 0.5 * (left_out == 0).sum())
        found.append(Ridge(cross @ weights + mean, wrong, float(((truth - left_out) ** 2).sum())))
    return min(found, key=lambda each: (each.wrong, each.squared))


def _best(candidates: Sequence[tuple[str, Ridge]]) -> Inferred:
    """Of several statistics the one that tells the attacker's own networks apart best when each is left out."""
    name, found = min(candidates, key=lambda each: (each[1].wrong, each[1].squared))
    return Inferred(found.score_M, name)


def _log_odds(first: Known, second: Known, attacked: Known) -> Inferred:
    means = [_odds(known)[:, known.has_A].mean(axis=1) for known in (first, second, attacked)]
    return Inferred(threshold_scores(*means), "log-odds")


def _odds(known: Known) -> Floats:
    """(M, A): the log-odds of each record's label."""
    return _odds_of(known.label_A, known.logits_MAC)


def _odds_of(label_A: npt.NDArray[np.integer], logits_MAC: npt.NDArray[np.floating]) -> Floats:
    from lacewing.attacks import phi  # here, since a report needs nothing of what attacks load

    return phi(logits_MAC, np.broadcast_to(label_A, logits_MAC.shape[:2]))


def _snap(first: Known, second: Known, attacked: Known) -> Inferred:
    label = attacked.poison_label
    asked = attacked.has_A & (attacked.label_A != label)
    if not asked.any():
        raise UsageError(
            f"property: none of the records that are asked has the property and another label than {label}."
        )
    sides = (_odds_of(np.full(asked.sum(), label), known.logits_MAC[:, asked]) for known in (first, second, attacked))
    return Inferred(snap_scores(*sides), f"log-odds of class {label}")


def _kl(first: Known, second: Known, attacked: Known) -> Inferred:
    return Inferred(kl_votes(first, second, attacked), "all records")


def _outputs(first: Known, second: Known, attacked: Known) -> Inferred:
    """Over each record's log-odds, and over mean log-probabilities of classes, of records with and without it."""
    views: dict[str, Callable[[Known], Floats]] = {
        "log-odds of each record": _odds,
        "mean log-probabilities": _means,
    }
    return _best([(name, ridge_scores(view(first), view(second), view(attacked))) for name, view in views.items()])


def _means(known: Known) -> Floats:
    """(M, 2C): the mean log-probability of each class, over records with the property and over those without it."""
    log = _log_softmax(known.logits_MAC)
    parts = [log[:, rows].mean(axis=1) for rows in (known.has_A, ~known.has_A) if rows.any()]
    return np.concatenate(parts, axis=1)


def _statistics(prefix: str) -> Callable[[Known, Known, Known], Inferred]:
    def attack(first: Known, second: Known, attacked: Known) -> Inferred:
        names = [name for name in attacked.statistics if name.startswith(prefix)]
        sides = (first, second, attacked)
        return _best([(name, ridge_scores(*(side.statistics[name] for side in sides))) for name in names])

    return attack


_OWN = "has networks of its own of both worlds, trained by the recipe on other records, and"
ATTACKS: Mapping[str, Attack] = {
    "log-odds": Attack(f"{_OWN} asks the network for probabilities of records with the property", _log_odds),
    "kl": Attack(f"{_OWN} asks the network for probabilities", _kl),
    "outputs": Attack(f"{_OWN} asks the network for probabilities", _outputs),
    "weights": Attack(
        f"{_OWN} reads the weights, whatever the order of hidden units", _statistics("weights"), "weights"
    ),
    "fixed": Attack(f"{_OWN} reads the weights of each input and each class", _statistics("fixed"), "fixed"),
    "mask": Attack(f"{_OWN} sees which weights are kept, and nothing else", _statistics("mask"), "mask"),
    "snap": Attack(
        "poisons training: puts records of his own, with the property and under another label, into the network's "
        "training set and into those of networks of his own of both worlds, and asks it for probabilities",
        _snap,
        poisons=True,
    ),
}
