"""Run every benchmark of this folder, each in a process of its own, and print one table.

    python benchmarks/all.py --quick [--only attacks] [--patience 1200]

A benchmark is any script here but this one whose name does not begin with an underscore. With ``--quick`` each gets
``--quick``, its small form: a minute on one core, no network, no data but those of packages. It says whether a script
runs, not how fast it is. A script may print a line "ratio: 12.3, loop / lacewing", the last of which stands in the
table. The exit code is 1 if one fails or takes longer than ``--patience`` seconds; the end of its output is printed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _steps import limited

HERE = Path(__file__).resolve().parent
RATIO = re.compile(r"^ratio: (.+)$", re.MULTILINE)
SHOWN = 30  # lines of the output of a script that failed


@dataclass(frozen=True)
class Run:
    """What a script did; ``failed``: why, or nothing."""

    name: str
    seconds: float
    ratio: str
    failed: str
    output: str

    def __str__(self) -> str:
        result = f"failed: {self.failed}" if self.failed else "ok"
        return f"{self.name:<20}{self.seconds:>9.1f} {self.ratio or '-':<44} {result}"


def scripts(folder: Path = HERE) -> list[Path]:
    """The benchmarks of a folder, by name."""
    return sorted(p for p in folder.glob("*.py") if p.name != Path(__file__).name and not p.name.startswith("_"))


def run(script: Path, options: Sequence[str], patience: float) -> Run:
    """Run a script in an empty folder, until it ends or ``patience`` seconds are over."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        log = Path(folder) / "output"
        ended = limited([sys.executable, str(script), *options], log, patience, folder=Path(folder))
        output = log.read_text("utf-8", "replace")
    found = RATIO.findall(output)
    return Run(script.stem, ended.seconds, found[-1] if found else "", ended.failed, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small form of each")
    parser.add_argument("--only", action="append", help="the name of a script without .py (repeatable)")
    parser.add_argument("--patience", type=float, help="seconds for each script (with --quick: 1200)")
    given = parser.parse_args()
    there = {path.stem: path for path in scripts()}
    for name in given.only or ():
        if name not in there:
            parser.error(f"--only {name}: give one of {', '.join(there)}")
    patience = given.patience if given.patience is not None else 1200.0 if given.quick else 24 * 3600.0
    print(f"{'benchmark':<20}{'seconds':>9} {'ratio':<44} result")
    done = []
    for name in given.only or there:
        done.append(run(there[name], ["--quick"] if given.quick else [], patience))
        print(done[-1], flush=True)
    failed = [each for each in done if each.failed]
    for each in failed:
        print(f"\n{each.name}: failed: {each.failed}", *each.output.splitlines()[-SHOWN:], sep="\n", file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
