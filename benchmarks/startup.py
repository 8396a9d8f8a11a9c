"""Seconds until short commands are done, which is mostly what Python imports, beside Python alone and torch's import.

    python benchmarks/startup.py [--quick] [--runs 15]

Each run is a process of its own, in turns. Wall seconds say what a user waits on an idle machine; CPU seconds (of the
process and what it starts) are told beside them, because other work disturbs them less. Medians; the first turn warms
the page cache and is not counted. ``--quick`` has two turns, without torch.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = ["-m", "lacewing"]
ROWS = {
    "python -c pass": ["-c", "pass"],
    "import lacewing": ["-c", "import lacewing"],
    "lacewing --help": [*COMMAND, "--help"],
    "lacewing list studies": [*COMMAND, "list", "studies"],
    "lacewing list methods": [*COMMAND, "list", "methods"],
    "lacewing audit, 200 scores": [*COMMAND, "audit", "scores.csv"],
    "import torch": ["-c", "import torch"],
    "lacewing run digits --dry-run": [*COMMAND, "run", "digits", "--dry-run"],
}
TORCH = ("import torch", "lacewing run digits --dry-run")
ALONE = "python -c pass"


def scores(path: Path) -> None:
    """200 scores of records, half of them members', which are one higher on average."""
    rows = [f"{member},{(number * 37 % 100) / 25 - 2 + member:.2f}" for member in (0, 1) for number in range(100)]
    path.write_text("\n".join(["member,score", *rows, ""]), encoding="utf-8")


def spent() -> float:
    """CPU seconds of all processes that this one started and that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(words: list[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    cpu, begun = spent(), time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begun, spent() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds until short commands are done.")
    parser.add_argument("--quick", action="store_true", help="two turns, without torch")
    parser.add_argument("--runs", type=int, default=15, help="turns (default 15)")
    given = parser.parse_args()
    names = [name for name in ROWS if not (given.quick and name in TORCH)]
    turns = 2 if given.quick else given.runs
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        scores(Path(folder) / "scores.csv")
        for turn in range(turns + 1):
            for name in names:
                one = run(ROWS[name], Path(folder))
                if turn:
                    taken[name].append(one)
    print(f"medians of {turns} turns; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':32}{'wall s':>8}{'least':>8}{'most':>8}{'CPU s':>8}{'CPU / Python':>14}")
    medians = {name: [statistics.median(values) for values in zip(*taken[name], strict=True)] for name in names}
    for name in names:
        wall, cpu = medians[name]
        walls = [one[0] for one in taken[name]]
        shown = f"{wall:>8.3f}{min(walls):>8.3f}{max(walls):>8.3f}{cpu:>8.3f}"
        print(f"{name:32}{shown}{cpu / medians[ALONE][1]:>14.1f}")
    print(f"ratio: {medians['lacewing --help'][0] / medians[ALONE][0]:.2f}, lacewing --help / python -c pass")


if __name__ == "__main__":
    main()
