"""Studies whose records have groups: whole groups in every part, n counts groups, keys follow the groups."""

from __future__ import annotations

import csv
import html
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lacewing as lw
from lacewing.errors import DataError, UsageError
from lacewing.study.compare import compare
from lacewing.study.folder import recorded
from lacewing.study.prepared import Prepared


def _study(small: ModuleType, folder: Path, **data: Any) -> dict[str, Any]:
    """Half of 400 records are copies of another one, and four records are of one patient."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8)).astype("f4")
    x[200:] = x[:200]
    order = rng.permutation(400)
    np.savez(folder / "own.npz", x=x[order], y=order % 2, patient=np.array([f"p{i % 200 // 2}" for i in order]))
    study = tomllib.loads(small.STUDY)
    study["networks"] = [{"method": "dense"}]
    study["train"] |= {"epochs": 1, "holdout": 0.1}
    study["data"] = {"dataset": str(folder / "own.npz"), **data}
    return study | {"attacks": {"names": ["loss"]}, "run": {"seeds": [0]}}


@pytest.fixture(scope="module", params=[pytest.param("four-way", marks=pytest.mark.slow), "random-halves"])
def run(request: Any, small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> lw.Result:
    folder = tmp_path_factory.mktemp("groups")
    study = _study(small, folder, groups="patient", split=request.param, label_noise=0.1, canaries=40)
    if request.param == "random-halves":
        study["data"]["population"] = 0.1
        study |= {"attacks": {"names": ["loss", "rmia-offline"]}, "run": {"seeds": [0, 1, 2, 3]}}
    return lw.run(study, out=folder / "run", processes=1, quiet=True)


def _signals(run: lw.Result) -> list[dict[str, Any]]:
    _, plan, _ = recorded(run.folder)
    return [dict(np.load(run.folder / "jobs" / job.key / "signals.npz")) for job in plan.networks]


def test_whole_groups_are_trained_on_tested_on_held_out_and_mislabelled(run: lw.Result) -> None:
    assert not run.failed
    patient = np.load(run.folder.parent / "own.npz")["patient"]
    for seen in _signals(run):
        whose = patient[seen["record_N"]]
        assert (seen["member_N"].sum(), (seen["audited_N"] & ~seen["member_N"]).sum()) >= (80, 80)
        assert seen["audited_N"].sum() < (seen["part_N"] <= 1).sum() or (seen["part_N"] > 1).any()
        for name in ("part_N", "member_N", "audited_N", "canary_N"):
            sides = {(person, value) for person, value in zip(whose, seen[name].tolist(), strict=True)}
            assert len(sides) == len(set(whose)), name


def test_n_counts_groups_in_results_and_in_the_arrays_behind_them(run: lw.Result) -> None:
    patient = np.load(run.folder.parent / "own.npz")["patient"]
    rows = list(csv.DictReader((run.folder / "results.csv").read_text().splitlines()))
    assert len(rows) >= len(run.attacks) > 0
    for attack in run.attacks:
        seen = next(s for s in _signals(run) if np.isin(attack.record_N, s["record_N"][s["audited_N"]]).all())
        assert len(set(patient[attack.record_N])) == len(attack.record_N) == attack.n_members + attack.n_nonmembers
        assert len(attack.canary_N) == len(attack.record_N)
        assert attack.canary_N.any()
        assert set(attack.record_N[attack.canary_N]) <= set(seen["record_N"][seen["canary_N"]])
        (row,) = [r for r in rows if (r["network"], r["seed"], r["attack"]) == _of(attack) and r["role"] == "target"]
        assert (int(row["n_members"]), int(row["n_nonmembers"])) == (attack.n_members, attack.n_nonmembers)
        assert attack.n_members <= 50
    if len(run.networks) > 2:
        compared = compare(run.folder, "dense/target/0", "dense/target/2", attack="loss", resamples=100)
        assert any(note.startswith("n counts groups of records") for note in compared.notes)
    again = lw.report(run.folder)
    assert [a.metrics for a in again.attacks] == [a.metrics for a in run.attacks]


def _of(attack: Any) -> tuple[str, str, str]:
    return attack.network.network, str(attack.network.seed), attack.attack


def test_copies_are_told_before_a_study_runs_and_with_its_results_and_groups_keep_them_on_one_side(
    small: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each of the 400 records has one copy."""
    study = _study(small, tmp_path)
    prepared = Prepared(study, out=tmp_path / "run")
    (said,) = [note for note in prepared.notes if note.startswith("Exact copies")]
    split = prepared.work.split(0)
    with np.load(tmp_path / "own.npz") as own:
        rows = [tuple(row) for row in own["x"].tolist()]
    sides = [{rows[i] for i in side} for side in (split.members("target"), split.nonmembers("target"))]
    across = 2 * len(sides[0] & sides[1])
    assert said == (
        f"Exact copies: 400 of 400 records have the same x as another (100.0%), and {across} of those that a target is "
        'audited on have a copy on the other side of the split. data.groups = "duplicates" keeps copies on one side '
        "and counts them once."
    )
    assert across > 20

    done = lw.run(study, out=tmp_path / "run", processes=1)
    assert done.cautions[0] == said
    assert f"note: {said}" in capfd.readouterr().err
    assert said in lw.report(tmp_path / "run").cautions
    assert "note: Exact copies: 400 of 400" in str(done)
    text = html.unescape((tmp_path / "run" / "report.html").read_text())
    assert "400 of 400 records have the same x as another" in text
    assert "records with an exact copy" in text

    notes = Prepared(_study(small, tmp_path, groups="duplicates"), out=tmp_path / "other").notes
    assert not any(note.startswith("Exact copies") for note in notes)
    assert any(note.startswith("n counts groups: data.groups (duplicates) makes 200 groups of 400") for note in notes)
    notes = Prepared(_study(small, tmp_path, groups="patient"), out=tmp_path / "other").notes
    assert any("has a copy among its non-members" in n and '["patient", "duplicates"]' in n for n in notes)


