"""What an audit returns: the attacks, what could not run and why, self-checks; and the builder that runs them all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.attacks import _measure
from lacewing.attacks._fit import Fit, fit
from lacewing.attacks._types import CLASSES, Attack, Evidence
from lacewing.attacks.selfchecks import SelfCheck, selfchecks
from lacewing.auditing import _answer, _json, _text
from lacewing.auditing._attacks import Chosen
from lacewing.errors import GateFailed, UsageError, UserCodeError, did_you_mean
from lacewing.results import REALISED, AttackResult, NetworkResult, Trait, strongest_first, with_ends
from lacewing.support import frames
from lacewing.support.files import remove_parts, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lacewing.auditing._gates import Verdict

SCHEMA = 1
DELTA = 1e-5
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Audit:
    """One audit of one model. ``print`` shows the answer and a table; in a notebook it shows the ROC too.

    It holds scores of single records (``attacks[i].score_N``), which are private data: none of the texts, tables,
    JSON and pages made by the methods below shows them.
    """

    attacks: tuple[AttackResult, ...]  # those that ran, the strongest (by AUC) first
    refused: Mapping[str, str] = field(default_factory=dict)  # attack -> what it lacks, a sentence
    selfchecks: tuple[SelfCheck, ...] = ()
    epsilon: Mapping[str, float] = field(default_factory=dict)  # attack -> lower bound at ``delta``, 95 % confidence
    epsilon_other: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # attack -> name -> bound
    delta: float = DELTA
    notes: tuple[str, ...] = ()
    folder: Path | None = None  # where the report was written
    class_N: npt.NDArray[Any] | None = None  # each record's class, words or numbers; for `by_class`
    fit: Fit | None = None  # how well the model answers its members; None: not known, since only scores were given
    records: int | None = None  # how many there are, where n counts groups of records; None: n counts records

    def __post_init__(self) -> None:
        object.__setattr__(self, "attacks", tuple(strongest_first(self.attacks)))

    @property
    def sentence(self) -> str:
        """The answer: the strongest attack's leakage, or above which AUC and at which n none was found.

        Where a self-check failed without which there is no answer: that the audit cannot tell.
        """
        return _answer.sentence(self.attacks, self.selfchecks, self.records)

    @property
    def accuracy(self) -> str:
        """The model's accuracy on members and non-members, and that of the most frequent class, in one line."""
        return _answer.accuracy(self._network, self.fit)

    @property
    def strongest(self) -> AttackResult:
        """The attack of the highest AUC."""
        return _answer.strongest(self.attacks)

    @property
    def _network(self) -> NetworkResult:
        """The model; given scores are beside its outputs, whose results know more of it."""
        known = (result.network for result in self.attacks if not math.isnan(result.network.train_accuracy))
        return next(known, self.attacks[0].network)

    def table(self) -> list[dict[str, Any]]:
        """A dict per attack, the strongest first: each metric with ``_low`` and ``_high`` (None where refused)."""
        rows = []
        for result in self.attacks:
            row: dict[str, Any] = {"attack": result.attack, "variant": result.variant}
            for name in (*_text.COLUMNS.values(), "advantage", "oracle_balanced_accuracy", *REALISED):
                row |= with_ends(name, result.metrics.get(name))
            row["epsilon_low"] = self.epsilon.get(result.attack)
            row |= {"n_members": result.n_members, "n_nonmembers": result.n_nonmembers}
            row["threat_model"] = result.threat_model
            rows.append(row)
        return rows

    def check(self, *gates: str) -> tuple[Verdict, ...]:
        """Hold the audit to gates, as ``--fail-if`` does: ``audit.check("lira.tpr@0.001 > 0.02", "auc > 0.6")``.

        Returns what each gate found where none failed.

        Raises:
            GateFailed: an `AssertionError`: a gate is true, so that a test fails.
            UsageError: a gate is not written as `lacewing.auditing._gates.parse` says, none is given, or one cannot be
                judged, which never passes: the attack did not run, or a self-check failed without which there is no
                answer, such as that the model is above chance on its own members.
        """
        from lacewing.auditing import _gates

        if not gates:
            raise UsageError(f"check: give at least one gate, such as {_gates.EXAMPLE!r}.")
        found = _gates.check([_gates.parse(text) for text in gates], self)
        if failed := [verdict.sentence for verdict in found if verdict.failed]:
            raise GateFailed(" ".join(failed), found)
        return found

    def to_frame(self, of: str = "attacks") -> Any:
        """What the audit prints as a ``pandas.DataFrame``; pandas must be installed.

        Args:
            of: "attacks": a row an attack, as in `table`; "accuracy": a row for members and one for non-members (none
                where only scores are known; of quantities R squared, of several labels the share that is right);
                "checks": the self-checks; "refused": attacks that did not run, with the reason; "notes"; "classes": as
                in `by_class`.

        Raises:
            UsageError: there is no such table, or pandas is not installed.
        """
        tables: dict[str, frames.Rows] = {
            "attacks": self.table(),
            "accuracy": _answer.accuracies(self._network, self.fit),
            "checks": [vars(check) for check in self.selfchecks],
            "refused": [{"attack": name, "reason": why} for name, why in self.refused.items()],
            "notes": [{"note": note} for note in self.notes],
            "classes": [] if self.class_N is None else self.by_class(),
        }
        return frames.data_frame(frames.chosen(tables, of))

    def by_class(self, attack: str | None = None) -> list[dict[str, Any]]:
        """A dict per class: members, non-members, and the AUC (None where a kind is missing) of ``attack``.

        Default: the strongest attack. Intervals are 95 % each: with many classes some lie above 0.5 by chance. Raises
        `UsageError` where the classes are not known or the attack did not run.
        """
        if self.class_N is None:
            raise UsageError("The records' classes are not known: give 'class' or 'label' to the audit.")
        ran = {result.attack: result for result in self.attacks}
        if attack is not None and attack not in ran:
            raise UsageError(f"The attack '{attack}' is not in the audit: {did_you_mean(attack, ran)}")
        result = self.strongest if attack is None else ran[attack]
        rows = []
        for name in np.unique(self.class_N):
            of = self.class_N == name
            member = result.member_N[of]
            n_members, n_nonmembers = int(member.sum()), int((~member).sum())
            auc = metrics.auc(result.score_N[of], member) if n_members and n_nonmembers else None
            row = {"class": name.item(), "attack": result.attack}
            row |= {"n_members": n_members, "n_nonmembers": n_nonmembers}
            rows.append(row | with_ends("auc", auc))
        return rows

    def plot(self, most: int = 8) -> Figure:
        """The ROC curves of the ``most`` strongest attacks on logarithmic axes, from an FPR of 1/non-members on."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6, 5.0), layout="constrained")
        axes = figure.add_subplot(xscale="log", yscale="log", xlabel="false-positive rate", ylabel="true-positive rate")
        least = 1.0 / max(result.n_nonmembers for result in self.attacks)
        for result in self.attacks[:most]:
            fpr, tpr = result.roc()
            drawn = fpr >= 1.0 / result.n_nonmembers
            axes.step(fpr[drawn], tpr[drawn], where="post", label=result.attack)
        axes.plot([least, 1.0], [least, 1.0], color="0.6", linestyle=":", label="chance")
        axes.set(xlim=(least, 1.0), ylim=(least, 1.05))
        left = len(self.attacks) - most
        axes.legend(title=f"strongest {most}, {left} left out" if left > 0 else None, fontsize="small")
        return figure

    def report(self, path: Path | str | None = None) -> Path:
        """Write the HTML page (one offline file): into the folder ``path``, or to the file if it ends in ``.html``.

        Default: the audit's own folder. Raises `UsageError` where there is neither, OSError where it cannot be written.
        """
        from lacewing import reporting

        target = self._place(path)
        if target.suffix != ".html":
            return reporting.write_audit(target, self)
        with TemporaryDirectory() as aside:
            page = reporting.write_audit(Path(aside), self).read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, page.decode())
        return target

    def model_card(self) -> str:
        """The audit's block of a model card, Markdown: threat model, n, intervals, variant, and what was not tested."""
        from lacewing.reporting import _card

        return _card.model_card(self)

    def save(self, path: Path | str | None = None) -> Path:
        """Write ``report.html``, ``model_card.md`` and ``audit.json`` into a folder; returns the folder."""
        folder = self._place(path)
        remove_parts(folder)  # of an audit that was killed as it wrote
        self.report(folder)
        write_atomically(folder / "model_card.md", self.model_card())
        write_atomically(folder / "audit.json", json.dumps(self.as_json(), indent=1) + "\n")
        return folder

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``, with a ``schema`` number; it holds nothing of single records."""
        return {
            "schema": SCHEMA,
            "sentence": self.sentence,
            "confidence": CONFIDENCE,
            "delta": self.delta,
            "epsilon_assumed": dict(metrics.EPSILON_ASSUMED) if self.epsilon_other else {},
            "model": _json.model(self._network, None if self.fit is None else self.fit.task),
            "n_counts": "records" if self.records is None else "groups",
            "records": self.records,
            "fit": None if self.fit is None else {**vars(self.fit), "above_chance": self.fit.above_chance},
            "attacks": [
                {
                    "attack": result.attack,
                    "variant": result.variant,
                    "threat_model": result.threat_model,
                    "n_members": result.n_members,
                    "n_nonmembers": result.n_nonmembers,
                    "metrics": {
                        name: None if found is None else {k: _json.plain(v) for k, v in found._asdict().items()}
                        for name, found in result.metrics.items()
                    },
                    "epsilon_low": self.epsilon.get(result.attack),
                    "epsilon_other": dict(self.epsilon_other.get(result.attack, {})),
                    "notes": _json.plain(dict(result.notes)),
                }
                for result in self.attacks
            ],
            "classes": [] if self.class_N is None else self.by_class(),
            "refused": dict(self.refused),
            "selfchecks": [vars(check) for check in self.selfchecks],
            "notes": list(self.notes),
            "folder": None if self.folder is None else str(self.folder),
        }

    def __str__(self) -> str:
        return _text.as_text(self)

    def _repr_html_(self) -> str:
        """For notebooks: the answer, the ROC, the table, self-checks, and what could not run."""
        return _text.as_html(self)

    def _place(self, path: Path | str | None) -> Path:
        if path is None and self.folder is None:
            raise UsageError("The audit has no folder: name one, as in .report('audit.html').")
        return Path(path) if path is not None else Path(self.folder or "")


def build(
    evidence: Evidence,
    network: NetworkResult,
    *,
    attacks: Chosen,
    delta: float = DELTA,
    notes: Sequence[str] = (),
    folder: Path | None = None,
    seed: int = 0,
    refused: Mapping[str, str] | None = None,
    measured: Sequence[AttackResult] = (),
    class_N: npt.NDArray[Any] | None = None,
    checks: Sequence[SelfCheck] = (),
    traits: frozenset[Trait] = frozenset(),
) -> Audit:
    """Run the chosen attacks that ``evidence`` allows, and put the audit together.

    Args:
        evidence: what the attacker of the model holds.
        network: the model; an attack that is about other networks than its ``traits`` say is refused.
        attacks: see `lacewing.auditing._attacks.choose`.
        delta: of the epsilon bounds.
        notes: sentences that a reader of the result must know.
        folder: where report.html, model_card.md and audit.json are written; None: nowhere.
        seed: of attacks that learn, and of the self-checks.
        refused: attacks that must not run, with the reason as a sentence.
        measured: results that are there already; they come first.
        class_N: (N,) what `Audit.by_class` groups by; None: the given labels.
        checks: further self-checks that were done.
        traits: of the model, where it is known to be sparse and its dense version is at hand.

    Raises:
        UsageError: an attack that must run cannot, or none of all can.
        UserCodeError: a user's attack fails.
    """
    check_delta(delta)
    found, lacking = list(measured), dict(refused or {})
    for attack in attacks.attacks:
        why = lacking.get(attack.name) or cannot(attack, evidence, traits)
        if why is None:
            try:
                found.append(_measure.perform(attack, evidence, network, seed=seed))
                continue
            except UserCodeError:
                raise
            except UsageError as error:
                why = str(error)
            except ImportError as error:
                if (error.name or "").partition(".")[0] != "torch":
                    raise
                why = "It needs torch, which is not installed: pip install torch."
        if attack.name in attacks.required:
            raise UsageError(f"attacks: '{attack.name}' cannot run. {why}")
        lacking[attack.name] = why
    classes = evidence.observed.task in CLASSES
    return finish(
        found,
        evidence,
        refused=lacking,
        delta=delta,
        notes=notes,
        folder=folder,
        seed=seed,
        class_N=of_groups(
            evidence.observed.label_N if class_N is None and classes else class_N, evidence.observed.group_N
        ),
        checks=checks,
    )


def finish(
    results: Sequence[AttackResult],
    evidence: Evidence | None,
    *,
    refused: Mapping[str, str],
    delta: float = DELTA,
    notes: Sequence[str] = (),
    folder: Path | None = None,
    seed: int = 0,
    class_N: npt.NDArray[Any] | None = None,
    checks: Sequence[SelfCheck] = (),
    n: int | None = None,
) -> Audit:
    """The audit of results that are there: epsilon bounds, self-checks, and the files if there is a folder.

    Without ``evidence`` n is the number of records.
    """
    check_delta(delta)
    if not results:
        raise UsageError("No attack can run. " + " ".join(f"{name}: {why}" for name, why in refused.items()))
    audit = Audit(
        attacks=tuple(results),
        refused=dict(refused),
        selfchecks=(*selfchecks(_answer.strongest(results), results, evidence, seed=seed), *checks),
        epsilon={
            result.attack: float(
                metrics.epsilon_lower_bound(result.score_N, result.member_N, delta=delta, confidence=CONFIDENCE)
            )
            for result in results
        },
        epsilon_other={
            result.attack: metrics.other_epsilon_bounds(result.score_N, result.member_N, delta, CONFIDENCE)
            for result in results
        },
        delta=delta,
        notes=tuple(notes),
        folder=folder,
        class_N=class_N,
        fit=None if evidence is None else fit(evidence.observed),
        records=_grouped(results[0], n if evidence is None else len(evidence.observed.member_N)),
    )
    if folder is not None:
        audit.save(folder)
    return audit


def _grouped(result: AttackResult, n: int | None) -> int | None:
    """The number n of records where the result has fewer units, which are groups."""
    return None if n is None or n == result.n_members + result.n_nonmembers else n


def of_groups(class_N: npt.NDArray[Any] | None, group_N: npt.NDArray[np.integer] | None) -> npt.NDArray[Any] | None:
    """A value for each row of the results: where records have groups, that of a group's first record."""
    if class_N is None or group_N is None:
        return class_N
    return class_N[_measure.first_of_groups(group_N)]


def check_delta(delta: float) -> None:
    """Raises `UsageError` unless 0 < delta < 1; for callers with hours of work before the first bound."""
    if isinstance(delta, bool) or not isinstance(delta, Real) or not 0.0 < delta < 1.0:
        raise UsageError(f"delta = {delta!r} is out of range: give a number between 0 and 1, such as 1e-5.")


def cannot(attack: Attack, evidence: Evidence, traits: frozenset[Trait] = frozenset()) -> str | None:
    """Why the evidence, or what the network is, does not allow the attack, as a sentence; None: it does."""
    if not attack.about <= traits:
        return "It is about sparse networks of a study, whose dense versions and masks are known."
    lacking = _measure.missing(attack, evidence)
    return None if lacking is None else f"It needs {lacking}."
