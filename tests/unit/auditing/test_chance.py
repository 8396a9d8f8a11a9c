"""Slips that turn the audited model into one at chance: each is told, none gets an all-clear, and no gate passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import lacewing as lw
from lacewing.attacks._order import labels_in_order
from lacewing.errors import UsageError

X, Y = load_digits(return_X_y=True)


def trained(y: Any) -> Callable[[Any], Any]:
    """Ridge regression of the classes on the first 400 records: ten times the fitted values are its logits."""
    inputs = np.column_stack([X[:400], np.ones(400)])
    weights = np.linalg.solve(inputs.T @ inputs + np.eye(65), inputs.T @ np.eye(10)[y])
    return lambda x: 10 * np.column_stack([np.asarray(x), np.ones(len(x))]) @ weights


logits, other = trained(Y[:400]), trained(np.random.default_rng(0).permutation(Y[400:800]))


SLIPS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "another checkpoint": (other, lambda y: y),
    "pixels divided by 255": (lambda x: logits(x / 255), lambda y: y),
    "classes renumbered": (logits, lambda y: (y + 1) % 10),
    "labels in another order": (logits, lambda y: np.random.default_rng(1).permutation(y)),
    "rows reversed": (logits, lambda y: y[::-1]),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_that_leaves_the_model_at_chance_is_told(slip: str) -> None:
    model, labels = SLIPS[slip]
    members, nonmembers = (X[:400], labels(Y[:400])), (X[400:800], labels(Y[400:800]))
    asked = lw.audit(model, members, nonmembers, attacks=["loss", "gap"])
    given = lw.audit_scores(
        {
            "logits": np.concatenate([model(x) for x, _ in (members, nonmembers)]),
            "label": np.concatenate([members[1], nonmembers[1]]),
            "member": np.arange(800) < 400,
        },
        attacks=["loss", "gap"],
    )
    for found in (asked, given):
        assert "No leakage found" not in str(found) + found.model_card()
        assert "no better than always answering the most frequent class" in found.sentence
        assert next(check.name for check in found.selfchecks if not check.passed) == "model fits its members"
        for gate in ("auc > 0.9", "loss.tpr@0.05.value > 0.9", "gap.auc >= 0"):
            with pytest.raises(UsageError, match="cannot be judged"):
                found.check(gate)


SWAPPED = np.array([0, 1, 2, 5, 4, 3, 6, 7, 8, 9])


@pytest.mark.parametrize("numbers", [SWAPPED, np.array([1, 2, 0, *range(3, 10)])], ids=["two", "three"])
def test_some_classes_in_another_order_are_told_though_most_are_right(numbers: Any) -> None:
    asked = lw.audit(logits, (X[:400], numbers[Y[:400]]), (X[400:800], numbers[Y[400:800]]), attacks=["loss", "gap"])
    given = lw.audit_scores(
        {"logits": logits(X[:800]), "label": numbers[Y[:800]], "member": np.arange(800) < 400}, attacks=["loss", "gap"]
    )
    for found in (asked, given):
        assert "number the labels in the order of its outputs" in found.sentence
        assert [check.name for check in found.selfchecks if not check.passed and check.decides == "every attack"] == [
            "labels in the outputs' order"
        ]
        with pytest.raises(UsageError, match="cannot be judged"):
            found.check("gap.auc > 0.9")


@pytest.mark.parametrize("task", ["classification", "multi-label"])
def test_a_class_that_is_taken_for_another_is_no_other_order(task: Any) -> None:
    label = np.repeat([0, 1, 2, 3], 30)
    answer = np.where(label == 1, 0, label)  # 1 is always taken for 0, and 0 for 0
    labels, answers = (label, np.eye(4)[answer]) if task == "classification" else (np.eye(4)[label], np.eye(4)[answer])
    assert labels_in_order(answers, labels, task).passed
    assert not labels_in_order(answers[:, [0, 1, 3, 2]], labels, task).passed


def test_columns_of_labels_in_another_order_are_told_though_most_fit() -> None:
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, (300, 5))
    answers = 3 * label - 1.5 + rng.normal(size=label.shape)
    for order, passes in (([0, 1, 2, 3, 4], True), ([0, 1, 2, 4, 3], False)):
        given = {"logits": answers[:, order], "label": label, "member": np.arange(300) < 150}
        found = lw.audit_scores(given, task="multi-label", attacks="loss")
        check = next(one for one in found.selfchecks if one.name == "labels in the outputs' order")
        assert check.passed is passes
        assert ("3 as 4, 4 as 3" in found.sentence) is not passes


def test_the_model_itself_passes() -> None:
    found = lw.audit(logits, (X[:400], Y[:400]), (X[400:800], Y[400:800]), attacks=["loss", "gap"])
    assert "cannot say" not in found.sentence
    right = int((logits(X[:400]).argmax(axis=1) == Y[:400]).sum())
    assert right > 380
    assert found.accuracy.startswith(f"accuracy: members {right / 4:.1f} % ({right} of 400), non-members ")
    found.check("gap.auc > 0.9")
