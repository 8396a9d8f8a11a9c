"""What several commands share: options, parsers of option values, and printing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from lacewing.errors import UsageError
from lacewing.support.text import print_json, say

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


def print_found(found: Any, as_json: bool) -> None:
    """Print a result, as its text or as its JSON document."""
    if as_json:
        print_json(found.as_json())
    else:
        say(found)
