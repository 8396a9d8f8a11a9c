"""LiRA, the likelihood-ratio attack: how a record's log-odds compare with those under networks of known membership.

Carlini, Chien, Nasr, Song, Terzis and Tramer, "Membership inference attacks from first principles" (IEEE S&P 2022),
arXiv 2112.03570. Public code disagrees on centres, variances and sides: each variant here has a name.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from lacewing.attacks._logits import phi
from lacewing.attacks._measure import calibrated
from lacewing.attacks._types import EVERY_TASK, Attack, Evidence, Scored
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Bools, Floats

Mode = Literal["online", "offline"]
Variance = Literal["per-record", "global", "pooled"]
Centre = Literal["median", "mean"]
OfflineRule = Literal["one-sided", "two-sided"]

MIN_STD = 1e-9  # a smaller standard deviation is rounding: this one stands in for it and keeps the scores finite
ENOUGH_FOR_PER_RECORD = 32  # references of a kind: below that, the registry's entries share one spread
_CHUNK = 1 << 17  # log-odds worked on at a time: 1 MB


def lira(
    target_phi_NQ: npt.ArrayLike,
    reference_phi_KNQ: npt.ArrayLike,
    reference_in_KN: npt.ArrayLike,
    *,
    mode: Mode = "online",
    variance: Variance = "per-record",
    centre: Centre = "median",
    offline_rule: OfflineRule = "one-sided",
) -> Floats:
    """Scores (N,), higher for members, of N records under Q fixed queries, from K >= 2 reference networks.

    ``target_phi_NQ`` and ``reference_phi_KNQ`` are log-odds (`phi`, nats) under the same queries, ``reference_in_KN``
    is True where reference k trained on record n. Per record and query a normal law is fitted to the log-odds of the
    references that trained on the record (IN) and of those that did not (OUT); the score is the mean over queries of

    - ``mode="online"``: log N(phi; IN) - log N(phi; OUT), natural logarithms (Algorithm 1);
    - ``mode="offline"``, ``offline_rule="one-sided"``: z = (phi - centre_OUT) / std_OUT. The paper's score Phi(z)
      orders records alike for one query, but in float64 ties all z above 8;
    - ``offline_rule="two-sided"``: -log N(phi; OUT), the authors' published code. It counts a record that the target
      knows unusually badly as a member too.

    ``centre`` is the median (the authors' code) or mean (the paper) of a record's log-odds, IN and OUT apart.
    ``variance``, for each query, IN and OUT apart, without a correction for degrees of freedom (numpy's ``std``):

    - ``"per-record"``: the std of the record's own log-odds, about their mean (the paper);
    - ``"global"``: one std of the raw log-odds of all records and references (the authors' fixed variance, but OUT
      from OUT values; it holds the spread between records too);
    - ``"pooled"``: one std of what remains after taking off each record's centre; for few references.

    A std below 1e-9 counts as 1e-9, which keeps scores finite where all references agree.

    Inputs may be float16, float32 or float64; all sums are float64. Memory beyond the inputs is some ten arrays of
    shape (N, Q), and a copy of ``reference_phi_KNQ`` where that is not C-contiguous. Raises `UsageError` for values
    that are not finite, shapes or numbers of queries that disagree, membership that is not 0/1, K = 1, records with no
    IN (online) or no OUT reference (counted), ``"per-record"`` with a single reference of a kind (counted),
    ``"pooled"`` where every record has a single one, and unknown names.
    """
    _check_name("mode", mode, Mode)
    _check_name("variance", variance, Variance)
    _check_name("centre", centre, Centre)
    _check_name("offline_rule", offline_rule, OfflineRule)
    target, reference = checked_phi(target_phi_NQ, reference_phi_KNQ)
    in_KN = checked_membership(reference_in_KN, len(reference), len(target))
    if len(reference) == 1:
        raise UsageError("reference_phi_KNQ holds one network (K = 1): a spread needs at least two reference networks.")
    if (problem := too_few(in_KN, mode)) is not None:
        raise UsageError(problem)

    out = _normal(reference, ~in_KN, "OUT", variance, centre)
    score_NQ: Floats
    if mode == "online":
        score_NQ = _log_density(target, _normal(reference, in_KN, "IN", variance, centre)) - _log_density(target, out)
    elif offline_rule == "one-sided":
        score_NQ = (target - out.centre) / out.std
    else:
        score_NQ = -_log_density(target, out)
    score_N: Floats = score_NQ.mean(axis=1)
    return score_N


class _Normal(NamedTuple):
    centre: Floats  # (N, Q)
    std: Floats  # (N, Q), or (Q,) for all records


def _log_density(values_NQ: Floats, law: _Normal) -> Floats:
    z: Floats = (values_NQ - law.centre) / law.std
    return -(z**2) / 2 - np.log(law.std) - math.log(2 * math.pi) / 2


def _normal(
    reference: npt.NDArray[np.floating], chosen_KN: Bools, kind: str, variance: Variance, centre: Centre
) -> _Normal:
    """The normal laws of the chosen references' log-odds."""
    count_N = chosen_KN.sum(axis=0)
    single = int((count_N == 1).sum())
    if variance == "per-record" and single:
        raise UsageError(
            f"{single} of {len(count_N)} records have a single {kind} reference, which has no spread: "
            "use variance='pooled'."
        )
    if variance == "pooled" and single == len(count_N):
        raise UsageError(f"Every record has a single {kind} reference, which has no spread: use variance='global'.")
    middle, mean, squares = moments(reference, chosen_KN, median=centre == "median")
    count = count_N[:, None].astype(np.float64)
    if variance == "per-record":
        std = np.sqrt(squares / count)
    else:
        about = middle if variance == "pooled" else (count * mean).sum(axis=0) / count.sum()
        off = (count * (mean - about)).sum(axis=0) / count.sum()  # not 0 about medians
        square = (squares + count * (mean - about) ** 2).sum(axis=0) / count.sum()
        std = np.sqrt(np.maximum(square - off**2, 0.0))
    return _Normal(middle, np.maximum(std, MIN_STD))


def moments(reference: npt.NDArray[np.floating], chosen_KN: Bools, *, median: bool) -> tuple[Floats, Floats, Floats]:
    """Centre, mean and sum of squares about the mean, each (N, Q), over each record's chosen networks (at least one).

    A chunk of records at a time, in buffers that are used again and stay in the cache. Sums are float64, with zeros
    for the networks that are not chosen; for medians each record's values are sorted in the inputs' own precision
    (exact), with infinity for these networks. Masks are applied by arithmetic: to select by a random mask takes
    several times as long.
    """
    networks, records, queries = reference.shape
    small = reference.dtype.kind == "f" and reference.dtype.itemsize <= 4
    mean = np.empty((records, queries))
    squares, middle = np.empty_like(mean), np.empty_like(mean)
    size = max(1, _CHUNK // (networks * queries))
    cells = networks * size * queries
    room, room_mask = np.empty(cells), np.empty(cells, np.bool_)
    room_to_sort = np.empty((size, queries, networks), np.float32 if small else np.float64)
    for some in (slice(start, start + size) for start in range(0, records, size)):
        values, chosen = reference[:, some], chosen_KN[:, some]
        count = np.add.reduce(chosen, axis=0, dtype=np.int32)
        if median:
            middle[some] = _medians(values, chosen, count, room_to_sort[: values.shape[1]])
        # Records and queries become one axis, so that numpy's inner loops are long.
        wide = (networks, values.shape[1] * queries)
        exact_KC, mask_KC = (buffer[: values.size].reshape(wide) for buffer in (room, room_mask))
        mask_KC.reshape(values.shape)[...] = chosen[:, :, None]
        np.multiply(values.reshape(wide), mask_KC, out=exact_KC)
        average_C = exact_KC.sum(axis=0)
        average_C /= np.repeat(np.maximum(count, 1), queries)
        exact_KC -= average_C
        exact_KC *= mask_KC
        mean[some] = average_C.reshape(-1, queries)
        squares[some] = np.einsum("kc,kc->c", exact_KC, exact_KC).reshape(-1, queries)
    return (middle if median else mean), mean, squares


def _medians(
    values: npt.NDArray[np.floating],
    chosen_KN: Bools,
    count_N: npt.NDArray[np.int32],
    ordered: npt.NDArray[np.floating],
) -> Floats:
    """Medians (N, Q) of the chosen of the values (K, N, Q), which are finite; ``ordered`` (N, Q, K) is room."""
    least_NK = np.subtract(chosen_KN.T, 0.5, dtype=ordered.dtype, order="C")
    least_NK *= -np.inf  # minus infinity where chosen, else infinity
    np.maximum(values.transpose(1, 2, 0), least_NK[:, None], out=ordered)
    ordered.sort(axis=-1)
    lower, upper = (
        np.take_along_axis(ordered, at_N[:, None, None], axis=-1)[..., 0] for at_N in ((count_N - 1) // 2, count_N // 2)
    )
    return (lower.astype(np.float64) + upper) / 2


def checked_membership(reference_in_KN: npt.ArrayLike, networks: int, records: int) -> Bools:
    """``reference_in_KN`` as bool; `UsageError` unless it is 0/1 and of shape (networks, records)."""
    given = np.asarray(reference_in_KN)
    if given.shape != (networks, records):
        raise UsageError(
            f"reference_in_KN has shape {given.shape} beside {networks} reference networks and {records} records: "
            f"give ({networks}, {records})."
        )
    if given.dtype != np.bool_ and not np.isin(given, (0, 1)).all():
        raise UsageError("reference_in_KN holds values other than 0 and 1: give True where a reference trained on it.")
    return given.astype(np.bool_, copy=False)


def too_few(in_KN: Bools, mode: Mode) -> str | None:
    """A sentence that counts the records without a reference of the kinds that ``mode`` needs; None: every one has."""
    records, mend = in_KN.shape[1], "train references on random halves of the records"
    if without := int(in_KN.all(axis=0).sum()):
        return f"{without} of {records} records have no OUT reference (one that did not train on them): {mend}."
    if mode == "online" and (without := int((~in_KN.any(axis=0)).sum())):
        return (
            f"{without} of {records} records have no IN reference (one that trained on them): {mend}, "
            "or use mode='offline'."
        )
    return None


def checked_phi(
    target_phi_NQ: npt.ArrayLike, reference_phi_KNQ: npt.ArrayLike
) -> tuple[Floats, npt.NDArray[np.floating]]:
    target, reference = np.asarray(target_phi_NQ), np.asarray(reference_phi_KNQ)
    for name, values, axes in (("target_phi_NQ", target, "(N, Q)"), ("reference_phi_KNQ", reference, "(K, N, Q)")):
        if values.dtype.kind not in "fiu":
            raise UsageError(f"{name} has dtype {values.dtype}: give real numbers.")
        if values.ndim != len(axes.split(",")) or 0 in values.shape:
            raise UsageError(f"{name} has shape {values.shape}: give {axes}, with Q = 1 for a single query.")
    if target.shape[0] != reference.shape[1]:
        raise UsageError(
            f"target_phi_NQ holds {target.shape[0]} records and reference_phi_KNQ {reference.shape[1]}: "
            "give the same records in the same order."
        )
    if target.shape[1] != reference.shape[2]:
        raise UsageError(
            f"target_phi_NQ holds {target.shape[1]} queries a record and reference_phi_KNQ {reference.shape[2]}: the "
            "references saw different query crops; ask every network the same fixed queries."
        )
    for name, tables in (("target_phi_NQ", [target]), ("reference_phi_KNQ", reference)):
        if not all(np.isfinite(table).all() for table in tables):  # a network at a time: bounded memory
            raise UsageError(f"{name} holds NaN or infinite values: compute it from finite logits with phi().")
    return target.astype(np.float64), reference


def _check_name(argument: str, value: str, kind: object) -> None:
    if value not in get_args(kind):
        raise UsageError(f"{argument} = '{value}' is unknown: {did_you_mean(str(value), get_args(kind))}")


# The registry ---------------------------------------------------------------------------------------------------------


def _attack(evidence: Evidence, *, seed: int, mode: Mode, offline_rule: OfflineRule = "one-sided") -> Scored:
    """LiRA on what an attacker holds; ``seed`` is unused, nothing is drawn."""
    if (problem := _without_spread(evidence, mode)) is not None:
        raise UsageError(problem)
    no_shadow = _no_shadow(evidence.shadow, mode)
    held = [e for e in (evidence, None if no_shadow else evidence.shadow) if e is not None]
    by_queries = all(has_queries(e) for e in held)
    fewest = min(fewest_references(e, mode) for e in held)
    variance: Variance = "per-record" if fewest >= ENOUGH_FOR_PER_RECORD else "pooled"

    def score(e: Evidence) -> Floats:
        target, reference, in_KN = log_odds(e, by_queries)
        return lira(target, reference, in_KN, mode=mode, variance=variance, offline_rule=offline_rule)

    if no_shadow is None:
        scores, decision = calibrated(score, evidence)
        rule = "score above the shadow's best threshold"
    elif mode == "online":
        scores = score(evidence)
        decision, rule = scores > 0, f"likelihood ratio above 1, since {no_shadow}"
    else:
        scores, decision, rule = score(evidence), None, f"none, since {no_shadow}"
    assert evidence.references is not None  # unusable() has said so
    queries = len(columns_of(evidence)) if by_queries else 1
    side = [offline_rule] if mode == "offline" else []
    size = [f"K = {len(evidence.references)}", "1 query" if queries == 1 else f"{queries} queries"]
    return Scored(
        scores,
        decision,
        ", ".join([mode, *side, variance, "median", *size]),
        {"decision": rule, "fewest_references": fewest_references(evidence, mode), "queries": queries},
    )


def _no_shadow(shadow: Evidence | None, mode: Mode) -> str | None:
    """Why no threshold can be had from the shadow; None: it can."""
    if shadow is None:
        return "there is no shadow network"
    problem = _without_spread(shadow, mode)
    return None if problem is None else f"the shadow does not serve: {problem}"


def _without_spread(evidence: Evidence, mode: Mode) -> str | None:
    """Why no spread can be taken over the references of ``evidence``, as a sentence; None: it can."""
    if (problem := unusable(evidence, mode)) is not None:
        return problem
    assert evidence.references is not None  # unusable() has said so
    in_KN = evidence.references.in_KN
    for kind, chosen in (("OUT", ~in_KN), ("IN", in_KN)):
        if (kind == "OUT" or mode == "online") and chosen.sum(axis=0).max() < 2:
            return f"Every record has a single {kind} reference, which has no spread: train more references."
    return None


def unusable(evidence: Evidence, mode: Mode, at_least: int = 2) -> str | None:
    """Why the references of ``evidence`` do not serve, as a sentence; None: they do."""
    references = evidence.references
    if references is None:
        return "There are no reference networks: train some on other draws of the records, such as another seed's."
    if len(references) < at_least:
        return f"There are too few reference networks (K = {len(references)}): run another seed, or train {at_least}+."
    return too_few(references.in_KN, mode)


def fewest_references(evidence: Evidence, mode: Mode) -> int:
    """The number of references of the kinds that ``mode`` needs (OUT; online: IN too) of the worst-served record."""
    assert evidence.references is not None
    in_KN = evidence.references.in_KN
    kinds = [~in_KN] if mode == "offline" else [~in_KN, in_KN]
    return min(int(kind.sum(axis=0).min()) for kind in kinds)


def has_queries(evidence: Evidence) -> bool:
    return (
        evidence.observed.phi_NQ is not None
        and evidence.references is not None
        and evidence.references.phi_KNQ is not None
    )


def columns_of(evidence: Evidence) -> list[int]:
    """The queries that the score is averaged over: those that training showed too, where that is known."""
    assert evidence.observed.phi_NQ is not None
    every = range(evidence.observed.phi_NQ.shape[1])
    return list(every if evidence.trained_queries is None else evidence.trained_queries)


def log_odds(evidence: Evidence, by_queries: bool) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating], Bools]:
    seen, references = evidence.observed, evidence.references
    assert references is not None
    if by_queries and seen.phi_NQ is not None and references.phi_KNQ is not None:
        if seen.phi_NQ.shape[1] != references.phi_KNQ.shape[2]:  # lira() says what is wrong
            return seen.phi_NQ, references.phi_KNQ, references.in_KN
        columns = columns_of(evidence)
        return seen.phi_NQ[:, columns], references.phi_KNQ[:, :, columns], references.in_KN
    reference = np.stack([phi(logits_NC, seen.label_N) for logits_NC in references.logits_KNC])
    return phi(seen.logits_NC, seen.label_N)[:, None], reference[:, :, None], references.in_KN


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="lira-online",
        family="lira",
        threat_model="The attacker queries the network for its logits and trains references of the same recipe, some "
        "on each record and some not.",
        function=partial(_attack, mode="online"),
        needs=frozenset({"references", "in-references"}),
        tasks=EVERY_TASK,
        fewest=2,
    ),
    Attack(
        name="lira-offline",
        family="lira",
        threat_model="The attacker queries the network for its logits and has references of the same recipe that did "
        "not train on the audited records.",
        function=partial(_attack, mode="offline"),
        needs=frozenset({"references"}),
        tasks=EVERY_TASK,
        fewest=2,
    ),
    Attack(
        name="lira-offline-two-sided",
        family="lira",
        threat_model="The attacker queries the network for its logits and has references of the same recipe that did "
        "not train on the audited records; log-odds that are unusual on either side count.",
        function=partial(_attack, mode="offline", offline_rule="two-sided"),
        needs=frozenset({"references"}),
        tasks=EVERY_TASK,
        fewest=2,
    ),
)
