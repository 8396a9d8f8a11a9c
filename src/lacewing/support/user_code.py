"""What users' own code raises, as our error: it names the place and shows their lines, never ours or a library's."""

from __future__ import annotations

import inspect
import linecache
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from lacewing.errors import Terminated, UserCodeError

_SHOWN = 5  # innermost frames: a recursion has a thousand, or 100,000
_LONGEST = 600  # characters of what the exception says
_OURS = Path(__file__).resolve().parents[1]
_LIBRARIES = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_INSTALLED = {"site-packages", "dist-packages"}
_named: set[Path] = set()  # files and folders of what users named package.module:function, which may be installed


def belongs_to_user(module: str) -> None:
    """Count a module, and the package that it is in, as the user's own from now on, wherever it is installed."""
    name = module.partition(".")[0]
    file = getattr(sys.modules.get(name), "__file__", None)
    if file and name not in ("lacewing", "torch", "numpy"):
        path = Path(file).resolve()
        _named.add(path.parent if path.name == "__init__.py" else path)


@contextmanager
def user_code(place: str, mend: str = "", *, own_frames: bool = False) -> Iterator[None]:
    """Run code of the user's: what it raises becomes `UserCodeError`, ``sys.exit()`` too; signals go through.

    Args:
        place: which field or argument the code is, and what it was asked to do: the begin of a sentence.
        mend: the end of the sentence, such as "; it must return a model".
        own_frames: there is code of ours within, too: convert only what passed through the user's.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated, GeneratorExit, UserCodeError):
        raise
    except BaseException as error:
        if own_frames and not blamed(error):
            raise
        raise told(place, error, mend) from error


def told(place: str, error: BaseException, mend: str = "") -> UserCodeError:
    """The error for what user code raised: one sentence, and a line for each of the user's frames."""
    return UserCodeError(f"{place} failed with {_said(error)}{mend}.{_lines(error)}")


def defined_at(function: Any) -> str:
    """A line that says where a user's function is defined, to follow an error's sentence; "" where nobody knows."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return ""
    line = linecache.getline(code.co_filename, code.co_firstlineno).strip()
    return f"\n  {Path(code.co_filename).name}, line {code.co_firstlineno}, in {code.co_name}: {line}"


def blamed(error: BaseException, *, alone: bool = False) -> bool:
    """Whether user code raised it, or a module of torch's that user code handed us and we called.

    ``alone``: code of ours that the user's code called, and that failed, is not the user's.
    """
    if alone:
        files = _files(error.__traceback__)
        last = {file: place for place, file in enumerate(files)}
        users = max((place for file, place in last.items() if is_users(file)), default=-1)
        ours = max((place for file, place in last.items() if _is_ours(file)), default=-1)
        return users > ours or _in_their_module(error.__traceback__)
    return bool(_frames(error)) or _in_their_module(error.__traceback__)


def _said(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # a user's own __str__
        text = "(it cannot say what)"
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return f"{type(error).__name__}: {text.rstrip('.')}" if text else type(error).__name__


def _lines(error: BaseException) -> str:
    frames = _frames(error)
    lines = [
        f"\n  {Path(frame.filename).name}, line {frame.lineno}, in {frame.name}: {frame.line}"
        for frame in frames[-_SHOWN:]
    ]
    if len(frames) > _SHOWN:
        lines.insert(0, f"\n  ... {len(frames) - _SHOWN} more")
    return "".join(lines)


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The user's frames, the outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    users = {file: is_users(file) for file in {frame.filename for frame in frames}}
    return [frame for frame in frames if users[frame.filename]]


def is_users(filename: str) -> bool:
    """Whether the code of a file is the user's: neither ours nor that of an installed package or of Python."""
    if filename.startswith("<"):  # typed in, or made by a library
        return filename.startswith(("<stdin", "<string", "<ipython", "<console"))
    path = Path(filename).resolve()
    if any(path == named or named in path.parents for named in _named):
        return True
    if _OURS in path.parents or _INSTALLED & set(path.parts):
        return False
    return not any(library in path.parents for library in _LIBRARIES)


def _is_ours(filename: str) -> bool:
    return _OURS in Path(filename).resolve().parents


def _files(trace: TracebackType | None) -> list[str]:
    """The file of each frame, the outermost first."""
    return [frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace)]


def _in_their_module(trace: TracebackType | None) -> bool:
    """Whether it was raised within a call of a torch module, without further code of ours within that call."""
    innermost_first = dict.fromkeys(reversed(_files(trace)))
    for file in innermost_first:
        if _is_ours(file):
            return False
        if Path(file).parts[-4:-1] == ("torch", "nn", "modules"):
            return True
    return False
