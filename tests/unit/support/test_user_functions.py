"""What users' own functions raise in audits and loops: the argument is named, and their lines are shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing.errors import UserCodeError
from lacewing.sparsify import imp
from lacewing.support import user_code


def _records(n: int = 60) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 5)).astype(np.float32), np.arange(n) % 2


def _other() -> tuple[Any, Any]:
    x, y = _records()
    return x + 1, y


class Records:
    """A data set whose item 3 is damaged."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == 3:
            raise KeyError("damaged")
        return np.zeros(5, np.float32), 0


class Noisy(nn.Module):
    """A model that fails on what is not among the records."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.isin(x[:, 0], torch.from_numpy(np.concatenate([_records()[0], _other()[0]]))).all():
            raise LookupError("unknown record")
        return self.linear(x)


def _exits(*given: Any) -> Any:
    sys.exit(3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": _exits}, r"model, asked about records of shape \(5,\) .* failed with SystemExit: 3"),
        ({"model": Noisy()}, "model, asked about noisy or shifted records, failed with LookupError: unknown record"),
        ({"members": Records()}, "members: item 3 failed with KeyError: 'damaged'"),
        ({"refit": _exits, "references": 2}, r"refit of reference 1 \(60 records, seed 0\) failed with SystemExit: 3"),
    ],
)
def test_an_audit_names_the_argument_and_shows_the_line(given: dict[str, Any], says: str) -> None:
    common = {"model": nn.Linear(5, 2), "members": _records(), "nonmembers": _other(), "progress": False}
    with pytest.raises(UserCodeError, match=says) as caught:
        lw.audit(**{**common, **given})
    assert f"\n  {Path(__file__).name}, line " in str(caught.value)


def test_a_fit_s_own_exception_reaches_its_caller_with_the_level() -> None:
    def fit(model: nn.Module, guard: object) -> None:
        raise LookupError("stop here")

    with pytest.raises(LookupError, match="stop here") as caught:
        list(imp(nn.Linear(4, 4), fit, levels=1))
    assert any("fit at level 0 of imp" in note for note in caught.value.__notes__)


def test_ctrl_c_in_user_code_is_still_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), user_code.user_code("model"):
        raise KeyboardInterrupt
