"""Log-odds, probabilities and entropies from logits: exact where a softmax has already rounded."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special, stats

from lacewing.attacks._logits import (
    entropy,
    log_true_class_probability,
    looks_like_probabilities,
    modified_entropy,
    phi,
    refuse_probabilities,
    softmax,
)
from lacewing.errors import UsageError

OF_LABELS = (phi, log_true_class_probability, modified_entropy)
extreme = arrays(np.float64, (6, 4), elements=st.floats(-1e4, 1e4))
labelled = arrays(np.int64, 6, elements=st.integers(0, 3))


def exactly(logits, label):
    """phi, log p_y, entropy and modified entropy of one row with 150 digits."""
    with localcontext() as context:
        context.prec = 150
        exp = [Decimal(float(z)).exp() for z in logits]
        p = [e / sum(exp) for e in exp]
        others = [q for i, q in enumerate(p) if i != label]
        modified = -(1 - p[label]) * p[label].ln() - sum(q * (1 - q).ln() for q in others)
        values = p[label].ln() - sum(others).ln(), p[label].ln(), -sum(q * q.ln() for q in p), modified
        return [float(value) for value in values]


@pytest.mark.parametrize("scale", [0.1, 1, 10, 60])
def test_every_quantity_agrees_with_150_digits(scale):
    rng = np.random.default_rng(0)
    logits, labels = scale * rng.normal(size=(12, 5)), rng.integers(5, size=12)
    expected = np.array([exactly(row, label) for row, label in zip(logits, labels, strict=True)]).T
    ours = [phi(logits, labels), log_true_class_probability(logits, labels)]
    ours += [entropy(logits), modified_entropy(logits, labels)]
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_agrees_with_scipy_and_takes_leading_axes():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(3, 20, 4)), rng.integers(4, size=20)
    np.testing.assert_allclose(softmax(logits), special.softmax(logits, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(entropy(logits), stats.entropy(special.softmax(logits, axis=-1), axis=-1), rtol=1e-12)
    for function in OF_LABELS:
        stacked = function(logits, labels)
        assert stacked.shape == (3, 20)
        np.testing.assert_array_equal(stacked, [function(network, labels) for network in logits])
        np.testing.assert_array_equal(stacked, function(logits, np.tile(labels, (3, 1))))


@pytest.mark.parametrize("sure", [40.0, 800.0, 1e4])
def test_a_saturated_network_gives_its_log_odds(sure):
    logits = np.array([[sure, 0.0], [sure, 0.0], [-sure, sure], [0.0, 0.0]])
    labels = np.array([0, 1, 0, 0])
    np.testing.assert_array_equal(phi(logits, labels), [sure, -sure, -2 * sure, 0])
    np.testing.assert_allclose(log_true_class_probability(logits, labels)[:3], [-np.exp(-sure), -sure, -2 * sure])
    # Two classes: -2 (1 - p_y) log p_y, infinite if p_y were rounded to 0.
    expected = [2 * np.exp(-2 * sure), 2 * sure, 4 * sure, np.log(2)]
    np.testing.assert_allclose(modified_entropy(logits, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(entropy(logits)[[0, 3]], [(sure + 1) * np.exp(-sure), np.log(2)], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(extreme, labelled)
def test_finite_logits_give_finite_values_whatever_is_added_to_a_row(logits, labels):
    for function in OF_LABELS:
        values = function(logits, labels)
        assert np.isfinite(values).all()
        np.testing.assert_allclose(function(logits - 4096.0, labels), values, rtol=1e-9, atol=1e-8)
    assert ((entropy(logits) >= 0) & (entropy(logits) <= np.log(4) + 1e-12)).all()
    assert (modified_entropy(logits, labels) >= 0).all()
    assert (log_true_class_probability(logits, labels) <= 0).all()


def test_half_precision_is_computed_in_double():
    logits = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float16)
    labels = np.zeros(50, np.int8)
    for function in OF_LABELS:
        assert function(logits, labels).dtype == np.float64
        np.testing.assert_array_equal(function(logits, labels), function(logits.astype(np.float64), labels))


def test_probabilities_are_told_from_logits():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(40, 10))
    for dtype in (np.float64, np.float16):
        p = softmax(logits).astype(dtype)
        assert looks_like_probabilities(p)
        with pytest.raises(UsageError, match=r"probabilities.*log p"):
            phi(p, np.zeros(40, int))
        with pytest.raises(UsageError, match="reference logits are probabilities"):
            refuse_probabilities(p, "reference logits")
    for no_p in (logits, logits - logits.max(axis=1, keepdims=True), np.log(softmax(logits)), rng.random((40, 10))):
        assert not looks_like_probabilities(no_p)
        refuse_probabilities(no_p)
    spoilt = softmax(logits)
    spoilt[7, 0] += 0.01
    assert not looks_like_probabilities(spoilt)
    np.testing.assert_array_equal(phi([[1.0, 0.0]], [0]), [1.0])  # two numbers may be logits all the same


@pytest.mark.parametrize("function", OF_LABELS)
@pytest.mark.parametrize(
    ("logits", "labels", "named"),
    [
        ([[0.0, np.nan]], [0], "logits hold NaN"),
        ([[0.0, -np.inf]], [0], "logits hold NaN or infinite"),
        ([[1.0]], [0], "logits have shape"),
        ([["a", "b"]], [0], "logits have dtype"),
        ([[1.0, 2.0]], [2], "labels hold values that are no class"),
        ([[1.0, 2.0]], [-1], "labels hold values that are no class"),
        ([[1.0, 2.0]], [0.0], "labels hold values that are no class"),
        ([[1.0, 2.0]], [0, 1], "labels have shape"),
        ([[1.0, 2.0]], 0, "labels have shape"),
    ],
)
def test_bad_input_is_named(function, logits, labels, named):
    with pytest.raises(UsageError, match=named):
        function(logits, labels)


def test_the_argument_is_left_alone():
    logits = np.random.default_rng(4).normal(size=(5, 3))
    before = logits.copy()
    for function in OF_LABELS:
        function(logits, np.zeros(5, int))
    np.testing.assert_array_equal(logits, before)
