"""The audit of given scores and outputs: what is measured, what is refused, and that nothing is dropped."""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from lacewing import attacks as registry
from lacewing import metrics
from lacewing.attacks import Observed, Scored, lira, lira_nig, measure, phi
from lacewing.attacks._deciding import members_rank_above
from lacewing.auditing import _answer
from lacewing.auditing._read import NAMES, read
from lacewing.auditing._result import Audit
from lacewing.auditing._scores import audit_scores
from lacewing.errors import UsageError
from lacewing.results import AttackResult

Arrays = dict[str, np.ndarray]
N, C, K, Z, Q = 200, 4, 6, 120, 3
ALL = {name for name, attack in registry.ATTACKS.items() if attack.in_all}  # what attacks="all" stands for


def outputs(leak: float = 1.0) -> Arrays:
    """Logits of a target, K references in complementary pairs, and a population; members' log-odds are raised."""
    rng = np.random.default_rng(0)
    label, population_label = rng.integers(0, C, N), rng.integers(0, C, Z)
    half = rng.random((K // 2 + 1, N)).argsort(axis=1) < N // 2
    inside = np.stack([half, ~half], axis=1).reshape(K + 2, N)[: K + 1]
    logits = rng.normal(size=(N, C)) + 0.5 * rng.normal(size=(K + 1, N, C))
    logits[:, np.arange(N), label] += leak * inside
    population = rng.normal(size=(Z, C)) + 0.5 * rng.normal(size=(K + 1, Z, C))
    return {
        "logits": logits[K],
        "label": label,
        "member": inside[K],
        "reference_logits": logits[:K],
        "reference_in": inside[:K],
        "population_logits": population[K],
        "population_label": population_label,
        "population_reference_logits": population[:K],
    }


def scores(n: int = N) -> Arrays:
    rng = np.random.default_rng(1)
    member = np.arange(n) % 2 == 0
    return {"score": rng.normal(size=n) + member, "member": member}


def by_name(arrays: Arrays, **options: Any) -> dict[str, AttackResult]:
    return {result.attack: result for result in audit_scores(arrays, **options).attacks}


# What is measured -----------------------------------------------------------------------------------------------------


def test_a_copy_among_the_references_is_refused_in_half_precision_and_shifted_too():
    def copied(values):
        return values.astype(np.float16) + np.arange(N)[:, None] % 5

    given = outputs(0.0)
    for own, at in (("logits", 3), ("reference_logits[1]", 4)):
        original = given["logits"] if own == "logits" else given["reference_logits"][1]
        references = given["reference_logits"].copy()
        references[at] = copied(original)
        with pytest.raises(
            UsageError, match=rf"reference_logits\[{at}\] is the same network as {re.escape(own)}, by its"
        ):
            audit_scores({**given, "reference_logits": references}, attacks="loss")
    log_odds = phi(given["reference_logits"], given["label"])[:, :, None]
    own = phi(given["logits"], given["label"])[:, None]
    log_odds[2] = own.astype(np.float16)
    bare = {name: given[name] for name in ("logits", "label", "member", "reference_in")}
    with pytest.raises(UsageError, match=r"reference_phi\[2\] is the same network as phi"):
        audit_scores({**bare, "phi": own, "reference_phi": log_odds}, attacks="loss")


def test_references_of_another_membership_or_recipe_fail_a_check():
    def check(arrays):
        found = audit_scores(arrays, attacks="loss").selfchecks
        return next(check for check in found if check.name == "references like target")

    given = outputs(4.0)
    assert check(given).passed
    inverted = check({**given, "reference_in": ~given["reference_in"]})
    assert not inverted.passed
    assert "did they train on these records" in inverted.sentence
    assert not check({**given, "reference_logits": outputs(0.0)["reference_logits"]}).passed


def test_given_scores_are_measured_as_they_are() -> None:
    given = scores()
    audit = audit_scores(given, delta=1e-4)
    (found,) = audit.attacks
    auc = found.metrics["auc"]
    assert auc is not None
    assert auc.value == pytest.approx(roc_auc_score(given["member"], given["score"]), abs=1e-12)
    assert found.metrics["balanced_accuracy"] is None
    assert audit.epsilon == {"scores": metrics.epsilon_lower_bound(given["score"], given["member"], 1e-4, 0.95)}
    others = metrics.other_epsilon_bounds(given["score"], given["member"], 1e-4, 0.95)
    assert audit.epsilon_other == {"scores": others}
    told = audit.as_json()
    assert told["attacks"][0]["epsilon_other"] == others
    assert set(told["epsilon_assumed"]) == set(others)
    assert set(audit.refused) == ALL
    assert len(found.correct_N) == 0
    assert np.isnan(found.network.train_accuracy)


@pytest.mark.parametrize("kind", ["score", "logits"])
def test_npz_csv_and_mapping_give_one_audit(tmp_path: Path, kind: str) -> None:
    given = scores()
    if kind == "logits":
        given = {name: outputs()[name] for name in ("logits", "label", "member")}
    given["id"] = np.arange(N) + 1000
    given["class"] = np.array(["cat", "=dog"])[np.arange(N) % 3 // 2]
    np.savez(tmp_path / "own.npz", **given)
    columns = {name: values for name, values in given.items() if name != "logits"}
    columns |= {f"logit_{c}": given["logits"][:, c] for c in reversed(range(C)) if kind == "logits"}
    with (tmp_path / "own.csv").open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
    audits = [audit_scores(source) for source in (given, tmp_path / "own.npz", str(tmp_path / "own.csv"))]
    assert audits[0].as_json() == audits[1].as_json() == audits[2].as_json()
    assert (audits[2].attacks[0].record_N == given["id"]).all()


def test_every_attack_ran_or_is_refused_with_a_sentence_for_every_kind_of_evidence() -> None:
    every = outputs()
    phi_NQ = np.repeat(phi(every["logits"], every["label"])[:, None], Q, axis=1)
    reference = np.repeat(phi(every["reference_logits"], every["label"])[:, :, None], Q, axis=2)
    base = {name: every[name] for name in ("logits", "label", "member")}
    population = {name: every[name] for name in ("population_logits", "population_label")}
    references = {name: every[name] for name in ("reference_logits", "reference_in")}
    by_phi = {"phi": phi_NQ, "reference_phi": reference, "reference_in": every["reference_in"]}
    one = {name: values[:1] for name, values in references.items()}
    for more in ({}, population, references, by_phi, one, {**by_phi, **references, **population, **scores()}):
        audit = audit_scores({**base, **more, "member": base["member"]})
        ran = {result.attack for result in audit.attacks} - {"scores"}
        assert ran | set(audit.refused) == ALL
        assert not ran & set(audit.refused)
        assert all(why.endswith(".") and len(why) > 20 for why in audit.refused.values())
        assert "loss" in ran
        assert all(name in str(audit) for name in ALL)
        json.dumps(audit.as_json(), allow_nan=False)


def test_references_serve_the_target_and_one_is_the_shadow() -> None:
    given = outputs()
    audit = audit_scores(given)
    found = {result.attack: result for result in audit.attacks}
    for mode in ("online", "offline"):
        reference = phi(given["reference_logits"], given["label"])[:, :, None]
        target = phi(given["logits"], given["label"])[:, None]
        expected = lira(target, reference, given["reference_in"], mode=mode, variance="pooled")
        np.testing.assert_allclose(found[f"lira-{mode}"].score_N, expected, atol=1e-12)
    # The decisions come from the shadow: reference 0, whose own references are the others.
    shadow = {**given, "logits": given["reference_logits"][0], "member": given["reference_in"][0]}
    shadow |= {name: given[name][1:] for name in ("reference_logits", "reference_in", "population_reference_logits")}
    of_shadow = by_name(shadow)["lira-offline"]
    bar = registry._measure.threshold(of_shadow.score_N, of_shadow.member_N)  # type: ignore[attr-defined]
    decision = found["lira-offline"].score_N >= bar
    assert (found["lira-offline"].hit_N == (decision == given["member"])).all()
    assert any("Reference network 0 serves as the shadow" in note for note in audit.notes)
    assert all(check.passed for check in audit.selfchecks), audit.selfchecks


def test_fixed_queries_are_used_where_all_networks_saw_them() -> None:
    given = outputs()
    rng = np.random.default_rng(2)
    target, reference = rng.normal(size=(N, Q)), rng.normal(size=(K, N, Q))
    base = {name: given[name] for name in ("logits", "label", "member", "reference_in")}
    found = by_name({**base, "phi": target, "reference_phi": reference})
    expected = lira(target, reference, given["reference_in"], variance="pooled")
    np.testing.assert_allclose(found["lira-online"].score_N, expected, atol=1e-12)
    assert found["loss"].metrics["balanced_accuracy"] is None  # no shadow, since its outputs are not known


def test_a_named_attack_that_cannot_run_is_an_error_and_the_others_are_not_run() -> None:
    given = {name: outputs()[name] for name in ("logits", "label", "member")}
    assert list(by_name(given, attacks=["loss", "gap", "loss"])) == ["loss", "gap"]
    assert list(by_name(given, attacks="gap")) == ["gap"]
    for attacks, says in (
        ("lira-online", "'lira-online' cannot run. It needs .*reference networks"),
        (["loss", "samia"], "'samia' cannot run"),
        ("lira-onlin", "did you mean 'lira-online'"),
        ([], "attacks is empty"),
        ("discriminator-all-levels", "about sparse networks"),
    ):
        with pytest.raises(UsageError, match=says):
            audit_scores(given, attacks=attacks)
    with pytest.raises(UsageError, match="It needs the model's outputs"):
        audit_scores(scores(), attacks="loss")


def test_one_reference_network_is_too_few_for_lira() -> None:
    given = outputs()
    one = {name: values[:1] if "reference" in name else values for name, values in given.items()}
    assert "K = 1" in audit_scores(one).refused["lira-offline"]
    with pytest.raises(UsageError, match="K = 1"):
        audit_scores(one, attacks="lira-offline")


def test_two_references_that_complement_each_other_are_enough_for_attacks_that_take_no_spread() -> None:
    given = outputs()
    inside = np.stack([np.arange(N) % 2 == 0, np.arange(N) % 2 == 1])
    two = {name: values[:2] if "reference" in name else values for name, values in given.items()}
    found = by_name({**two, "reference_in": inside}, attacks=["nig-t-online", "nig-t-offline", "base-online"])
    target, reference = (phi(given[name], given["label"]) for name in ("logits", "reference_logits"))
    expected = lira_nig(target[:, None], reference[:2, :, None], inside)
    np.testing.assert_allclose(found["nig-t-online"].score_N, expected, atol=1e-9)
    for one in found.values():
        assert "default" in one.notes.get("kappa_source", one.notes.get("temperature_source"))


def test_without_torch_what_needs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    given = outputs()
    rng = np.random.default_rng(3)
    given |= {"sensitivity": rng.random(N), "reference_sensitivity": rng.random((K, N))}
    with pytest.raises(UsageError, match="needs torch"):
        audit_scores(given, attacks="samia")
    assert list(by_name(given, attacks="lira-online")) == ["lira-online"]


def test_results_do_not_depend_on_the_order_of_records() -> None:
    given = outputs()
    order = np.random.default_rng(4).permutation(N)
    axis = {"logits": 0, "label": 0, "member": 0, "reference_logits": 1, "reference_in": 1}
    mixed = {name: np.take(values, order, axis[name]) if name in axis else values for name, values in given.items()}
    first, second = by_name(given), by_name(mixed)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].metrics["auc"] == pytest.approx(second[name].metrics["auc"]), name


def test_classes_are_reported_apart() -> None:
    given = {**scores(), "class": np.array(["a", "b", "c", "a"])[np.arange(N) % 4]}  # b holds odd records alone
    rows = audit_scores(given).by_class()
    assert [(row["class"], row["n_members"], row["n_nonmembers"]) for row in rows] == [
        ("a", 50, 50),
        ("b", 0, 50),
        ("c", 50, 0),
    ]
    assert rows[1]["auc"] is None
    of = given["class"] == "a"
    assert rows[0]["auc"] == pytest.approx(roc_auc_score(given["member"][of], given["score"][of]))
    with pytest.raises(UsageError, match="classes are not known"):
        audit_scores(scores()).by_class()


def test_nothing_of_single_records_is_shown_or_written(tmp_path: Path) -> None:
    given = {**scores(), "id": np.arange(N) + 987_650_000}
    audit = audit_scores(given, out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"report.html", "audit.json", "model_card.md"}
    shown = [str(audit), audit._repr_html_(), json.dumps(audit.as_json())]
    shown += [path.read_text() for path in tmp_path.iterdir() if path.is_file()]
    for text in shown:
        assert "98765" not in text
        assert not any(repr(float(score)) in text for score in given["score"])


def test_the_page_goes_to_a_file_or_folder(tmp_path: Path) -> None:
    audit = audit_scores(scores())
    page = audit.report(tmp_path / "deep" / "own.html")
    assert page == tmp_path / "deep" / "own.html"
    assert sorted(path.name for path in page.parent.iterdir()) == ["own.html"]
    assert audit.report(tmp_path).read_bytes() == page.read_bytes()
    with pytest.raises(UsageError, match="no folder"):
        audit.report()
    axes = audit.plot().axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert min(line.get_xdata().min() for line in axes.lines) >= 2 / N


# The answer -----------------------------------------------------------------------------------------------------------


ONE = audit_scores(scores()).attacks[0].network


def result(score: np.ndarray, member: np.ndarray, name: str = "scores") -> AttackResult:
    n = len(score)
    seen = Observed(np.zeros((n, 2)), np.zeros(n, int), member, None, np.arange(n))
    return replace(measure(registry.ATTACKS["loss"], Scored(score, None, "as given"), seen, ONE), attack=name)


@pytest.mark.parametrize("fpr", [0.25, 0.5])
def test_the_tail_s_p_value_is_exact(fpr: float) -> None:
    score = np.arange(9.0)
    reached = []
    for members in itertools.combinations(range(9), 5):
        member = np.isin(np.arange(9), members)
        p = _answer.tail_p_value(result(score, member), fpr)
        found = metrics.tpr_at_fpr(score, member, fpr).value
        reached.append((found, p))
    for found, p in reached:
        assert p == pytest.approx(np.mean([other >= found for other, _ in reached]), abs=1e-12)


def test_the_tail_s_p_value_agrees_with_scipy_at_large_n() -> None:
    rng = np.random.default_rng(5)
    member = rng.random(20_000) < 0.5
    found = result(rng.normal(size=20_000) + 0.05 * member, member)
    rate = found.metrics["tpr_at_fpr_0.01"]
    assert rate is not None
    k, f = round(rate.value * found.n_members), int(0.01 * found.n_nonmembers)
    expected = stats.hypergeom(20_000, found.n_nonmembers, k + f).cdf(f)
    assert _answer.tail_p_value(found) == pytest.approx(expected, rel=1e-6)


def test_ties_with_the_bar_of_the_tail_count_against_the_attack() -> None:
    member = np.arange(200) < 100
    score = np.zeros(200)
    score[:23], score[100:102] = [2] * 3 + [1] * 20, [2, 1]  # one false positive: bar 1, as 20 members
    p = _answer.tail_p_value(result(score, member))
    assert p == pytest.approx(stats.hypergeom(200, 100, 3 + 1).cdf(1), rel=1e-9)
    assert p == _answer.tail_p_value(result(score + 0.5 * ~member, member))


def test_leakage_in_the_tail_alone_is_found() -> None:
    rng = np.random.default_rng(6)
    member = np.arange(2000) < 1000
    score = rng.normal(size=2000)
    score[:40] += 10  # 4 % of the members stand out
    score[40:1000] -= 0.04 * 2  # and the rest rank a little lower, so that the AUC is about 0.5
    auc = metrics.auc(score, member)
    assert auc.low < 0.5
    assert "Leakage found at low false-positive rates" in _answer.sentence([result(score, member)])


def test_the_realised_fpr_is_printed_with_the_attacks_that_show_it() -> None:
    member = np.arange(2000) < 1000
    smooth = np.random.default_rng(8).normal(member * 1.0, 1)
    tied = np.where(smooth > 1.5, 1.5, smooth)  # some 7 % of the non-members share the highest score
    ones = [result(smooth, member, name) for name in "abcde"]
    low, high = (100 * end for end in metrics.clopper_pearson(10, 1000))
    said = f"1.00 % [{low:.2f}, {high:.2f}]"
    at_1, at_01 = _answer.realised(ones)
    assert at_1 == f"realised FPR of TPR at 1 % FPR: {said}"
    assert at_01.startswith("realised FPR of TPR at 0.1 % FPR: 0.10 % [0.00, ")
    (line, _) = _answer.realised([*ones, result(tied, member, "tied")])
    none = 100 * metrics.clopper_pearson(0, 1000)[1]
    assert line.endswith(f": {said} (5 attacks); 0.00 % [0.00, {none:.2f}] (tied)")
    few = np.arange(100) < 50
    assert _answer.realised([result(np.arange(100.0), few)]) == []
    audit = audit_scores({"score": tied, "member": member})
    assert _answer.realised(audit.attacks)[0] in str(audit)
    assert audit.table()[0]["realised_fpr_0.01"] == 0.0
    assert audit.as_json()["attacks"][0]["metrics"]["realised_fpr_0.01"]["high"] == pytest.approx(none / 100)


def test_the_answer_names_the_strongest_and_never_says_safe() -> None:
    rng = np.random.default_rng(7)
    member = np.arange(600) < 300
    noise = rng.normal(size=600)
    null, leak = result(noise, member, "first"), result(noise + 1.0 * member, member, "second")
    said = _answer.sentence([null, leak])
    assert said.startswith("Leakage found: the attack 'second'")
    assert "strongest of 2" in said
    assert "n = 300 members and 300 non-members" in said
    said = _answer.sentence([null])
    high = null.metrics["auc"].high  # type: ignore[union-attr]
    assert said.startswith(f"No leakage found above an AUC of {high:.3f}")
    assert "safe" not in said
    third = result(noise - 1.0 * member, member, "third")
    said = _answer.sentence([third], [members_rank_above([third])])
    assert said.startswith("This audit cannot say")
    assert "'third' ranks non-members above members" in said


def test_the_answer_cries_leak_on_nulls_at_most_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    member = np.arange(400) < 200
    one = result(rng.normal(size=400), member)
    cried = 0
    for _ in range(200):
        results = [replace(one, attack=str(i), score_N=rng.normal(size=400)) for i in range(3)]
        results = [replace(r, metrics={"auc": metrics.auc(r.score_N, member)}) for r in results]
        cried += _answer.sentence(results).startswith("Leakage found")
    assert cried <= stats.binom(200, 0.05).ppf(0.999)


def test_a_reversed_score_is_pointed_out() -> None:
    given = scores()
    audit = audit_scores({**given, "score": -given["score"]})
    assert any("HIGHER for members" in note for note in audit.notes)
    assert audit_scores(given).notes == ()


# Bad input ------------------------------------------------------------------------------------------------------------


def change(**changed: Any) -> Callable[[Arrays], Arrays]:
    return lambda given: {name: values for name, values in {**given, **changed}.items() if values is not None}


def each(name: str, function: Callable[[np.ndarray], Any]) -> Callable[[Arrays], Arrays]:
    return lambda given: {**given, name: function(given[name])}


def audited_population(given: Arrays) -> Arrays:
    z = len(given["population_label"])
    return {**given, "population_logits": given["logits"][:z], "population_label": given["label"][:z]}


def with_nan(values: np.ndarray) -> np.ndarray:
    bad = values.astype(np.float64).copy()
    bad.flat[3] = np.nan
    return bad


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("altered", "says"),
    [
        (each("score", with_nan), "score holds 1 NaN"),
        (each("score", lambda v: v * 0), "score is 0.0 for all"),
        (each("score", lambda v: v[:-1]), r"score has shape \(199,\)"),
        (each("score", lambda v: v.astype(str)), "score holds <U"),
        (each("member", lambda v: v * 0), "member marks 0 of 200"),
        (each("member", lambda v: v | True), "member marks 200 of 200"),
        (each("member", lambda v: v * 2), "member holds 2: give 1"),
        (each("member", lambda v: v[:, None]), "member has shape"),
        (change(member=None), "no 'member'"),
        (change(score=None), "neither 'score' nor 'logits'"),
        (lambda given: {**given, "memebr": given["member"]}, "'memebr': did you mean 'member'"),
        (change(id=np.zeros(N, int)), "id holds 0 twice"),
        (change(**{"class": np.zeros(3)}), r"class has shape \(3,\)"),
        (change(reference_in=np.ones((2, N))), "reference_in is given without logits"),
    ],
)
def test_bad_scores_are_one_clear_sentence(altered: Callable[[Arrays], Arrays], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        audit_scores(altered(scores()))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("altered", "says"),
    [
        (each("logits", with_nan), "logits holds 1 NaN"),
        (each("logits", lambda v: v * 0), "logits are the same for all"),
        (each("logits", lambda v: v[:, :1]), "logits are one number a record: say what it is, task='binary'"),
        (each("logits", lambda v: v[:-1]), "beside 200 values of member"),
        (change(label=None), "no 'label' beside logits"),
        (each("label", lambda v: v + 1), "label holds values that are no class: give whole numbers from 0 to 3"),
        (each("label", lambda v: v + 0.5), "label has dtype float64.*task='regression'"),
        (each("label", lambda v: v[:-1]), "label has shape"),
        (change(sensitivity=np.ones(3)), r"sensitivity has shape \(3,\): give \(200,\)"),
        (change(phi=np.ones((N, 0))), r"phi has shape \(200, 0\)"),
        (each("reference_logits", with_nan), "reference_logits holds 1 NaN"),
        (each("reference_logits", lambda values: values * 1e300), "reference_logits holds values beyond the range"),
        (each("reference_logits", lambda v: v[:2]), r"reference_logits has shape \(2, 200, 4\): give \(6, 200, 4\)"),
        (change(reference_in=None), "reference_logits is given without reference_in"),
        (change(reference_logits=None), "reference_in is given without reference_logits"),
        (each("reference_in", lambda v: v * 3), "reference_in holds 3"),
        (each("reference_in", lambda v: v[:, :5]), "reference_in has shape"),
        (change(reference_phi=np.ones((K, N, Q))), "reference_phi is given without phi"),
        (change(phi=np.ones((N, 2)), reference_phi=np.ones((K, N, Q))), "3 queries a record and phi 2"),
        (change(population_label=None), "population_logits is given without population_label"),
        (each("population_label", lambda v: v - 1), "population_label holds -1: classes must be"),
        (each("population_logits", lambda v: v[:, :2]), "population_logits has shape"),
        (each("population_reference_logits", lambda v: v[1:]), "population_reference_logits has shape"),
        (change(reference_logits=None, reference_in=None), "population_reference_logits is given without reference"),
        (audited_population, "records of the population have the answers and label of an audited record"),
        (change(reference_sensitivity=np.ones((K, 2))), "reference_sensitivity has shape"),
    ],
)
def test_bad_outputs_are_one_clear_sentence(altered: Callable[[Arrays], Arrays], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        audit_scores(altered(outputs()))
    assert "\n" not in str(refused.value)


def test_probabilities_are_taken_as_what_they_are_and_give_the_same_answer_as_logits() -> None:
    given, names = outputs(), ("logits", "reference_logits", "population_logits", "population_reference_logits")
    told = audit_scores(each(names[0], softmax)(given), attacks="loss")
    assert any("taken as probabilities" in note for note in told.notes)
    of_logits, of_probabilities = (
        audit_scores(arrays, outputs=kind)
        for arrays, kind in (
            (given, "logits"),
            ({name: softmax(values) if name in names else values for name, values in given.items()}, "probabilities"),
        )
    )
    assert {a.attack for a in of_logits.attacks} == {a.attack for a in of_probabilities.attacks}
    for one, other in zip(of_logits.attacks, of_probabilities.attacks, strict=True):
        if one.attack not in ("discriminator", "samia"):  # which learn from the outputs as they are scaled
            np.testing.assert_allclose(one.score_N, other.score_N, rtol=1e-5, atol=1e-6, err_msg=one.attack)


def test_padded_numbers_of_columns_and_names_that_look_like_numbers_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(
        b"\xef\xbb\xbfmember, label,logit_00,logit_01,id\ntrue,0,1,2,7\nFALSE,1,4,3,007\n0,1,4,5,1_0\n1,1,0,2,10\n"
    )
    arrays = read(path)
    np.testing.assert_array_equal(arrays["logits"], [[1, 2], [4, 3], [4, 5], [0, 2]])
    np.testing.assert_array_equal(arrays["member"], [1, 0, 0, 1])
    assert arrays["id"].tolist() == ["7", "007", "1_0", "10"]


def test_delta_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="delta = 2"):
        audit_scores(scores(), delta=2)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("own.npz", b"", "is empty"),
        ("own.csv", b"", "is empty"),
        ("own.npz", b"score,member\n1,0\n", "is not an .npz archive"),
        ("own.csv", b"PK\x03\x04\xff\xfe\x00", "is not a .csv file"),
        ("own.txt", b"1", "neither .npz nor .csv"),
        ("own.csv", b"score,member\n", "1 line"),
        ("own.csv", b"score,member\n1,0\n2\n", "line 3 has 1 cells"),
        ("own.csv", b"score,member,score\n1,0,1\n", "two columns 'score'"),
        ("own.csv", b"scores,member\n1,0\n", "Unknown column 'scores': did you mean 'score'"),
        ("own.csv", b"score,member\n1,0\n,1\n", "score: line 3 is empty: give a number"),
        ("own.csv", b"score,member\n1,0\nnan,1\n", "score holds 1 NaN"),
        ("own.csv", b"score,member\n1_0,0\n2,1\n", "score: line 2 holds a word: give a number"),
        ("own.csv", "score,member\n١٢,0\n2,1\n".encode(), "line 2 holds a word"),
        ("own.csv", b"score,member\n1,0\n\xff,1\n", "is not a .csv file in UTF-8; save it as one"),
        ("own.csv", b'score,member\n"1,0\n2,1\n', "is not a .csv file"),
        ("own.csv", b"logit_0,logit_2,label,member\n1,0,0,0\n", "'logit_1' is missing"),
        ("own.csv", b"logit_0,logit_1,logit_00,label,member\n1,0,9,0,0\n", "'logit_0' and 'logit_00' have one number"),
        ("own.csv", b"score,member,phi_01,phi_0,phi_1\n1,0,9,0,0\n", "'phi_01' and 'phi_1' have one number"),
        ("own.csv", "logit_0,logit_١,label,member\n1,0,0,0\n".encode(), "Unknown column 'logit_"),
        ("own.csv", b"logit_0,logit_1,label,label_0,member\n1,0,0,1,0\n", "the column 'label' beside 'label_0'"),
        ("own.csv", b"score,member\ntrue,0\nfalse,1\n", "score: line 2 holds a word"),
        ("own.csv", b'score,member,id\n1,0,a\n2,1,""\n', "id: line 3 is empty: give each record its id"),
        ("own.csv", b"score,member,group\n1,0, \n2,1,b\n", "group: line 2 is empty"),
    ],
)
def test_bad_files_are_one_clear_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        audit_scores(path)


