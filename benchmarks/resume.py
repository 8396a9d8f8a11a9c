"""Finding out what is done in a large, finished run folder: the digests of everything, once and again.

    python benchmarks/resume.py [--jobs 5000] [--bytes 60000] [--folder DIR] [--cold]

Published jobs are fabricated with `Store.publish`, half of them networks (metrics.json of 2 kB, signals.npz of
``--bytes``), half attacks (metrics.json of 2 kB, scores.npz of ``--bytes``). A run asks three times what is done:
before it starts its workers, when it makes their tasks, and for the report. Each of the three is timed, each with a
`Store` of its own as in a run, beside a plain SHA-256 of every file by one thread. ``--cold`` asks the kernel first to
forget the files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lacewing.study import jobs
from lacewing.study.store import Store, sha256


def key_of(number: int) -> str:
    return f"{number:064x}"


def fabricate(store: Store, count: int, size: int) -> None:
    """Publish jobs of random bytes, without waiting for the disk after each."""
    os.fsync = lambda fd: None
    rng = np.random.default_rng(0)
    for number in range(count):

        def write(folder: Path, name: str = "signals.npz" if number < count // 2 else "scores.npz") -> None:
            (folder / name).write_bytes(rng.bytes(size))
            (folder / "metrics.json").write_text("x" * 2000, encoding="utf-8")

        store.publish(key_of(number), {"job": f"dense/target/{number}", "finished": 0.0}, write)
    os.sync()


def ask(folder: Path, count: int) -> int:
    """How many jobs of the folder are done, asked as a run asks."""
    store = Store(folder)
    wanted: list[Any] = [SimpleNamespace(key=key_of(number), probes=()) for number in range(count)]
    done = sum(jobs.finished(store, job) for job in wanted[: count // 2])
    return done + sum(jobs.attacked(store, job) for job in wanted[count // 2 :])


def forget(folder: Path) -> None:
    """Ask the kernel to drop the folder's files from its page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def main() -> None:
    """Fabricate, ask three times, print."""
    parser = argparse.ArgumentParser(description="Seconds until a run knows what is done in its folder.")
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--bytes", type=int, default=60_000, help="of signals.npz and scores.npz (default 60000)")
    parser.add_argument("--folder", type=Path, help="where to fabricate (default: a temporary folder)")
    parser.add_argument("--cold", action="store_true", help="before the first time, drop the files from memory")
    parser.add_argument("--quick", action="store_true", help="20 jobs")
    given = parser.parse_args()
    if given.quick:
        given.jobs = 20
    folder = Path(tempfile.mkdtemp(prefix="resume-", dir=given.folder)) / "run"
    try:
        fabricate(Store(folder), given.jobs, given.bytes)
        files = [path for path in sorted(folder.glob("jobs/*/*")) if path.name != "job.json"]
        size = sum(path.stat().st_size for path in files)
        time.sleep(2.5)  # a real folder is older than the moment in which a file could change unseen
        print(f"{given.jobs} jobs: {len(files)} files, {size / 1e6:.0f} MB")
        if given.cold:
            forget(folder)
        seconds = []
        for _ in range(3):
            done, took = timed(lambda: ask(folder, given.jobs))
            if done != given.jobs:
                raise SystemExit(f"{done} of {given.jobs} jobs were found")
            seconds.append(took)
        print(f"what is done: {', '.join(f'{took:.2f}' for took in seconds)} s, together {sum(seconds):.2f} s")
        _, plain = timed(lambda: [sha256(path) for path in files])
        print(f"a plain SHA-256 of every file: {plain:.2f} s")
        print(f"ratio: {sum(seconds) / plain:.2f}, all three / a plain SHA-256")
    finally:
        shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
