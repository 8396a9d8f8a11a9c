"""The command line: parse, call, print, exit code."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lacewing import cli_list
from lacewing.errors import (
    BAD_USAGE,
    DONE,
    GATE_FAILED,
    INTERRUPTED,
    IO_FAILED,
    JOBS_FAILED,
    OUR_FAULT,
    Terminated,
    UsageError,
    exit_code,
)
from lacewing.support.files import write_atomically
from lacewing.support.machine import termination_signals
from lacewing.support.text import entry, print_json, say

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,  # else help texts lose what stands in square brackets
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(invoke_without_command=True)
app.add_typer(data_app, name="data")
bench_app = typer.Typer(invoke_without_command=True)
app.add_typer(bench_app, name="bench")
app.command("list")(cli_list.show)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder that holds data sets.")]
ShowRecords = Annotated[
    bool,
    typer.Option("--show-records", help="Show ids and scores of single records in the report: private data."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from lacewing import __version__

        print(f"lacewing {__version__}")
        raise typer.Exit


def _need_command(context: typer.Context) -> None:
    """Without a command the help is shown; the exit code is that of wrong usage, so that no script passes by it."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise UsageError(f"name a command: {context.command_path} COMMAND.")


@data_app.callback()
def _data(context: typer.Context) -> None:
    """List, check and download data sets."""
    _need_command(context)


@bench_app.callback()
def _benchmarks(context: typer.Context) -> None:
    """Measure this machine: what sparsity costs, and saves, in time."""
    _need_command(context)


