"""Class inversion."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lacewing.errors import UsageError
from lacewing.reconstruction import invert_class


def test_the_input_climbs_to_the_class_and_starts_from_zeros() -> None:
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 0.0]]))
    found = invert_class(model, 0, (3,))
    assert float(model(found[None]).softmax(1)[0, 0].detach()) > 0.98
    torch.testing.assert_close(found / found.norm(), model.weight[0].detach() / 5**0.5)  # nothing else moves it
    torch.testing.assert_close(invert_class(model, 0, (3,), steps=1), torch.zeros(3))
    with pytest.raises(UsageError, match="classes 0 to 1"):
        invert_class(model, 2, (3,))
