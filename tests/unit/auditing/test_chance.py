"""Slips that turn the audited model into one at chance: each is told, none gets an all-clear, and no gate passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import lacewing as lw
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


def test_the_model_itself_passes() -> None:
    found = lw.audit(logits, (X[:400], Y[:400]), (X[400:800], Y[400:800]), attacks=["loss", "gap"])
    assert "cannot say" not in found.sentence
    right = int((logits(X[:400]).argmax(axis=1) == Y[:400]).sum())
    assert right > 380
    assert found.accuracy.startswith(f"accuracy: members {right / 4:.1f} % ({right} of 400), non-members ")
    found.check("gap.auc > 0.9")