@app.callback()
def _main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """What does my network give away about its training records, how much of that does sparsity take back, and what
    does it cost in accuracy?
    """
    _need_command(context)


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A study file (.toml) or a built-in name.")] = "digits",
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<name>.")] = None,
    budget: Annotated[str | None, typer.Option(help="Stop cleanly after this time: 90s, 9m, 2h.")] = None,
    only: Annotated[str | None, typer.Option(help="Train a slice: role=target,seed=0.")] = None,
    reuse: Annotated[
        list[Path] | None, typer.Option(help="Another run folder: take over what it has of this study; repeat it.")
    ] = None,
    keep: Annotated[str, typer.Option(help="all, or signals: drop weights that nothing planned needs.")] = "all",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    engine: Annotated[str, typer.Option(help="local, or ray: a cluster at RAY_ADDRESS.")] = "local",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change the study: train.epochs=10.")] = None,
    data_root: DataRoot = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes; default one a core.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, how long it will take, and train nothing.")
    ] = False,
    estimate: Annotated[
        list[str] | None, typer.Option(help="With --dry-run: also for h100:8 (h200, a100, l4, cpu-core); repeat it.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write loss and accuracy here; needs the extra tensorboard.")
    ] = None,
    show_records: ShowRecords = False,
    as_json: Json = False,
) -> None:
    """Run a study, or continue it.

    The same command again goes on where the folder stands.
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
        _print_plan(study, {**common, "on": estimate or (), "processes": processes}, as_json)
        return
    if estimate:
        raise UsageError("--estimate is for a plan: give --dry-run with it.")
    common |= {"keep": keep, "processes": processes, "engine": engine, "show_records": show_records}
    common["tensorboard"] = tensorboard
    result = _run.run(study, budget=_seconds(budget), **common)
    _print_result(result, as_json)


@app.command()
def report(folder: Path, show_records: ShowRecords = False, as_json: Json = False) -> None:
    """Write the results and the report of a run folder again.

    These are results.csv, tradeoff.json, report.html with its figures, and model_card.md.
    """
    from lacewing.study import run as _run

    _print_result(_run.report(folder, show_records=show_records), as_json)


@app.command()
def status(folder: Path, as_json: Json = False) -> None:
    """How far a run folder is; works while a study runs."""
    from lacewing.study import run as _run

    found = _run.status(folder)
    if as_json:
        print_json(found)
    else:
        from lacewing.study import status as _status

        say(_status.as_text(found))
    if found["damaged"]:
        raise typer.Exit(JOBS_FAILED)


@app.command()
def merge(out: Path, folders: list[Path], as_json: Json = False) -> None:
    """Join slices of one study into the folder OUT."""
    from lacewing.study import run as _run

    _print_result(_run.merge(out, folders), as_json)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    network: Annotated[str, typer.Argument(help="imp-03, or imp-03/target/0.")],
    to: Annotated[Path, typer.Option(help="The file to write: .safetensors or .onnx.")],
) -> None:
    """Write a network as a checkpoint of plain torch, or as ONNX.

    Butterfly layers are composed. Both take standardised records, as in training. ONNX needs an extra; in a clone of
    the project: pip install -c constraints.txt '.[onnx]'
    """
    from lacewing.study import run as _run

    say(_run.export(folder, network, to))


@app.command()
def audit(
    scores: Annotated[
        Path | None, typer.Argument(help=".npz or .csv with member and score, or member, logits and label.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="pkg.mod:factory, called as factory(shape, classes).")] = None,
    weights: Annotated[Path | None, typer.Option(help="The model's weights, .safetensors.")] = None,
    data: Annotated[Path | None, typer.Option(help=".npz with x, y and member (0 or 1).")] = None,
    refit: Annotated[str | None, typer.Option(help="pkg.mod:refit, refit(x, y, seed) -> model.")] = None,
    references: Annotated[int, typer.Option(min=0, help="Reference networks to train through --refit.")] = 0,
    attack: Annotated[list[str] | None, typer.Option(help="Run this attack; may be repeated. Default: all.")] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option("--fail-if", help="Exit 1 if true of the interval's lower end: 'lira.tpr@0.01 > 0.05'."),
    ] = None,
    delta: Annotated[float, typer.Option(help="Delta of the epsilon bounds.")] = 1e-5,
    seed: Annotated[int, typer.Option(min=0, help="Of attacks that learn, and of references.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write report.html, model_card.md and audit.json here.")] = None,
    as_json: Json = False,
) -> None:
    """Audit given scores or outputs, or a model of your own."""
    from lacewing import auditing
    from lacewing.auditing import _gates, _result

    _result.check_delta(delta)
    gates = [_gates.parse(text) for text in fail_if or ()]
    common: dict[str, Any] = {"attacks": attack or "all", "delta": delta, "seed": seed, "out": out}
    of_model: dict[str, Any] = {"--model": model, "--weights": weights, "--data": data}
    if scores is not None:
        given = {**of_model, "--refit": refit, "--references": references or None}
        if extra := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{extra[0]} is for the audit of a model: leave out {scores}, or {extra[0]}.")
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
    try:
        verdicts = _gates.check(gates, found)
    except UsageError:  # a gate that cannot be judged must not cost the audit, which may have taken hours
        _print_audit(found, None, as_json)
        raise
    _print_audit(found, verdicts, as_json)
    if failed := [verdict for verdict in verdicts if verdict.failed]:
        for verdict in failed:
            say(f"lacewing: gate failed: {verdict.sentence}", file=sys.stderr)
        raise typer.Exit(GATE_FAILED)


@app.command()
def compare(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")],
    network_a: Annotated[str, typer.Argument(metavar="A", help="imp-03 (all seeds), or imp-03/target/0.")],
    network_b: Annotated[str, typer.Argument(metavar="B", help="The network to compare it with.")],
    attack: Annotated[str, typer.Option(help="The attack whose success is compared.")] = "discriminator",
    as_json: Json = False,
) -> None:
    """Compare what two networks of a run give away.

    Both are judged on the same records.
    """
    from lacewing.study import compare as _compare

    found = _compare.compare(folder, network_a, network_b, attack=attack)
    _print_found(found, as_json)


@app.command()
def sparsify(
    model: Annotated[str, typer.Option(help="pkg.mod:factory, called without arguments (see --shape).")],
    to: Annotated[Path, typer.Option(help="The .safetensors file to write; the same factory loads it.")],
    weights: Annotated[Path | None, typer.Option(help="The model's weights, .safetensors or .pt.")] = None,
    method: Annotated[str, typer.Option(help="magnitude, random or butterfly.")] = "magnitude",
    density: Annotated[float | None, typer.Option(help="Stored parameters / all parameters that is wanted.")] = None,
    pattern: Annotated[str | None, typer.Option(help="Instead: keep N of every M weights along inputs, 2:4.")] = None,
    scope: Annotated[str, typer.Option(help="Who competes: global, per-layer or erk.")] = "global",
    ignore: Annotated[list[str] | None, typer.Option(help="A layer to leave dense; may be repeated.")] = None,
    factors: Annotated[int | None, typer.Option(min=2, help="For butterfly: factors of each chain.")] = None,
    parts_to: Annotated[Path | None, typer.Option(help="Also write the masks, or the factors.")] = None,
    shape: Annotated[str | None, typer.Option(help="Of a record: 3,32,32; the factory gets (shape, classes).")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Number of outputs, with --shape.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of initialisation and of random scores.")] = 0,
    as_json: Json = False,
) -> None:
    """Prune a model, or project it onto butterfly factors.

    It happens in one shot, without training. The answer says layer by layer what was done.
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
        shape=None if shape is None else _whole_numbers("--shape", shape, "3,32,32"),
        classes=classes,
        seed=seed,
    )
    _print_found(found, as_json)


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to create.")]) -> None:
    """Write a small project to start from.

    It has a model, a refit function and a study.
    """
    from lacewing.study import init as _init

    say(_init.init(folder))


