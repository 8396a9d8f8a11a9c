"""What an audit of a dense and a sparse network returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lacewing.attacks._types import Attack
from lacewing.auditing import _pair_answer, _pair_text
from lacewing.auditing._pair_difference import AccuracyDifference, PairedDifference
from lacewing.auditing._result import CONFIDENCE, Audit
from lacewing.errors import GateFailed, UsageError
from lacewing.results import AttackResult, strongest_first
from lacewing.support import frames
from lacewing.support.files import remove_parts, write_atomically

if TYPE_CHECKING:
    from lacewing.auditing._gates import Verdict
    from lacewing.auditing._pair_equal import EqualAccuracy

SCHEMA = 1
EXAMPLE = "difference.auc > 0"


@dataclass(frozen=True)
class PairAudit:
    """The audits of a dense network and of a sparse one on the same records, and the differences between them.

    Like `Audit` it holds scores of single records (``sparse.attacks[i].score_N``), which are private data: no text,
    table, JSON or page made by the methods below shows them.
    """

    dense: Audit
    sparse: Audit  # with the attacks of someone who knows of the sparsity, or holds the mask
    differences: tuple[PairedDifference, ...]  # sparse - dense, of attacks that ran on both
    accuracies: tuple[AccuracyDifference, AccuracyDifference]  # on members, on non-members
    grade: str  # what they are: "Accuracy", or what stands for it in other tasks
    density_dense: float | None  # non-zero parameters over the parameters of the dense network; None: not known
    density_sparse: float | None
    about: tuple[Attack, ...] = ()  # attacks about sparse networks that were asked for
    together: Audit | None = None  # attacks on the sparse network by someone who queries the dense one too
    refused: Mapping[str, str] = field(default_factory=dict)  # of those that did not run -> why
    equal: EqualAccuracy | None = None  # the comparison with other recipes of equal accuracy; None: see ``missing``
    missing: str = ""  # what a comparison at equal accuracy lacks
    notes: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def sentence(self) -> str:
        """The answer: which of these two networks gives away less, or that no difference is established."""
        return _pair_answer.sentence(self)

    @property
    def sentences(self) -> list[str]:
        """What qualifies the answer: the strongest attacks, accuracies, equal accuracy, and what is not claimed."""
        said = [
            _pair_answer.strongest(self),
            _pair_answer.accuracy(self),
            _pair_answer.price(self),
            self.missing if self.equal is None else self.equal.sentence,
            _pair_answer.CLAIM,
        ]
        return [each for each in said if each]

    @property
    def adaptive(self) -> tuple[AttackResult, ...]:
        """The results on the sparse network of attacks that are about sparse networks, the strongest first."""
        names = {attack.name for attack in self.about}
        own = [result for result in self.sparse.attacks if result.attack in names]
        return tuple(strongest_first([*own, *(() if self.together is None else self.together.attacks)]))

    @property
    def n_members(self) -> int:
        """Members, or groups of them."""
        return self.sparse.attacks[0].n_members

    @property
    def n_nonmembers(self) -> int:
        """Non-members, or groups of them."""
        return self.sparse.attacks[0].n_nonmembers

    def table(self) -> list[dict[str, Any]]:
        """A dict for each attack and metric that both networks have, as `as_json` gives them."""
        return [
            {
                "attack": d.attack,
                "metric": d.metric,
                "dense": d.dense,
                "sparse": d.sparse,
                "difference": d.difference.value,
                "difference_low": d.difference.low,
                "difference_high": d.difference.high,
                "established": d.established,
            }
            for d in self.differences
        ]

    def check(self, *gates: str) -> tuple[Verdict, ...]:
        """Hold the pair to gates, as ``--fail-if`` does: ``pair.check("difference.auc > 0", "sparse.auc > 0.6")``.

        A gate has the form ``[SIDE.]GATE``: SIDE is ``dense``, ``sparse`` (the default), ``difference``
        (sparse - dense) or ``together`` (someone who queries both networks), GATE as for `Audit.check`. Returns what
        each gate found where none failed.

        Raises:
            GateFailed: an `AssertionError`: a gate is true, so that a test fails.
            UsageError: no gate is given, one is not written so, or one cannot be judged, which never passes.
        """
        from lacewing.auditing import _gates, _pair_gates

        if not gates:
            raise UsageError(f"check: give at least one gate, such as {EXAMPLE!r}.")
        found = _pair_gates.judge([_pair_gates.parse(text) for text in gates], self)
        if unknown := _gates.unjudged(found):
            raise UsageError(unknown)
        if failed := [verdict.sentence for verdict in found if verdict.failed]:
            raise GateFailed(" ".join(failed), found)
        return found

    def to_frame(self, of: str = "differences") -> Any:
        """What the audit prints as a ``pandas.DataFrame``; pandas must be installed.

        Args:
            of: "differences": a row an attack and metric, as in `table`; "accuracy": a row for members and one for
                non-members; "recipes": those that were trained for a comparison at equal accuracy; "notes".

        Raises:
            UsageError: there is no such table, or pandas is not installed.
        """
        tables: dict[str, frames.Rows] = {
            "differences": self.table(),
            "accuracy": self._accuracy_rows(),
            "recipes": [] if self.equal is None else self.equal.rows(),
            "notes": [{"note": note} for note in self.notes],
        }
        return frames.data_frame(frames.chosen(tables, of))

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``, with a ``schema`` number; it holds nothing of single records."""
        return {
            "schema": SCHEMA,
            "sentence": self.sentence,
            "sentences": self.sentences,
            "confidence": CONFIDENCE,
            "interval": "over records",
            "n_members": self.n_members,
            "n_nonmembers": self.n_nonmembers,
            "density": {"dense": self.density_dense, "sparse": self.density_sparse},
            "grade": self.grade,
            "accuracy": self._accuracy_rows(),
            "differences": self.table(),
            "adaptive": [result.attack for result in self.adaptive],
            "equal_accuracy": None if self.equal is None else self.equal.as_json(),
            "missing": self.missing,
            "notes": list(self.notes),
            "dense": self.dense.as_json(),
            "sparse": self.sparse.as_json(),
            "together": None if self.together is None else self.together.as_json(),
            "refused": dict(self.refused),
            "folder": None if self.folder is None else str(self.folder),
        }

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML page (one offline file): into the folder ``path``, or to the file if it ends in ``.html``.

        Default: the audit's own folder. Raises `UsageError` where there is neither, OSError where it cannot be written.
        """
        from lacewing import reporting

        target = self._place(path)
        if target.suffix != ".html":
            return reporting.write_pair(target, self)
        with TemporaryDirectory() as aside:
            page = reporting.write_pair(Path(aside), self).read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, page.decode())
        return target

    def save(self, path: Path | str | None = None) -> Path:
        """Write ``report.html`` and ``pair.json`` into a folder, and both audits into its folders dense and sparse."""
        folder = self._place(path)
        remove_parts(folder)  # of an audit that was killed as it wrote
        for name, audit in (("dense", self.dense), ("sparse", self.sparse)):
            audit.save(folder / name)
        write_atomically(folder / "pair.json", json.dumps(self.as_json(), indent=1) + "\n")
        self.report(folder)
        return folder

    def __str__(self) -> str:
        return _pair_text.as_text(self)

    def _repr_html_(self) -> str:
        """For notebooks: the answer and the table of differences."""
        return _pair_text.as_html(self)

    def _accuracy_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "records": each.records,
                "n": each.n,
                "dense": each.dense,
                "sparse": each.sparse,
                "difference": each.difference.value,
                "difference_low": each.difference.low,
                "difference_high": each.difference.high,
            }
            for each in self.accuracies
        ]

    def _place(self, path: Path | str | None) -> Path:
        if path is None and self.folder is None:
            raise UsageError("The audit has no folder: name one, as in .report('pair.html').")
        return Path(path) if path is not None else Path(self.folder or "")
