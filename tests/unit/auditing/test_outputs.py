"""Answers of every form come to the logits that they were made of, and what has lost them is refused."""

import numpy as np
import pytest
import scipy.special
import torch

from lacewing.auditing._outputs import Form, as_logits, check
from lacewing.errors import UsageError

N, C = 300, 10
LOGITS = np.random.default_rng(0).normal(0, 3, (N, C))
P = scipy.special.softmax(LOGITS, axis=1)
ONE = LOGITS[:, :1]


def relative(logits):
    return logits - logits.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize("outputs", [None, "said"])
def test_probabilities_give_back_the_logits_up_to_a_constant_a_row(outputs):
    for kind, answers in (("probabilities", P), ("log-probabilities", np.log(P)), ("logits", LOGITS)):
        logits, _, note = as_logits(answers, "classification", outputs and kind, "answers")
        np.testing.assert_allclose(relative(logits), relative(LOGITS), atol=1e-9)
        assert (note is not None) == (outputs is None and kind == "probabilities")


@pytest.mark.parametrize("xp", [np, torch])
@pytest.mark.parametrize(
    ("task", "kind", "answers"),
    [
        ("binary", "probabilities", scipy.special.expit(ONE)),
        ("binary", "sigmoid", scipy.special.expit(ONE)),
        ("binary", "log-probabilities", scipy.special.log_expit(ONE)),
        ("binary", "logits", ONE),
        ("multi-label", "sigmoid", scipy.special.expit(LOGITS)),
        ("multi-label", "probabilities", scipy.special.expit(LOGITS)),
        ("classification", "sigmoid", scipy.special.expit(LOGITS)),
    ],
)
def test_numbers_that_stand_alone_give_back_their_own_logits(xp, task, kind, answers):
    found, form, _ = as_logits(answers, task, kind, "answers")
    expected = np.hstack([0 * ONE, ONE]) if task == "binary" else LOGITS
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again = form.logits(xp, answers if xp is np else torch.from_numpy(answers))
    np.testing.assert_allclose(np.asarray(again), expected, atol=1e-6)


def test_a_probability_of_nought_counts_as_the_smallest_and_stays_finite():
    p = np.tile([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.61, 0.39, 1e-9], [0.7123, 0.0, 0.2877]], (5, 1))
    logits, form, _ = as_logits(p, "classification", "probabilities", "answers")
    assert np.isfinite(logits).all()
    assert form.least == 1e-9
    assert logits[0, 1] == np.log(1e-9)


P2, P3 = (P.round(digits) / P.round(digits).sum(axis=1, keepdims=True) for digits in (2, 3))
TOP = np.where(np.sort(P, axis=1)[:, [-3]] <= P, P, 0)


@pytest.mark.parametrize("outputs", [None, "probabilities", "log-probabilities"])
@pytest.mark.parametrize(
    "p",
    [P.round(2), P.round(3), P2, P3.astype("f4"), TOP, TOP / TOP.sum(axis=1, keepdims=True)],
    ids=["0.01", "0.001", "0.01 to 1", "0.001 to 1", "top-3", "top-3 to 1"],
)
def test_rounded_and_cut_probabilities_are_refused(p, outputs):
    answers = np.log(p.clip(1e-6)) if outputs == "log-probabilities" else p
    with pytest.raises(UsageError, match=r"round|sum to between|others seem to be left out|largest outputs"):
        as_logits(answers, "classification", outputs, "answers")


@pytest.mark.parametrize(
    ("answers", "task", "outputs", "says"),
    [
        (scipy.special.expit(LOGITS), "classification", None, "lie between 0 and 1.*outputs='sigmoid'"),
        (scipy.special.expit(ONE), "binary", None, "lie between 0 and 1.*outputs='probabilities'"),
        (scipy.special.expit(LOGITS), "multi-label", None, "outputs='sigmoid'"),
        (scipy.special.expit(LOGITS), "classification", "probabilities", "sum to between"),
        (LOGITS, "classification", "probabilities", "are no probabilities"),
        (LOGITS, "multi-label", "sigmoid", "are no sigmoid"),
        (P, "classification", "logits", "say outputs='probabilities'"),
        (np.maximum(LOGITS, 0), "classification", None, "hold the value 0"),
        (np.where(ONE > 0, 1.0, -1.0), "binary", None, "two values alone"),
        (np.where(LOGITS > 0, 1, 0), "multi-label", "logits", "two values alone"),
        (P.round(4).astype("f4"), "classification", None, "rounded"),
        (np.eye(C)[np.arange(N) % C], "classification", None, "two values alone"),
    ],
)
def test_answers_that_are_not_what_they_should_be_are_refused(answers, task, outputs, says):
    with pytest.raises(UsageError, match=says):
        as_logits(answers, task, outputs, "answers")


def test_votes_in_one_column_pass_with_a_note_where_they_are_declared():
    votes = scipy.special.expit(ONE).round(2)
    logits, _, note = as_logits(votes, "binary", "probabilities", "answers")
    assert "multiples of 0.01" in note
    np.testing.assert_allclose(scipy.special.expit(logits[:, 1:]), votes, atol=1e-5)
    floored = np.log(np.random.default_rng(1).multinomial(100, [0.5, 0.3, 0.2], 60).clip(1e-4) / 100)
    _, _, note = as_logits(floored, "classification", "log-probabilities", "answers")
    assert "multiples of 0.01" in note


