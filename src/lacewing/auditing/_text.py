"""An audit as text for the terminal and as HTML for notebooks: the answer first, then a row an attack."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Final

from lacewing import attacks as registry
from lacewing.auditing import _answer
from lacewing.support.text import entry, html_table

if TYPE_CHECKING:
    from lacewing.auditing._result import Audit

COLUMNS: Final = {  # of the table: heading, metric
    "AUC": "auc",
    "TPR at 1 % FPR": "tpr_at_fpr_0.01",
    "TPR at 0.1 % FPR": "tpr_at_fpr_0.001",
    "balanced accuracy": "balanced_accuracy",
}


def as_text(audit: Audit) -> str:
    """What ``print`` shows."""
    head = ["attack", *COLUMNS, "epsilon ≥", "variant"]
    rows = [head] + [
        [
            result.attack,
            *(_answer.shown(result.metrics.get(metric)) for metric in COLUMNS.values()),
            _epsilon(audit.epsilon.get(result.attack)),
            result.variant,
        ]
        for result in audit.attacks
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [audit.sentence, audit.accuracy, ""]
    lines += ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    best = audit.attacks[0]
    lines.append(
        f"n = {best.n_members} members, {best.n_nonmembers} non-members{_answer.counted(audit.records)}; 95 % "
        f"intervals; epsilon at delta = {audit.delta:g}; – stands where n or the attack does not allow the number."
    )
    lines += _answer.realised(audit.attacks)
    said = [*_checks(audit), *(f"note: {note}" for note in audit.notes), *not_run(audit)]
    return "\n".join([*lines, *map(entry, said)])


def as_html(audit: Audit) -> str:
    """What a notebook shows: the answer, the ROC, the table, self-checks, and what could not run."""
    image = io.BytesIO()
    audit.plot().savefig(image, format="png", dpi=110)
    picture = base64.b64encode(image.getvalue()).decode()
    rows = (
        (result.attack, result.variant, *(_answer.shown(result.metrics.get(metric)) for metric in COLUMNS.values()))
        for result in audit.attacks
    )
    first = "".join(f"<p>{html.escape(text)}</p>" for text in (audit.sentence, audit.accuracy))
    said = "".join(f"<li>{html.escape(text)}</li>" for text in (*_checks(audit), *audit.notes, *not_run(audit)))
    return (
        f"{first}<img alt='ROC curves' src='data:image/png;base64,{picture}'>"
        f"{html_table(('attack', 'variant', *COLUMNS), rows)}<ul>{said}</ul>"
    )


def _checks(audit: Audit) -> list[str]:
    return [f"check {'passed' if check.passed else 'FAILED'}: {check.sentence}" for check in audit.selfchecks]


def not_run(audit: Audit) -> list[str]:
    """One line a reason."""
    names: dict[str, list[str]] = {}
    for name, why in audit.refused.items():
        names.setdefault(why, []).append(name)
    every = sum(attack.in_all for attack in registry.ATTACKS.values())
    return [
        f"not run: {', '.join(some) if len(some) < every else f'the {every} attacks of the registry'}. {why}"
        for why, some in names.items()
    ]


def _epsilon(bound: float | None) -> str:
    return "–" if bound is None else f"{bound:.2f}"
