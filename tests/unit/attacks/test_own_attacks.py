"""A user's own attack: run as one of ours, told as the user's where it fails, never mistaken for one of ours."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lacewing as lw
from lacewing.attacks import ATTACKS, Attack, Described, Evidence, Scored, chosen, described, recorded
from lacewing.errors import UsageError, UserCodeError
from lacewing.study.declared import load_study
from lacewing.study.plan import make_plan

N, C, K = 120, 4, 6


def outputs() -> dict[str, np.ndarray]:
    """A target and K references in complementary pairs; members' log-odds are raised."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, C, N)
    half = rng.random((K // 2 + 1, N)).argsort(axis=1) < N // 2
    inside = np.stack([half, ~half], axis=1).reshape(K + 2, N)[: K + 1]
    logits = rng.normal(size=(K + 1, N, C))
    logits[:, np.arange(N), label] += 1.5 * inside
    return {
        "logits": logits[K],
        "label": label,
        "member": inside[K],
        "reference_logits": logits[:K],
        "reference_in": inside[:K],
    }


def margin(evidence: Evidence) -> np.ndarray:
    seen = evidence.observed
    return seen.logits_NC[np.arange(len(seen.label_N)), seen.label_N] - seen.logits_NC.mean(axis=1)


def noisy(evidence: Evidence, *, seed: int) -> np.ndarray:
    return margin(evidence) + np.random.default_rng(seed).normal(size=len(evidence.observed.label_N))


OWN = Attack("mine", "own", "The attacker sees the outputs.", lambda evidence, *, seed: margin(evidence), frozenset())


def test_a_function_is_run_beside_the_registrys_and_decides_by_the_shadow() -> None:
    audit = lw.audit_scores(outputs(), attacks=["loss", margin])
    assert [result.attack for result in audit.attacks] == ["loss", "margin"]
    own = audit.attacks[1]
    assert own.metrics["auc"].value > 0.6
    assert own.metrics["balanced_accuracy"] is not None
    assert "threshold from the shadow network" in own.variant
    assert "'margin'" in own.threat_model
    alone = {name: values for name, values in outputs().items() if not name.startswith("reference")}
    (without,) = lw.audit_scores(alone, attacks=margin).attacks
    assert without.metrics["balanced_accuracy"] is None
    np.testing.assert_array_equal(without.score_N, own.score_N)


def test_who_was_a_member_is_not_shown_to_an_attack() -> None:
    def peeks(evidence: Evidence) -> np.ndarray:
        seen = evidence.observed.member_N
        if evidence.shadow is not None:
            assert (evidence.shadow.observed.member_N == outputs()["reference_in"][0]).all()  # that is known
        return seen + np.random.default_rng(0).normal(scale=0.01, size=len(seen))

    (result,) = lw.audit_scores(outputs(), attacks=peeks).attacks
    assert result.metrics["auc"].low < 0.5 < result.metrics["auc"].high
    assert result.member_N.tolist() == outputs()["member"].tolist()


def test_a_function_that_takes_a_seed_gets_it() -> None:
    first, again, other = (lw.audit_scores(outputs(), attacks=noisy, seed=s).attacks[0].score_N for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_attack_of_the_users_runs_beside_all_others() -> None:
    audit = lw.audit_scores(outputs(), attacks=["all", OWN])
    (mine,) = (found for found in audit.attacks if found.attack == "mine")
    assert mine.threat_model == OWN.threat_model
    assert "samia" in audit.refused  # named by "all" alone, so it need not run
    with pytest.raises(UsageError, match=r"attacks: 'mine' cannot run. It needs a population"):
        lw.audit_scores(outputs(), attacks=["all", replace(OWN, needs=frozenset({"population"}))])


def test_scored_is_taken_as_it_is() -> None:
    def scored(evidence: Evidence, *, seed: int) -> Scored:
        return Scored(margin(evidence), margin(evidence) > 0.5, "above a half", {"cut": np.float64(0.5)})

    (result,) = lw.audit_scores(outputs(), attacks=replace(OWN, function=scored)).attacks
    assert (result.variant, result.notes["cut"]) == ("above a half", 0.5)
    assert result.metrics["balanced_accuracy"] is not None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda evidence: margin(evidence)[1:],
            r"a ndarray of shape \(119,\).* must return one number a record",
        ),
        (lambda evidence: margin(evidence)[:, None], r"shape \(120, 1\)"),
        (lambda evidence: None, "returned a NoneType"),
        (lambda evidence: np.full(N, np.nan), "returned NaN or infinite scores for 120 of 120 records"),
        (lambda evidence: ["x"] * N, "returned a list"),
        (lambda evidence: Scored(margin(evidence), np.zeros(N), "x"), "returned decisions of shape"),
        (lambda evidence: Scored(margin(evidence), None, "x", {"f": margin}), "writing its notes as JSON"),
        (lambda evidence: evidence.nothing, "failed with AttributeError"),
        (lambda: 1, "failed with TypeError"),
        (lambda evidence: evidence.observed.logits_NC.__imul__(2), "failed with ValueError: output array is read-only"),
    ],
)
def test_what_a_function_does_wrong_is_told_as_the_users(answer: Callable[..., Any], said: str) -> None:
    with pytest.raises(UserCodeError, match=f"attacks: the attack 'mine'.*{said}") as caught:
        lw.audit_scores(outputs(), attacks=replace(OWN, function=answer))
    if "failed" not in said or "Attribute" in said:
        assert "test_own_attacks.py, line " in str(caught.value) or "JSON" in said


