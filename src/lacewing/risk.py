"""Which records are at risk: an attack's success on subsets of the records, and the records that it finds repeatedly.

Averages hide them: a network may leak nothing on average and a few records almost certainly (Carlini et al., IEEE
S&P 2022; Aerni, Zhang, Tramer, CCS 2024). Statements about single records are private data.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Estimate, Floats
from lacewing.results import AttackResult

MEMBERS_FOR_AUC = 10  # of each kind: with fewer, the normal approximation of DeLong's interval fails


@dataclass(frozen=True)
class PartResult:
    """An attack's success on a part of the audited records. Metrics for which the part is too small are None."""

    name: str  # "class 3", "confidence 0.41 to 0.77", "classified correctly"
    n_members: int
    n_nonmembers: int
    auc: Estimate | None
    tpr_at_fpr: Mapping[float, Estimate | None]  # by FPR; the threshold is the part's own
    balanced_accuracy: Estimate | None  # of the attack's decisions; None also where it makes none


@dataclass(frozen=True)
class Canaries:
    """What an attack finds of records that were mislabelled on purpose. None: too few other non-members, or members."""

    n_members: int
    n_nonmembers: int
    found: Estimate | None  # share of the members above the threshold of the given FPR among the other records
    false: int | None  # non-members above it
    guesses: int  # for epsilon: the quarter of highest scores as members, that of lowest scores as non-members
    correct: int
    epsilon: float  # lower bound of the one training, see `canaries`


@dataclass(frozen=True)
class RecordRisks:
    """R records over the networks that one attack was run on; each array has one entry per record."""

    record_R: npt.NDArray[np.int64]  # index in the data set
    audited_R: npt.NDArray[np.int64]  # networks that were audited on it
    member_R: npt.NDArray[np.int64]  # of these, networks that trained on it
    found_R: npt.NDArray[np.int64]  # of those, networks where the attack said "member"
    rank_R: Floats  # mean rank of its score over networks that trained on it, 0 (lowest) to 1; NaN without one

    def __len__(self) -> int:
        return len(self.record_R)


def by_class(
    result: AttackResult, label_N: npt.ArrayLike | None = None, *, fprs: Sequence[float] = (0.01, 0.001)
) -> list[PartResult]:
    """The attack on each class, in order of the class. ``label_N``, in the order of the result's records: its own.

    Raises `UsageError` where the result holds no scores, or not one label per record is given.
    """
    label = _column(result, "label_N", label_N)
    return [_part(result, f"class {value}", label == value, fprs) for value in np.unique(label)]


def by_confidence(
    result: AttackResult,
    confidence_N: npt.ArrayLike | None = None,
    parts: int = 4,
    *,
    fprs: Sequence[float] = (0.01, 0.001),
) -> list[PartResult]:
    """The attack on slices of the network's confidence (the probability of its answer), from the lowest quarter up.

    The slices are cut by the network's confidence and not by the score. So they are the same for every attack, the
    attacker sees them without knowing the label, and each contains the whole range of scores (within a slice of scores
    every attack is near chance by construction). Four slices by default, since rates need many records. Equal
    confidences stay in one slice, so that slices may be unequal or fewer; the names give their range.

    ``confidence_N``, in the order of the result's records, defaults to the result's own. Raises
    `UsageError` where parts < 1, confidences are not finite, or the result holds no scores or no confidences.
    """
    confidence = _column(result, "confidence_N", confidence_N).astype(np.float64)
    if not np.isfinite(confidence).all():
        raise UsageError("confidence holds NaN or infinite values: give the probability of each answer.")
    if parts < 1:
        raise UsageError(f"parts = {parts}: give at least 1.")
    edges = np.unique(np.quantile(confidence, np.arange(1, parts) / parts, method="inverted_cdf"))
    slice_N = np.searchsorted(edges, confidence, side="left")  # a slice ends with its edge
    found = []
    for number in np.unique(slice_N):
        within = slice_N == number
        low, high = confidence[within].min(), confidence[within].max()
        found.append(_part(result, f"confidence {low:.4g} to {high:.4g}", within, fprs))
    return found


def by_correctness(result: AttackResult, *, fprs: Sequence[float] = (0.01, 0.001)) -> list[PartResult]:
    """The attack on the records that the network classifies correctly, and on the others.

    Raises `UsageError` where the result holds no scores or does not say what was classified correctly.
    """
    correct = _column(result, "correct_N").astype(bool)
    both = (("classified correctly", correct), ("misclassified", ~correct))
    return [_part(result, name, within, fprs) for name, within in both if within.any()]


