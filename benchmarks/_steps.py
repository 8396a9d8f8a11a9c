"""Run a command for a limited time, with everything that it starts, and keep what it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

GRACE = 5.0  # seconds between SIGTERM, on which a study saves its state, and SIGKILL


class Ended(NamedTuple):
    """How a command ended; ``failed``: why it did not end well, or nothing."""

    seconds: float
    code: int | None
    failed: str


def limited(
    command: Sequence[str], log: Path, limit: float, *, folder: Path, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run ``command`` in ``folder``, its output in ``log``; after ``limit`` seconds it and its children are ended."""
    begun = time.monotonic()
    own_group = os.name == "posix"
    with log.open("wb") as written:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=own_group,
        )
        try:
            code = child.wait(limit)
            failed = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            code, failed = None, f"not done after {limit:.0f} s"
            _end(child, own_group, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
        finally:
            _end(child, own_group, getattr(signal, "SIGKILL", signal.SIGTERM))
            child.wait()
    return Ended(time.monotonic() - begun, code, failed)


def _end(child: subprocess.Popen[bytes], own_group: bool, how: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if own_group:
            os.killpg(child.pid, how)
        else:
            child.send_signal(how)
