"""Signals: logits and the local sensitivity, against a closed form; queries leave the network as it was."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.signals import compact, observe


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _images(n=9):
    return np.random.default_rng(0).integers(0, 256, (n, 2, 4, 4)).astype(np.uint8)


NORMALISATION = (np.array([100, 120], np.float32), np.array([50, 80], np.float32))


def _network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 4)
    )
    model(torch.randn(16, 2, 4, 4))  # statistics other than the initial ones
    return model


def _observed(model, x, wanted=None, **options):
    wanted = np.ones(len(x), bool) if wanted is None else wanted
    return observe(model, x, normalisation=NORMALISATION, sensitivity_of=wanted, **options)


def test_logits_are_those_of_the_network_in_evaluation_mode():
    model, x = _network(), _images()
    logits, _ = _observed(model, x, batch_size=4)
    inputs = (x - NORMALISATION[0][:, None, None]) / NORMALISATION[1][:, None, None]
    with torch.no_grad():
        wanted = model.eval()(torch.from_numpy(inputs.astype(np.float32)))
    np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_sensitivity_is_that_of_the_jacobian_for_small_noise():
    """For softmax(W x) and e -> 0 it is E||J N||, J = (diag p - p p^T) W: by Monte Carlo with numpy's own noise."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, 5)).astype(np.float32)
    model = nn.Linear(5, 3, bias=False).double()
    model.weight.data = torch.from_numpy(weight).double()

    class Double(nn.Module):  # in float64, so that rounding does not drown the small noise
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x.double())

    x = rng.normal(size=(6, 5)).astype(np.float32)
    draws = 800
    _, found = observe(
        Double(),
        x,
        normalisation=(np.zeros(5, np.float32), np.ones(5, np.float32)),
        sensitivity_of=np.ones(6, bool),
        noise=1e-2,
        draws=draws,
    )
    p = _softmax(x.astype(np.float64) @ weight.T.astype(np.float64))
    for record in range(6):
        jacobian = (np.diag(p[record]) - np.outer(p[record], p[record])) @ weight
        norms = np.linalg.norm(rng.normal(size=(20_000, 5)) @ jacobian.T, axis=1)
        error = norms.std() / math.sqrt(draws)
        assert found[record] == pytest.approx(norms.mean(), abs=5 * error + 0.01 * norms.mean())


def test_sensitivity_scales_by_neither_noise_nor_draws():
    model, x = _network(), _images()
    base = _observed(model, x, noise=1e-2, draws=200)[1]
    half = _observed(model, x, noise=5e-3, draws=200)[1]
    many = _observed(model, x, noise=1e-2, draws=400)[1]
    np.testing.assert_allclose(half, base, rtol=0.1)
    np.testing.assert_allclose(many, base, rtol=0.2)


def test_only_the_wanted_records_have_a_sensitivity_and_it_is_the_same():
    model, x = _network(), _images()
    wanted = np.arange(len(x)) % 3 == 0
    some, all_ = _observed(model, x, wanted)[1], _observed(model, x)[1]
    assert np.isnan(some[~wanted]).all()
    np.testing.assert_allclose(some[wanted], all_[wanted], rtol=1e-2)  # a batch of another size rounds otherwise
    assert np.isnan(_observed(model, x, np.zeros(len(x), bool))[1]).all()


@pytest.mark.parametrize("batch_size", [1, 7, 250, 1000])
def test_the_batch_size_changes_rounding_only(batch_size):
    """Across a block of noise (250 records), and with a noise so large that rounding does not count."""
    x = _images(260)
    model = _network()
    wanted = np.arange(260) > 240
    found, reference = (_observed(model, x, wanted, batch_size=b, noise=0.1, draws=2) for b in (batch_size, 31))
    np.testing.assert_allclose(found[0], reference[0], atol=1e-5)
    np.testing.assert_allclose(found[1], reference[1], rtol=1e-3)


def test_queries_are_the_same_each_time_whatever_ran_before():
    model, x = _network(), _images()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = _observed(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    for a, b in zip(first, _observed(model, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mode_buffers_and_precision_settings_stay_as_they_were():
    model = _network()
    model[1].eval()  # a frozen batch norm inside a network in training
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    _observed(model, _images())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_an_ambient_autocast_does_not_reach_the_queries():
    model, x = _network(), _images()
    plain = _observed(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        inside = _observed(model, x)
    for a, b in zip(plain, inside, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scale", [1, 30, 1e5])
def test_compact_logits_keep_softmax_and_the_predicted_class(scale):
    logits = (np.random.default_rng(0).normal(size=(200, 10)) * scale + 1e3).astype(np.float32)
    stored = compact(logits)
    assert stored.dtype == np.float16
    assert np.isfinite(stored).all()
    assert (stored.max(1) == 0).all()
    np.testing.assert_array_equal(stored.argmax(1), logits.argmax(1))
    np.testing.assert_allclose(_softmax(stored.astype(np.float64)), _softmax(logits.astype(np.float64)), atol=2e-3)