def test_no_file_and_pickled_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        audit_scores(tmp_path / "none.npz")
    np.savez(tmp_path / "pickled.npz", score=np.array([{}, 1], dtype=object), member=[0, 1])
    with pytest.raises(UsageError, match="dtype object, which is stored as a pickle"):
        audit_scores(tmp_path / "pickled.npz")


def test_every_array_that_can_be_given_is_described() -> None:
    assert all(f"``{name}``" in (audit_scores.__doc__ or "") for name in NAMES)


def test_rows_say_what_was_known_where_there_is_no_shadow(tmp_path: Path) -> None:
    given = {name: values for name, values in outputs().items() if not name.startswith(("reference", "population_ref"))}

    def own(evidence: Any) -> np.ndarray:
        return phi(evidence.observed.logits_NC, evidence.observed.label_N)

    found = audit_scores(given, attacks=["all", own], out=tmp_path)
    undecided = [result for result in found.attacks if result.metrics["balanced_accuracy"] is None]
    assert {"loss", "confidence", "entropy", "modified-entropy", "own"} <= {result.attack for result in undecided}
    for result in found.attacks:
        assert result.variant.endswith("no shadow: no threshold") is (result in undecided)
        assert "shadow" not in result.threat_model
    page, card = ((tmp_path / name).read_text() for name in ("report.html", "model_card.md"))
    for text in (page.split("Every attack that ran")[1].split("</table>")[0], card.split("Attacks that did not")[0]):
        assert "no shadow: no threshold" in text
        assert "from a shadow" not in text
    shadowed = by_name(outputs(), attacks=["all", own])
    for name in ("loss", "own"):
        assert "shadow" in shadowed[name].threat_model
        assert "no shadow" not in shadowed[name].variant


