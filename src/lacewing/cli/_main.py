"""The entry point: every error becomes one sentence on standard error and a documented exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from lacewing.cli._app import app
from lacewing.errors import (
    BAD_USAGE,
    DONE,
    GATE_FAILED,
    INTERRUPTED,
    IO_FAILED,
    OUR_FAULT,
    Terminated,
    UsageError,
    exit_code,
)
from lacewing.support.files import write_atomically
from lacewing.support.machine import termination_signals
from lacewing.support.text import entry, say


def main() -> NoReturn:
    """Run the command line and exit: one sentence for an error, and its documented exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console's code page may lack characters that we print
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        with _terminations():
            code = app(prog_name="lacewing", standalone_mode=False)
        if code == GATE_FAILED and sys.argv[1:2] in (["--show-completion"], ["--install-completion"]):
            raise UsageError(f"{sys.argv[1]} detects the shell that runs it: run it in bash, zsh, fish or PowerShell.")
        sys.stdout.flush()
        if code == INTERRUPTED:  # Typer handles the interrupt itself and prints nothing
            raise KeyboardInterrupt
    except SystemExit as end:  # click exits with 1 where standard output is closed (`lacewing ... | head`)
        sys.exit(IO_FAILED if end.code == 1 else end.code)
    except KeyError as error:
        asked = "_LACEWING_COMPLETE" in os.environ  # Typer then reads other variables, which may be missing
        sys.exit(
            _report(UsageError(f"completion lacks the variable {error}; unset _LACEWING_COMPLETE.") if asked else error)
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it exits
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
    """Print the sentence of an error, and return its exit code."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.Abort):
        error = KeyboardInterrupt()
    # Typer brings its own copy of click, whose exceptions are not those of the package click.
    of_click = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    if isinstance(error, of_click):
        message = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
        say(f"lacewing: {message}. See `lacewing --help`, `lacewing COMMAND --help`.", file=sys.stderr)
        return BAD_USAGE
    code = exit_code(error)
    if code == OUR_FAULT:
        _report_fault(error)
    else:
        interrupted = "interrupted; run the same command again to continue."
        text = str(error) or (interrupted if code == INTERRUPTED else type(error).__name__)
        say(f"lacewing: {entry(text)}", file=sys.stderr)
    return code


def _report_fault(error: BaseException) -> None:
    """Write the traceback of an internal error to a file, or to standard error where no file can be written."""
    path = Path(f"lacewing-fault-{os.getpid()}.txt")
    found = "".join(traceback.format_exception(error))
    try:
        write_atomically(path, found.encode("utf-8", "backslashreplace"))
        where = f"in {path}; please attach that file to a report"
    except OSError:  # the working directory is read-only or full
        say(found, file=sys.stderr)
        where = "above; please copy it into a report"
    say(
        f"lacewing: internal error ({type(error).__name__}: {error}). The traceback is {where} in the project's issue "
        "tracker.",
        file=sys.stderr,
    )