@pytest.mark.parametrize(
    ("answers", "task", "outputs"),
    [
        (LOGITS - LOGITS.max(axis=1, keepdims=True), "classification", None),
        (np.random.default_rng(1).multinomial(101, [0.5, 0.3, 0.2], 60) / 101, "classification", None),
        (np.clip(LOGITS[:, :4], -4, 4), "classification", "logits"),
        (scipy.special.softmax(40 * LOGITS[:, :3], axis=1), "classification", None),
        (scipy.special.log_softmax(40 * LOGITS[:, :3], axis=1), "classification", None),
        (scipy.special.expit(12 * LOGITS).astype("f4"), "multi-label", "sigmoid"),
    ],
    ids=["largest is 0", "votes of 101 trees", "bounded", "sure softmax", "sure log-softmax", "saturated sigmoids"],
)
def test_ordinary_answers_are_taken(answers, task, outputs):
    logits, _, _ = as_logits(answers, task, outputs, "answers")
    assert np.isfinite(logits).all()


def test_votes_of_a_forest_are_exact_and_pass_where_they_are_declared():
    votes = np.random.default_rng(1).multinomial(100, [0.5, 0.3, 0.2], 60) / 100
    with pytest.raises(UsageError, match="votes of a forest"):
        as_logits(votes, "classification", None, "answers")
    logits, _, _ = as_logits(votes, "classification", "probabilities", "answers")
    np.testing.assert_allclose(scipy.special.softmax(logits, axis=1), votes, atol=1e-5)


@pytest.mark.parametrize(
    ("task", "outputs", "says"),
    [
        ("regresion", None, "did you mean 'regression'"),
        ("binary", "logit", "did you mean 'logits'"),
        ("regression", "logits", "leave it out of a regression"),
        ("multi-label", "log-probabilities", "of classes"),
    ],
)
def test_unknown_tasks_and_outputs_are_named(task, outputs, says):
    with pytest.raises(UsageError, match=says):
        check(task, outputs)


def test_the_single_column_of_a_binary_model_is_that_of_class_1():
    assert Form("logits", single=True).logits(np, np.array([[2.0]])).tolist() == [[0.0, 2.0]]


def test_a_network_whose_hidden_units_are_at_zero_for_many_records_is_no_cut_of_its_outputs():
    biases = np.array([0.5, -1.25, 2.0, 0.125])
    answers = np.where(np.arange(60)[:, None] % 2, biases, biases + np.random.default_rng(2).normal(size=(60, 4)))
    logits, _, _ = as_logits(answers, "classification", None, "answers")
    np.testing.assert_array_equal(logits, answers)
    with pytest.raises(UsageError, match=r"hold the value -9|repeat one value"):
        as_logits(np.where(TOP > 0, LOGITS, -9), "classification", None, "answers")


SPREAD = TOP + np.where(TOP > 0, 0, (1 - TOP.sum(axis=1, keepdims=True)) / (TOP == 0).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("answers", "outputs"),
    [
        (np.where(TOP > 0, LOGITS, 0), "logits"),
        (np.where(TOP > 0, LOGITS, 0), None),
        (np.where(TOP > 0, scipy.special.expit(LOGITS), 0), "sigmoid"),
        (SPREAD, None),
        (SPREAD, "probabilities"),
        (np.where(TOP > 0, LOGITS, LOGITS.min(axis=1, keepdims=True)), None),
    ],
)
def test_the_largest_few_are_refused_whatever_stands_in_the_other_places(answers, outputs):
    with pytest.raises(UsageError, match="largest outputs seem to be there"):
        as_logits(answers, "classification", outputs, "answers")


@pytest.mark.parametrize("answers", [100 * P, 7.0 * P])
def test_rows_that_sum_to_one_number_are_no_logits(answers):
    with pytest.raises(UsageError, match="percentages or votes"):
        as_logits(answers, "classification", None, "answers")


def test_a_false_declaration_of_logits_is_refused():
    for answers in (scipy.special.expit(LOGITS), P.round(2)):
        with pytest.raises(UsageError, match=r"outputs='sigmoid'|rounded or incomplete"):
            as_logits(answers, "classification", "logits", "answers")


@pytest.mark.parametrize("kind", ["tree", "leaves", "forest", "boosting", "bayes", "logistic", "neighbours", "ldlf"])
def test_ordinary_classifiers_of_scikit_learn_are_taken(kind):
    from sklearn.datasets import load_digits
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    x, y = load_digits(return_X_y=True)
    x = x / 16
    model = {
        "tree": DecisionTreeClassifier(random_state=0),
        "leaves": DecisionTreeClassifier(min_samples_leaf=7, random_state=0),
        "forest": RandomForestClassifier(30, random_state=0),
        "boosting": HistGradientBoostingClassifier(max_iter=3),
        "bayes": GaussianNB(var_smoothing=1e-2),
        "logistic": LogisticRegression(max_iter=500),
        "neighbours": KNeighborsClassifier(),
        "ldlf": LinearDiscriminantAnalysis(shrinkage=0.1, solver="lsqr"),
    }[kind].fit(x[:600], y[:600])
    p = model.predict_proba(x[:1200])
    logits, _, _ = as_logits(p, "classification", "probabilities", "answers")
    assert (logits.argmax(axis=1) == p.argmax(axis=1)).all()
    if kind in ("boosting", "bayes", "logistic", "leaves", "ldlf"):
        as_logits(p, "classification", None, "answers")
