"""Whatever moment a run is killed at, the same command continues to the same bytes; see kills.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded everything")


def kills(count: int, seed: int) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-P",
        str(Path(__file__).with_name("kills.py")),
        "--kills",
        str(count),
        "--seed",
        str(seed),
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("each", [10, pytest.param(500, marks=pytest.mark.slow)])
def test_kills_at_any_moment_and_any_change_of_a_file_change_nothing(each: int) -> None:
    """The slow form is 1,000 kills, half of them in each of two processes."""
    running = [kills(each, seed) for seed in ((0,) if each == 10 else (1, 2))]
    for process in running:
        out, err = process.communicate()
        assert process.returncode == 0, err[-3000:]
        assert f"{each} kills in " in out
        assert "equal bytes" in out
