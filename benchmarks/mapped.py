"""Memory of a study whose records stay in a .npy file that is mapped: the sum over all of its processes.

    python benchmarks/mapped.py [--records 500000] [--side 64] [--folder DIR] [--quick]

The file holds uniform noise, (N, 3, side, side) uint8, 6.1 GB by default, in a temporary folder under ``--folder``,
which goes at the end. The study trains a small perceptron on all of it, dense and pruned, as target and shadow, one
epoch each, with two workers, and runs two attacks. RssAnon (a process's own memory) and RssFile (pages of files, which
processes share and the system takes back) of the command and its workers are summed, ten times a second, as
`/proc/PID/status` tells them. ``--quick`` is a small form with 20,000 records of 16 x 16.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES, WORKERS = 10, 2
STUDY = """
schema = 1
name = "mapped"
[data]
dataset = "images/"
[model]
name = "mlp"
hidden = [16]
[train]
epochs = 1
batch_size = 250
lr = 0.01
precision = "fp32"
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 1
[signals]
draws = 1
[attacks]
names = ["discriminator", "loss"]
[run]
seeds = [0]
"""


def make(folder: Path, count: int, side: int) -> int:
    """Write the images and labels; returns the bytes of the images."""
    folder.mkdir()
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (count, 3, side, side))
    for start in range(0, count, 2_000):
        part = x[start : start + 2_000]
        part[...] = np.frombuffer(np.random.default_rng(start).bytes(part.size), np.uint8).reshape(part.shape)
    x.flush()
    np.save(folder / "y.npy", np.arange(count) % CLASSES)
    return x.nbytes


def tree(root: int) -> list[int]:
    """The process and all that descend from it."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(status.parent.name)] = int(words[1])
    found = [root]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def memory(pid: int) -> dict[str, int]:
    """RssAnon and RssFile of a process, in kB; zeros once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    said = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if "Rss" in name}
    return {name: said.get(name, 0) for name in ("RssAnon", "RssFile")}


def watch(run: subprocess.Popen[bytes]) -> dict[str, int]:
    """The largest sums over the processes, and the largest RssAnon of one, in kB, until the command ends."""
    most = {"RssAnon": 0, "RssFile": 0, "one": 0, "processes": 0}
    while run.poll() is None:
        each = [memory(pid) for pid in tree(run.pid)]
        now = {name: sum(one[name] for one in each) for name in ("RssAnon", "RssFile")}
        now |= {"one": max(one["RssAnon"] for one in each), "processes": len(each)}
        most = {name: max(most[name], value) for name, value in now.items()}
        time.sleep(0.1)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    records, side = (20_000, 16) if given.quick else (given.records, given.side)
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        size = make(Path(place) / "images", records, side)
        print(f"{records:,} images of 3 x {side} x {side}: {size / 1e9:.2f} GB, {WORKERS} workers")
        (Path(place) / "mapped.toml").write_text(STUDY, encoding="utf-8")
        started = time.perf_counter()
        command = [sys.executable, "-P", "-m", "lacewing", "run", "mapped.toml", "--processes", str(WORKERS)]
        with (Path(place) / "said").open("wb") as said:
            run = subprocess.Popen(command, cwd=place, stdout=said, stderr=said, env={**os.environ, "PYTHONUTF8": "1"})
            most = watch(run)
        if run.returncode:
            sys.exit((Path(place) / "said").read_text(encoding="utf-8"))
        print(f"RssAnon of all {most['processes']} processes together, largest   {most['RssAnon'] / 1e6:6.2f} GB")
        print(f"RssAnon of one process, largest                {most['one'] / 1e6:6.2f} GB")
        print(f"RssFile of all together, largest               {most['RssFile'] / 1e6:6.2f} GB")
        print(f"seconds                                        {time.perf_counter() - started:6.0f}")


if __name__ == "__main__":
    main()
