"""Self-checks without which there is no answer: where one fails there is no all-clear, and no gate passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lacewing as lw
from lacewing.attacks import Observed
from lacewing.attacks import selfchecks as _selfchecks
from lacewing.errors import GateFailed, UsageError

C = 4


def outputs(n: int = 400, *, gain: float = 0.0, members: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Logits of a good model; ``gain`` raises the members' given class."""
    rng = np.random.default_rng(seed)
    label, member = rng.integers(0, C, n), np.arange(n) < (n // 2 if members is None else members)
    logits = rng.normal(size=(n, C)) + 3 * np.eye(C)[label]
    logits[np.arange(n), label] += gain * member
    return {"logits": logits, "label": label, "member": member}


def with_references(given: dict[str, Any], *, alike: bool) -> dict[str, Any]:
    rng, n, label = np.random.default_rng(9), len(given["label"]), given["label"]
    half = rng.random((4, n)).argsort(axis=1) < n // 2
    inside = np.stack([half, ~half], axis=1).reshape(8, n)
    logits = rng.normal(size=(8, n, C)) + (3 if alike else 0.5) * np.eye(C)[label]
    return {**given, "reference_logits": logits, "reference_in": inside}


def told(audit: lw.Audit, check: str, *gates: str) -> str:
    failed = [c for c in audit.selfchecks if not c.passed and c.decides != "nothing"]
    assert check in [c.name for c in failed]
    shown = str(audit) + audit.model_card()
    if any(c.decides == "every attack" for c in failed):
        assert "No leakage found" not in shown
    else:
        assert "But attacks with references may have missed some: " in shown
    for gate in gates:
        with pytest.raises(UsageError, match="cannot be judged"):
            audit.check(gate)
    return audit.sentence


def test_a_score_of_the_wrong_sign_passes_no_gate() -> None:
    given = outputs(gain=1.5)
    own = given["logits"][np.arange(400), given["label"]]
    audit = lw.audit_scores({"score": -own, "member": given["member"]})
    sentence = told(audit, "members rank above non-members", "auc > 0.6", "scores.auc > 0.9", "epsilon > 3")
    assert "ranks non-members" not in sentence
    assert "given scores rank non-members above members" in sentence
    assert "give its negative" in sentence
    right = lw.audit_scores({"score": own, "member": given["member"]})
    assert right.sentence.startswith("Leakage found")
    with pytest.raises(GateFailed):
        right.check("auc > 0.6")


def test_swapped_sides_pass_no_gate() -> None:
    given = outputs(gain=1.5)
    audit = lw.audit_scores({**given, "member": ~given["member"]}, attacks=["loss", "gap"])
    assert "swapped" in told(audit, "members rank above non-members", "auc > 0.6", "loss.tpr@0.05.value > 0.9")


@pytest.mark.slow
def test_a_null_audit_is_told_something_with_five_percent_at_most() -> None:
    rng, seen = np.random.default_rng(3), 0
    for _ in range(400):
        audit = lw.audit_scores({"score": rng.normal(size=120), "member": np.arange(120) < 60})
        above = next(c for c in audit.selfchecks if c.name == "members rank above non-members")
        seen += (not above.passed) or not audit.sentence.startswith("No leakage found")
    assert seen <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5


def seen(right: np.ndarray, member: np.ndarray, group: np.ndarray | None = None) -> Observed:
    logits = np.stack([np.zeros(len(right)), np.where(right, 1.0, -1.0)], axis=1)
    return Observed(logits, np.ones(len(right), int), member, None, np.arange(len(right)), group_N=group)


def test_members_that_are_answered_worse_fail_the_check() -> None:
    member, right = np.arange(400) < 200, np.ones(400, bool)
    right[:30], right[200:205] = False, False
    check = _selfchecks.members_answered_better(seen(right, member))
    assert not check.passed
    assert "through augmentation" in check.sentence
    assert "170 of 200" in check.sentence
    assert _selfchecks.members_answered_better(seen(right[::-1], member)).passed
    # Thirty wrong records of one patient are one patient.
    patient = np.where(np.arange(400) < 30, 0, np.arange(400))
    assert _selfchecks.members_answered_better(seen(right, member, patient)).passed
    rng = np.random.default_rng(0)
    even = [_selfchecks.members_answered_better(seen(rng.random(100) < 0.8, np.arange(100) < 50)) for _ in range(200)]
    assert all(check.passed for check in even)


def test_members_that_are_answered_worse_pass_no_gate() -> None:
    rng, given = np.random.default_rng(1), outputs()
    wrong = rng.choice(200, 40, replace=False)
    given["logits"][wrong] = np.roll(given["logits"][wrong], 1, axis=1)
    told(lw.audit_scores(given, attacks="entropy"), "members answered no worse", "entropy.auc > 0.9")


def test_references_unlike_the_model_leave_no_gate_about_attacks_that_use_them() -> None:
    audit = lw.audit_scores(with_references(outputs(), alike=False), attacks=["loss", "lira-online"])
    sentence = told(audit, "references like target", "lira.auc > 0.9", "auc > 0.9", "loss.balanced_accuracy > 0.9")
    assert "the references are unlike the model" in sentence.lower()
    audit.check("loss.auc > 0.9")
    alike = lw.audit_scores(with_references(outputs(), alike=True), attacks=["loss", "lira-online"])
    assert alike.sentence.startswith("No leakage found")
    alike.check("auc > 0.9")


def test_a_leak_found_by_references_unlike_the_model_says_so_and_one_found_without_them_stands() -> None:
    given = outputs(gain=2.0)
    audit = lw.audit_scores(with_references(given, alike=False), attacks=["loss", "lira-offline"])
    assert audit.sentence.startswith("Leakage found")
    resting = audit.strongest.attack != "loss"
    assert ("the references are unlike the model" in audit.sentence.lower()) == resting
    with pytest.raises(GateFailed):
        audit.check("any.auc > 0.6")  # "loss" is over it, which needs no reference
    with pytest.raises(UsageError, match="unlike the model"):
        audit.check("lira.auc > 0.6")
    only = lw.audit_scores(with_references(given, alike=False), attacks="lira-offline")
    assert only.sentence.startswith("Leakage found")
    assert "the references are unlike the model" in only.sentence.lower()


@pytest.mark.parametrize(("same", "passes"), [(5, True), (60, False)])
def test_nonmembers_that_are_members_leave_no_gate(same: int, passes: bool) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(200, 5)), rng.integers(0, 2, 200)
    x[:, 0] += 3 * y
    x[100 : 100 + same], y[100 : 100 + same] = x[:same], y[:same]

    def model(given: np.ndarray) -> np.ndarray:
        return np.column_stack([np.zeros(len(given)), 2 * given[:, 0] - 3])

    audit = lw.audit(model, (x[:100], y[:100]), (x[100:], y[100:]), attacks=["loss"])
    if passes:
        audit.check("loss.auc > 0.9")
    else:
        assert "60 of the 100 audited non-members" in told(audit, "non-members unseen", "loss.auc > 0.9")


