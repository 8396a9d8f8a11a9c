"""A study of seconds, and how the tests run the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STUDY = """
schema = 1
name = "small"
[data]
dataset = "digits"
records = 240
[model]
name = "mlp"
hidden = [16]
[train]
epochs = 3
batch_size = 20
precision = "fp32"
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 2
fraction = 0.5
[run]
seeds = [0]
"""


def environment() -> dict[str, str]:
    """Checkpoints at every epoch, and no warning of ours goes unseen."""
    return {**os.environ, "LACEWING_CHECKPOINT_EVERY": "0", "PYTHONWARNINGS": "error"}


def lacewing(*words: object, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "lacewing", *map(str, words)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def killed(*words: object, when: Callable[[], bool]) -> None:
    """Run the command, and kill it as soon as ``when`` is true, if it has not ended before."""
    run = subprocess.Popen(
        [sys.executable, "-m", "lacewing", *map(str, words)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and not when():
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
