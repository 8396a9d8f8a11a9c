"""What a forger can do to a run folder: alter it, and write its digests anew so that it is consistent again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL = "sha256"  # the field of a JSON object that holds the digest of all others


def regular(path: Path) -> bool:
    """Whether it is a file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def read(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_bytes())


def write(path: Path, document: Any) -> None:
    """Write a JSON document; an object that was sealed gets a new seal."""
    if isinstance(document, dict) and SEAL in document:
        content = {name: value for name, value in document.items() if name != SEAL}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        document = {**content, SEAL: hashlib.sha256(text.encode()).hexdigest()}
    path.write_text(json.dumps(document, indent=1, sort_keys=True))


def reseal(run: Path) -> None:
    """Write every digest in a run folder anew where what holds it can still be read."""
    for job in filter(regular, run.glob("jobs/*/job.json")):
        try:
            found = read(job)
            for name in found["files"]:
                if regular(job.parent / name):
                    found["files"][name] = hashlib.sha256((job.parent / name).read_bytes()).hexdigest()
            write(job, found)
        except (OSError, ValueError, TypeError, KeyError, RecursionError, MemoryError):
            continue
    for path in (run / "plan.json", run / "failed.json"):
        try:
            if regular(path):
                write(path, read(path))
        except (ValueError, TypeError, RecursionError, MemoryError):
            continue
