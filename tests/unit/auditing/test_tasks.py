"""What answers say about the labels of each task, against formulas written down again, and audits of whole models."""

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch
from torch import nn

import lacewing as lw
from lacewing.attacks import phi
from lacewing.auditing._tasks import checked_labels, quality, scored
from lacewing.errors import UsageError

R = np.random.default_rng(0)
N, L = 200, 4
Z, Y = R.normal(0, 2, (N, L)), R.integers(0, 2, (N, L))
QUANTITY, PREDICTED = R.normal(3, 2, (N, 1)), R.normal(3, 2, (N, 1))
HALF = np.arange(N) < N // 2


def test_the_score_of_several_labels_is_the_sum_of_their_log_odds():
    p = scipy.special.expit(Z)
    expected = sum(
        np.log(np.where(Y[:, k], p[:, k], 1 - p[:, k]) / np.where(Y[:, k], 1 - p[:, k], p[:, k])) for k in range(L)
    )
    logits, label = scored(Z, Y, "multi-label", "model")
    np.testing.assert_allclose(phi(logits, label), expected, rtol=1e-9)


def test_the_score_of_a_quantity_ranks_as_the_negative_squared_and_absolute_error_do():
    logits, label = scored(PREDICTED, QUANTITY, "regression", "model")
    error = np.abs(PREDICTED - QUANTITY)[:, 0]
    np.testing.assert_array_equal(np.argsort(phi(logits, label)), np.argsort(-error))
    np.testing.assert_allclose(np.exp(-phi(logits, label)), error**2 / QUANTITY.var(), atol=1e-5)


def test_scores_of_references_keep_their_axis():
    stacked = np.stack([Z, Z[::-1], 2 * Z])
    for task, labels in (("multi-label", Y), ("regression", QUANTITY.repeat(L, 1) + Y)):
        logits, _ = scored(stacked, labels, task, "model")
        for k in range(3):
            np.testing.assert_array_equal(logits[k], scored(stacked[k], labels, task, "model")[0])


def test_the_fit_of_each_task_against_scikit_learn():
    classes = R.integers(0, L, N)
    found = quality(Z, classes, HALF, "classification")
    assert found.members == sklearn.metrics.accuracy_score(classes[HALF], Z[HALF].argmax(1))
    found = quality(Z, Y, HALF, "multi-label")
    assert found.nonmembers == pytest.approx(
        np.mean([sklearn.metrics.accuracy_score(Y[~HALF, k], Z[~HALF, k] > 0) for k in range(L)])
    )
    found = quality(PREDICTED, QUANTITY, HALF, "regression")
    assert found.members == pytest.approx(sklearn.metrics.r2_score(QUANTITY[HALF], PREDICTED[HALF]))
    perfect = quality(QUANTITY, QUANTITY, HALF, "regression")
    assert perfect.members == 1
    assert perfect.benefit_N[HALF].mean() == pytest.approx(1)  # of the members' variance


@pytest.mark.parametrize(
    ("labels", "task", "says"),
    [
        (np.arange(20) / 3, "classification", "task='regression'"),
        (np.arange(20.0), "classification", r"y.astype\(int\) for classes, or say task='regression'"),
        (np.array(["cat", "dog"] * 10), "classification", "number them as the model does"),
        (np.eye(5)[np.arange(20) % 5], "classification", r"one-hot.*argmax"),
        (Y[:20], "classification", "task='multi-label'"),
        (np.where(np.arange(20) % 2, 1, -1), "binary", r"\(y \+ 1\) // 2"),
        (np.arange(20) % 3, "binary", "0 and 1"),
        (np.arange(20), "multi-label", r"give \(N, L\)"),
        (np.ones(20), "regression", "the same quantity"),
        (np.full(20, np.nan), "regression", "NaN"),
    ],
)
def test_labels_of_another_task_are_refused_and_the_task_is_never_guessed(labels, task, says):
    with pytest.raises(UsageError, match=says):
        checked_labels(labels, task, "y")