@pytest.mark.parametrize("name", sorted(registry.ATTACKS))
def test_no_attack_that_needs_no_shadow_claims_one_where_there_is_none(name: str) -> None:
    attack = registry.ATTACKS[name]
    if not any("shadow" in need for need in attack.needs):
        assert "shadow" not in (attack.alone or attack.threat_model)


def test_one_order_of_attacks_everywhere_and_each_number_is_that_of_its_strongest_attack(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    member = np.arange(2000) < 1000
    noise = rng.normal(size=2000)
    wide = result(noise + 0.5 * member, member, "wide")  # the higher AUC
    tail = result(np.where(member & (rng.random(2000) < 0.12), 9.0, 0.0) + noise, member, "tail")  # the higher tail
    none = result(np.minimum(noise + 0.1 * member, 1.0), member, "tied")  # equal scores: nobody found at 1 %
    assert none.metrics["tpr_at_fpr_0.01"].value == 0.0  # type: ignore[union-attr]
    said = _answer.sentence([none, tail, wide])
    assert said.startswith("Leakage found: the attack 'wide' tells members from non-members (strongest of 3)")
    assert re.search(r"at a false-positive rate of 1 % 'tail' finds the most members, 1\d\.\d %", said)
    audit = Audit(attacks=(none, tail, wide))
    order = [found.attack for found in sorted(audit.attacks, key=lambda r: -r.metrics["auc"].value)]  # type: ignore[union-attr]
    assert order[0] == "wide"
    assert [found.attack for found in audit.attacks] == [row["attack"] for row in audit.table()] == order
    assert [entry["attack"] for entry in audit.as_json()["attacks"]] == order
    assert [line.split()[0] for line in str(audit).splitlines()[4:7]] == order
    page = audit.report(tmp_path / "page.html").read_text()
    assert re.findall(r'<th scope="row">(\w+)</th>', page.split("audit-table")[1].split("</table>")[0]) == order
    assert re.findall(r"^\| (\w+) \| as given", audit.model_card(), re.MULTILINE) == order
    strong = result(np.minimum(noise + 1.0 * member, 1.0), member, "tied")
    assert strong.metrics["tpr_at_fpr_0.01"].value == 0.0  # type: ignore[union-attr]
    for found in ([strong], [strong, result(noise, member)]):
        assert "Leakage found" in _answer.sentence(found)
        assert "0.0 %" not in _answer.sentence(found)
        assert "no attack finds any member" in unescape(
            Audit(attacks=tuple(found)).report(tmp_path / "p.html").read_text()
        )


def test_frames_of_an_audit_hold_what_it_prints() -> None:
    found = audit_scores({name: values for name, values in outputs().items() if not name.startswith("reference")
                          and name != "population_reference_logits"})  # fmt: skip
    text = str(found)
    assert found.to_frame().to_dict("list")["attack"] == [result.attack for result in found.attacks]
    assert found.to_frame()["auc"].tolist() == [row["auc"] for row in found.table()]
    accuracy = found.to_frame("accuracy").set_index("records")
    for side, row in accuracy.iterrows():
        assert f"{side} {100 * row.right / row.n:.1f} % ({row.right} of {row.n})" in text
    assert all(sentence in text for sentence in found.to_frame("checks")["sentence"])
    assert all(reason in text for reason in found.to_frame("refused")["reason"])
    assert found.to_frame("classes").to_dict("records") == found.by_class()
    assert len(audit_scores(scores()).to_frame("accuracy")) == 0
    with pytest.raises(UsageError, match="did you mean 'checks'"):
        found.to_frame("check")


@pytest.mark.parametrize("kind", ["logits", "score"])
def test_copies_are_no_evidence(kind):
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        label, logits = rng.integers(0, 3, 120), rng.normal(size=(120, 3))
        logits[np.arange(120), label] += 1.5
        rows = np.repeat(np.arange(120), 10)
        own = {"logits": logits[rows], "label": label[rows]} if kind == "logits" else {"score": logits[rows, 0]}
        result = audit_scores({"member": rows < 60} | own)
        assert any("hardly any on both sides" in note for note in result.notes)
        found += "Leakage found" in result.sentence
    assert found <= 1


@pytest.mark.parametrize("kind", ["perfect", "rounded", "tree"])
def test_coarse_outputs_that_repeat_still_leak(kind):
    rng = np.random.default_rng(0)
    member = np.arange(600) < 300
    score = rng.normal(size=600) + 1.0 * member
    own = {"score": member * 1.0 if kind == "perfect" else score.round(3)}
    if kind == "tree":  # grown to the end: sure and right of members, sure and often wrong of others
        label = rng.integers(0, 3, 600)
        answer = np.where(member | (rng.random(600) < 0.5), label, rng.integers(0, 3, 600))
        own = {"logits": np.eye(3)[answer], "label": label}
    result = audit_scores({"member": member} | own, outputs="probabilities" if kind == "tree" else None)
    assert "Leakage found" in result.sentence
    assert not any("hardly any on both sides" in note for note in result.notes)
