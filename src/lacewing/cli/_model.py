"""Commands that audit a model of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lacewing.cli._common import Json, in_options, print_found, print_judged, told_by, whole_numbers
from lacewing.cli._pair import (
    Against,
    Control,
    EqualMetric,
    PairDryRun,
    RefitDense,
    Variation,
    check_pair,
    pair_options,
)
from lacewing.errors import UsageError

if TYPE_CHECKING:
    from lacewing.auditing import Audit, PairAudit, PairCost
    from lacewing.auditing._gates import Verdict


Weights = Annotated[Path | None, typer.Option(help="The model's weights, .safetensors.")]
Outputs = Annotated[
    str | None, typer.Option(help="What the model answers: logits, probabilities, log-probabilities or sigmoid.")
]
Refit = Annotated[str | None, typer.Option(help="pkg.mod:refit, called as refit(x, y, seed); returns a trained model.")]
Junit = Annotated[Path | None, typer.Option(help="Write what --fail-if finds to this file, as JUnit XML.")]
Version = Annotated[str | None, typer.Option(help="Change it when files or settings change that refit reads.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Number of worker processes (default: one per core).")]
Factory = Annotated[str | None, typer.Option(help="pkg.mod:factory, called as factory(shape, classes).")]
LabelTask = Annotated[
    str | None, typer.Option(help="classification or binary: what labels are (default: classification).")
]


def audit(
    scores: Annotated[
        Path | None, typer.Argument(help=".npz or .csv with member and score, or member, logits and label.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="pkg.mod:factory, called as factory(shape, classes); or a .onnx file.")
    ] = None,
    weights: Weights = None,
    data: Annotated[Path | None, typer.Option(help=".npz, .csv or .parquet with x, y, member; or images.")] = None,
    pixels: Annotated[str | None, typer.Option(help="How images are taken: 0-1, 0-255 or MEAN/STD.")] = None,
    refit: Refit = None,
    references: Annotated[int, typer.Option(min=0, help="Number of reference networks to train with --refit.")] = 0,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Weights of an earlier epoch (repeatable, the earliest first); refit then returns a pair."),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option(help="The model's weights before training, for span attacks on a perceptron.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="classification, binary, multi-label or regression: what labels and outputs are.")
    ] = "classification",
    outputs: Outputs = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="The model answers at random: audit the mean of 8 answers.")
    ] = False,
    attack: Annotated[list[str] | None, typer.Option(help="Run only this attack (repeatable; default: all).")] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="Exit with code 1 if this holds, e.g. 'lira.tpr@0.01 > 0.05' or 'auc > 0.6' (any attack), which "
            "compares the lower end of the interval (repeatable).",
        ),
    ] = None,
    junit: Junit = None,
    delta: Annotated[float, typer.Option(help="Delta of the epsilon bounds.")] = 1e-5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the attacks and of the reference networks.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write report.html, model_card.md and audit.json to this folder.")
    ] = None,
    against: Against = None,
    refit_dense: RefitDense = None,
    variation: Variation = None,
    control: Control = None,
    metric: EqualMetric = None,
    dry_run: PairDryRun = False,
    as_json: Json = False,
) -> None:
    """Audit a file of scores or outputs, or your own model.

    With --against a sparse network is audited against its dense version, both on the same records.
    """
    from lacewing.auditing import _gates, _pair_gates, _result

    texts = fail_if or []
    pair: dict[str, Any] = {"--refit-dense": refit_dense, "--variation": variation, "--control": control}
    pair |= {"--metric": metric, "--dry-run": dry_run}
    with told_by(junit, texts):
        _result.check_delta(delta)
        check_pair(against, pair, texts)
        judge: Callable[[Any], tuple[Verdict, ...]]
        if against is None:
            judge = partial(_gates.judge, [_gates.parse(text) for text in texts])
        else:
            judge = partial(_pair_gates.judge, [_pair_gates.parse(text) for text in texts])
        found = _audited(
            scores,
            {"--model": model, "--weights": weights, "--data": data},
            {
                "--refit": refit,
                "--references": references,
                "--augmented": augmented,
                "--checkpoint": checkpoint,
                "--initial": initial,
                "--pixels": pixels,
                **({} if against is None else {"--against": against, **pair}),
            },
            {
                "task": task,
                "outputs": outputs,
                "attacks": attack or "all",
                "delta": delta,
                "seed": seed,
                "out": out,
            },
        )
    if dry_run:
        print_found(found, as_json)
    else:
        print_judged(found, judge(found), as_json, junit)


def audit_attribute(
    model: Annotated[str, typer.Option(help="pkg.mod:factory, called as factory(shape, classes).")],
    data: Annotated[Path, typer.Option(help=".npz with x (N, D), y and member (0 or 1).")],
    column: Annotated[
        str,
        typer.Option(help="The sensitive column of x, its place from 0; 3,4,5 for one attribute in one-hot columns."),
    ],
    weights: Weights = None,
    task: Annotated[str, typer.Option(help="classification or binary: what labels are.")] = "classification",
    outputs: Outputs = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of imputation.")] = 0,
    as_json: Json = False,
) -> None:
    """Audit what your model tells of a column of its table."""
    from lacewing import auditing

    options: dict[str, Any] = {"task": task, "outputs": outputs, "seed": seed}
    places = whole_numbers("--column", column, "3, or 3,4,5", least=0)
    found = auditing.audit_attribute_files(model=model, weights=weights, data=data, column=places, **options)
    print_found(found, as_json)


def audit_property(
    refit: Annotated[str, typer.Option(help="pkg.mod:refit, called as refit(x, y, seed); returns a trained model.")],
    data: Annotated[Path, typer.Option(help=".npz with x and y, and property (0 or 1) for --of property.")],
    of: Annotated[str, typer.Option(help="'class 3', 'feature 17', 'redrawn labels' or property.")],
    shares: Annotated[str, typer.Option(help="The shares of the two worlds, e.g. 0.1,0.2.")],
    records: Annotated[int, typer.Option(min=2, help="Records in each training set.")],
    networks: Annotated[int, typer.Option(min=4, help="Networks of each world, half of them the attacker's own.")] = 16,
    pools: Annotated[int, typer.Option(min=1, help="How often the pools of records are redrawn.")] = 1,
    asked: Annotated[float, typer.Option(help="Share of the records that no network trains on.")] = 0.2,
    poison: Annotated[
        float, typer.Option(help="Share of each training set that an attacker poisons; trains as many networks again.")
    ] = 0.0,
    poison_label: Annotated[
        int | None, typer.Option("--poison-label", min=0, help="The class that poisoned records are labelled with.")
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="Exit with code 1 if this holds, e.g. 'mask.accuracy > 0.6' or 'accuracy > 0.7' (any attack), which "
            "compares the lower end of the interval (repeatable).",
        ),
    ] = None,
    junit: Junit = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws and of the networks.")] = 0,
    version: Version = None,
    processes: Processes = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results and finished networks; continues there.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train one network and print what all would take.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Audit what your training tells of a property.

    Networks of two worlds are trained, whose training records have the property in two shares; attacks tell them apart.
    """
    from lacewing import auditing
    from lacewing.auditing import _property_gates

    texts = fail_if or []
    with told_by(junit, texts):
        gates = [_property_gates.parse(text) for text in texts]
        found = auditing.audit_property_files(
            refit=refit,
            data=data,
            of=of,
            shares=_pair(shares),
            records=records,
            networks=networks,
            pools=pools,
            asked=asked,
            poison=poison,
            poison_label=poison_label,
            seed=seed,
            version=version,
            processes=processes,
            out=out,
            dry_run=dry_run,
        )
        if isinstance(found, auditing.PropertyCost) and gates:
            raise UsageError("--fail-if holds an audit to gates, and --dry-run makes none: leave one of them out.")
    if isinstance(found, auditing.PropertyCost):
        print_found(found, as_json)
    else:
        print_judged(found, _property_gates.judge(gates, found), as_json, junit)