def subset(result: AttackResult, ids: Iterable[int], *, fprs: Sequence[float] = (0.01, 0.001)) -> AttackResult:
    """The attack restricted to the audited records with these ids, such as canaries, with all of `metrics.summary`.

    Scores and decisions do not change; the thresholds of TPR at FPR are those of the subset.

    Raises `UsageError` where an id was not audited, or where the ids hold no members or no non-members.
    """
    wanted = np.unique(np.fromiter(ids, np.int64))
    unknown = np.setdiff1d(wanted, result.record_N)
    if unknown.size or not wanted.size:
        raise UsageError(
            f"ids: {unknown.size} of {wanted.size} were not audited on {result.network.id}: give ids of its records."
        )
    within = np.isin(result.record_N, wanted)
    member, scores, decision = result.member_N[within], _scores(result)[within], _decision(result)
    if member.all() or not member.any():
        raise UsageError(
            f"ids: {int(member.sum())} of {len(member)} records are members of {result.network.id}: an audit of these "
            "records needs members and non-members."
        )
    arrays = {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name.endswith("_N")}
    return dataclasses.replace(
        result,
        n_members=int(member.sum()),
        n_nonmembers=int((~member).sum()),
        metrics=metrics.summary(scores, member, None if decision is None else decision[within], fprs=fprs),
        **{name: values[within] if len(values) else values for name, values in arrays.items()},
    )


def canaries(
    result: AttackResult, *, fpr: float = 0.01, delta: float = 1e-5, confidence: float = 0.95
) -> Canaries | None:
    """The attack on the canaries alone, at a low false-positive rate; None where the audited records hold none.

    The threshold comes from the non-members that are no canaries: the lowest that at most a share ``fpr`` of them
    exceed. So the canaries' own rates are single rates, with Clopper-Pearson intervals, however few canaries there are.

    ``epsilon`` is `metrics.one_run_epsilon` of as many guesses as are fixed before the scores are seen: of m canaries
    the floor(m / 4) that score highest are said to be members, as many that score lowest non-members. It takes the
    canaries' memberships as independent fair coins, which parts of fixed size are nearly where canaries are few among
    the records. It is of ONE attack, chosen without its results; the largest of several holds at a lower confidence.

    Raises `UsageError` where the result holds no scores.
    """
    scores = _scores(result)
    if not result.canary_N.any():
        return None
    of, member = result.canary_N, result.member_N
    m, n = int((of & member).sum()), int((of & ~member).sum())
    others = np.sort(scores[~of & ~member])[::-1]
    found, false = None, None
    if metrics.resolves(fpr, len(others)) and m:
        above = of & (scores > others[math.floor(fpr * len(others) + 1e-9)])
        hits, false = int((above & member).sum()), int((above & ~member).sum())
        found = Estimate(hits / m, *metrics.clopper_pearson(hits, m, confidence))
    side = (m + n) // 4
    order = np.argsort(scores[of], kind="stable")
    right = int((~member[of][order[:side]]).sum() + member[of][order[len(order) - side :]].sum())
    epsilon = metrics.one_run_epsilon(2 * side, right, m + n, delta, confidence)
    return Canaries(m, n, found, false, 2 * side, right, epsilon)


def records(results: Sequence[AttackResult], *, fpr: float | None = None) -> RecordRisks:
    """Each record over the networks that one attack was run on, in order of the record.

    "Found" is the attack's own decision or, with ``fpr``, a score above the threshold that at most this share of the
    network's non-members reach. A rank is the share of the network's other audited records that score lower (equal
    ones count half).

    Raises:
        UsageError: no results, results of several attacks or of one network twice, no scores, no decisions and no
            ``fpr``, or fewer non-members than ``fpr`` needs.
    """
    _check_one_attack(results)
    found = [_found(result, fpr) for result in results]
    everyone = np.unique(np.concatenate([result.record_N for result in results]))
    audited, member, hits = (np.zeros(len(everyone), np.int64) for _ in range(3))
    rank_sum = np.zeros(len(everyone))
    for result, said in zip(results, found, strict=True):
        place = np.searchsorted(everyone, result.record_N)
        audited[place] += 1
        member[place] += result.member_N
        hits[place] += said & result.member_N
        rank_sum[place] += np.where(result.member_N, _ranks(_scores(result)), 0.0)
    with np.errstate(invalid="ignore"):
        return RecordRisks(everyone, audited, member, hits, rank_sum / member)


def most_vulnerable(table: RecordRisks, share: float = 0.01) -> RecordRisks:
    """The ``share`` of records with the highest mean rank (at least one), the most vulnerable first.

    Of the records that at least one network trained on; equal mean ranks go by the share of networks that they were
    found in, then by record. They are chosen by the same scores that found them: `found_again` measures how often such
    records are found in a network that was not used for the choice.

    Raises `UsageError` for a share outside 0..1, or where no record was a member.
    """
    _check_share(share)
    eligible = np.flatnonzero(table.member_R > 0)
    if not eligible.size:
        raise UsageError("No record was a member of any network: audit networks on records that they trained on.")
    rate = table.found_R[eligible] / table.member_R[eligible]
    order = np.lexsort((table.record_R[eligible], -rate, -table.rank_R[eligible]))
    rows = eligible[order[: math.ceil(share * len(eligible) - 1e-9)]]
    return RecordRisks(*(getattr(table, field.name)[rows] for field in dataclasses.fields(table)))


