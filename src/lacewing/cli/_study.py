"""Commands for studies and run folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from lacewing.cli._common import DataRoot, Device, Json, RunFolder, ShowRecords, print_found
from lacewing.errors import JOBS_FAILED, UsageError
from lacewing.support.text import print_json, say


def run(
    study: Annotated[str, typer.Argument(help="A study file (.toml) or the name of a built-in study.")] = "digits",
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/<name>).")] = None,
    budget: Annotated[str | None, typer.Option(help="Stop cleanly after this time, e.g. 90s, 9m or 2h.")] = None,
    only: Annotated[str | None, typer.Option(help="Train only these networks, e.g. role=target,seed=0.")] = None,
    reuse: Annotated[list[Path] | None, typer.Option(help="Reuse finished jobs from this folder (repeatable).")] = None,
    keep: Annotated[str, typer.Option(help="all, or signals: delete weights that no planned job needs.")] = "all",
    device: Device = "auto",
    engine: Annotated[str, typer.Option(help="local, or ray (the cluster at RAY_ADDRESS).")] = "local",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a field of the study, e.g. train.epochs=10 (repeatable)."),
    ] = None,
    data_root: DataRoot = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of worker processes (default: one per core).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and its estimated time; train nothing.")
    ] = False,
    estimate: Annotated[
        list[str] | None,
        typer.Option(
            help="With --dry-run: also estimate the time on other machines, e.g. h100:8 (h100, h200, a100, l4 or "
            "cpu-core; repeatable), and the price: h100:8@2.5 where one costs 2.5 an hour."
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="With --dry-run: plan for data that are not here, e.g. 1280000x3x224x224:1000 (classes)."),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write loss and accuracy to this folder; needs the extra tensorboard.")
    ] = None,
    show_records: ShowRecords = False,
    as_json: Json = False,
) -> None:
    """Run a study, or continue it.

    Run the same command again to continue where the folder stopped.
    """
    from lacewing.study import run as _run

    if keep not in ("all", "signals"):
        raise UsageError(f"--keep {keep}: give 'all' or 'signals'.")
    common: dict[str, Any] = {
        "out": out,
        "only": _terms(only),
        "reuse": tuple(reuse or ()),
        "device": device,
        "set": tuple(set_ or ()),
        "data_root": data_root,
    }
    if dry_run:
        _print_plan(study, {**common, "on": estimate or (), "processes": processes, "shape": shape}, as_json)
        return
    if estimate:
        raise UsageError("--estimate needs --dry-run.")
    if shape is not None:
        raise UsageError("--shape needs --dry-run.")
    common |= {"keep": keep, "processes": processes, "engine": engine, "show_records": show_records}
    common["tensorboard"] = tensorboard
    result = _run.run(study, budget=_seconds(budget), **common)
    _print_result(result, as_json)


def report(folder: RunFolder, show_records: ShowRecords = False, as_json: Json = False) -> None:
    """Rebuild the results and the report of a run folder.

    Writes results.csv, tradeoff.json, report.html with its figures, and model_card.md.
    """
    from lacewing.study import run as _run

    _print_result(_run.report(folder, show_records=show_records), as_json)


def status(folder: RunFolder, as_json: Json = False) -> None:
    """Show the progress of a run folder, also while it runs."""
    from lacewing.study import run as _run

    found = _run.status(folder)
    if as_json:
        print_json(found)
    else:
        from lacewing.study import status as _status

        say(_status.as_text(found))
    if found["damaged"]:
        raise typer.Exit(JOBS_FAILED)


def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to create or to extend.")],
    folders: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Run folders with slices of one study.")],
    as_json: Json = False,
) -> None:
    """Merge slices of one study into the folder OUT."""
    from lacewing.study import run as _run

    _print_result(_run.merge(out, folders), as_json)


def export(
    folder: RunFolder,
    network: Annotated[str, typer.Argument(help="The network, e.g. imp-03 or imp-03/target/0.")],
    to: Annotated[Path, typer.Option(help="The file to write: .safetensors or .onnx.")],
) -> None:
    """Write a network as a PyTorch checkpoint, or as ONNX.

    Butterfly factors are multiplied into dense weights. The input is standardised records, as in training. ONNX needs
    an extra; in a clone of the project: pip install -c constraints.txt '.[onnx]'
    """
    from lacewing.study import run as _run

    say(_run.export(folder, network, to))


def compare(
    folder: RunFolder,
    network_a: Annotated[str, typer.Argument(metavar="A", help="A network: imp-03 (all seeds) or imp-03/target/0.")],
    network_b: Annotated[str, typer.Argument(metavar="B", help="The network to compare it with.")],
    attack: Annotated[str, typer.Option(help="The attack whose success is compared.")] = "discriminator",
    as_json: Json = False,
) -> None:
    """Compare how much two networks of a run leak.

    Both are attacked on the same records.
    """
    from lacewing.study import compare as _compare

    found = _compare.compare(folder, network_a, network_b, attack=attack)
    print_found(found, as_json)


def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to create.")]) -> None:
    """Create a small project to start from.

    It contains a model, a refit function and a study.
    """
    from lacewing.study import init as _init

    say(_init.init(folder))


def _terms(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [item.partition("=") for item in text.split(",")]
    if not all(name.strip() and equals and value.strip() for name, equals, value in pairs):
        raise UsageError(f"--only {text!r} must have the form field=value,field=value, e.g. role=target,seed=0.")
    terms = {name.strip(): value.strip() for name, _, value in pairs}
    if len(terms) < len(pairs):
        raise UsageError(f"--only {text[:60]!r} names a field twice; give each field once.")
    return terms


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h)", text.strip())
    if not found:
        raise UsageError(f"--budget {text[:60]!r} must be a number with s, m or h, e.g. 9m.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _print_plan(study: str, options: dict[str, Any], as_json: bool) -> None:
    from lacewing.results import STOPPED
    from lacewing.study import estimate as _estimate

    prepared, found = _estimate.planned(study, **options)
    table = prepared.table()
    if as_json:
        document = {"schema": 1, "study": prepared.study.as_dict(), "folder": str(prepared.folder), "networks": table}
        document["attacks"] = [{"attack": a.attack, "network": a.target.id} for a in prepared.slice.attacks]
        document["property"] = prepared.worlds()
        document["attribute"] = prepared.columns()
        document |= {"precision": prepared.facts.get("precision"), "estimate": found, "notes": prepared.notes}
        print_json(document)
        return
    _print_networks(table)
    done = sum(row["done"] for row in table)
    stops = sum(row["method"] == STOPPED for row in table)
    counted = f"{len(table) - stops} networks" + f" and {stops} early stops" * bool(stops)
    say(f"{counted}, {done} done; {len(prepared.slice.attacks)} attacks; folder {prepared.folder}")
    if (worlds := prepared.worlds()) is not None:
        say(
            f"property '{worlds['of']}': {worlds['networks']:,} more networks, {worlds['done']:,} done, of "
            f"{worlds['records']:,} records each; for every network and seed {worlds['each']} of each share of "
            f"{', '.join(f'{share:g}' for share in worlds['shares'])}"
            + f", and as many with {100 * worlds['poison']:g} % of their records poisoned" * bool(worlds["poison"])
            + f"; {worlds['comparisons']} pairs of worlds to tell apart"
        )
    if (guessed := prepared.columns()) is not None:
        say(
            f"attribute: column{'s' * (len(guessed['columns']) != 1)} {', '.join(guessed['columns'])} guessed from the "
            f"answers of {guessed['networks']} networks, {guessed['done']} done"
        )
    for note in prepared.notes:
        say(f"note: {note}")
    say(_estimate.as_text(found))


def _print_networks(table: list[dict[str, Any]]) -> None:
    """A line a network, or, where there are many, a line a recipe and role."""
    from lacewing.results import repeat
    from lacewing.study.result import MOST_ROWS, seed_title

    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in table:
        key = (row["name"], row["role"])
        groups.setdefault(key if len(table) > MOST_ROWS else (*key, row["seed"], row["init"]), []).append(row)
    names = max([20, *(len(row["name"]) for row in table)])
    title = "networks" if len(table) > MOST_ROWS else seed_title(row["init"] for row in table)
    columns = f"{'parameters':>10} {'non-zero':>9} {'density':>8} {'prunable':>8} epochs"
    say(f"{'network':<{names}} {'role':<7} {title:>4} {columns}")
    for of in groups.values():
        row, done = of[0], sum(each["done"] for each in of)
        which = str(len(of)) if len(table) > MOST_ROWS else repeat(row["seed"], row["init"])
        told = "" if not done else "  done" if done == len(of) else f"  {done} done"
        say(
            f"{row['name']:<{names}} {row['role']:<7} {which:>{max(4, len(title))}} {row['parameters']:>10,} "
            f"{row['nonzero']:>9,} {row['density']:>8.2%} {row['density_prunable']:>8.2%} {row['epochs']:>6}{told}"
        )


def _print_result(result: Any, as_json: bool) -> None:
    if as_json:
        from lacewing.attribute import as_json as attribute_json
        from lacewing.property import as_json as property_json
        from lacewing.tradeoff import as_json as tradeoff_json

        print_json(
            {
                "schema": 1,
                "folder": str(result.folder),
                "report": str(result.report),
                "networks": result.table(),
                "tradeoff": tradeoff_json(result.tradeoff, result.answers) if result.tradeoff else None,
                "declared": tradeoff_json(None, result.answers)["declared"],
                "cautions": result.cautions,
                "failed": result.failed,
                "damaged": result.damaged,
                "missing": result.missing,
                "precision": result.precision,
                "property": None if result.property is None else property_json(result.property),
                "attribute": None if result.attribute is None else attribute_json(result.attribute),
            }
        )
    else:
        say(result)
        say(f"\nreport: {result.report}")
    if result.failed or result.damaged:
        raise typer.Exit(JOBS_FAILED)
