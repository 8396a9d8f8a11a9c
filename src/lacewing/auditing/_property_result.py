"""What the audit of a property returns: its rows, the answer in a sentence, gates, and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lacewing.auditing._cost import Cost
from lacewing.errors import GateFailed, UsageError
from lacewing.property import PropertyFindings, PropertyRow, as_csv, as_json
from lacewing.support.files import write_atomically

if TYPE_CHECKING:
    from lacewing.auditing._gates import Verdict

LEVEL = 0.05


@dataclass(frozen=True)
class Learned:
    """How well attacked networks answer their own training records, and the share of the most frequent class there."""

    accuracy: float
    chance: float

    @classmethod
    def mean(cls, several: Sequence[Learned]) -> Learned:
        """Over networks."""
        return cls(fmean(each.accuracy for each in several), fmean(each.chance for each in several))

    @property
    def doubt(self) -> str:
        """Why networks that tell nothing show nothing, a sentence; empty where they learned something."""
        if self.accuracy > self.chance:
            return ""
        return (
            f"The attacked networks are right for {100 * self.accuracy:.0f} % of their own training records, and "
            f"{100 * self.chance:.0f} % are of the most frequent class, so they learned nothing that could tell."
        )


@dataclass(frozen=True)
class PropertyAudit:
    """What networks of the user's training tell of a property. ``print`` shows the answer and a table."""

    findings: PropertyFindings
    notes: tuple[str, ...]
    folder: Path | None
    learned: Learned

    @property
    def rows(self) -> tuple[PropertyRow, ...]:
        """A row an attack."""
        return self.findings.rows

    @property
    def told(self) -> tuple[PropertyRow, ...]:
        """Attacks that tell the worlds apart, at 5 % for all of them together (exact p, Bonferroni), the best first."""
        sure = [row for row in self.rows if row.p * len(self.rows) <= LEVEL]
        return tuple(sorted(sure, key=lambda row: -row.accuracy))

    @property
    def sentence(self) -> str:
        """The answer: what the best attack tells, or up to which accuracy none does; or that the audit cannot say."""
        first = self.rows[0]
        what = f"training records are {first.first:g} or {first.second:g} '{self.findings.of}'"
        if self.told:
            best = self.told[0]
            return (
                f"Networks of this training tell whether their {what}: '{best.attack}' names the world of "
                f"{_share(best)}; p = {min(1.0, best.p * len(self.rows)):.2g}, corrected for {len(self.rows)} attacks."
            )
        if self.learned.doubt:
            return f"This audit cannot say whether networks tell if their {what}. {self.learned.doubt}"
        top = max(self.rows, key=lambda row: row.high)
        return (
            f"No attack tells whether {what}, above an accuracy of {top.high:.3f}: that is the highest upper end of a "
            f"95 % interval, of '{top.attack}', which names the world of {_share(top)}."
        )

    def check(self, *gates: str) -> tuple[Verdict, ...]:
        """Hold the audit to gates, as ``--fail-if`` does: ``found.check("mask.accuracy > 0.6", "n_leaked > 5")``.

        Returns what each gate found where none failed.

        Raises:
            GateFailed: an `AssertionError`: a gate is true, so that a test fails.
            UsageError: a gate is not written as `lacewing.auditing._property_gates.parse` says, none is given, or one
                cannot be judged, which never passes: the attack did not run, or the networks learned nothing.
        """
        from lacewing.auditing import _gates, _property_gates

        if not gates:
            raise UsageError(f"check: give at least one gate, such as {_property_gates.EXAMPLE!r}.")
        found = _property_gates.judge([_property_gates.parse(text) for text in gates], self)
        if unknown := _gates.unjudged(found):
            raise UsageError(unknown)
        if failed := [verdict.sentence for verdict in found if verdict.failed]:
            raise GateFailed(" ".join(failed), found)
        return found

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML page (one offline file): into the folder ``path``, or to the file if it ends in ``.html``.

        Default: the audit's own folder. Raises `UsageError` where there is neither, OSError where it cannot be written.
        """
        from lacewing.reporting import property_page

        if path is None and self.folder is None:
            raise UsageError("The audit has no folder: name one, as in .report('property.html').")
        target = Path(path) if path is not None else Path(self.folder or "")
        target = target if target.suffix == ".html" else target / "report.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        doubts = [self.learned.doubt] if self.learned.doubt else []
        write_atomically(target, property_page(self.findings, self.sentence, [*doubts, *self.notes]))
        return target

    def save(self, folder: Path) -> None:
        """Write ``property.csv``, ``property.json`` and ``report.html``. Raises OSError where it cannot be written."""
        write_atomically(folder / "property.csv", as_csv(self.findings.seeds), within=folder)
        write_atomically(folder / "property.json", json.dumps(self.as_json(), indent=1), within=folder)
        self.report(folder)

    def as_json(self) -> dict[str, Any]:
        """The document of ``property.json``, with the answer and the notes."""
        return {
            **as_json(self.findings),
            "sentence": self.sentence,
            "told": [row.attack for row in self.told],
            "learned": asdict(self.learned),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        first = self.rows[0]
        lines = [
            self.sentence,
            "",
            f"shares of {first.first:g} and {first.second:g} of '{self.findings.of}' among {self.findings.records:,} "
            f"training records; {first.attacked} networks attacked, {first.seeds} draw{'s' * (first.seeds > 1)} of the "
            "pools",
            f"{'attack':<10} {'accuracy':<22} {'AUC':>6} {'n_leaked':>9} {'p':>8}  looked at",
        ]
        for row in self.rows:
            leaked = "inf" if row.n_leaked is None else f"{row.n_leaked:.0f}"
            accuracy = f"{row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]"
            lines.append(f"{row.attack:<10} {accuracy:<22} {row.auc:>6.3f} {leaked:>9} {row.p:>8.2g}  {row.chosen}")
        unit = "over draws of the pools" if first.seeds > 1 else "over these networks, for this draw of the pools alone"
        lines.append(f"intervals: 95 %, {unit}, each attack by itself; .5 is guessing")
        if self.findings.poison:
            lines.append(
                f"snap poisons training: {100 * self.findings.poison:g} % of the records of its networks are the "
                f"attacker's, labelled {self.findings.poison_label}; the others are about networks without poison"
            )
        notes = [*([self.learned.doubt] if self.learned.doubt else []), *self.notes]
        return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def _share(row: PropertyRow) -> str:
    return (
        f"{100 * row.accuracy:.0f} % of {row.attacked} networks (95 % interval {100 * row.low:.0f} to "
        f"{100 * row.high:.0f} %)"
    )


@dataclass(frozen=True)
class PropertyCost:
    """What `audit_property` would train: ``dry_run=True``."""

    networks: int
    there: int  # of them, in the folder already
    seconds_each: float  # of one that was trained for this, and not kept
    seconds: float  # until the rest is trained
    processes: int

    @classmethod
    def of(cls, costs: Sequence[Cost]) -> PropertyCost:
        """All networks together, without poison and with it."""
        return cls(
            sum(each.networks for each in costs),
            sum(each.there for each in costs),
            max(each.seconds_each for each in costs),
            sum(each.seconds for each in costs),
            costs[0].processes,
        )

    def as_json(self) -> dict[str, Any]:
        """Its fields, with a schema number."""
        return {"schema": 1, **asdict(self)}

    def __str__(self) -> str:
        left = self.networks - self.there
        return (
            f"{self.networks} networks, {self.there} of them there already; one takes {self.seconds_each:.2g} s, the "
            f"other {left} about {self.seconds:.0f} s on {self.processes} process{'es' * (self.processes > 1)}; "
            "nothing was kept"
        )
