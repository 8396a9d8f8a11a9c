"""The discriminators' perceptron beside scikit-learn's, which it repeats operation by operation."""

import tracemalloc

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from lacewing.attacks import _perceptron as module
from lacewing.attacks._perceptron import fit_and_score
from lacewing.errors import UsageError


def records(n, features, seed=0):
    rng = np.random.default_rng(seed)
    member = np.arange(n) % 3 == 0
    x = rng.normal(size=(n, features)) + member[:, None]
    return x, member, rng.normal(size=(50, features))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@threadpool_limits.wrap(limits=1)
@pytest.mark.parametrize(
    ("n", "features", "hidden", "batch"),
    [
        (230, 7, (30,), 100),  # the last batch is smaller
        (201, 5, (30, 30), 200),  # the last batch holds one record
        (90, 3, (100, 100, 100), 90),  # one batch; more parameters than are updated at a time
        (40, 1, (4, 6), 7),
        (10, 2, (3,), 1),
    ],
)
def test_scikit_learn_gives_the_same_answers(n, features, hidden, batch):
    x, member, ask = records(n, features)
    x[:, 0] = 0.0  # a constant feature, as standardising leaves it
    for rate, seed in ((1e-2, 2**32 - 1), (1e-4, 5)):
        theirs = MLPClassifier(
            hidden,
            learning_rate_init=rate,
            batch_size=batch,
            max_iter=12,
            n_iter_no_change=13,
            tol=0.0,
            random_state=seed,
        ).fit(x, member.astype(int))
        mine = fit_and_score(x, member, ask, hidden, rate, seed=seed, epochs=12, batch=batch)
        np.testing.assert_allclose(mine, theirs.predict_proba(ask)[:, 1], rtol=1e-10)


def test_members_far_from_non_members_are_told_apart():
    x, member, _ = records(100, 2)
    score = fit_and_score(
        x + 9 * member[:, None], member, x + 9 * member[:, None], (5,), 1e-2, seed=0, epochs=60, batch=20
    )
    np.testing.assert_array_equal(score >= 0.5, member)


def test_the_global_random_state_stays_as_it_is():
    x, member, ask = records(20, 2)
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    fit_and_score(x, member, ask, (3,), 1e-2, seed=0, epochs=2, batch=10)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_that_diverges_is_refused():
    x, member, ask = records(20, 2)
    with pytest.raises(UsageError, match="became infinite"):
        fit_and_score(x, member, ask, (3,), 1e308, seed=0, epochs=5, batch=10)


def test_many_rows_are_answered_in_parts_with_the_bytes_of_one_and_in_little_memory(monkeypatch):
    rng = np.random.default_rng(5)
    x, member, ask = rng.normal(size=(400, 7)), rng.random(400) < 0.5, rng.normal(size=(50_001, 7))

    def answers():
        return fit_and_score(x, member, ask, (100, 100, 100), 1e-2, seed=1, epochs=1, batch=200)

    tracemalloc.start()
    try:
        found = answers()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6  # the outputs of all rows and layers take 120 MB
    monkeypatch.setattr(module, "_ROWS", len(ask))
    np.testing.assert_array_equal(found, answers())
