"""The short form of the fuzzer; `make fuzz` runs the long one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded everything")


def fuzz(*words: object) -> subprocess.CompletedProcess[str]:
    program = str(Path(__file__).with_name("fuzz.py"))
    return subprocess.run([sys.executable, "-P", program, *map(str, words)], capture_output=True, text=True)


def test_no_input_ends_in_a_traceback_a_fault_a_hang_or_a_peak_of_memory() -> None:
    done = fuzz("--inputs", 200, "--seed", 1)
    assert done.returncode == 0, done.stdout
    assert "200 inputs of seed 1, 0 wrong" in done.stdout
    for kind in ("study", "audit", "folder"):  # inputs of which none is let through would test the door alone
        assert re.search(rf"{kind} +exit +0: ", done.stdout), done.stdout


def test_a_number_repeats_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    import inputs

    numbers = [number for number in range(60) if inputs.kind_of(0, number) in ("study", "audit", "data")]
    made = []
    for name in ("first", "again"):
        for number in numbers:
            folder = tmp_path / name / str(number)
            folder.mkdir(parents=True)
            words = inputs.make(0, number, folder, tmp_path)
            made.append((words, {path.name: path.read_bytes() for path in folder.iterdir()}))
    assert made[: len(numbers)] == made[len(numbers) :]
    assert len({str(each) for each in made}) > len(numbers) // 2
