"""The audit's block of a model card, in Markdown: what was attacked, how, with what success, and what was not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lacewing.reporting import _audit_page, _families, _headline, _notes, _parts
from lacewing.reporting._audit_page import AuditLike
from lacewing.reporting._data import (
    ReportData,
    Series,
    density_text,
    estimates,
    in_order,
    n_text,
    number,
    over_seeds,
    random_halves,
    realised,
    registered,
    results_of,
    seeds_of,
    seeds_text,
    series,
    share_text,
    unfinished,
)
from lacewing.reporting._matrix import described
from lacewing.reporting._settings import TRUST
from lacewing.results import AttackResult
from lacewing.support.text import visible
from lacewing.tradeoff import EXPLORATORY, alike

if TYPE_CHECKING:
    from lacewing.attacks import Attack
    from lacewing.attacks.selfchecks import SelfCheck

_MEASURED = ("AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "balanced accuracy")
_INTERVALS = (
    "Intervals are 95 %: DeLong for AUC; for a TPR one that lets the threshold move; for the balanced accuracy the "
    "exact (Clopper-Pearson) ones of both rates, joined."
)
_OVER_SEEDS = (
    "From three seeds on (under random halves: three cuts) a mean over seeds has Student's t interval over them; of "
    "fewer, and where they do not differ, it has the mean of the seeds' own, over records, the spread over seeds left "
    "out. A slope has Fieller's set."
)


def model_card(subject: ReportData | AuditLike) -> str:
    """The block for a study (`ReportData`) or for a single audit, as Markdown that ends with a line break.

    It names threat models, variants, n, intervals and seeds, gives every attack's result (for a study on the dense
    and the best sparse network) and says what was not tested. Texts of the study are escaped; no single record shows.
    """
    return _study_card(subject) if isinstance(subject, ReportData) else _audit_card(subject)


def _study_card(data: ReportData) -> str:
    first, more = _headline.headline(data)
    primary = next((answer.sentence for answer in data.answers if answer.primary), None)
    name = str(data.study.get("name", "study"))
    lines = [f"## Membership leakage: {_text(name)}", "", _text(" ".join([first, *more])), ""]
    if data.missing or data.jobs_failed:
        waiting = f"{data.missing} networks missing, {len(data.jobs_failed)} jobs failed"
        lines += [f"This study is not finished: {waiting}.", ""]
    elif unfinished(data):
        lines += ["This study is not finished: not every planned attack has run.", ""]
    if data.damaged:
        files = "\n".join(f"- {_text(each)}" for each in data.damaged)
        lines += [f"Lost or damaged files of the run folder, {len(data.damaged)}:", "", files, ""]
    lines += [f"- What was attacked: {_text(_notes.subtitle(data))}"]
    lines += [f"- Records: {_text(n_text(data))}; {seeds_text(seeds_of(data)) if seeds_of(data) else 'no seed yet'}"]
    lines += [f"- {_text(each)}" for each in _families.answered(data) if each != primary]
    if short := _families.in_short(data):
        lead = data.tradeoff.attack if data.tradeoff is not None else ""
        lines += [f"- Differences in A at equal test accuracy, attack {_text(f'“{lead}”: ' + '; '.join(short))}"]
    lines += [f"- Every number but the declared answers is {EXPLORATORY}."]
    lines += [f"- {_INTERVALS} {_OVER_SEEDS}"]
    lines += [f"- Made by: {_code(data.again or data.command)}", ""]
    for title, network in _chosen(data):
        found = {attack: of for (of_name, attack), of in results_of(data).items() if of_name == network}
        lines += [f"### {_text(title)}", "", *_results(found, data.registry, halves=random_halves(data)), ""]
    about = described(data)
    if about:
        lines += ["### Attacks", ""]
        lines += _table(
            ("attack", "variant", "knows of the sparsity", "threat model", "n"),
            [(a.name, a.variants, a.adaptive, a.threat_model, a.n) for a in about],
        )
        lines.append("")
    lines += _checks(data.selfchecks)
    lines += [f"- {_text(sentence)}" for sentence in data.failures] + [""] * bool(data.failures)
    lines += [_text(_parts.untested((a.attack for a in data.attacks), data.registry)), "", TRUST]
    return "\n".join(lines) + "\n"


def _chosen(data: ReportData) -> list[tuple[str, str]]:
    """The dense network, and the best sparse one (else the sparsest), with their titles."""
    shown = series(data)
    attacked = {network for network, _ in results_of(data)}
    picked = [s for s in shown if s.baseline and s.network in attacked][:1]
    best = _headline.best_sparse(data.tradeoff, data.collapsed) if data.tradeoff is not None else None
    sparse = [s for s in shown if s.sparse and s.network in attacked]
    if sparse:
        sparsest = min(sparse, key=lambda s: s.density)
        picked.append(next((s for s in sparse if best is not None and s.network == best.network), sparsest))
    sparse_title = "Best sparse network" if best is not None else "Sparsest network"

    def titled(s: Series) -> str:
        what = "Dense network" if s.baseline else sparse_title
        return f"{what}: {data.label(s.network, s.method)}, density {density_text(s.density)}"

    return [(titled(s), s.network) for s in picked]


def _results(
    found: Mapping[str, Mapping[int, AttackResult]], registry: Mapping[str, Attack], *, halves: bool
) -> list[str]:
    metrics = ("auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "balanced_accuracy")
    rows = [
        (name, *(_over(found[name], metric, halves=halves) for metric in metrics)) for name in in_order(found, registry)
    ]
    return _table(("attack", *_MEASURED), rows)


def _over(results: Mapping[int, AttackResult], metric: str, *, halves: bool) -> str:
    """The mean over seeds with its interval, and the FPR that was realised where a TPR is given."""
    measured = over_seeds(estimates(results, metric), halves=halves)
    if measured is None:
        return "not given"
    e, over = measured
    named = f", {over}" if over.endswith((alike("seed"), alike("cut"))) else ""  # the others are said above the tables
    if metric == "auc":
        return f"{number(e.value)} ({number(e.low)} to {number(e.high)}){named}"
    return share_text(e) + named + realised(results, metric)


def _audit_card(audit: AuditLike) -> str:
    registry = registered()
    first, more = _audit_page.answer(audit)
    lines = ["## Membership leakage", "", _text(" ".join([first, *more])), ""]
    seeds = sorted({a.network.seed for a in audit.attacks})
    lines += [f"- {_INTERVALS}", f"- One network, {seeds_text(seeds) if seeds else 'no attack'}"]
    lines += [f"- {_text(note)}" for note in audit.notes]
    shown = _audit_page.rows(audit, registry)
    if shown:
        head = ["attack", "variant", *_MEASURED, "n", "threat model"]
        head += [f"epsilon at delta {audit.delta:g}"] * bool(audit.epsilon)
        made = [
            (r.attack, r.variant, *(_both(c) for c in (r.auc, r.tpr_01, r.tpr_001, r.accuracy)), r.n, r.threat_model)
            + ((r.epsilon,) if audit.epsilon else ())
            for r in shown
        ]
        lines += ["", *_table(head, made)]
    if audit.refused:
        lines += ["", "Attacks that did not run:", ""]
        lines += [f"- {_text(names)}: {_text(why)}" for names, why in _audit_page.refusals(audit, registry)]
    lines += ["", *_checks(audit.selfchecks)]
    lines.append(_text(_parts.untested((a.attack for a in audit.attacks), registry, audit.refused)))
    return "\n".join(lines) + "\n"


def _both(cell: tuple[str, str]) -> str:
    return f"{cell[0]} ({cell[1]})" if cell[1] else cell[0]


def _checks(selfchecks: Sequence[SelfCheck]) -> list[str]:
    if not selfchecks:
        return []
    rows = [(c.name, "passed" if c.passed else "FAILED", c.sentence) for c in selfchecks]
    return ["### Self-checks", "", *_table(("check", "result", "what was found"), rows), ""]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_text, cells)) + " |"


def _text(text: str) -> str:
    """Plain text inside Markdown: no markup, no HTML, no link, no line break, no end of a table cell."""
    flat = visible(re.sub(r"\s+", " ", text.replace("\u202f", " ").replace("\u00a0", " ")).strip())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", flat)
    return re.sub(r"(?i)(https?|ftp)(?=://)|(www)(?=\.)", r"\g<0>\\", flat)  # which GitHub makes links of by itself


def _code(text: str) -> str:
    """Code on one line, whatever backticks it holds; none of it is read as markup."""
    flat = visible(re.sub(r"\s+", " ", text))
    fence = "`" * (max((len(run) for run in re.findall(r"`+", flat)), default=0) + 1)
    return f"{fence} {flat} {fence}" if "`" in flat else f"{fence}{flat}{fence}"
