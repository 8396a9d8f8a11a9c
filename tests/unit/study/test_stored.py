"""What finished jobs left, as attacks read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lacewing.study.jobs import _stored as module


def test_files_of_answers_are_kept_up_to_a_number_of_bytes_and_those_used_last_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{index}.npz" for index in range(4)]
    for index, path in enumerate(paths):
        np.savez(path, logits_NC=np.full((100, 10), index, np.float32))  # 4,000 bytes
    reads: list[int] = []

    def read(path: Path) -> module.Arrays:
        reads.append(int(path.stem))
        return read_arrays(path)

    def ask(*indices: int) -> list[int]:
        """Which of them are read from disk."""
        reads.clear()
        for index in indices:
            assert (module._cached(paths[index], ("logits_NC",))["logits_NC"] == index).all()
        return list(reads)

    read_arrays = module.read_arrays
    monkeypatch.setattr(module, "read_arrays", read)
    monkeypatch.setattr(module, "_kept", {})
    monkeypatch.setattr(module, "KEPT_BYTES", 9_000)
    assert ask(0, 1, 0, 1) == [0, 1]
    assert ask(0, 2) == [2]
    assert ask(0, 2) == []
    assert ask(1) == [1]  # which was used before 0 and 2
    monkeypatch.setattr(module, "KEPT_BYTES", 1_000)
    assert ask(3, 3, 3) == [3]  # the one in use stays, however large
    assert len(module._kept) == 1
    monkeypatch.setattr(module, "KEPT_BYTES", 1 << 20)
    monkeypatch.setattr(module, "KEPT", 2)
    assert ask(0, 1, 2, 1, 0) == [0, 1, 2, 0]