def audit_ranges(
    scores: Annotated[
        Path | None, typer.Argument(help=".npz with score, of each range or of points within, and member (0 or 1).")
    ] = None,
    model: Factory = None,
    weights: Weights = None,
    data: Annotated[
        Path | None, typer.Option(help=".npz with x (N, D), y, member (0 or 1), low, high (R, D) and label (R).")
    ] = None,
    other: Annotated[
        list[Path] | None,
        typer.Option(help="Weights of a model of the same factory that trained on none of the records (repeatable)."),
    ] = None,
    points: Annotated[
        int | None, typer.Option(min=1, help="Points that are asked within each range (default: 32).")
    ] = None,
    task: LabelTask = None,
    outputs: Outputs = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the points (default: 0).")] = None,
    as_json: Json = False,
) -> None:
    """Audit whether ranges of a table hold a member."""
    from lacewing import auditing

    of_model = {"--model": model, "--weights": weights, "--data": data}
    options = _given({"--points": points, "--task": task, "--outputs": outputs, "--seed": seed})
    if _has_scores(scores, of_model, {"--other": other, **dict.fromkeys(options, True)}):
        assert scores is not None
        print_found(auditing.audit_range_scores(scores), as_json)
        return
    print_found(auditing.audit_ranges_files(**_named({**of_model, **options}), others=other or ()), as_json)


