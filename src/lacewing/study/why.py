"""Why a study's networks leak: gathers what `lacewing.mechanism` describes from a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean

import numpy as np
import numpy.typing as npt

from lacewing.attacks import phi
from lacewing.attacks._measure import first_of_groups, mean_by_group
from lacewing.mechanism import (
    QUANTITIES,
    Largest,
    LogOdds,
    Mechanism,
    NetworkRow,
    Outputs,
    Predictor,
    TemperatureRow,
    evidence_of,
    left_out_with,
    log_odds,
    matching_temperature,
    outputs,
    predictors,
)
from lacewing.metrics import Bools, Floats, auc
from lacewing.results import AttackResult, NetworkResult
from lacewing.study import jobs
from lacewing.study.plan import AttackJob, NetworkJob
from lacewing.study.store import Store

METRICS = ("balanced_accuracy", "auc", "tpr_at_fpr_0.01")  # the leaks that quantities predict
NO_REFERENCES = (
    "There is no section on why networks leak: it compares a network with others of its recipe that were trained on "
    "other draws of the records, and no recipe has networks of two seeds or more that are finished."
)
_TEMPERATURES = (0.5, 2.0)
_LIRA, _OFFLINE, _LOSS = "lira-online", "lira-offline", "loss"  # attacks that score log-odds, and nothing else
_FITTED_ON = 4  # networks that a temperature is fitted on
_FITS = 0.02  # by how much a recipe of another confidence may fit its training records less than the dense network


def mechanism(
    store: Store,
    done: Sequence[NetworkJob],
    results: Sequence[NetworkResult],
    ran: Sequence[AttackJob],
    attacks: Sequence[AttackResult],
    *,
    halves: bool,
) -> Mechanism | str:
    """The rows of mechanism.csv and mechanism.json; or, as a sentence, why there are none.

    Args:
        store: of the run folder.
        done: the finished networks, and ``results`` of each.
        ran: the attacks that ran, and ``attacks``, the results of each.
        halves: whether seeds 2j and 2j + 1 share a cut of the records.

    Raises:
        FolderError: a finished job holds something else than what we write.
    """
    pairs = [(job, result) for job, result in zip(done, results, strict=True) if not job.imposed]
    pairs.sort(key=lambda pair: pair[0].network)  # stable: targets and shadows as they were
    rows: list[NetworkRow] = []
    for _, of_recipe in groupby(pairs, key=lambda pair: pair[0].network):
        rows += _recipe(store, list(of_recipe))
    if not any(row.gap is not None for row in rows):
        return NO_REFERENCES
    place = {result.id: number for number, result in enumerate(results)}
    rows.sort(key=lambda row: place[row.id])
    unit = {row.seed: row.seed // 2 if halves else row.seed for row in rows}
    found, largest = _predictors(rows, attacks, unit, {job.attack: job.entry.family for job in ran})
    return Mechanism(
        networks=tuple(rows),
        predictors=tuple(found),
        largest=tuple(largest),
        temperature=tuple(_temperature(store, rows, pairs, ran)),
        unit="cut" if halves else "seed",
    )


def _recipe(store: Store, pairs: Sequence[tuple[NetworkJob, NetworkResult]]) -> list[NetworkRow]:
    """A row for each target of one recipe."""
    if not any(job.role == "target" for job, _ in pairs):
        return []
    phi_MN, in_MN, group_M = _log_odds_of(store, [job for job, _ in pairs])
    rows = []
    for place, (job, result) in enumerate(pairs):
        if job.role != "target":
            continue
        seen = jobs.load_signals(store, job)
        audited = seen["audited_N"]
        odds = log_odds(phi_MN, in_MN, group_M, place, audited)
        answers = outputs(
            seen["logits_NC"][audited], seen["label_N"][audited], seen["member_N"][audited], _redrawn(seen, audited)
        )
        rows.append(_row(result, odds, answers, len(set(group_M)) - 1))
    return rows


def _row(result: NetworkResult, odds: LogOdds, answers: Outputs, others: int) -> NetworkRow:
    return NetworkRow(
        id=result.id,
        network=result.network,
        method=result.method,
        family=result.family,
        kind=result.kind,
        seed=result.seed,
        others=others,
        ratio=odds.ratio,
        **odds._asdict(),
        **answers._asdict(),
        nonzero=result.nonzero,
        train_accuracy=result.train_accuracy,
        test_accuracy=result.test_accuracy,
        accuracy_gap=result.train_accuracy - result.test_accuracy,
    )


def _log_odds_of(
    store: Store, recipe: Sequence[NetworkJob], temperature: float = 1.0
) -> tuple[Floats, Bools, npt.NDArray[np.int64]]:
    """Log-odds (M, N) and membership (M, N) of the networks of a recipe; (M,) which of them share their members."""
    seen = [jobs.load_signals(store, job) for job in recipe]
    phi_MN = np.stack([phi(one["logits_NC"].astype(np.float64) / temperature, one["label_N"]) for one in seen])
    names = [(job.seed, job.role) for job in recipe]
    group = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return phi_MN, np.stack([one["member_N"] for one in seen]), np.array([group[name] for name in names])


def _redrawn(seen: Mapping[str, npt.NDArray[np.generic]], audited: Bools) -> Bools | None:
    """Which audited records have a label that was redrawn, or is wrong on purpose; None: none has."""
    wrong = [seen[name][audited].astype(bool) for name in ("canary_N", "redrawn_N") if name in seen]
    return np.logical_or.reduce(wrong) if wrong else None


def _predictors(
    rows: Sequence[NetworkRow],
    attacks: Sequence[AttackResult],
    unit: Mapping[int, int],
    attack_families: Mapping[str, str],
) -> tuple[list[Predictor], list[Largest]]:
    """Of every quantity that was measured, for every attack and metric."""
    place = {row.id: number for number, row in enumerate(rows)}
    leaks: dict[tuple[str, str], list[float | None]] = {}
    for attack in attacks:
        number = place.get(attack.network.id)
        for metric in METRICS if number is not None else ():
            found = attack.metrics.get(metric)
            if found is not None and number is not None:
                leaks.setdefault((attack.attack, metric), [None] * len(rows))[number] = found.value
    values = {name: [getattr(row, name) for row in rows] for name in QUANTITIES}
    values["nonzero"] = [float(np.log(row.nonzero)) for row in rows]  # counts differ by orders of magnitude
    known = {name: of_name for name, of_name in values.items() if any(value is not None for value in of_name)}
    recipe, family = [row.network for row in rows], [left_out_with(row) for row in rows]
    return predictors(known, leaks, recipe, family, [unit[row.seed] for row in rows], attack_families)


def _temperature(
    store: Store,
    rows: Sequence[NetworkRow],
    pairs: Sequence[tuple[NetworkJob, NetworkResult]],
    ran: Sequence[AttackJob],
) -> list[TemperatureRow]:
    """The dense networks with their logits divided by a number, and what attacks by log-odds then find."""
    recipe = [job for job, result in pairs if result.baseline]
    keys = {job.key for job in recipe}
    asked = [job for job in ran if job.attack in (_LIRA, _OFFLINE, _LOSS) and job.target.key in keys]
    asked = [job for job in asked if all(one.key in keys for one in job.side.references)]
    lira = _LIRA if any(job.attack == _LIRA for job in asked) else _OFFLINE
    asked = [job for job in asked if job.attack in (lira, _LOSS)]
    targets = [job for job in recipe if job.role == "target"]
    if not asked or not targets:
        return []
    levels = [(1.0, ""), *((each, "") for each in _TEMPERATURES)]
    if (named := _less_sure(rows, recipe[0].network)) is not None:
        members = []
        for job in targets[:_FITTED_ON]:
            seen = jobs.load_signals(store, job)
            members.append(seen["logits_NC"][seen["audited_N"] & seen["member_N"]])
        fitted = matching_temperature(members, _mean(rows, named, "member_confidence"))
        levels += [(fitted, named)] if fitted is not None else []
    found = []
    for temperature, as_sure_as in levels:
        phi_MN, in_MN, group_M = _log_odds_of(store, recipe, temperature)
        odds, answers = [], []
        for place, job in enumerate(recipe):
            if job.role == "target":
                seen = jobs.load_signals(store, job)
                audited = seen["audited_N"]
                odds.append(log_odds(phi_MN, in_MN, group_M, place, audited))
                logits, label, member = (seen[name][audited] for name in ("logits_NC", "label_N", "member_N"))
                answers.append(outputs(logits, label, member, temperature=temperature))
        by_key = {job.key: row for job, row in zip(recipe, phi_MN, strict=True)}
        in_by_key = {job.key: row for job, row in zip(recipe, in_MN, strict=True)}
        for attack in dict.fromkeys(job.attack for job in asked):
            areas = [_area(store, job, by_key, in_by_key) for job in asked if job.attack == attack]
            found.append(
                TemperatureRow(
                    network=recipe[0].network,
                    temperature=temperature,
                    as_sure_as=as_sure_as,
                    networks=len(areas),
                    member_confidence=fmean(each.member_confidence for each in answers),
                    other_confidence=fmean(each.other_confidence for each in answers),
                    member_calibration_error=fmean(each.member_calibration_error for each in answers),
                    other_calibration_error=fmean(each.other_calibration_error for each in answers),
                    ratio=_known_mean([each.ratio for each in odds]),
                    gap=_known_mean([each.gap for each in odds]),
                    spread=_known_mean([each.spread for each in odds]),
                    attack=attack,
                    auc=fmean(areas),
                )
            )
    return found


def _area(store: Store, job: AttackJob, phi_of: Mapping[str, Floats], in_of: Mapping[str, Bools]) -> float:
    """The AUC of an attack that scores log-odds alone, with those of ``phi_of``, by the keys of networks."""
    seen = jobs.load_signals(store, job.target)
    rows, member = seen["audited_N"], seen["member_N"][seen["audited_N"]]
    keys = [one.key for one in job.side.references]
    none = np.zeros((0, len(member)))
    theirs = np.stack([phi_of[key][rows] for key in keys]) if keys else none
    inside = np.stack([in_of[key][rows] for key in keys]) if keys else none.astype(bool)
    evidence = evidence_of(phi_of[job.target.key][rows], member, theirs, inside)
    scores = np.asarray(job.entry.function(evidence, seed=job.seed).scores_N)
    if "group_N" not in seen:
        return auc(scores, member).value
    group = seen["group_N"][rows]
    return auc(mean_by_group(scores, group), member[first_of_groups(group)]).value


def _less_sure(rows: Sequence[NetworkRow], dense: str) -> str | None:
    """Of recipes that fit their training records about as well as the dense one, but are less sure: the least sure."""
    fit, sure = _mean(rows, dense, "train_accuracy"), _mean(rows, dense, "member_confidence")
    names = [name for name in dict.fromkeys(row.network for row in rows) if name != dense]
    fitting = [name for name in names if _mean(rows, name, "train_accuracy") >= fit - _FITS]
    least = min(fitting, key=lambda name: _mean(rows, name, "member_confidence"), default=None)
    return least if least is not None and _mean(rows, least, "member_confidence") < sure else None


def _mean(rows: Sequence[NetworkRow], network: str, name: str) -> float:
    return fmean(getattr(row, name) for row in rows if row.network == network)


def _known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
