"""The command in children of one process that has loaded everything: thousands of runs without thousands of imports.

Each run is a fork of this process, which has a single thread, in a session and a folder of its own. Its memory is
limited and measured, and it is killed after a given time. The worker processes that a run starts are forks, too: what
they would be told on the command line (module, pipes, inherited files) is theirs, and only the start of a new Python is
left out. For Linux.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

HANG = 20.0  # seconds
PEAK = 2 << 30  # bytes
_LOADED = (  # what runs import as they need it
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "sklearn.datasets",
    "sklearn.neural_network",
    "scipy.stats",
    "jinja2",
    "torch._dynamo",
    "torch.optim",
    "safetensors.torch",
    "lacewing.cli",
    "lacewing.study.run",
    "lacewing.study.compare",
    "lacewing.auditing",
    "lacewing.reporting._rocs",
    "lacewing.data",
    "lacewing.study.accounting",
    "lacewing.training.stack",
    "lacewing.sparsify",
    "lacewing.study.engine.worker",
    "lacewing.auditing._worker",
    "lacewing.study.estimate._calibrate",
)
_WORKERS = ("lacewing.study.engine.worker", "lacewing.auditing._worker", "lacewing.study.estimate._calibrate")


@dataclass(frozen=True)
class Ended:
    """How a run ended. ``peak`` is of resident memory, in bytes, of the run and its workers, ``cpu`` in s."""

    code: int  # negative: the signal that ended it
    out: str
    err: str
    seconds: float
    peak: int
    cpu: float
    hung: bool = False

    @property
    def said(self) -> str:
        """All that it printed."""
        return self.out + self.err

    def faults(self) -> list[str]:
        """What no input may cause: a traceback, an internal error, a signal, a hang, too much memory."""
        found = []
        if self.hung:
            found.append(f"hung: over {HANG:g} s")
        elif self.code not in (0, 1, 2, 3, 74, 75):
            found.append(f"exit {self.code}")
        if "Traceback (most recent call last)" in self.said:
            found.append("traceback")
        if self.peak > PEAK:
            found.append(f"peak of {self.peak / 2**30:.1f} GiB")
        return found


def preload() -> None:
    """Import all that a run may need, before any thread starts, and let workers be forks from now on."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["LACEWING_CHECKPOINT_EVERY"] = "0"
    for name in _LOADED:
        importlib.import_module(name)
    import torch

    import lacewing.study.estimate

    torch.set_num_threads(1)
    lacewing.study.estimate.SECONDS = 0.02  # of timing, for --dry-run
    subprocess.Popen = _Forking  # type: ignore[misc]
    warnings.filterwarnings("ignore", message="This process .* is multi-threaded, use of fork", category=Warning)
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package", category=RuntimeWarning)
    gc.collect()
    gc.freeze()  # else each collection in a child copies every page


class _Forking(subprocess.Popen):  # type: ignore[type-arg]
    """Starts our own worker modules as forks of this process, and anything else as ever."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, *more: Any) -> None:
        if isinstance(args, str) or len(args) < 4 or args[1] != "-P" or args[3] not in _WORKERS:
            super()._execute_child(args, executable, preexec_fn, close_fds, *more)  # type: ignore[misc]
            return
        pass_fds, _, env, _, _, _, stdin, to_stdin, from_stdout, stdout, from_stderr, stderr = more[:12]
        own_session = more[17]
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _guarded(lambda: _work(args, (stdin, stdout, stderr), pass_fds, env, own_session))
        self._child_created = True
        for descriptor, kept in ((stdin, to_stdin), (stdout, from_stdout), (stderr, from_stderr)):
            if descriptor != -1 and kept != -1:
                os.close(descriptor)


def _work(
    args: Sequence[str], streams: Sequence[int], pass_fds: Sequence[int], env: dict[str, str] | None, own_session: bool
) -> None:
    if own_session:
        os.setsid()
    for descriptor, place in zip(streams, range(3), strict=True):
        if descriptor != -1:
            os.dup2(descriptor, place)
    keep = {0, 1, 2, *pass_fds}
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor not in keep:
            with suppress(OSError):  # the one of the listing
                os.close(descriptor)
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    _own_streams()
    sys.argv = [args[3], *args[4:]]
    runpy.run_module(args[3], run_name="__main__", alter_sys=False)


def _own_streams() -> None:
    sys.stdin = os.fdopen(os.dup(0), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        os.fdopen(os.dup(2), "wb"), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _guarded(do: Callable[[], object]) -> NoReturn:
    """Do something in a fork and end it, as Python itself would end."""
    code = 1
    try:
        do()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def fork(
    words: Sequence[str], folder: Path, said: tuple[Path, Path], *, first: Callable[[], object] | None = None
) -> int:
    """Start the command in a fork; returns its process id, which is that of its session as well.

    Args:
        words: its arguments.
        folder: its working directory.
        said: files that get standard output and standard error.
        first: called in the fork before the command.
    """
    pid = os.fork()
    if pid == 0:
        _guarded(lambda: _command(words, folder, said, first))
    return pid


def _command(words: Sequence[str], folder: Path, said: tuple[Path, Path], first: Callable[[], object] | None) -> None:
    from lacewing import cli

    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for place, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), place)
    _own_streams()
    sys.argv = ["lacewing", *words]
    if first is not None:
        first()
    cli.main()


def limit_memory() -> None:
    """Let this process have at most 3 GiB of addresses more than it has: what asks for more is refused at once."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (3 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def start(words: Sequence[str], folder: Path, said: Path) -> int:
    """``fork`` with a limit on memory; ``said`` is a folder for what it prints."""
    return fork(words, folder, (said / "stdout", said / "stderr"), first=limit_memory)


