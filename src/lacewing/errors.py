"""Our exceptions, and the one table from an exception to the command's exit code."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

DONE, GATE_FAILED, BAD_USAGE, JOBS_FAILED, OUR_FAULT, IO_FAILED, RUN_AGAIN, INTERRUPTED = 0, 1, 2, 3, 70, 74, 75, 130


class LacewingError(Exception):
    """Base of every error we raise on purpose: one clear sentence that names the field and the mend."""


class UsageError(LacewingError):
    """What was asked is wrong or impossible: a command line, a study, a name."""


class DataError(UsageError):
    """A data set is missing, altered, or not what the study needs."""


class FolderError(UsageError):
    """A run folder is of another study, of an older schema, or in use by another process."""


class UserCodeError(UsageError):
    """Code of the user's failed: a model, its factory, a training function, a data set. Its lines follow the sentence.

    Before the first training it ends the command; in a job the study goes on without that job.
    """


class DivergedError(LacewingError):
    """A network's loss became NaN or infinite. The study goes on without that network."""


class BudgetSpent(LacewingError):
    """Time is up, or SIGTERM came: the state is saved and the same command continues."""


class Terminated(BaseException):
    """SIGTERM came where nothing is in work that could be saved. No ``except Exception`` takes it for a failure."""

    def __str__(self) -> str:
        return "stopped by SIGTERM; what is finished is kept, and the same command continues."


_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (  # first match wins
    (UsageError, BAD_USAGE),
    (DivergedError, JOBS_FAILED),
    (BudgetSpent, RUN_AGAIN),
    (Terminated, RUN_AGAIN),
    (KeyboardInterrupt, INTERRUPTED),
    (OSError, IO_FAILED),
)


def exit_code(error: BaseException) -> int:
    """The documented exit code for ``error``; anything that is not in the table is a fault of ours (70)."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), OUR_FAULT)


_NO_LOCKS = "its file system gives no locks, as some network file systems; give --out a folder on a local disk."
_FULL = "the disk is full; make room, and give the same command again."
_MENDS = {  # by the name of the error, since some systems lack some of them
    **dict.fromkeys(("ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"), _NO_LOCKS),
    **dict.fromkeys(("ENOSPC", "EDQUOT"), _FULL),
    "EROFS": "its file system can only be read; give another folder.",
    **dict.fromkeys(("EACCES", "EPERM"), "no permission there; give another folder."),
}


@contextmanager
def about_folder(folder: Path) -> Iterator[None]:
    """Turn an `OSError` that tells why a file cannot be written into one sentence: where, why, and the mend.

    ``folder`` is named where the error itself names no file.
    """
    try:
        yield
    except OSError as error:
        mend = next((text for name, text in _MENDS.items() if error.errno == getattr(errno, name, None)), None)
        if mend is None:
            raise
        raise type(error)(f"{error.filename or folder}: {mend} ({error.strerror})") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'?"`` for the nearest known name, else the list of known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}."


def needs_extra(what: str, package: str, extra: str) -> UsageError:
    """The refusal of ``what`` where ``package``, which comes with our ``extra``, is not installed.

    The command installs from a clone: as long as the project is not published, its bare name on a package index may
    be anybody's.
    """
    return UsageError(
        f"{what} needs the package {package}. In a clone of the project: pip install -c constraints.txt '.[{extra}]'"
    )
