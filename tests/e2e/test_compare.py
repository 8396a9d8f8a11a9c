"""Two networks of a run folder compared on the same records."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

import lacewing as lw
from lacewing import metrics
from lacewing.errors import FolderError, UsageError
from lacewing.study import jobs
from lacewing.study.compare import EXPLORATORY, Comparison, compare

ATTACK = "loss"  # the cheapest that makes decisions


@pytest.fixture(scope="module")
def run(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> lw.Result:
    """A smaller form of the small study, under two seeds."""
    study = tomllib.loads(small.STUDY)
    study["networks"][1]["levels"], study["train"]["epochs"] = 1, 2
    study |= {"attacks": {"names": [ATTACK, "gap"]}, "run": {"seeds": [0, 1]}}
    return lw.run(study, out=tmp_path_factory.mktemp("compare") / "run", processes=1, quiet=True)


def found_in(run: lw.Result, *names: str) -> list[Any]:
    results = {attack.network.id: attack for attack in run.attacks if attack.attack == ATTACK}
    return [results[name] for name in names]


def rows(found: Comparison) -> dict[str, tuple[float | None, ...]]:
    return {row.measure: (row.first, row.second, row.difference, row.low, row.high) for row in found.rows}


def test_two_networks_over_seeds_have_the_differences_of_their_results(run: lw.Result) -> None:
    found = compare(run.folder, "imp-01", "dense", attack=ATTACK, resamples=200)
    sparse = found_in(run, "imp-01/target/0", "imp-01/target/1")
    dense = found_in(run, "dense/target/0", "dense/target/1")
    assert found.pairs == tuple((a.network.id, b.network.id) for a, b in zip(sparse, dense, strict=True))
    assert found.n_members == sum(r.n_members for r in dense)
    assert found.n_nonmembers == sum(r.n_nonmembers for r in dense)
    measured = rows(found)
    for name in ("balanced_accuracy", "auc"):
        means = [np.mean([r.metrics[name].value for r in results]) for results in (sparse, dense)]
        assert measured[name][:3] == pytest.approx((*means, means[0] - means[1]))
        assert measured[name][3] <= measured[name][2] <= measured[name][4]
    accuracies = [np.mean([r.network.test_accuracy for r in results]) for results in (sparse, dense)]
    assert measured["test_accuracy"][:3] == pytest.approx((*accuracies, accuracies[0] - accuracies[1]))
    assert measured["test_accuracy"][3] <= measured["test_accuracy"][2] <= measured["test_accuracy"][4]
    assert measured["tpr_at_fpr_0.001"] == (None,) * 5
    each = [a.metrics["auc"].value - b.metrics["auc"].value for a, b in zip(sparse, dense, strict=True)]
    expected = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert measured["auc"][3:] == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.interval == "Student's t over 2 seeds"
    assert compare(run.folder, "imp-01", "dense", attack=ATTACK, resamples=200) == found


def test_attacks_on_one_network_hold_what_they_have_in_common_once(run: lw.Result) -> None:
    """Thousands of attacks on tens of thousands of records have to fit into memory."""
    by_network: dict[str, list[Any]] = {}
    for attack in run.attacks:
        by_network.setdefault(attack.network.id, []).append(attack)
    assert len(by_network) == 4
    for one, other in by_network.values():
        assert one.network is other.network
        for name in ("record_N", "member_N", "correct_N", "label_N", "confidence_N"):
            assert getattr(one, name) is getattr(other, name)
        assert not np.array_equal(one.score_N, other.score_N)
    members = [attacks[0].member_N for attacks in by_network.values()]
    assert len({id(member) for member in members}) == 4


def test_one_seed_is_the_paired_metric_of_that_seed(run: lw.Result) -> None:
    found = compare(run.folder, "imp-01/target/1", "dense", attack=ATTACK, resamples=300)
    first, second = found_in(run, "imp-01/target/1", "dense/target/1")
    np.testing.assert_array_equal(first.record_N, second.record_N)
    expected = metrics.paired(first.score_N, second.score_N, first.member_N, resamples=300)
    assert rows(found)["auc"] == pytest.approx((expected.first, expected.second, *expected.difference), abs=1e-12)
    assert found.pairs == (("imp-01/target/1", "dense/target/1"),)
    assert found.interval.startswith("paired bootstrap over the records of one pair of networks")


def test_the_comparison_prints_as_a_sentence_and_a_table(run: lw.Result) -> None:
    found = compare(run.folder, "imp-01", "dense", attack=ATTACK, resamples=100)
    assert found.sentence in str(found)
    assert "imp-01 against dense: test accuracy" in found.sentence
    assert "exploratory" in str(found)
    assert f"n = {found.n_members} members" in found.sentence
    assert "needs 1000 shared non-members" in str(found)
    assert found._repr_html_().count("<tr>") == len(found.rows) + 1
    plain = json.loads(json.dumps(found.as_json()))
    assert plain["schema"] == 1
    assert [row["measure"] for row in plain["rows"]] == [row.measure for row in found.rows]


def test_an_attack_without_decisions_is_compared_by_its_auc(run: lw.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    load = jobs.load_attacks
    none = np.zeros(0, bool)
    monkeypatch.setattr(jobs, "load_attacks", lambda *of: [dataclasses.replace(r, hit_N=none) for r in load(*of)])
    found = compare(run.folder, "imp-01", "dense", attack=ATTACK, resamples=100)
    assert rows(found)["balanced_accuracy"] == (None,) * 5
    assert "the attack makes no decisions" in str(found)
    assert "(AUC)" in found.sentence


def test_networks_of_two_seeds_are_compared_where_they_share_members(run: lw.Result) -> None:
    """Each seed redraws the split: a record counts where both networks, or neither, trained on it."""
    found = compare(run.folder, "dense/target/0", "dense/target/1", attack=ATTACK, resamples=100)
    members = [{*r.record_N[r.member_N]} for r in found_in(run, "dense/target/0", "dense/target/1")]
    assert found.n_members == len(members[0] & members[1])
    assert any("left out" in note for note in found.notes)


def verdicts(found: Comparison) -> int:
    return sum(found.sentence.count(word) for word in ("higher", "lower", "not told apart"))


def test_a_comparison_has_numbers_with_intervals_and_no_verdict(run: lw.Result, halves: lw.Result) -> None:
    for folder, *names in (
        (run.folder, "imp-01", "dense"),
        (run.folder, "imp-01/target/0", "dense/target/0"),
        (halves.folder, "imp-01", "dense"),  # three cuts, six seeds
    ):
        found = compare(folder, *names, attack=ATTACK, resamples=100)
        assert verdicts(found) == 0
        assert "verdict" not in str(found)
        assert EXPLORATORY in found.notes
        row = next(row for row in found.rows if row.measure == "balanced_accuracy")
        assert f"(balanced accuracy) {row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]" in found.sentence


@pytest.fixture(scope="module")
def halves(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> lw.Result:
    """Random halves under six seeds: three cuts of the records."""
    study = tomllib.loads(small.STUDY)
    study["data"]["split"] = "random-halves"
    study["networks"][1]["levels"], study["train"]["epochs"] = 1, 1
    study |= {"attacks": {"names": [ATTACK]}, "run": {"seeds": [0, 1, 2, 3, 4, 5]}}
    return lw.run(study, out=tmp_path_factory.mktemp("halves") / "run", processes=1, quiet=True)


def test_under_random_halves_the_two_seeds_of_a_cut_count_once(
    halves: lw.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compare(halves.folder, "imp-01", "dense", attack=ATTACK)
    auc = {r.network.id: r.metrics["auc"].value for r in halves.attacks}
    each = np.array([auc[f"imp-01/target/{seed}"] - auc[f"dense/target/{seed}"] for seed in range(6)])
    expected = stats.ttest_1samp(each.reshape(3, 2).mean(axis=1), 0).confidence_interval(0.95)
    assert rows(found)["auc"][2:] == pytest.approx((each.mean(), expected.low, expected.high), abs=1e-12)
    assert "over 3 cuts" in found.interval
    assert "6 seeds" in found.sentence
    load = jobs.load_attacks
    monkeypatch.setattr(jobs, "load_attacks", lambda *of: [r for r in load(*of) if r.network.seed < 4])
    two = compare(halves.folder, "imp-01", "dense", attack=ATTACK)
    assert "over 2 cuts" in two.interval
    monkeypatch.setattr(jobs, "load_attacks", lambda *of: [r for r in load(*of) if r.network.seed < 2])
    assert "over the records of one cut" in compare(halves.folder, "imp-01", "dense", attack=ATTACK).interval


@pytest.mark.parametrize(
    ("a", "b", "attack", "named"),
    [
        ("imp-1", "dense", ATTACK, "did you mean 'imp-01'"),
        ("imp-01/target/7", "dense", ATTACK, "did you mean 'imp-01/target/"),
        ("imp-01/shadow/0", "dense", ATTACK, "no attacked network"),
        ("imp-01", "dense", "los", "did you mean 'loss'"),
        ("dense", "dense", ATTACK, "one network"),
        ("dense/target/0", "dense/target/0", ATTACK, "one network"),
    ],
)
def test_names_that_do_not_exist_are_refused(run: lw.Result, a: str, b: str, attack: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        compare(run.folder, a, b, attack=attack)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no run folder"):
        compare(tmp_path, "imp-01", "dense")