def end(pid: int, said: Path, begun: float, *, wait: bool = True, limit: float = HANG) -> Ended | None:
    """How a run that ``start`` began has ended; None while it runs if ``wait`` is false. Kills it after ``limit`` s."""
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        seconds = time.monotonic() - begun
        hung = found == 0 and seconds > limit
        if hung:
            stop(pid)
            _, status, usage = os.wait4(pid, 0)
        if found or hung:
            stop(pid)  # workers that it may have left
            out, err = ((said / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
            return Ended(
                os.waitstatus_to_exitcode(status),
                out,
                err,
                seconds,
                usage.ru_maxrss << 10,
                usage.ru_utime + usage.ru_stime,
                hung,
            )
        if not wait:
            return None
        time.sleep(0.002)


def stop(pid: int) -> None:
    """Kill a run with all of its session."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def run(words: Sequence[str], folder: Path, said: Path, *, limit: float = HANG) -> Ended:
    """Run the command to its end."""
    begun = time.monotonic()
    found = end(start(words, folder, said), said, begun, limit=limit)
    assert found is not None
    return found


def warm(folder: Path) -> None:
    """Report on a copy of a finished run folder, so that templates are compiled and the data are read."""
    from lacewing import data
    from lacewing.study import run as _run

    with tempfile.TemporaryDirectory() as aside:
        shutil.copytree(folder, Path(aside) / "run")
        _run.report(Path(aside) / "run")
    data.load("digits")
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork of a process with threads may stand still"


def draw_nothing() -> None:
    """Figures are most of a report's time, and say nothing that its page does not."""
    from matplotlib.figure import Figure

    empty = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>'
    Figure.savefig = lambda self, out, **options: out.write(empty)  # type: ignore[method-assign]
    Figure.draw_without_rendering = lambda self: None  # type: ignore[method-assign]


class Server:
    """A process of its own that has loaded everything, for tests whose process has threads; see ``run``."""

    def __init__(self, said: Path) -> None:
        said.mkdir(parents=True, exist_ok=True)
        self.said = said
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.tasks, self.answers = self.process.stdin, self.process.stdout

    def run(self, *words: object, folder: Path, limit: float = HANG) -> Ended:
        """Run the command in a folder to its end."""
        self.tasks.write(json.dumps([list(map(str, words)), str(folder), str(self.said), limit]) + "\n")
        self.tasks.flush()
        return Ended(**json.loads(self.answers.readline()))

    def warm(self, folder: Path) -> None:
        """See `warm`."""
        self.tasks.write(json.dumps([["warm"], str(folder), "", 0]) + "\n")
        self.tasks.flush()
        self.answers.readline()

    def close(self) -> None:
        """End the process."""
        self.tasks.close()
        self.answers.close()
        self.process.wait()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    preload()
    draw_nothing()
    for line in sys.stdin:
        words, folder, said, limit = json.loads(line)
        if words[0] == "warm":
            warm(Path(folder))
            answers.write("{}\n")
            answers.flush()
            continue
        answers.write(json.dumps(asdict(run(words, Path(folder), Path(said), limit=limit))) + "\n")
        answers.flush()
    os._exit(0)


if __name__ == "__main__":
    _serve()