def test_answers_in_another_unit_are_refused_and_shrunk_ones_are_not():
    good = QUANTITY + 0.1 * R.normal(size=QUANTITY.shape)
    for wrong in (good / 5, 100 * good, -good):
        with pytest.raises(UsageError, match="different units"):
            quality(wrong, QUANTITY, HALF, "regression")
    quality(0.6 * good, QUANTITY, HALF, "regression")
    quality(PREDICTED, QUANTITY, HALF, "regression")


def test_rare_labels_are_compared_with_chance_by_their_ranking():
    rare = (R.random((N, 3)) < 0.06).astype(int)
    ranked = R.normal(size=(N, 3)) + 3 * rare + 4  # all above the cut, as a weighted loss has them
    benefit = quality(ranked, rare, HALF, "multi-label").benefit_N
    aucs = [sklearn.metrics.roc_auc_score(rare[HALF, k], ranked[HALF, k]) for k in range(3)]
    assert benefit[HALF].mean() == pytest.approx(np.mean(aucs) - 0.5)


@pytest.mark.parametrize(("signal", "share"), [(0.0, 0.5), (2.5, 0.1)])
def test_the_ranking_of_labels_varies_from_draw_to_draw_as_it_says(signal, share):
    rng, n = np.random.default_rng(8), 120
    side = np.arange(2 * n) < n
    means, variances = [], []
    for _ in range(400):
        labels = (rng.random((2 * n, 4)) < share).astype(int)
        answers = rng.normal(size=labels.shape) + signal * labels + rng.normal(size=(2 * n, 1))
        values = quality(answers, labels, side, "multi-label").benefit_N[side]
        means.append(values.mean())
        variances.append(values.var(ddof=1) / n)
    assert np.var(means, ddof=1) == pytest.approx(np.mean(variances), rel=0.25)  # 400 draws: 7 % standard error


# ------------------------------------------------------------------------------------------------------ whole models

X = R.normal(size=(240, 12)).astype("f4")
MEMBER = np.arange(240) < 120


def fitted(outputs, loss, y, epochs=300):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, outputs))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    x, target = torch.from_numpy(X[MEMBER]), torch.as_tensor(y[MEMBER])
    for _ in range(epochs):
        optimiser.zero_grad()
        loss(model(x), target).backward()
        optimiser.step()
    return model


def sides(y):
    return (X[MEMBER], y[MEMBER]), (X[~MEMBER], y[~MEMBER])


def auc_of(found, attack="loss"):
    return next(one for one in found.attacks if one.attack == attack).metrics["auc"].value


def test_a_regression_is_audited_by_its_errors():
    y = (X[:, 0] + R.normal(size=240)).astype("f4")
    model = fitted(1, lambda a, b: nn.functional.mse_loss(a[:, 0], b), y)
    found = lw.audit(model, *sides(y), task="regression", progress=False)
    error = (model(torch.from_numpy(X)).detach().numpy()[:, 0] - y) ** 2
    assert auc_of(found) == pytest.approx(sklearn.metrics.roc_auc_score(MEMBER, -error))
    explained = [1 - error[side].mean() / y[side].var() for side in (MEMBER, ~MEMBER)]
    assert found.to_frame("accuracy")["r_squared"].tolist() == pytest.approx(explained, rel=1e-5)
    assert found.sentence.startswith("Leakage found")
    assert {"loss", "gradient-norm"} <= {one.attack for one in found.attacks}
    assert not [one.attack for one in found.attacks if "class" in one.threat_model + one.variant]
    assert "task binary or classification" in found.refused["rmia-offline"]
    assert "task binary or classification" in found.refused["entropy"]
    with pytest.raises(UsageError, match=r"'entropy' cannot run.*regression"):
        lw.audit(model, *sides(y), task="regression", attacks="entropy", progress=False)


