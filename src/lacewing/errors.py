"""Our exceptions, and the one table from an exception to the command's exit code."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

DONE, GATE_FAILED, BAD_USAGE, JOBS_FAILED, OUR_FAULT, IO_FAILED, RUN_AGAIN, INTERRUPTED = 0, 1, 2, 3, 70, 74, 75, 130


class LacewingError(Exception):
    """Base of every error we raise on purpose: one sentence that names the field and the fix."""


class UsageError(LacewingError):
    """The command line, a study or a name is wrong, or asks for something impossible."""


class DataError(UsageError):
    """A data set is missing, was changed, or does not fit the study."""


class FolderError(UsageError):
    """A run folder belongs to another study, has an older schema, or is in use by another process."""


class UserCodeError(UsageError):
    """The user's code failed: a model, its factory, a training function, a data set. The message quotes its lines.

    Before the first training this ends the command. In a job the study continues without that job.
    """


class DivergedError(LacewingError):
    """A network's loss became NaN or infinite. The study continues without that network."""


class GateFailed(LacewingError, AssertionError):
    """A gate of an audit failed: leakage above its bound. An `AssertionError` too, so that pytest tells a failed test.

    ``verdicts`` holds what every gate of the call found.
    """

    def __init__(self, sentence: str, verdicts: tuple[object, ...] = ()) -> None:
        super().__init__(sentence)
        self.verdicts = verdicts


class BudgetSpent(LacewingError):
    """The time budget is used up, or SIGTERM arrived: the state is saved, and the same command continues."""


class Terminated(BaseException):
    """SIGTERM arrived while no training was running. Not an `Exception`, so that no handler takes it for a failure."""

    def __str__(self) -> str:
        return "stopped by SIGTERM; finished jobs are kept; run the same command again to continue."


_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (  # first match wins
    (GateFailed, GATE_FAILED),
    (UsageError, BAD_USAGE),
    (DivergedError, JOBS_FAILED),
    (BudgetSpent, RUN_AGAIN),
    (Terminated, RUN_AGAIN),
    (KeyboardInterrupt, INTERRUPTED),
    (OSError, IO_FAILED),
)


def exit_code(error: BaseException) -> int:
    """The documented exit code for ``error``; anything that is not in the table is an internal error (70)."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), OUR_FAULT)


_NO_LOCKS = "its file system does not support locks; give --out a folder on a local disk."
_FULL = "the disk is full; free some space and run the same command again."
_FIXES = {  # by the name of the error, since some systems lack some of them
    **dict.fromkeys(("ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"), _NO_LOCKS),
    **dict.fromkeys(("ENOSPC", "EDQUOT"), _FULL),
    "EROFS": "its file system is read-only; give another folder.",
    **dict.fromkeys(("EACCES", "EPERM"), "permission denied; give another folder."),
}


@contextmanager
def about_folder(folder: Path) -> Iterator[None]:
    """Turn an `OSError` that says why a file cannot be written into one sentence: where, why, and the fix.

    ``folder`` is named where the error itself names no file.
    """
    try:
        yield
    except OSError as error:
        fix = next((text for name, text in _FIXES.items() if error.errno == getattr(errno, name, None)), None)
        if fix is None:
            raise
        raise type(error)(f"{error.filename or folder}: {fix} ({error.strerror})") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'?"`` for the nearest known name, else the list of known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}."


def needs_extra(what: str, package: str, extra: str) -> UsageError:
    """The error where ``what`` needs ``package``, which the optional dependencies ``extra`` install.

    The message installs from a clone: until the project is published, its name on a package index could belong to
    anybody.
    """
    return UsageError(
        f"{what} needs the package {package}. In a clone of the project: pip install -c constraints.txt '.[{extra}]'"
    )
