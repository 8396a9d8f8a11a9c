"""N:M patterns against a brute-force oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify import (
    Chain,
    KSLinear,
    n_of_m,
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _n_of_m_oracle(rows, n, m):
    """``rows`` holds inputs along its last axis."""
    mask = np.zeros(rows.shape, dtype=bool)
    for index in np.ndindex(*rows.shape[:-1]):
        for begin in range(0, rows.shape[-1], m):
            group = list(rows[index][begin : begin + m])
            for place in sorted(range(m), key=lambda i: (-group[i], i))[:n]:
                mask[index][begin + place] = True
    return mask


N_OF_M = {  # a layer, and its weight's axis of inputs
    "linear": (lambda: nn.Linear(24, 5), 1),
    "conv": (lambda: nn.Conv2d(12, 3, (2, 3)), 1),
    "conv 1d": (lambda: nn.Conv1d(12, 3, 2), 1),
    "grouped": (lambda: nn.Conv2d(24, 4, 2, groups=2), 1),
    "transposed": (lambda: nn.ConvTranspose2d(12, 5, (2, 3)), 0),
    "transposed and grouped": (lambda: nn.ConvTranspose2d(24, 6, 2, groups=2), 0),
    "recurrent": (lambda: nn.LSTM(12, 24), 1),
}


@pytest.mark.parametrize("kind", N_OF_M)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(1, 2), (2, 3), (1, 4), (2, 4), (3, 4), (5, 6), (1, 12)]), st.booleans())
def test_n_of_m_keeps_the_best_of_every_few_inputs(kind, seed, pattern, ties):
    torch.manual_seed(seed)
    factory, axis = N_OF_M[kind]
    model = nn.Sequential(factory())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
            if ties:
                parameter.round_()
    n, m = pattern
    for name, mask in n_of_m(model, n, m).items():
        values = np.moveaxis(model.get_parameter(name).detach().abs().numpy(), axis, -1)
        assert np.array_equal(np.moveaxis(mask.numpy(), axis, -1), _n_of_m_oracle(values, n, m))
        assert int(mask.sum()) * m == mask.numel() * n


@pytest.mark.parametrize(("n", "m"), [(0, 4), (-1, 4), (4, 4), (5, 4), (1, 1), (0, 0)])
def test_a_pattern_that_keeps_none_or_all_is_refused(n, m):
    with pytest.raises(UsageError, match=f"^pattern {n}:{m} must keep at least one and fewer than all of {m} weights"):
        n_of_m(nn.Linear(4, 4), n, m)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (lambda: nn.Linear(6, 4), 6),
        (lambda: nn.Conv2d(12, 4, 4, groups=2), 6),
        (lambda: nn.ConvTranspose2d(12, 4, 4, groups=2), 6),
        (lambda: nn.Conv2d(3, 4, 4), 3),
    ],
)
def test_inputs_that_m_does_not_divide_are_refused_by_layer(layer, inputs):
    model = nn.Sequential(nn.Linear(8, 4), nn.Sequential(layer()))
    with pytest.raises(UsageError, match=rf"^weight '1\.0\.weight' has {inputs} inputs, .* ignore=\['1\.0'\]\.$"):
        n_of_m(model, 2, 4)
    assert list(n_of_m(model, 2, 4, ignore=["1.0"])) == ["0.weight"]
    with pytest.raises(UsageError, match="no convolution or linear weight"):
        n_of_m(model, 2, 4, ignore=["*"])


def test_n_of_m_goes_along_the_inputs_of_butterfly_factors():
    model = KSLinear(64, 64, chain=Chain.monarch(64, 64), bias=False)
    for mask in n_of_m(model, 1, 4).values():
        assert (mask.unflatten(2, (-1, 4)).sum(3) == 1).all()