def audit_usage(
    scores: Annotated[
        Path | None, typer.Argument(help=".npz with score (N), known_score and known_member (networks, records).")
    ] = None,
    model: Factory = None,
    weights: Weights = None,
    data: Annotated[Path | None, typer.Option(help=".npz with x and y: the data set, any part of it used.")] = None,
    refit: Refit = None,
    references: Annotated[
        int | None, typer.Option(min=4, help="Number of reference networks to train with --refit (default: 8).")
    ] = None,
    task: LabelTask = None,
    outputs: Outputs = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the draws and of the reference networks (default: 0).")
    ] = None,
    version: Version = None,
    processes: Processes = None,
    out: Annotated[Path | None, typer.Option(help="Folder for finished networks; continues there.")] = None,
    as_json: Json = False,
) -> None:
    """Audit how many records of a data set were used."""
    from lacewing import auditing

    of_model = {"--model": model, "--weights": weights, "--data": data, "--refit": refit}
    named = {"--references": references, "--task": task, "--outputs": outputs, "--seed": seed}
    options = _given({**named, "--version": version, "--processes": processes, "--out": out})
    if _has_scores(scores, of_model, dict.fromkeys(options, True)):
        assert scores is not None
        print_found(auditing.audit_usage_scores(scores), as_json)
        return
    print_found(auditing.audit_usage_files(**_named({**of_model, **options})), as_json)


def _pair(text: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--shares {text[:60]!r} must be two numbers, e.g. 0.1,0.2.") from None
    return first, second


def _audited(
    scores: Path | None, of_model: dict[str, Any], trained: dict[str, Any], common: dict[str, Any]
) -> Audit | PairAudit | PairCost:
    """The audit of a file of scores or outputs, or of a model, by which options are given; errors name options."""
    with in_options():
        return _by_source(scores, of_model, trained, common)


def _by_source(
    scores: Path | None, of_model: dict[str, Any], trained: dict[str, Any], common: dict[str, Any]
) -> Audit | PairAudit | PairCost:
    from lacewing import auditing

    if _has_scores(scores, of_model, trained):
        assert scores is not None
        return auditing.audit_scores(scores, **common)
    options = _named({**of_model, **trained})
    if "against" in options:
        return auditing.audit_pair_files(**pair_options(options), **common)
    return auditing.audit_model_files(checkpoints=options.pop("checkpoint") or (), **options, **common)


def _has_scores(scores: Path | None, of_model: dict[str, Any], trained: dict[str, Any]) -> bool:
    """Whether a file of scores is audited, or a model. Raises `UsageError`: both were given, or neither completely."""
    if scores is not None:
        if extra := [name for name, value in {**of_model, **trained}.items() if value]:
            raise UsageError(f"{extra[0]} applies to the audit of a model: leave out {scores} or {extra[0]}.")
        return True
    of_file = str(of_model.get("--model")).endswith(".onnx")  # holds its weights
    if absent := [name for name, value in of_model.items() if value is None and not (of_file and name == "--weights")]:
        needed = f"{', '.join([*of_model][:-1])} and {[*of_model][-1]}"
        raise UsageError(f"{absent[0]} is missing: name a file of scores, or give {needed}.")
    return False


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given, be it with the value of the default."""
    return {name: value for name, value in options.items() if value is not None}


def _named(options: dict[str, Any]) -> dict[str, Any]:
    """By the names of arguments."""
    return {name.removeprefix("--"): value for name, value in options.items()}