def test_several_labels_are_audited_by_their_log_odds_and_a_function_of_sigmoids_gives_the_same():
    y = R.integers(0, 2, (240, L))
    model = fitted(L, lambda a, b: nn.functional.binary_cross_entropy_with_logits(a, b.float()), y)
    found = lw.audit(model, *sides(y), task="multi-label", progress=False)
    logits = model(torch.from_numpy(X)).detach().numpy().astype(float)
    assert auc_of(found) == pytest.approx(sklearn.metrics.roc_auc_score(MEMBER, ((2 * y - 1) * logits).sum(1)))
    assert found.sentence.startswith("Leakage found")

    def sigmoids(x):
        return torch.sigmoid(model(torch.as_tensor(x)).double()).detach().numpy()

    again = lw.audit(sigmoids, *sides(y), task="multi-label", outputs="sigmoid", attacks="loss", progress=False)
    assert auc_of(again) == pytest.approx(auc_of(found), abs=1e-3)  # a sigmoid near 1 has lost digits of its logit


def test_a_binary_model_with_one_logit_is_audited_as_one_with_two():
    y = R.integers(0, 2, 240)
    model = fitted(1, lambda a, b: nn.functional.binary_cross_entropy_with_logits(a[:, 0], b.float()), y)
    one = lw.audit(model, *sides(y), task="binary", progress=False)
    two = lw.audit(
        lambda x: np.column_stack([np.zeros(len(x)), model(torch.as_tensor(x)).detach().numpy()[:, 0]]),
        *sides(y),
        progress=False,
    )
    for attack in ("loss", "entropy", "gap", "label-noise"):
        assert auc_of(one, attack) == pytest.approx(auc_of(two, attack)), attack


def test_references_of_a_regression_sharpen_the_audit():
    y = (X[:, 0] + R.normal(size=240)).astype("f4")

    def refit(x, y, seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 1))
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.mse_loss(model(torch.as_tensor(x))[:, 0], torch.as_tensor(y)).backward()
            optimiser.step()
        return model

    target = refit(X[MEMBER], y[MEMBER], 99)
    found = lw.audit(target, *sides(y), task="regression", refit=refit, references=6, processes=1, progress=False)
    with_references = {"lira-online", "lira-offline", "nig-t-online", "nig-t-offline", "calibrated-log-odds"}
    assert with_references | {"loss"} <= {one.attack for one in found.attacks}
    assert auc_of(found, "lira-online") > 0.6
    assert auc_of(found, "nig-t-online") > 0.6
    assert found.attacks[0].metrics["balanced_accuracy"] is not None


@pytest.mark.parametrize("task", ["binary", "multi-label", "regression"])
def test_outputs_of_every_task_are_audited_from_arrays_as_the_model_is(task):
    y = {"binary": Y[:, 0], "multi-label": Y, "regression": QUANTITY[:, 0]}[task]
    logits = {"binary": Z[:, 0], "multi-label": Z, "regression": PREDICTED[:, 0]}[task]
    found = lw.audit_scores({"logits": logits, "label": y, "member": HALF}, task=task, attacks="loss")
    table = {row.tobytes(): answer for row, answer in zip(X[:N], logits, strict=True)}
    asked = lw.audit(
        lambda x: np.array([table[row.tobytes()] for row in x]),
        (X[:N][HALF], y[HALF]),
        (X[:N][~HALF], y[~HALF]),
        task=task,
        attacks="loss",
        progress=False,
    )
    assert auc_of(found) == pytest.approx(auc_of(asked))


def test_frames_go_to_worker_processes_as_they_are_or_not_at_all(tmp_path):
    import datetime

    from lacewing.auditing._cache import Size
    from lacewing.auditing._inputs import Form, RawData
    from lacewing.auditing._work import Work, can_be_written, read_work, write_work

    def work(*columns):
        form = Form("frame", columns, ("float64",) * len(columns), ("a", "b"), "<f4", False)
        records = RawData(np.zeros((4, len(columns))), Y[:4, :2], form)
        return Work(refit=len, records=records, population=None, in_KN=np.eye(4) > 0, seed_K=(1, 2), queries=1,
                    white_box=False, signals=(), size=Size(), task="multi-label")  # fmt: skip

    given = work("age", 7)
    write_work(tmp_path, given)
    assert can_be_written(given)
    assert read_work(tmp_path, len).records.form == given.records.form
    assert not can_be_written(work(datetime.date(2026, 1, 1)))
