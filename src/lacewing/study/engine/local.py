"""The local engine: a pool of worker processes on this machine, one thread each.

Every study runs in workers, even on one: a network's bytes then depend neither on how many there are nor on the
threads of the process that asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lacewing.config import Study
from lacewing.study.engine._pool import Event, Pool
from lacewing.study.store import Store
from lacewing.support.machine import usable_cores

_KEEP_MEMORY = {  # else glibc returns and fetches the memory of every activation at each step: about 10 % of the time
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_STREAMS = {"PYTHONIOENCODING": "utf-8:backslashreplace"}  # whatever the console's code page
WORKER_ENVIRONMENT = {**_KEEP_MEMORY, **_ONE_THREAD, **_STREAMS}


def pool(
    study: Study,
    folder: Path,
    token: str,
    *,
    data_root: Path | None,
    device: str,
    keep: str,
    processes: int,
    on_event: Callable[[Event], None],
) -> Pool:
    """Worker processes for a study.

    Args:
        study: resolved.
        folder: the run folder, which this process holds.
        token: of this run, see ``_locks``.
        data_root: where data sets lie.
        device: "cpu" or "cuda".
        keep: "all" or "signals".
        processes: how many workers.
        on_event: see ``Pool``.
    """
    setup = {
        "study": study.as_dict(),
        "folder": str(folder),
        "token": token,
        "data_root": str(data_root) if data_root else None,
        "device": device,
        "keep": keep,
    }
    return Pool(Store(folder), lambda: _Process(setup), processes, on_event=on_event)


class _Process:
    """A worker process, which speaks JSON lines."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lacewing.study.engine.worker"],  # -P: the path given, and nothing before it
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, **WORKER_ENVIRONMENT, "PYTHONPATH": search_path()},
            **own_group(),  # Ctrl-C reaches this process alone, which then asks workers to stop
        )
        self.send(setup)

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def listen(self) -> Iterator[Event]:
        assert self.process.stdout is not None
        yield from map(json.loads, self.process.stdout)
        self.process.wait()

    def end(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def own_group() -> dict[str, Any]:
    """Options that keep a process out of reach of the Ctrl-C that is meant for this one."""
    if hasattr(subprocess, "CREATE_NEW_PROCESS_GROUP"):  # Windows
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def search_path() -> str:
    """Where this process finds modules, for the PYTHONPATH of a worker."""
    ours = str(Path(__file__).parents[3])  # `python -m lacewing` in the folder of the package has taken it off its path
    return os.pathsep.join(dict.fromkeys([*filter(None, sys.path), ours]))


def default_processes(device: str) -> int:
    """One worker a core on the CPU; one on a GPU."""
    return 1 if device == "cuda" else usable_cores()
