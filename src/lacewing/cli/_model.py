"""Commands for a model of the user's own: ``audit`` and ``sparsify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lacewing.cli._common import Json, print_found, whole_numbers
from lacewing.errors import GATE_FAILED, UsageError
from lacewing.support.text import print_json, say

if TYPE_CHECKING:
    from lacewing.auditing import Audit
    from lacewing.auditing._gates import Gate, Verdict


def audit(
    scores: Annotated[
        Path | None, typer.Argument(help=".npz or .csv with member and score, or member, logits and label.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="pkg.mod:factory, called as factory(shape, classes).")] = None,
    weights: Annotated[Path | None, typer.Option(help="The model's weights, .safetensors.")] = None,
    data: Annotated[Path | None, typer.Option(help=".npz with x, y and member (0 or 1).")] = None,
    refit: Annotated[
        str | None, typer.Option(help="pkg.mod:refit, called as refit(x, y, seed); returns a trained model.")
    ] = None,
    references: Annotated[int, typer.Option(min=0, help="Number of reference networks to train with --refit.")] = 0,
    attack: Annotated[list[str] | None, typer.Option(help="Run only this attack (repeatable; default: all).")] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="Exit with code 1 if this holds, e.g. 'lira.tpr@0.01 > 0.05', which compares the lower end of the "
            "interval (repeatable).",
        ),
    ] = None,
    delta: Annotated[float, typer.Option(help="Delta of the epsilon bounds.")] = 1e-5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the attacks and of the reference networks.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write report.html, model_card.md and audit.json to this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Audit a file of scores or outputs, or your own model."""
    from lacewing import auditing
    from lacewing.auditing import _gates, _result

    _result.check_delta(delta)
    gates = [_gates.parse(text) for text in fail_if or ()]
    common: dict[str, Any] = {"attacks": attack or "all", "delta": delta, "seed": seed, "out": out}
    of_model: dict[str, Any] = {"--model": model, "--weights": weights, "--data": data}
    if scores is not None:
        given = {**of_model, "--refit": refit, "--references": references or None}
        if extra := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{extra[0]} applies to the audit of a model: leave out {scores} or {extra[0]}.")
        found = auditing.audit_scores(scores, **common)
    else:
        if absent := [name for name, value in of_model.items() if value is None]:
            raise UsageError(f"{absent[0]} is missing: name a file of scores, or give --model, --weights and --data.")
        found = auditing.audit_model_files(
            **{name.removeprefix("--"): value for name, value in of_model.items()},
            refit=refit,
            references=references,
            **common,
        )
    _print_audit(found, gates, as_json)


def sparsify(
    model: Annotated[str, typer.Option(help="pkg.mod:factory, called without arguments (see --shape).")],
    to: Annotated[Path, typer.Option(help="The .safetensors file to write; the same factory loads it.")],
    weights: Annotated[Path | None, typer.Option(help="The model's weights, .safetensors or .pt.")] = None,
    method: Annotated[str, typer.Option(help="magnitude, random or butterfly.")] = "magnitude",
    density: Annotated[
        float | None, typer.Option(help="Target share of parameters kept: stored parameters / all parameters.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Instead of --density: keep N of every M weights along the inputs, e.g. 2:4.")
    ] = None,
    scope: Annotated[
        str, typer.Option(help="Rank weights globally or per layer: global, per-layer or erk.")
    ] = "global",
    ignore: Annotated[list[str] | None, typer.Option(help="A layer to leave dense (repeatable).")] = None,
    factors: Annotated[int | None, typer.Option(min=2, help="For butterfly: number of factors per layer.")] = None,
    parts_to: Annotated[Path | None, typer.Option(help="Also write the masks or the factors to this file.")] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Shape of a record, e.g. 3,32,32; the factory is then called with (shape, classes)."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Number of outputs; needs --shape.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initialisation and of random scores.")] = 0,
    as_json: Json = False,
) -> None:
    """Prune a model in one shot, or project it onto butterfly factors.

    Nothing is trained. The output lists what was done to each layer.
    """
    from lacewing.sparsify import files

    found = files.sparsify_files(
        model=model,
        weights=weights,
        to=to,
        method=method,
        density=density,
        pattern=pattern,
        scope=scope,
        ignore=ignore or (),
        factors=factors,
        parts_to=parts_to,
        shape=None if shape is None else whole_numbers("--shape", shape, "3,32,32"),
        classes=classes,
        seed=seed,
    )
    print_found(found, as_json)


def _print_audit(found: Audit, gates: list[Gate], as_json: bool) -> None:
    """Print an audit and what its gates say; exit with `GATE_FAILED` where one failed."""
    from lacewing.auditing import _gates

    try:
        verdicts = _gates.check(gates, found)
    except UsageError:  # the audit may have taken hours: print it although a gate cannot be evaluated
        _print_verdicts(found, None, as_json)
        raise
    _print_verdicts(found, verdicts, as_json)
    if failed := [verdict for verdict in verdicts if verdict.failed]:
        for verdict in failed:
            say(f"lacewing: gate failed: {verdict.sentence}", file=sys.stderr)
        raise typer.Exit(GATE_FAILED)


def _print_verdicts(found: Audit, verdicts: tuple[Verdict, ...] | None, as_json: bool) -> None:
    """``verdicts`` is None where the gates could not be evaluated."""
    if as_json:
        gates = None if verdicts is None else [vars(verdict) for verdict in verdicts]
        print_json({**found.as_json(), "gates": gates})
        return
    say(found)
    for verdict in verdicts or ():
        say(f"gate {'FAILED' if verdict.failed else 'passed'}: {verdict.sentence}")
