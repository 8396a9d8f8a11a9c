"""HopSkipJump against the closed form of linear networks, and against what it may not depend on."""

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.errors import UsageError
from lacewing.probes import boundary

D, N = 12, 60
R = np.random.default_rng(0)
X = R.normal(size=(N, D)).astype(np.float32)
W, B = R.normal(size=D).astype(np.float32), np.float32(0.3)
Y = (X @ W + B > 0).astype(np.int64)
Y[:4] = 1 - Y[:4]  # answered wrong
ALL = np.ones(N, bool)
SCALE = (np.zeros(D, np.float32), np.ones(D, np.float32))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _linear(weight=W, bias=B):
    model = nn.Linear(D, 2)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(np.stack([0 * weight, weight])))
        model.bias.copy_(torch.tensor([0.0, float(bias)]))
    return model


class Counting(nn.Module):
    """Counts how many records it is asked about."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.count = inner, 0

    def forward(self, x):
        self.count += len(x)
        return self.inner(x)


def test_distances_are_those_to_the_hyperplane_and_more_queries_bring_them_nearer():
    exact = np.abs(X @ W + B)[4:] / np.linalg.norm(W)
    few, many = (boundary(_linear(), X, Y, normalisation=SCALE, of=ALL, queries=q) for q in (200, 2000))
    for found, most in ((few, 200), (many, 2000)):
        assert (found.boundary_N[:4] == 0).all()
        assert (found.boundary_N[4:] > exact * (1 - 1e-4)).all()  # within the boundary no other class is answered
        assert found.asked_N.max() <= most
    np.testing.assert_allclose(many.boundary_N[4:], exact, rtol=0.15)
    assert np.median(few.boundary_N[4:] / exact) > np.median(many.boundary_N[4:] / exact) + 0.1
    assert np.corrcoef(many.boundary_N[4:], exact)[0, 1] > 0.999


def test_every_query_is_counted():
    model = Counting(_linear())
    found = boundary(model, X, Y, normalisation=SCALE, of=ALL, queries=300)
    assert model.count == found.asked_N.sum() + found.shared
    assert (found.asked_N[:4] == 1).all()  # a wrong answer ends the search


def test_units_are_those_of_normalised_inputs_and_images_are_asked_as_images():
    mean, std = R.normal(size=D).astype(np.float32), np.full(D, 2.0, np.float32)
    plain = boundary(_linear(), X, Y, normalisation=SCALE, of=ALL, queries=300)
    raw = boundary(_linear(), X * std + mean, Y, normalisation=(mean, std), of=ALL, queries=300)
    np.testing.assert_allclose(raw.boundary_N, plain.boundary_N, rtol=1e-2, atol=1e-3)
    flat = nn.Sequential(nn.Flatten(), _linear())
    one = (np.zeros(1, np.float32), np.ones(1, np.float32))
    image = boundary(flat, X.reshape(N, 1, 3, 4), Y, normalisation=one, of=ALL, queries=300)
    np.testing.assert_allclose(image.boundary_N, plain.boundary_N, rtol=1e-2, atol=1e-3)


def test_the_result_depends_on_seed_and_place_alone_not_on_who_else_is_measured():
    some = np.arange(N) % 3 == 0
    found = boundary(_linear(), X, Y, normalisation=SCALE, of=ALL, queries=300)
    part = boundary(_linear(), X, Y, normalisation=SCALE, of=some, queries=300)
    again = boundary(_linear(), X, Y, normalisation=SCALE, of=some, queries=300)
    np.testing.assert_allclose(part.boundary_N[some], found.boundary_N[some], rtol=1e-4)
    assert np.isnan(part.boundary_N[~some]).all()
    assert (part.asked_N[~some] == 0).all()
    assert part.boundary_N.tobytes() == again.boundary_N.tobytes()
    other = boundary(_linear(), X, Y, normalisation=SCALE, of=some, queries=300, seed=1)
    assert not np.allclose(other.boundary_N[some], part.boundary_N[some], rtol=1e-4)


def test_where_no_other_class_is_ever_answered_the_distance_is_the_largest_there_is():
    found = boundary(_linear(0 * W, 1.0), X, np.ones(N, np.int64), normalisation=SCALE, of=ALL, queries=300)
    span = np.linalg.norm(X.max(axis=0) - X.min(axis=0))
    np.testing.assert_allclose(found.boundary_N, span, rtol=1e-5)
    assert (found.asked_N == 1).all()


def test_too_few_queries_for_one_step_are_refused():
    with pytest.raises(UsageError, match="boundary_queries = 100 is too few for one step"):
        boundary(_linear(), X, Y, normalisation=SCALE, of=ALL, queries=100)
