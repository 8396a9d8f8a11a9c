"""The fuzzer: thousands of wrong inputs, and not one traceback, internal error, hang or peak of memory.

python tests/fuzz/fuzz.py                   or: make fuzz               5000 inputs
python tests/fuzz/fuzz.py --case 1234       or: make fuzz CASE=1234     one of them, with all that it prints
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import inputs  # noqa: E402
import vocabulary  # noqa: E402

import preloaded  # noqa: E402


class Running(NamedTuple):
    """A command on its input: its words, the input's folder, its process and when it began."""

    words: list[str]
    place: Path
    pid: int
    begun: float


DEEP = "1/2/3/4/5"  # so that ../../../x is ours, too


def prepare(base: Path) -> None:
    """Load everything, and make the run folder and the weights that inputs are made from."""
    preloaded.preload()
    (base / "small.toml").write_text(vocabulary.STUDY)
    (base / "own.py").write_text(vocabulary.OWN)
    made = preloaded.run(["run", "small.toml", "--out", "run"], base, base, limit=120)
    assert made.code == 0, made.said
    layer = {"1.weight": np.ones((3, 5), np.float32), "1.bias": np.zeros(3, np.float32)}
    save_file(layer, base / "weights.safetensors")
    preloaded.draw_nothing()
    preloaded.warm(base / "run")


def begin(seed: int, number: int, base: Path) -> Running:
    """Write an input and start the command on it."""
    place = base / f"input-{number}"
    shutil.rmtree(place, ignore_errors=True)
    folder = place / DEEP
    folder.mkdir(parents=True)
    words = inputs.make(seed, number, folder, base)
    return Running(words, place, preloaded.start(words, folder, place), time.monotonic())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(inputs.METHODS), help="these alone of the numbers")
    parser.add_argument("--case", type=int, help="one number, with all that it prints")
    parser.add_argument("--at-once", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lacewing-fuzz-") as folder:
        base = Path(folder)
        prepare(base)
        if asked.case is not None:
            return _one(asked.seed, asked.case, base)
        numbers = range(asked.first, asked.first + asked.inputs)
        wanted = [n for n in numbers if asked.kind in (None, inputs.kind_of(asked.seed, n))]
        return _all(asked.seed, wanted, asked.at_once, base)


def _one(seed: int, number: int, base: Path) -> int:
    words, place, pid, begun = begin(seed, number, base)
    found = preloaded.end(pid, place, begun)
    assert found is not None
    print(f"input {number} of seed {seed}, {inputs.kind_of(seed, number)}: lacewing {shlex.join(words)!a}")
    print(f"exit {found.code}, {found.seconds:.1f} s, peak {found.peak >> 20} MiB\n{found.said}")
    print(*(path.read_text() for path in place.rglob("lacewing-fault-*.txt")))
    kept = Path(tempfile.gettempdir()) / f"lacewing-input-{number}"
    shutil.rmtree(kept, ignore_errors=True)
    place.rename(kept)
    print(f"its files: {kept}")
    return 1 if found.faults() else 0


def _all(seed: int, numbers: list[int], at_once: int, base: Path) -> int:
    waiting, running = iter(numbers), dict[int, Running]()
    faults: dict[int, str] = {}
    codes: Counter[tuple[str, int]] = Counter()
    slowest, highest, said = 0.0, 0, time.monotonic()
    more = True
    while more or running:
        while more and len(running) < at_once:
            number = next(waiting, None)
            if number is None:
                more = False
            else:
                running[number] = begin(seed, number, base)
        for number, (words, place, pid, begun) in list(running.items()):
            found = preloaded.end(pid, place, begun, wait=False)
            if found is None:
                continue
            del running[number]
            kind = inputs.kind_of(seed, number)
            codes[kind, found.code] += 1
            slowest, highest = max(slowest, found.seconds), max(highest, found.peak)
            if wrong := found.faults():
                last = (found.err.strip().splitlines() or [""])[-1]
                faults[number] = (
                    f"{number} ({kind}): {', '.join(wrong)}: lacewing {ascii(shlex.join(words))[:200]}: {last[:300]}"
                )
                print(faults[number], file=sys.stderr, flush=True)
            shutil.rmtree(place, ignore_errors=True)
        if time.monotonic() - said > 30:
            said = time.monotonic()
            print(f"{sum(codes.values())} of {len(numbers)} inputs, {len(faults)} wrong", file=sys.stderr, flush=True)
        time.sleep(0.002)
    for (kind, code), count in sorted(codes.items()):
        print(f"{kind:<10} exit {code:>3}: {count}")
    print(f"slowest {slowest:.1f} s, highest peak {highest / 2**20:.0f} MiB")
    print(f"{len(numbers)} inputs of seed {seed}, {len(faults)} wrong")
    for fault in faults.values():
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