def test_a_draw_of_one_class_is_refused_before_anything_runs(small: ModuleType, tmp_path: Path) -> None:
    study = _study(small, tmp_path, records=60, seed=1)
    with np.load(tmp_path / "own.npz") as own:
        np.savez(tmp_path / "own.npz", x=own["x"], y=(np.arange(400) == 7).astype(int))
    said = r"data\.records: own\.npz: all 60 records are of class 0, and at least 2 classes are needed"
    with pytest.raises(DataError, match=said):
        Prepared(study, out=tmp_path / "run")


def test_keys_follow_the_groups_and_not_the_names_of_groups(small: ModuleType, tmp_path: Path) -> None:
    def keys(**data: Any) -> set[str]:
        return {job.key for job in Prepared(_study(small, tmp_path, **data), out=tmp_path / "run").plan.networks}

    plain, patients = keys(), keys(groups="patient")
    assert not plain & patients
    assert keys(groups=["duplicates", "patient"]) == patients  # copies are of one patient here
    arrays = dict(np.load(tmp_path / "own.npz"))
    assert not keys(groups="duplicates") & (plain | patients)

    study = _study(small, tmp_path, groups="user")
    np.savez(tmp_path / "own.npz", **arrays, user=np.char.add("u", arrays["patient"]))
    assert {job.key for job in Prepared(study, out=tmp_path / "run").plan.networks} == patients
    arrays["patient"][0] = "another"
    np.savez(tmp_path / "own.npz", **arrays, user=arrays["patient"])
    assert not {job.key for job in Prepared(study, out=tmp_path / "run").plan.networks} & patients


@pytest.mark.parametrize(
    ("data", "changes", "said"),
    [
        ({"groups": "user"}, {}, r"has no array 'user' beside x and y \(others: patient\)"),
        ({"groups": "x"}, {}, r"data\.groups: x is no array of ids"),
        ({"groups": ["patient", "patient"]}, {}, r"data\.groups: .* names a grouping twice"),
        ({"groups": []}, {}, r"data\.groups"),
        ({"groups": 3}, {}, r"data\.groups = 3: give a list"),
        ({"groups": "patient"}, {"train": {"stack": 2}}, r"train\.stack = 2 needs networks with as many records each"),
    ],
)
def test_groups_that_make_no_sense_are_told(
    small: ModuleType, tmp_path: Path, data: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    study = _study(small, tmp_path, **data)
    for part, fields in changes.items():
        study[part] |= fields
    with pytest.raises(UsageError, match=said):
        Prepared(study, out=tmp_path / "run")


@pytest.mark.slow
def test_copies_across_a_split_hide_what_a_network_leaks_and_groups_show_it(small: ModuleType, tmp_path: Path) -> None:
    """Labels are random, so that a network knows by heart what it was trained on, and nothing else."""
    study = _study(small, tmp_path)
    with np.load(tmp_path / "own.npz") as own:
        x = own["x"]
    np.savez(tmp_path / "own.npz", x=x, y=np.random.default_rng(2).integers(10, size=200)[_first(x)])
    study["model"]["hidden"] = [256]
    study["train"] |= {"epochs": 60, "holdout": 0.0, "weight_decay": 0.0}
    areas = []
    for groups in ({}, {"groups": "duplicates"}):
        study["data"] = {"dataset": str(tmp_path / "own.npz"), **groups}
        done = lw.run(study, out=tmp_path / f"run{len(areas)}", processes=1, quiet=True)
        areas.append(done.attacks[0].metrics["auc"].value)
    assert areas[1] > 0.9
    assert areas[0] < areas[1] - 0.08


def _first(x: Any) -> Any:
    return np.unique(x, axis=0, return_inverse=True)[1]