@pytest.mark.parametrize(
    ("attacks", "said"),
    [
        ([3], "attacks: the attack 'int' is a int; give an Attack, or a function"),
        ([margin, margin], "'margin' is the name of another attack; give an Attack with a name of its own"),
        ([replace(OWN, name="loss")], "'loss' is the name of another attack"),
        ([replace(OWN, needs=frozenset({"luck"}))], "attacks: the attack 'mine': needs: .*mend that field"),
        ([replace(OWN, fewest=0)], "fewest: "),
        ([replace(OWN, threat_model="")], "threat_model: "),
        (["lossy"], "attacks: unknown name 'lossy': did you mean 'loss'"),
        (["no_such_module_here:f"], "attacks: cannot import 'no_such_module_here'"),
    ],
)
def test_what_is_no_attack_is_refused(attacks: list[Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        lw.audit_scores(outputs(), attacks=attacks)


MODULE = """
from lacewing.attacks import Attack

def scores(evidence):
    return evidence.observed.logits_NC.max(axis=1)

attack = Attack("another name", "own", "It sees outputs.", scores, frozenset({"shadow"}), adaptive="nothing")
"""
STUDY = {"name": "x", "model": {"name": "mlp"}, "networks": [{"method": "dense"}], "run": {"seeds": [0]}}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> None:
        sys.modules.pop("their_attacks", None)
        (tmp_path / "their_attacks.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()

    yield write
    sys.modules.pop("their_attacks", None)


def keys(names: tuple[str, ...]) -> dict[str, str]:
    study = load_study({**STUDY, "attacks": {"names": names}})
    plan = make_plan(study, data_digest="0" * 64, models={"": {}}, attacks=chosen(names, "attacks.names"))
    return {job.id: job.key for job in plan.attacks} | {job.id: job.key for job in plan.networks}


def test_keys_of_a_users_attack_follow_its_source_and_no_other_key_does(module: Callable[[str], None]) -> None:
    names = ("their_attacks:attack", "their_attacks:scores", "loss")
    module(MODULE)
    before = keys(names)
    assert before == keys(names)
    module(MODULE + "# edited\n")
    after = keys(names)
    assert {job for job in before if before[job] != after[job]} == {f"{name} on dense/target/0" for name in names[:2]}
    assert keys(("loss",)).items() <= before.items()


def test_a_record_gives_the_same_plan_without_the_code(module: Callable[[str], None]) -> None:
    name = "their_attacks:attack"
    module(MODULE)
    found = chosen([name], "attacks.names")[name]
    assert (found.name, found.needs, found.adaptive) == (name, {"shadow"}, "nothing")
    record = described(found)
    again = recorded(name, Described.model_validate(record))
    assert record == described(again)
    study = load_study({**STUDY, "attacks": {"names": [name]}})
    plans = [make_plan(study, data_digest="0" * 64, models={"": {}}, attacks={name: each}) for each in (found, again)]
    assert [job.key for job in plans[0].attacks] == [job.key for job in plans[1].attacks]
    with pytest.raises(UsageError, match="code of the user's, which this command does not run"):
        again.function(Evidence(**dict.fromkeys(["observed"])), seed=0)


def test_a_partial_of_ours_that_lacks_evidence_is_no_fault_of_the_users() -> None:
    own = replace(OWN, function=functools.partial(ATTACKS["lira-offline"].function))
    with pytest.raises(UsageError, match="attacks: 'mine' cannot run") as caught:
        lw.audit_scores({k: v for k, v in outputs().items() if not k.startswith("ref")}, attacks=own)
    assert not isinstance(caught.value, UserCodeError)
