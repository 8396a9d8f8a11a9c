"""What several commands share: options, parsers of option values, and printing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lacewing.errors import GATE_FAILED, LacewingError, UsageError, UserCodeError
from lacewing.support.text import print_json, say

if TYPE_CHECKING:
    from lacewing.auditing._gates import Verdict

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder with the data sets.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]
ShowRecords = Annotated[
    bool,
    typer.Option("--show-records", help="Show ids and scores of individual records in the report (private data)."),
]


def need_command(context: typer.Context) -> None:
    """Print the help where no command is given, and end with the exit code of wrong usage.

    A script that forgets the command must not take this for success.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise UsageError(f"name a command: {context.command_path} COMMAND.")


def whole_numbers(option: str, text: str, example: str, *, least: int = 1) -> tuple[int, ...]:
    """Whole numbers from 1, or from 0, separated by commas. Raises `UsageError` that shows ``example``."""
    one = "[1-9][0-9]{0,8}" if least else "(0|[1-9][0-9]{0,8})"
    if not re.fullmatch(f"{one}(,{one}){{0,99}}", text):
        raise UsageError(f"{option} {text[:60]!r} must be whole numbers separated by commas, e.g. {example}.")
    return tuple(int(number) for number in text.split(","))


@contextmanager
def in_options() -> Iterator[None]:
    """Name options of the command in errors that name arguments of a function."""
    try:
        yield
    except UsageError as error:
        text = re.sub(r"\b(outputs|task|metric) ?= ?'([\w@.-]+)'", r"--\1 \2", str(error))
        text = re.sub(r"\bl2=([\d.]+\d)", r"--l2 \1", text)
        text = re.sub(r"\b(augmented|retrain|show_records|dry_run)=True\b", r"--\1", text)
        text = re.sub(r"(?<![-\w/.'])(refit_dense|dry_run)\b(?!\.\w|[/:'])=?", r"--\1", text)
        error.args = (re.sub(r"--[a-z]+_[a-z]+\b", lambda found: found[0].replace("_", "-"), text),)
        raise


def print_found(found: Any, as_json: bool) -> None:
    """Print a result, as its text or as its JSON document."""
    if as_json:
        print_json(found.as_json())
    else:
        say(found)


@contextmanager
def told_by(junit: Path | None, gates: list[str]) -> Iterator[None]:
    """Write to the JUnit file, if there is one, that the audit did not end, and why where it did not run.

    Such files are published. What users' own code or a library says may quote records: it stands on standard error.
    """
    from lacewing.auditing import _gates, _junit

    if junit is not None:
        _junit.begin(junit, gates)
    try:
        yield
    except Exception as error:
        if junit is not None:
            ours = isinstance(error, LacewingError) and not isinstance(error, UserCodeError)
            why = error if ours else f"{type(error.__cause__ or error).__name__}, see standard error."
            _junit.write(junit, [_gates.Verdict(text, None, f"The audit did not run: {why}") for text in gates])
        raise


def print_judged(found: Any, verdicts: Sequence[Verdict], as_json: bool, junit: Path | None) -> None:
    """Print an audit and what its gates say; exit with `GATE_FAILED` where one failed.

    The audit may have taken hours: it is printed although a gate cannot be judged or a file cannot be written.
    """
    from lacewing.auditing import _gates, _junit

    try:
        if junit is not None:
            _junit.write(junit, verdicts)
    finally:
        if as_json:
            print_json({**found.as_json(), "gates": [vars(verdict) for verdict in verdicts]})
        else:
            say(found)
        for verdict in verdicts:
            if verdict.failed is not None and not as_json:
                say(f"gate {'FAILED' if verdict.failed else 'passed'}: {verdict.sentence}")
            elif verdict.failed:  # standard output holds the document alone
                say(f"lacewing: gate failed: {verdict.sentence}", file=sys.stderr)
    if unjudged := _gates.unjudged(verdicts):
        raise UsageError(unjudged)
    if any(verdict.failed for verdict in verdicts):
        raise typer.Exit(GATE_FAILED)
