"""An audit of a dense and a sparse network as text and as HTML for notebooks: the answer, then a row an attack."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lacewing.auditing import _answer
from lacewing.auditing._pair_answer import CHANGE
from lacewing.auditing._text import not_run
from lacewing.support.text import entry, html_table

if TYPE_CHECKING:
    from lacewing.attacks._types import Attack
    from lacewing.auditing._pair_difference import PairedDifference
    from lacewing.auditing._pair_result import PairAudit
    from lacewing.auditing._result import Audit

_HEAD = ("attack", "AUC dense", "AUC sparse", "difference", "TPR at 1 % FPR dense", "sparse", "difference")
_NOTE = (
    "difference: sparse - dense, with its 95 % interval over records, each by itself; * established together with all "
    "others of the two columns."
)


def as_text(pair: PairAudit) -> str:
    """What ``print`` shows."""
    rows = [_HEAD, *_rows(pair)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [pair.sentence, *pair.sentences, ""]
    lines += ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(_NOTE)
    if pair.adaptive:
        lines += [
            "",
            "attacks on the sparse network by someone who knows of the sparsity (+ and queries the dense one):",
        ]
        both = set() if pair.together is None else {result.attack for result in pair.together.attacks}
        for result in pair.adaptive:
            auc, tail = (_answer.shown(result.metrics.get(name)) for name in ("auc", "tpr_at_fpr_0.01"))
            lines.append(
                f"  {result.attack}{' +' * (result.attack in both)}: AUC {auc}, TPR at 1 % FPR {tail}; {result.variant}"
            )
    if pair.equal is not None:
        lines += ["", *pair.equal.lines()]
    lines.append("")
    return "\n".join([*lines, *map(entry, _said(pair))]).rstrip()


def as_html(pair: PairAudit) -> str:
    """What a notebook shows."""
    first = "".join(f"<p>{html.escape(text)}</p>" for text in (pair.sentence, *pair.sentences))
    said = "".join(f"<li>{html.escape(text)}</li>" for text in _said(pair))
    return f"{first}{html_table(_HEAD, _rows(pair))}<p>{html.escape(_NOTE)}</p><ul>{said}</ul>"


def _rows(pair: PairAudit) -> list[tuple[str, ...]]:
    by_attack: dict[str, dict[str, PairedDifference]] = {}
    for each in pair.differences:
        by_attack.setdefault(each.attack, {})[each.metric] = each
    return [(attack, *_cells(of.get("auc")), *_cells(of.get("tpr_at_fpr_0.01"))) for attack, of in by_attack.items()]


def _cells(d: PairedDifference | None) -> tuple[str, str, str]:
    if d is None:
        return "–", "–", "–"
    return f"{d.dense:.3f}", f"{d.sparse:.3f}", d.difference.text(CHANGE) + ("*" if d.established else "")


def _said(pair: PairAudit) -> list[str]:
    """Self-checks that failed, notes, and the attacks that did not run, of both networks."""
    said = []
    for name, audit in (("dense", pair.dense), ("sparse", pair.sparse)):
        passed = sum(check.passed for check in audit.selfchecks)
        said.append(f"checks of the {name} network: {passed} of {len(audit.selfchecks)} passed")
        said += [f"check FAILED: {check.sentence}" for check in audit.selfchecks if not check.passed]
    said += [f"note: {note}" for note in pair.notes]
    return [*said, *_once(pair)]


def _once(pair: PairAudit) -> Sequence[str]:
    """What did not run, said once where it is the same of both networks."""
    found: dict[str, list[str]] = {}
    for name, audit in (("dense", pair.dense), ("sparse", pair.sparse)):
        for line in not_run(audit):
            found.setdefault(line, []).append(name)
    lines = [line if len(of) > 1 else f"on the {of[0]} network {line}" for line, of in found.items()]
    return [*lines, *(f"not run: {name}. {why}" for name, why in pair.refused.items())]


def of_both(audits: Mapping[str, Audit]) -> list[str]:
    """The notes of both audits, those of one network alone with its name."""
    dense, sparse = (audits[name].notes for name in ("dense", "sparse"))
    shared = [note for note in dense if note in sparse]
    alone = [
        f"Of the {name} network: {note}"
        for name in ("dense", "sparse")
        for note in audits[name].notes
        if note not in shared
    ]
    return [*shared, *alone]


def alone(audits: Mapping[str, Audit], about: tuple[Attack, ...]) -> list[str]:
    """A note on attacks that ran on one of the networks alone."""
    ran = {name: {result.attack for result in audit.attacks} for name, audit in audits.items()}
    ran["sparse"] -= {attack.name for attack in about}
    notes = []
    for name, other in (("dense", "sparse"), ("sparse", "dense")):
        if only := sorted(ran[name] - ran[other]):
            notes.append(f"On the {name} network alone ran, and so are not compared: {', '.join(only)}.")
    return notes