def found_again(
    results: Sequence[AttackResult], share: float = 0.01, *, fpr: float | None = None, confidence: float = 0.95
) -> Estimate | None:
    """How often the most vulnerable records are found in a network that was not used to choose them.

    Each network is held out in turn, with all initialisations on its split, which share its members; of the
    `most_vulnerable` records of the others, its members count as found or not. The interval is Clopper-Pearson's over
    these (record, network) pairs, as if they were independent; of several initialisations each pair counts once, as
    the share of them that found the record. None where no such record was a member of a held-out network. Raises as
    `records` does, and where only one network was given.
    """
    _check_one_attack(results)
    _check_share(share)
    splits: dict[tuple[str, str, int], list[AttackResult]] = {}
    for result in results:
        splits.setdefault((result.network.network, result.network.role, result.network.seed), []).append(result)
    if len(splits) < 2:
        raise UsageError("results: only one network was given, and each is held out in turn: give results of several.")
    k = n = 0.0
    for place, held in splits.items():
        others = [other for elsewhere, of in splits.items() if elsewhere != place for other in of]
        chosen = most_vulnerable(records(others, fpr=fpr), share).record_R
        for result in held:
            asked = result.member_N & np.isin(result.record_N, chosen)
            n += int(asked.sum()) / len(held)
            k += int(_found(result, fpr)[asked].sum()) / len(held)
    pairs = round(n)
    return Estimate(k / n, *metrics.clopper_pearson(min(k, pairs), pairs, confidence)) if pairs else None


def _part(result: AttackResult, name: str, within: Bools, fprs: Sequence[float]) -> PartResult:
    member, scores, decision = result.member_N[within], _scores(result)[within], _decision(result)
    m, n = int(member.sum()), int((~member).sum())
    both = m > 0 and n > 0
    return PartResult(
        name=name,
        n_members=m,
        n_nonmembers=n,
        auc=metrics.auc(scores, member) if min(m, n) >= MEMBERS_FOR_AUC else None,
        tpr_at_fpr={
            fpr: metrics.tpr_at_fpr(scores, member, fpr) if both and metrics.resolves(fpr, n) else None for fpr in fprs
        },
        balanced_accuracy=metrics.balanced_accuracy(decision[within], member)
        if both and decision is not None
        else None,
    )


def _scores(result: AttackResult) -> Floats:
    if not result.score_N.size or result.score_N.shape != result.member_N.shape:
        raise UsageError(
            f"The result of '{result.attack}' on {result.network.id} holds no scores: run the attack again."
        )
    return result.score_N


def _decision(result: AttackResult) -> Bools | None:
    return result.hit_N == result.member_N if result.hit_N.size else None


def _found(result: AttackResult, fpr: float | None) -> Bools:
    if fpr is None:
        decision = _decision(result)
        if decision is None:
            raise UsageError(f"The attack '{result.attack}' makes no decisions: give fpr, such as fpr=0.01.")
        return decision
    scores = _scores(result)
    outside = np.sort(scores[~result.member_N])[::-1]
    metrics.tpr_at_fpr(scores, result.member_N, fpr)  # refuses an FPR that the non-members do not allow
    found: Bools = scores > outside[min(math.floor(fpr * len(outside) + 1e-9), len(outside) - 1)]
    return found


def _ranks(scores: Floats) -> Floats:
    ordered = np.sort(scores)
    below, upto = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    ranks: Floats = (below + (upto - 1 - below) / 2) / max(len(scores) - 1, 1)
    return ranks


def _column(result: AttackResult, name: str, given: npt.ArrayLike | None = None) -> npt.NDArray[np.generic]:
    """One value per record: the given ones, or the result's own."""
    values: npt.NDArray[np.generic] = np.asarray(getattr(result, name) if given is None else given)
    if values.shape != _scores(result).shape:
        raise UsageError(
            f"{name} has shape {values.shape} beside {len(result.record_N)} records of {result.network.id}: give one "
            "value per record, in the order of the result."
        )
    return values


def _check_one_attack(results: Sequence[AttackResult]) -> None:
    attacks = sorted({result.attack for result in results})
    if len(attacks) != 1:
        raise UsageError(f"results are of {', '.join(attacks) or 'no attack'}: give the results of one attack.")
    names = [result.network.id for result in results]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"results hold {twice[0]} twice: give one result for each network.")


def _check_share(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise UsageError(f"share = {share} is out of range: give a share above 0 and up to 1, such as 0.01.")
