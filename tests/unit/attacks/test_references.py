"""Reference networks that are none: copies in any storage are refused, and different networks never are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lacewing.attacks._references import refuse_twins
from lacewing.errors import UsageError

N, C = 200, 4
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, C, N)


def outputs(seed, *, scale=3.0, shared=0.0):
    """Logits of a network; ``shared`` is what it has in common with others of its recipe."""
    common = np.random.default_rng(99).normal(size=(N, C))
    own = np.random.default_rng(seed).normal(size=(N, C))
    return scale * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)


def bfloat16(x):
    return torch.from_numpy(x).bfloat16().float().numpy()


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


COPIES = {
    "itself": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "bfloat16": bfloat16,
    "shifted": lambda x: x + RNG.normal(size=(N, 1)) * 5,
    "shifted, float16": lambda x: (x + RNG.normal(size=(N, 1)) * 5).astype(np.float16),
    "log-probabilities": log_softmax,
    "log-probabilities, float16": lambda x: log_softmax(x).astype(np.float16),
    "log-probabilities, bfloat16": lambda x: bfloat16(log_softmax(x)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("scale", [0.3, 3.0, 1000.0])
def test_copies_of_one_network_are_refused_by_their_names(copied, scale):
    answers = {"the model": outputs(0, scale=scale), **{f"reference {k}": outputs(k, scale=scale) for k in (1, 2, 3)}}
    assert refuse_twins(answers, mend="") == []
    for other, twin in (("the model", "reference 3"), ("reference 1", "reference 2")):
        with pytest.raises(UsageError, match=f"{twin} is the same network as {other}, by its answers: do"):
            refuse_twins({**answers, twin: copied(answers[other])}, mend="do.")
        with pytest.raises(UsageError, match=f"{twin} is the same network as {other}"):
            refuse_twins({**answers, twin: copied(answers[other])}, mend="", latest=twin)


def clipped(x):
    return np.log(np.exp(log_softmax(x)).clip(1e-6))


def hard(classes):
    return np.log(np.eye(C)[classes].clip(1e-6))


def almost_constant(seed):
    """Two networks that learned little but the shares of the classes."""
    return np.array([3.0, 1.0, 0.0, -4.0]) + 1e-3 * outputs(seed, scale=1.0)


DIFFERENT = {
    "alike": lambda seed: outputs(seed, shared=0.999),
    "alike, float16": lambda seed: outputs(seed, shared=0.999).astype(np.float16),
    "certain": lambda seed: 50 * np.eye(C)[LABELS] + outputs(seed),
    "certain, clipped": lambda seed: clipped(20 * np.eye(C)[LABELS] + outputs(seed, scale=4.0)),
    "almost constant": almost_constant,
    "almost constant, float16": lambda seed: almost_constant(seed).astype(np.float16),
}


@pytest.mark.parametrize("made", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_networks_that_answer_nearly_the_same_are_not_refused(made):
    assert refuse_twins({str(seed): made(seed) for seed in range(12)}, mend="") == []


def test_answers_too_coarse_to_tell_networks_apart_are_noted_and_not_refused():
    wrong = LABELS.copy()
    wrong[0] = (wrong[0] + 1) % C
    (note,) = refuse_twins({"a": hard(LABELS), "b": hard(wrong), "c": hard(LABELS)}, mend="")
    assert note.startswith("c and a answered the same everywhere, but took only 4 different answers")
    assert len(refuse_twins({str(k): np.zeros((N, C)) for k in range(3)}, mend="")) == 3


def test_good_regressions_agree_on_the_truth_and_are_different_networks():
    truth = RNG.normal(size=(N, 1))
    answers = {str(seed): truth + 1e-3 * np.random.default_rng(seed).normal(size=(N, 1)) for seed in range(5)}
    assert refuse_twins(answers, mend="", shifted=False, truth=truth) == []
    with pytest.raises(UsageError, match="5 is the same network as 4"):
        refuse_twins({**answers, "5": answers["4"].astype(np.float32)}, mend="", shifted=False, truth=truth)


def test_log_odds_are_compared_without_a_shift():
    answers = {"a": outputs(0)[:, :1], "b": outputs(0)[:, :1] + 1}
    assert refuse_twins(answers, mend="", shifted=False) == []
    with pytest.raises(UsageError):
        refuse_twins({**answers, "c": answers["b"].astype(np.float16)}, mend="", shifted=False)
