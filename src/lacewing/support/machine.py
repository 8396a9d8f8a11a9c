"""The cores, memory and signals of this machine."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_FILES = Path("/")  # the root of the file system; tests set another
_WORTH = 384 << 20  # bytes of a process's own memory from which unused memory is given back: torch alone takes 200 MB
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt


def usable_cores() -> int:
    """How many cores this process may use, at least 1: the minimum of its affinity and its Linux cgroup quotas.

    A quota of 2.5 cores counts as 2, since a third worker would slow down all three.
    """
    if hasattr(os, "process_cpu_count"):  # Python 3.13; follows -X cpu_count too
        count = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count()
    return max(1, min([count or 1, *(int(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """The core limits of the cgroups of this process and of their parents, where they have one."""
    for line in _text(_FILES / "proc/self/cgroup").splitlines():  # version 2: 0::/a/b, 1: 4:cpu,cpuacct:/a/b
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/") or not (number == "0" or "cpu" in controllers.split(",")):
            continue
        root = _FILES / "sys/fs/cgroup" / controllers
        for place in (path, *map(str, PurePosixPath(path).parents)):  # in a container only the last may be there
            folder = root / place.lstrip("/")
            quota, period = _numbers(folder / "cpu.max", 2) or [
                number for name in ("quota", "period") for number in _numbers(folder / f"cpu.cfs_{name}_us", 1) or [0]
            ]
            if quota > 0 and period > 0:
                yield quota / period


def _text(file: Path) -> str:
    """A small file's text; empty where it is missing."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _numbers(file: Path, count: int) -> list[int]:
    """The whole numbers in a small file; an empty list where it is missing or says "max"."""
    words = _text(file).split()
    try:
        return [int(word) for word in words] if len(words) == count else []
    except ValueError:
        return []


def peak_memory() -> int | None:
    """Peak memory of this process in bytes; None where the system does not report it (Windows).

    On Linux getrusage counts what the process that started this one had held, too; /proc does not.
    """
    if found := re.search(r"^VmHWM:\s+(\d+) kB$", _text(_FILES / "proc/self/status"), re.MULTILINE):
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def own_memory() -> int:
    """Bytes of this process's own memory, without pages of files; 0 where the system does not say (Linux does)."""
    numbers = _numbers(_FILES / "proc/self/statm", 7)  # pages: of all addresses, in memory, of files in memory, ...
    return (numbers[1] - numbers[2]) * os.sysconf("SC_PAGE_SIZE") if numbers else 0


def give_back_memory() -> None:
    """Give unused memory back to the system, where this process holds much and its C library is glibc."""
    if own_memory() < _WORTH:
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def hold_little_memory() -> None:
    """Have glibc give each freed block of a megabyte or more back at once; elsewhere nothing changes.

    The opposite of what worker processes are started with, see `lacewing.support.child`: blocks of megabytes that are
    taken and freed in turns leave gaps, which took a quarter of a gigabyte of each worker that trained from a file.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        for parameter, size in ((_MMAP_THRESHOLD, 1 << 20), (_TRIM_THRESHOLD, 16 << 20), (_TOP_PAD, 1 << 20)):
            set_option(parameter, size)


def termination_signals() -> list[signal.Signals]:
    """The signals of this system that ask a process to end: SIGTERM, and SIGBREAK on Windows."""
    return [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
