"""Finding out what is done in a large, finished run folder: the digests of everything, once and again.

    python benchmarks/resume.py [--jobs 5000 [50000 ...]] [--bytes 60000] [--folder DIR] [--cold]

Published jobs are fabricated with `Store.publish`, half of them networks (metrics.json of 2 kB, signals.npz of
``--bytes``), half attacks (metrics.json of 2 kB, scores.npz of ``--bytes``). A run asks three times what is done:
before it starts its workers, when it makes their tasks, and for the report. Each of the three is timed, each with a
`Store` of its own as in a run, in a process of its own for each number of jobs, so that its peak memory is that of so
many; beside it a plain SHA-256 of every file by one thread. ``--cold`` asks the kernel first to forget the files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lacewing.study import jobs
from lacewing.study.store import Store, sha256
from lacewing.support.machine import peak_memory


class Wanted(NamedTuple):
    """As much of a job as is asked after."""

    key: str
    probes: tuple[()] = ()


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
    wanted: list[Any] = [Wanted(key_of(number)) for number in range(count)]
    done = sum(jobs.finished(store, job) for job in wanted[: count // 2])
    return done + sum(jobs.attacked(store, job) for job in wanted[count // 2 :])


def forget(folder: Path) -> None:
    """Ask the kernel to drop the folder's files from its page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a call returns, and the seconds and the CPU seconds that it takes."""
    start, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start, time.process_time() - cpu


def ask_thrice(folder: Path, count: int) -> None:
    """Ask three times, then digest every file; print the seconds and the peak of memory before the digests as JSON."""
    before, found = peak_memory(), []
    for _ in range(3):
        done, *seconds = timed(lambda: ask(folder, count))
        if done != count:
            raise SystemExit(f"{done} of {count} jobs were found")
        found.append(seconds)
    peak = peak_memory()
    files = [path for path in folder.glob("jobs/*/*") if path.name != "job.json"]
    _, *plain = timed(lambda: [sha256(path) for path in files])
    print(json.dumps({"asked": found, "plain": plain, "before": before, "peak": peak}))


def measure(count: int, size: int, place: Path | None, *, cold: bool) -> float:
    """Fabricate a folder, ask in a process of its own, print; returns all three asks / a plain SHA-256, in CPU time."""
    folder = Path(tempfile.mkdtemp(prefix="resume-", dir=place)) / "run"
    try:
        fabricate(Store(folder), count, size)
        sizes = [path.stat().st_size for path in folder.glob("jobs/*/*") if path.name != "job.json"]
        time.sleep(2.5)  # a real folder is older than the moment in which a file could change unseen
        print(f"{count:,} jobs: {len(sizes):,} files, {sum(sizes) / 1e6:.0f} MB")
        if cold:
            forget(folder)
        command = [sys.executable, __file__, "--ask", str(folder), "--jobs", str(count)]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    finally:
        shutil.rmtree(folder.parent)
    for name, place_ in (("", 0), (" of CPU time", 1)):
        seconds = [each[place_] for each in told["asked"]]
        each = ", ".join(f"{took:.2f}" for took in seconds)
        print(f"what is done: {each} s{name}, together {sum(seconds):.2f} s")
    added = told["peak"] - told["before"]
    by_asking = f"{added / 1e6:.0f} MB of it by asking: {added / count:,.0f} bytes a job"
    print(f"peak memory {told['peak'] / 1e6:.0f} MB, {by_asking}")
    print(f"a plain SHA-256 of every file: {told['plain'][0]:.2f} s, {told['plain'][1]:.2f} s of CPU time")
    return float(sum(each[1] for each in told["asked"]) / told["plain"][1])


def main() -> None:
    """Fabricate, ask three times, print, for each number of jobs."""
    parser = argparse.ArgumentParser(description="Seconds until a run knows what is done in its folder.")
    parser.add_argument("--jobs", type=int, nargs="+", default=[5000])
    parser.add_argument("--bytes", type=int, default=60_000, help="of signals.npz and scores.npz (default 60000)")
    parser.add_argument("--folder", type=Path, help="where to fabricate (default: a temporary folder)")
    parser.add_argument("--cold", action="store_true", help="before the first time, drop the files from memory")
    parser.add_argument("--quick", action="store_true", help="20 jobs")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)  # in a process of its own
    given = parser.parse_args()
    if given.ask is not None:
        return ask_thrice(given.ask, given.jobs[0])
    for count in [20] if given.quick else given.jobs:
        ratio = measure(count, given.bytes, given.folder, cold=given.cold)
    print(f"ratio: {ratio:.2f}, all three / a plain SHA-256, CPU time")


if __name__ == "__main__":
    main()