def test_json_invents_nothing_of_a_model_that_is_not_known() -> None:
    rng = np.random.default_rng(0)
    member, group = np.arange(120) < 60, np.arange(120) // 2
    scores = lw.audit_scores({"score": rng.normal(size=120), "member": member, "group": group})
    model = scores.as_json()["model"]
    assert {model[name] for name in ("method", "density", "parameters", "nonzero", "train_accuracy")} == {None}
    assert (scores.as_json()["n_counts"], scores.as_json()["records"]) == ("groups", 120)
    assert str(scores).count("n counts groups, of 120 records") == 2
    y = rng.normal(size=120)
    quantities = lw.audit_scores(
        {"logits": y + 0.5 * rng.normal(size=120), "label": y, "member": member}, task="regression"
    )
    model = quantities.as_json()["model"]
    assert model["train_accuracy"] is None
    assert 0.5 < model["r2_members"] < 1
    check = next(check for check in quantities.selfchecks if check.name == "model fits its members")
    assert "squared error" in check.sentence


def test_the_null_audit_holds_for_an_attack_of_few_different_scores() -> None:
    right = np.ones(800)
    right[:5] = 0  # with five wrong records the AUC takes six values
    assert all(_selfchecks.null_audit(right, np.arange(800) % 2 == 0, seed=seed).passed for seed in range(10))


def test_control_counts_groups() -> None:
    rng = np.random.default_rng(0)
    given = {**outputs(gain=0.1), "group": np.arange(400) // 4}
    given["score"] = rng.normal(size=400)
    audit = lw.audit_scores(given, attacks="loss")
    check = next(check for check in audit.selfchecks if check.name == "overfitted control")
    assert "n = 50)" in check.sentence


def test_the_test_of_two_sides_of_groups_is_welchs():
    import scipy.stats

    from lacewing.attacks._deciding import _below

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=20), rng.normal(0.4, 2, size=35)
    assert _below(a, b) == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False, alternative="less").pvalue)
    assert _below(np.ones(5), np.ones(9)) == 1
