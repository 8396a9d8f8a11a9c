"""The audit of a column: what a model tells of a sensitive column of the table that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lacewing import attribute
from lacewing.attacks._deciding import SelfCheck, fits_members, nonmembers_unseen
from lacewing.attacks._logits import phi
from lacewing.attacks._types import CLASSES, Attack, Scored, Task
from lacewing.auditing import _evidence, _json, _outputs, _records
from lacewing.auditing._inputs import RawData
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._records import Records
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Bools, Estimate
from lacewing.support import numbers
from lacewing.support.text import entry

SCHEMA = 1
Column = int | str | Sequence[int] | Sequence[str]


@dataclass(frozen=True)
class AttributeAudit:
    """What a model tells of one column. It holds shares alone, nothing of single records. ``print`` shows a table."""

    column: str
    values: int  # how many the column has
    attacks: Mapping[str, attribute.Success]  # the surplus of each has a 95 % interval
    found: tuple[str, ...]  # attacks whose surplus is above 0, at 5 % for all of them together (Bonferroni)
    imputation: attribute.Success  # by the other columns and the label, without the model; its surplus is 0
    n_members: int  # of groups where there are groups
    n_nonmembers: int
    n_population: int  # records that imputation learned from
    records: int | None  # how many there are, where n counts groups of them
    selfchecks: tuple[SelfCheck, ...]
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The answer: a surplus on members that was found, or above which none was; or that the audit cannot tell."""
        counts = "" if self.records is None else f" (n counts groups, of {self.records} records)"
        n = f"n = {self.n_members} members and {self.n_nonmembers} non-members{counts}"
        failed = [check.sentence for check in self.selfchecks if not check.passed]
        doubts = f" But this may be no leak of the model that is meant: {' '.join(failed)}" if failed else ""
        if self.found:
            best = max(self.found, key=lambda name: self.attacks[name].surplus.value)
            won = self.attacks[best]
            return (
                f"Leakage of {self.column} found: '{best}' guesses it for {_percent(won.members)} of the members and "
                f"{_percent(won.nonmembers)} of the non-members, a surplus of {_percent(won.surplus)} on members "
                f"beside imputation; {n}.{doubts}"
            )
        if failed:
            return f"This audit cannot say what the model leaks of {self.column}: {' '.join(failed)} {n}."
        bound = max(0.0, *(each.surplus.high for each in self.attacks.values()))
        return (
            f"No leakage of {self.column} found above a surplus of {100 * bound:.1f} % on members beside imputation "
            f"(of {len(self.attacks)} attacks the highest upper end of a 95 % interval) at {n}; attacks that were not "
            "run may find more."
        )

    def table(self) -> list[dict[str, Any]]:
        """A dict per attack, imputation last: shares on members and non-members, and the surplus, with their ends."""
        rows = []
        for name, each in {**self.attacks, "imputation": self.imputation}.items():
            row: dict[str, Any] = {"attack": name, "threat_model": attribute.ATTACKS.get(name, attribute.IMPUTATION)}
            for what in ("members", "nonmembers", "surplus"):
                found: Estimate | None = getattr(each, what) if (name, what) != ("imputation", "surplus") else None
                row |= {what: found and found.value, f"{what}_low": found and found.low}
                row[f"{what}_high"] = found and found.high
            rows.append(row | {"p_value": None if name == "imputation" else each.p_value})
        return rows

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``, with a ``schema`` number; it holds nothing of single records."""
        counts = ("column", "values", "found", "n_members", "n_nonmembers", "n_population", "records", "notes")
        return {
            "schema": SCHEMA,
            "sentence": self.sentence,
            **{name: _json.plain(getattr(self, name)) for name in counts},
            "attacks": self.table(),
            "selfchecks": [vars(check) for check in self.selfchecks],
        }

    def __str__(self) -> str:
        head = ["attack", "members", "non-members", "surplus on members"]
        rows = [head]
        for name, each in {**self.attacks, "imputation": self.imputation}.items():
            rows.append([name, _percent(each.members), _percent(each.nonmembers)])
            rows[-1].append(_percent(each.surplus) if name in self.attacks else "–")
        widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
        lines = [self.sentence, ""]
        lines += ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append(
            f"{self.column}: {self.values} values; imputation learned from {self.n_population} other records; 95 % "
            "intervals, not corrected for the number of attacks; the sentence above is."
        )
        said = [f"check {'passed' if c.passed else 'FAILED'}: {c.sentence}" for c in self.selfchecks]
        return "\n".join([*lines, *map(entry, [*said, *(f"note: {note}" for note in self.notes)])])


def audit_attribute(
    model: Any,
    members: Any,
    nonmembers: Any,
    *,
    column: Column,
    population: Any = None,
    seed: int = 0,
    task: Task = "classification",
    outputs: Outputs | None = None,
    groups: Any = None,
    classes: Any = None,
) -> AttributeAudit:
    """What ``model`` gives away about a sensitive column of the records that it was trained on.

    An attacker who knows all of a record but this column guesses it from the model's answers under each of its values.
    Much of that is imputation: what the other columns say, and what the model learned of the source, serves on records
    that it never saw as well. Leakage is the surplus on members: how much more often than on non-members the guess is
    right, where both are compared, record by record, with imputation without the model (Jayaraman and Evans, CCS 2022).

    Args:
        model: as for `lacewing.audit`.
        members: the table it was trained on, ``(x, y)``, x (N, D), as for `lacewing.audit`.
        nonmembers: records of the same source that it never saw.
        column: the sensitive one: its place in x from 0, or its name in a frame; several for one attribute in one-hot
            columns. It may have up to 20 values.
        population: further records that the model never saw, from which imputation learns. None: 20 % of the
            non-members, at least 100, are set aside.
        seed: of the forests that impute, and of the records set aside.
        task: "classification" or "binary".
        outputs: see `lacewing.audit`.
        groups: (ids of the members, ids of the nonmembers): a group counts as one, by the mean of its records.
        classes: see `lacewing.audit`.

    Raises:
        UsageError: an argument is not as described: x is no table, or has no such column, or the column has one value
            or more than 20; the model cannot be asked.
    """
    from lacewing.auditing import _ask, _call

    _call.check_model(model, "model")
    seed = numbers.seed(seed)
    _outputs.check(task, outputs)
    if task not in CLASSES:
        raise UsageError(f"task='{task}' has no class probabilities: an audit of a column needs a classifier.")
    notes: list[str] = []
    needs = [Attack("imputation", "attribute", attribute.IMPUTATION, _never, frozenset({"population"}))]
    reading = _call.reading(model, classes=classes, collate=None, task=task, stream=None, notes=notes)
    records = _records.read(
        members,
        nonmembers,
        population,
        groups=groups,
        task=task,
        chosen=needs,
        seed=seed,
        reading=replace(reading, words=False, missing=False),  # imputation learns from numbers
        notes=notes,
    )
    if records.population is None:
        why = records.refused["imputation"]
        raise UsageError(f"Imputation learns from other records: {why[0].lower()}{why[1:]}")
    places, name = _places(column, records.audited)
    everything = np.concatenate([records.audited.x, records.population.x])
    values, code = attribute.values_of(everything, places, name)
    true, known = np.split(code, [len(records.audited)])
    if len(np.unique(known)) < 2:
        raise UsageError(f"{name} has one value in the population: give more of it, so that imputation can learn.")
    asked = _ask.ask(model, records.audited, None, queries=1, signals=frozenset(), task=task, outputs=outputs)
    seen = _evidence.of_target(asked.answers, records, task).observed
    found_by = attribute.guesses(
        _under_each(model, records, places, values, task, outputs),
        attribute.rows(records.audited.x, records.audited.y, true, places),
        attribute.rows(records.population.x, records.population.y, known, places),
        len(values),
        seed=seed,
    )
    imputed = found_by.imputed_N == true

    def success(hit: Bools, confidence: float = 0.95) -> attribute.Success:
        return attribute.compare(hit, imputed, records.member_N, records.group_N, confidence=confidence)

    found = {attack: success(guess == true) for attack, guess in found_by.by_attack.items()}
    units = records.member_N if records.group_N is None else records.member_N[np.unique(records.group_N, True)[1]]
    unseen = [nonmembers_unseen(records.seen, int((~records.member_N).sum()))] if records.seen else []
    return AttributeAudit(
        column=name,
        values=len(values),
        attacks=found,
        found=tuple(attack for attack, each in found.items() if each.p_value < 0.05 / len(found)),
        imputation=success(imputed),
        n_members=int(units.sum()),
        n_nonmembers=int((~units).sum()),
        n_population=len(records.population),
        records=None if records.group_N is None else len(records.audited),
        selfchecks=(fits_members(seen), *unseen),
        notes=(*notes, *asked.notes),
    )


def _never(evidence: Any, *, seed: int) -> Scored:
    raise AssertionError("only its needs are read")


def _places(column: Column, records: RawData) -> tuple[list[int], str]:
    """Where the column stands in x, and what it is called."""
    if records.x.ndim != 2:
        raise UsageError(f"members: x has shape {records.x.shape}, and a column is one of a table: give x (N, D).")
    if any(records.form.shapes):
        raise UsageError("members: a field of the records has several numbers, and a column is one: give x (N, D).")
    width, names = records.x.shape[1], [str(each) for each in records.form.columns]
    several = list(column) if isinstance(column, Sequence) and not isinstance(column, str) else [column]
    if not several or len(several) >= width:
        raise UsageError(f"column names {len(several)} of {width} columns: give at least one, and leave another.")
    places = []
    for one in several:
        if isinstance(one, str):
            if one not in names:
                what = did_you_mean(one, names) if names else "x has no names of columns: give its place, from 0."
                raise UsageError(f"column: there is no column '{one}': {what}")
            places.append(names.index(one))
        elif isinstance(one, bool) or not isinstance(one, int | np.integer) or not 0 <= one < width:
            raise UsageError(f"column = {one!r}: the tables have {width} columns: give a place from 0 to {width - 1}.")
        else:
            places.append(int(one))
    if len(set(places)) < len(places):
        raise UsageError("column names a column twice: give each once.")
    called = [names[place] if names else str(place) for place in places]
    return places, f"column {called[0]}" if len(called) == 1 else f"columns {', '.join(called)}"


def _under_each(
    model: Any, records: Records, places: list[int], values: Any, task: Task, outputs: Outputs | None
) -> attribute.Answers:
    """What the model answers with the column set to each value."""
    from lacewing.auditing import _call

    label = records.audited.y
    x = np.tile(records.audited.x, (len(values), 1))
    x[:, places] = np.repeat(values, len(label), axis=0)
    # All at once: to one value alone a model may answer the same for every record.
    asked = replace(records.audited, x=x, y=np.tile(label, len(values)))
    model = _call.prepared(model, records.audited.form, "model", task)
    if isinstance(model, _call.Function):
        outputs = outputs or model.way.outputs
    answers = _call.answered(model, asked, "model", task)
    found, _, _ = _outputs.as_logits(answers, task, outputs, "the answers of model")
    logits = _call.as_classes(model, found, asked.form, "model").reshape(len(values), len(label), -1)
    best, limit = [one.argmax(axis=1) for one in logits], attribute.ODDS
    odds, answer = (
        np.clip(np.stack([phi(one, of) for one, of in zip(logits, asked, strict=True)], axis=1), -limit, limit)
        for asked in ([label] * len(values), best)
    )
    return attribute.Answers(odds, answer, np.stack([each == label for each in best], axis=1))


def _percent(estimate: Estimate) -> str:
    return estimate.text(".1f", percent=True)