@data_app.command("list")
def data_list(data_root: DataRoot = None, as_json: Json = False) -> None:
    """The data sets that studies can name."""
    from lacewing import data

    infos = [data.describe(name) for name in data.names()]
    if as_json:
        print_json({"schema": 1, "datasets": [vars(info) for info in infos]})
        return
    for info in infos:
        shape = "x".join(map(str, info.shape))
        say(f"{info.name:<14} {info.records:>6} records of {shape}, {info.classes} classes; {info.source}")


@data_app.command("check")
def data_check(name: str, data_root: DataRoot = None) -> None:
    """Read a data set and verify its digest."""
    from lacewing import data

    found = data.check(name, data_root)
    say(f"{found.name}: {len(found)} records of shape {found.shape}, {found.classes} classes, sha256 {found.digest}")


@data_app.command("fetch")
def data_fetch(name: str, data_root: DataRoot = None) -> None:
    """Download a data set, checksums verified."""
    from lacewing import data

    for path in data.fetch(name, data_root):
        say(path)


@bench_app.command("butterfly")
def bench_butterfly(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Of the CPU.")] = 1,
    sizes: Annotated[str, typer.Option(help="Rows and columns of the layers.")] = "256,1024,4096",
    batches: Annotated[str | None, typer.Option(help="Records; default 1,64,1024, on CUDA 16384 too.")] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="fp32 or bf16; may be repeated. Default: what the hardware multiplies.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of timing for each way and setting.")] = 0.5,
    networks: Annotated[bool, typer.Option(help="Time ResNet-20 too.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write butterfly.json, butterfly.txt and figures here.")] = None,
    as_json: Json = False,
) -> None:
    """Time layers and networks, dense, butterfly and pruned.

    These are linear layers and ResNet-20, with their share of the roofline and the memory they need.
    """
    from lacewing import bench

    found = bench.butterfly(
        device=device,
        threads=threads,
        sizes=_whole_numbers("--sizes", sizes, "256,1024"),
        batches=None if batches is None else _whole_numbers("--batches", batches, "1,64"),
        dtypes=dtype,
        seconds=seconds,
        networks=networks,
        out=out,
    )
    _print_found(found, as_json)


@bench_app.command("train")
def bench_train(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seconds: Annotated[float, typer.Option(help="Of each window.")] = 10.0,
    repeats: Annotated[int, typer.Option(min=1, help="Windows of each route, in turns.")] = 3,
    stacks: Annotated[bool, typer.Option(help="Time perceptrons too.")] = True,
    as_json: Json = False,
) -> None:
    """Time training against a plain loop.

    It trains ResNet-20, one network or several at once, and perceptrons in stacks.
    """
    from lacewing import bench

    found = bench.train(device=device, seconds=seconds, repeats=repeats, stacks=stacks)
    _print_found(found, as_json)


def _terms(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [item.partition("=") for item in text.split(",")]
    if not all(name.strip() and equals and value.strip() for name, equals, value in pairs):
        raise UsageError(f"--only {text!r} must read field=value,field=value, e.g. role=target,seed=0.")
    terms = {name.strip(): value.strip() for name, _, value in pairs}
    if len(terms) < len(pairs):
        raise UsageError(f"--only {text[:60]!r} names a field twice; a slice has one value of each.")
    return terms


def _whole_numbers(option: str, text: str, example: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9][0-9]{0,8}(,[1-9][0-9]{0,8}){0,99}", text):
        raise UsageError(f"{option} {text[:60]!r} must be whole numbers with commas between, e.g. {example}.")
    return tuple(int(number) for number in text.split(","))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h)", text.strip())
    if not found:
        raise UsageError(f"--budget {text[:60]!r} must be a number with s, m or h, e.g. 9m.")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _print_plan(study: str, options: dict[str, Any], as_json: bool) -> None:
    from lacewing.study import estimate as _estimate

    prepared, found = _estimate.planned(study, **options)
    table = prepared.table()
    if as_json:
        document = {"schema": 1, "study": prepared.study.as_dict(), "folder": str(prepared.folder), "networks": table}
        document["attacks"] = [{"attack": a.attack, "network": a.target.id} for a in prepared.slice.attacks]
        document |= {"precision": prepared.facts.get("precision"), "estimate": found, "notes": prepared.notes}
        print_json(document)
        return
    say(
        f"{'network':<20} {'role':<7} {'seed':>4} {'parameters':>10} {'non-zero':>9} {'density':>8} {'prunable':>8} "
        "epochs"
    )
    for row in table:
        say(
            f"{row['name']:<20} {row['role']:<7} {row['seed']:>4} {row['parameters']:>10,} {row['nonzero']:>9,} "
            f"{row['density']:>8.2%} {row['density_prunable']:>8.2%} {row['epochs']:>6}{'  done' * row['done']}"
        )
    done = sum(row["done"] for row in table)
    stops = sum(row["method"] == "early-stopped" for row in table)
    counted = f"{len(table) - stops} networks" + f" and {stops} early stops" * bool(stops)
    say(f"{counted}, {done} done; {len(prepared.slice.attacks)} attacks; folder {prepared.folder}")
    for note in prepared.notes:
        say(f"note: {note}")
    say(_estimate.as_text(found))


