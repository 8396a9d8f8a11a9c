"""The local engine: a pool of worker processes on this machine, one thread each.

Every study runs in workers, even a single one, so that the bytes of a network depend neither on the number of workers
nor on the threads of the calling process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lacewing.study.declared import Study
from lacewing.study.engine._pool import Event, Pool
from lacewing.study.store import Store
from lacewing.support.child import Child
from lacewing.support.machine import usable_cores


def pool(
    study: Study,
    folder: Path,
    token: str,
    *,
    handed: Mapping[str, Any],
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
        token: of this run, see ``lacewing.support.locks``.
        handed: by `Workspace.handed_on`.
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
        "handed": dict(handed),
        "data_root": str(data_root) if data_root else None,
        "device": device,
        "keep": keep,
    }
    return Pool(Store(folder), lambda: Child("lacewing.study.engine.worker", setup), processes, on_event=on_event)


def default_processes(device: str) -> int:
    """One worker a core on the CPU; one on a GPU."""
    return 1 if device == "cuda" else usable_cores()
