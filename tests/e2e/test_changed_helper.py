"""A factory whose module imports another one, which changes: no network of the old code is taken for one of the new."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lacewing as lw
from lacewing.errors import BudgetSpent, FolderError
from lacewing.study import jobs
from lacewing.study.prepared import Prepared

NET = """
import torch
from changed_helper import WIDTH

def net(shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, WIDTH), torch.nn.Linear(WIDTH, classes))
"""
STUDY: dict[str, Any] = {
    "name": "changed",
    "data": {"dataset": "digits", "records": 120},
    "model": {"factory": "changed_net:net"},
    "train": {"epochs": 2, "batch_size": 20, "precision": "fp32"},
    "networks": [{"method": "dense"}],
    "attacks": {"names": ["loss"]},
    "run": {"seeds": [0]},
}
SMALL, LARGE = (64 * width + width + width * 10 + 10 for width in (4, 6))
Prepare = Callable[..., Prepared]


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Prepare]:
    """Writes the helper anew, imports both modules again, and prepares the study."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "changed_net.py").write_text(NET)

    def forget() -> None:
        for name in ("changed_net", "changed_helper"):
            sys.modules.pop(name, None)

    def made(width: int, out: str, **options: Any) -> Prepared:
        (tmp_path / "changed_helper.py").write_text(f"WIDTH = {width}\n")
        forget()
        found = Prepared(STUDY, out=tmp_path / out, **options)
        found.claim()
        return found

    yield made
    forget()


def train(found: Prepared, *, stop: bool = False) -> None:
    (sequence, *_) = found.plan.sequences
    jobs.run_sequence(replace(found.work, stop=lambda: stop), sequence)


def test_a_finished_network_is_not_reused_where_the_model_has_another_size_now(
    prepared: Prepare, tmp_path: Path
) -> None:
    train(prepared(4, "run"))
    says = rf"has {SMALL:,} parameters that are not zero, and model.factory: changed_net:net makes it {LARGE:,} now"
    with pytest.raises(FolderError, match=rf"dense/target/0 in .*run {says}.*set model.version"):
        prepared(6, "run")
    with pytest.raises(FolderError, match=says):
        prepared(6, "other", reuse=tmp_path / "run")
    assert not (tmp_path / "other").exists()
    with pytest.raises(
        FolderError, match=rf"dense/target/0 was trained with {SMALL:,} numbers, .* builds {LARGE:,} now"
    ):
        lw.export(tmp_path / "run", "dense", tmp_path / "net.onnx")
    train(prepared(6, "other", set=["model.version='2'"]))
    again = prepared(4, "run")
    assert again.trained(again.plan.networks[0])


def test_an_interrupted_training_is_not_continued_with_another_model(prepared: Prepare) -> None:
    with pytest.raises(BudgetSpent):
        train(prepared(4, "run"), stop=True)
    with pytest.raises(
        FolderError, match=rf"dense/target/0 was trained with {SMALL:,} numbers, .* builds {LARGE:,} now"
    ):
        train(prepared(6, "run"))
    train(prepared(4, "run"))
