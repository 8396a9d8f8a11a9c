"""Gates: what they parse, which end of which interval they compare, and that nothing passes unmeasured."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing import metrics
from lacewing.auditing import _gates
from lacewing.auditing._result import Audit
from lacewing.auditing._scores import audit_scores
from lacewing.errors import GateFailed, UsageError, exit_code
from lacewing.results import AttackResult


@pytest.fixture(scope="module")
def audit() -> Audit:
    """Outputs without references: "loss" and others run without decisions, "gap" decides, LiRA is refused."""
    rng = np.random.default_rng(5)
    label, member = rng.integers(0, 3, 400), np.arange(400) < 200
    logits = rng.normal(size=(400, 3))
    logits[np.arange(400), label] += 0.8 * member
    return audit_scores({"logits": logits, "label": label, "member": member})


def result(audit: Audit, name: str) -> AttackResult:
    return next(found for found in audit.attacks if found.attack == name)


def failed(audit: Audit, text: str) -> bool:
    (verdict,) = _gates.check([_gates.parse(text)], audit)
    return verdict.failed


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lira.tpr@0.001 > 0.02", ("lira", "tpr", 0.001, "low", ">", 0.02)),
        ("lira-online.tpr@1e-3.high>=2e-2", ("lira-online", "tpr", 0.001, "high", ">=", 0.02)),
        ("  any.auc.value>0.6 ", ("any", "auc", None, "value", ">", 0.6)),
        ("loss.balanced_accuracy > .55", ("loss", "balanced_accuracy", None, "low", ">", 0.55)),
        ("pkg.mine:own_attack.auc.low > 0.6", ("pkg.mine:own_attack", "auc", None, "low", ">", 0.6)),
        ("mine:own.tpr@.01 > 0.6", ("mine:own", "tpr", 0.01, "low", ">", 0.6)),
        ("scores.epsilon >= 1", ("scores", "epsilon", None, "low", ">=", 1.0)),
        ("any.advantage > -0.1", ("any", "advantage", None, "low", ">", -0.1)),
        ("auc > 0.6", ("any", "auc", None, "low", ">", 0.6)),
        (" tpr@0.01.high >= 0.05", ("any", "tpr", 0.01, "high", ">=", 0.05)),
        ("balanced_accuracy.value > 0.6", ("any", "balanced_accuracy", None, "value", ">", 0.6)),
        ("epsilon > 1", ("any", "epsilon", None, "low", ">", 1.0)),
    ],
)
def test_a_gate_is_parsed(text: str, parts: tuple[object, ...]) -> None:
    gate = _gates.parse(text)
    assert (gate.attack, gate.metric, gate.fpr, gate.side, gate.op, gate.bound) == parts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("loss.auc", "must read"),
        ("loss.auc < 0.6", "must read"),
        ("loss > 0.6", "must read"),
        ("loss.auc > high", "must read"),
        ("loss.auk > 0.6", "did you mean 'auc'?"),
        ("loss.tpr > 0.6", "tpr@0.001"),
        ("loss.auc@0.1 > 0.6", "tpr@0.001"),
        ("loss.tpr@1.5 > 0.6", "between 0 and 1"),
        ("loss.tpr@0 > 0.6", "between 0 and 1"),
        ("loss.auc.lower > 0.6", "low, value or high"),
        ("loss.epsilon.high > 1", "lower bound"),
        ("lyra.auc > 0.6", "did you mean 'lira'?"),
        ("auk > 0.6", "must read .* the metrics are auc,"),
        ("auc.lower > 0.6", "low, value or high"),
        ("auc > 1", "never or always true"),
        ("loss.tpr@0.1 > 1.0", "never or always true"),
    ],
)
def test_a_wrong_gate_is_refused_with_its_mend(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        _gates.parse(text)
    assert text in str(refused.value)


@pytest.mark.parametrize("side", ["low", "value", "high"])
@pytest.mark.parametrize("metric", ["auc", "tpr@0.05"])
def test_the_named_end_of_the_interval_is_compared(audit: Audit, metric: str, side: str) -> None:
    found = result(audit, "loss")
    number = getattr(
        metrics.auc(found.score_N, found.member_N)
        if metric == "auc"
        else metrics.tpr_at_fpr(found.score_N, found.member_N, 0.05),
        side,
    )
    assert failed(audit, f"loss.{metric}.{side} > {number - 1e-6:.9f}")
    assert not failed(audit, f"loss.{metric}.{side} > {number + 1e-6:.9f}")


def test_low_is_the_default_and_equality_fails_only_the_larger_or_equal(audit: Audit) -> None:
    epsilon = audit.epsilon["loss"]
    assert epsilon > 0
    assert failed(audit, f"loss.epsilon >= {epsilon!r}")
    assert not failed(audit, f"loss.epsilon > {epsilon!r}")
    auc = result(audit, "loss").metrics["auc"]
    assert auc is not None
    assert failed(audit, f"loss.auc > {auc.value:.6f}") is failed(audit, f"loss.auc.low > {auc.value:.6f}") is False


def test_a_beginning_means_every_attack_that_begins_so_and_a_name_itself_alone(audit: Audit) -> None:
    def names(text: str) -> set[str]:
        (verdict,) = _gates.check([_gates.parse(text)], audit)
        return {found.attack for found in audit.attacks if f"{found.attack} 0." in verdict.sentence}

    assert names("entropy.auc.high > 0") == {"entropy"}
    assert names("con.auc.high > 0") == {"confidence"}
    assert names("any.auc.high > 0") == {found.attack for found in audit.attacks}


def test_attacks_without_decisions_are_named_not_passed_over(audit: Audit) -> None:
    (verdict,) = _gates.check([_gates.parse("any.advantage > 0.9")], audit)
    assert not verdict.failed
    assert "not compared" in verdict.sentence
    assert "loss" in verdict.sentence.split("not compared")[1]
    (verdict,) = _gates.check([_gates.parse("conf.auc > 0.9")], audit)
    assert verdict.sentence.endswith("did not run: confidence-per-class.")
    with pytest.raises(UsageError, match="made no decisions"):
        failed(audit, "loss.advantage > 0.1")


def test_what_was_not_measured_is_refused(audit: Audit) -> None:
    with pytest.raises(UsageError, match=r"did not run.*reference networks"):
        failed(audit, "lira.auc > 0.9")
    with pytest.raises(UsageError, match="did not run"):
        failed(audit, "scores.auc > 0.9")
    for side in ("value", "high"):
        with pytest.raises(UsageError, match="needs at least 1000 non-members: 200 given"):
            failed(audit, f"loss.tpr@0.001.{side} > 0.9")


def test_a_gate_on_a_lower_end_that_is_always_zero_is_refused_with_the_count_that_it_needs(audit: Audit) -> None:
    for rate, count in (("0.01", "368"), ("0.001", "3,688")):
        with pytest.raises(UsageError, match=f"fewer than {count} non-members, and there are 200, .* could never fail"):
            failed(audit, f"loss.tpr@{rate} > 0")
    assert failed(audit, "loss.tpr@0.01.high > 0")  # the other ends can be compared
    assert failed(audit, "loss.tpr@0.01.value >= 0")
    assert metrics.least_nonmembers(0.0183) <= 200
    failed(audit, "loss.tpr@0.0183 > 0")


def test_a_gate_compares_the_valid_lower_end_not_the_narrower_one(audit: Audit) -> None:
    found = result(audit, "loss")
    valid, narrow = (metrics.tpr_at_fpr(found.score_N, found.member_N, 0.1, form=form) for form in ("valid", "narrow"))
    assert valid.low < narrow.low
    assert not failed(audit, f"loss.tpr@0.1 > {(valid.low + narrow.low) / 2:.12f}")
    assert failed(audit, f"loss.tpr@0.1 > {valid.low - 1e-9:.12f}")


@settings(max_examples=40, deadline=None)
@given(
    metric=st.sampled_from(["auc", "epsilon", "tpr@0.02", "tpr@0.2.high", "auc.high"]),
    bound=st.floats(0, 0.9),
    less=st.floats(0, 1),
)
def test_a_gate_that_fails_also_fails_at_every_lower_bound(
    audit: Audit, metric: str, bound: float, less: float
) -> None:
    if failed(audit, f"any.{metric} > {bound:.12f}"):
        assert failed(audit, f"any.{metric} > {bound * less:.12f}")


@pytest.mark.parametrize(
    "gate", ["balanced_accuracy > 0.99", "tpr@0.1 > 0.99", "epsilon > 9", "auc.low >= 0.9999", "scores.auc > 0.999"]
)
def test_a_gate_that_no_attack_could_fail_at_this_n_is_refused(gate: str) -> None:
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    perfect = audit_scores({"score": rng.random(400) + member, "member": member})
    with pytest.raises(UsageError, match=r"with 200 members and 200 non-members .* could never fail") as refused:
        failed(perfect, gate)
    told = re.search(r"is at most ([\d.]+),", str(refused.value))
    assert told is not None
    if "balanced" not in gate:  # given scores make no decisions
        assert failed(perfect, f"{gate.split(' ')[0]} >= {float(told[1]) - 1e-3:.4f}")


def test_check_raises_as_a_test_fails_and_refuses_what_it_cannot_judge(audit: Audit) -> None:
    verdicts = audit.check("auc > 0.9", "loss.auc.value > 0.95")
    assert [verdict.failed for verdict in verdicts] == [False, False]
    with pytest.raises(AssertionError, match=r"loss.auc > 0.55: lower end of loss 0\.") as ended:
        audit.check("auc > 0.9", "loss.auc > 0.55")
    assert isinstance(ended.value, GateFailed)
    assert exit_code(ended.value) == 1
    assert [verdict.failed for verdict in ended.value.verdicts] == [False, True]
    for wrong in (["lira.auc > 0.6", "loss.auc > 0.55"], ["auk > 0.6"], [], [["auc > 0.6"]], [0.6]):
        with pytest.raises(UsageError):
            audit.check(*wrong)  # type: ignore[arg-type]