def _print_result(result: Any, as_json: bool) -> None:
    if as_json:
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
            }
        )
    else:
        say(result)
        say(f"\nreport: {result.report}")
    if result.failed or result.damaged:
        raise typer.Exit(JOBS_FAILED)


def _print_audit(found: Any, verdicts: Any, as_json: bool) -> None:
    """``verdicts`` is None where the gates could not be judged."""
    if as_json:
        gates = None if verdicts is None else [vars(verdict) for verdict in verdicts]
        print_json({**found.as_json(), "gates": gates})
        return
    say(found)
    for verdict in verdicts or ():
        say(f"gate {'FAILED' if verdict.failed else 'passed'}: {verdict.sentence}")


def _print_found(found: Any, as_json: bool) -> None:
    if as_json:
        print_json(found.as_json())
    else:
        say(found)


def main() -> NoReturn:
    """The command ``lacewing``: every error becomes one sentence on standard error and its documented exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console's code page may lack characters that we print
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        with _terminations():
            code = app(prog_name="lacewing", standalone_mode=False)
        if code == GATE_FAILED and sys.argv[1:2] in (["--show-completion"], ["--install-completion"]):
            raise UsageError(
                f"{sys.argv[1]} goes by the shell that calls it: call it in bash, zsh, fish or PowerShell."
            )
        sys.stdout.flush()
        if code == INTERRUPTED:  # Typer has taken the interrupt for an ending of its own, without a word
            raise KeyboardInterrupt
    except SystemExit as end:  # click ends so, with 1, where standard output is closed (`lacewing ... | head`)
        sys.exit(IO_FAILED if end.code == 1 else end.code)
    except KeyError as error:
        asked = "_LACEWING_COMPLETE" in os.environ  # Typer reads what the shell typed from variables beside it
        sys.exit(
            _report(UsageError(f"completion lacks the variable {error}; unset _LACEWING_COMPLETE.") if asked else error)
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python flushes once more, and complains
        sys.exit(IO_FAILED)
    except BaseException as error:
        sys.exit(_report(error))
    sys.exit(code if isinstance(code, int) else DONE)


@contextmanager
def _terminations() -> Iterator[None]:
    """Let SIGTERM end the command as an exception. While networks train, ``run`` has a handler that saves them."""

    def end(number: int, _: object) -> NoReturn:
        raise Terminated

    numbers = [number for number in termination_signals() if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _report(error: BaseException) -> int:
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.Abort):
        error = KeyboardInterrupt()
    # Typer brings a click of its own, whose exceptions are not those of the package click.
    told = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    if isinstance(error, told):
        message = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
        say(f"lacewing: {message}. See `lacewing --help`, `lacewing COMMAND --help`.", file=sys.stderr)
        return BAD_USAGE
    code = exit_code(error)
    if code == OUR_FAULT:
        path = Path(f"lacewing-fault-{os.getpid()}.txt")
        found = "".join(traceback.format_exception(error))
        try:
            write_atomically(path, found.encode("utf-8", "backslashreplace"))
            where = f"in {path}; please report it with that file"
        except OSError:  # nothing can be written into the working directory
            say(found, file=sys.stderr)
            where = "above; please report it with that"
        say(
            f"lacewing: a fault of ours ({type(error).__name__}: {error}). The traceback is {where} to the project's "
            "issue tracker.",
            file=sys.stderr,
        )
    else:
        text = str(error) or ("interrupted; the same command continues." if code == 130 else type(error).__name__)
        say(f"lacewing: {entry(text)}", file=sys.stderr)
    return code
