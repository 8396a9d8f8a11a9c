"""What a study counts of its models before any training."""

import copy
import sys
import types
import warnings
from typing import Any

import pytest
from torch import nn

from lacewing.config import Model
from lacewing.study.accounting import dense_model, describe


def _normed(shape: tuple[int, ...], classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(shape[0], 4)), nn.ReLU(), nn.Linear(4, classes))


def test_a_model_of_weight_norm_is_counted_though_torch_cannot_copy_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("normed_models")
    module.normed = _normed
    monkeypatch.setitem(sys.modules, "normed_models", module)
    dense = copy.deepcopy(dense_model(Model(factory="normed_models:normed"), (8,), 3))
    counts = describe(dense, dense, dense, {})
    assert (counts["parameters"], counts["density"], counts["density_prunable"]) == (32 + 4 + 4 + 15, 1.0, 1.0)
