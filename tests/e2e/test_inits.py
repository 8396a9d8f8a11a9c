"""Studies of several initialisations on one split: what they share, what differs, extension, budget and report."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lacewing as lw
from lacewing.errors import BudgetSpent, UsageError
from lacewing.results import read_results_csv
from lacewing.study import jobs
from lacewing.study.folder import recorded
from lacewing.study.store import Store
from lacewing.support.formats import seal

pytestmark = pytest.mark.slow
OPTIONS: dict[str, Any] = {"quiet": True, "processes": 1, "device": "cpu"}
SET = ["attacks.names=['loss', 'lira-offline']", "run.seeds=[0, 1]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    """Begun with one initialisation, then extended to two, of which the weights are dropped and the masks stay."""
    place = tmp_path_factory.mktemp("inits")
    (place / "small.toml").write_text(small.STUDY)
    options = {**OPTIONS, "out": place / "run"}
    lw.run(place / "small.toml", set=SET, **options)
    (place / "one.csv").write_bytes((place / "run" / "results.csv").read_bytes())
    lw.run(place / "small.toml", set=[*SET, "run.inits=2"], keep="signals", **options)
    return place / "run"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_the_rows_of_the_first_initialisation_are_those_of_a_study_that_has_one(folder: Path) -> None:
    before, after = _rows(folder.parent / "one.csv"), _rows(folder / "results.csv")
    assert len(after) == 2 * len(before)
    assert [row for row in after if row["init"] == "0"] == before
    networks, attacks = read_results_csv(folder / "results.csv")
    assert len({n.id for n in networks}) == len(networks) == 24
    assert len({(a.network.id, a.attack) for a in attacks}) == len(attacks) == 24


def test_initialisations_share_their_members_and_differ_in_their_answers(folder: Path) -> None:
    _, plan, _ = recorded(folder)
    store = Store(folder)
    by_id = {job.id: jobs.load_signals(store, job) for job in plan.networks}
    for name in ("dense", "imp-02"):
        for role in ("target", "shadow"):
            first, second, other = (by_id[f"{name}/{role}/{repeat}"] for repeat in ("0", "0.1", "1"))
            for array in ("member_N", "part_N", "label_N", "record_N", "audited_N"):
                assert np.array_equal(first[array], second[array])
            assert not np.array_equal(first["member_N"], other["member_N"])
            assert np.abs(first["logits_NC"].astype(float) - second["logits_NC"]).max() > 0.1
    read = {r.id for a in plan.attacks for r in a.side.references if a.target.id == "dense/target/0.1"}
    assert read == {"dense/shadow/0.1", "dense/target/1.1", "dense/shadow/1.1"}


def test_the_report_tells_both_spreads_and_the_overlap_of_masks(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert 'id="stability-table"' in page
    assert "Degrees of freedom: 1 for splits, 2 for initialisations" in page
    assert 'id="overlap-table"' in page
    assert len(list(folder.glob("jobs/*/model.safetensors"))) == 12  # of the first run; masks stayed in both
    assert lw.status(folder)["networks"] == {"planned": 24, "done": 24}
    found = lw.report(folder)
    written = json.loads((folder / "stability.json").read_text())
    for table in ("spreads", "overlaps"):
        assert found.to_frame(table).to_dict("records") == written[table]
    accuracy = {n.id: n.test_accuracy for n in found.networks}
    for row in written["spreads"]:
        if row["measure"] == "test accuracy":
            pairs = [[accuracy[f"{row['network']}/target/{seed}{init}"] for init in ("", ".1")] for seed in (0, 1)]
            within = sum((first - second) ** 2 / 2 for first, second in pairs) / 2
            assert row["sd_within"] == pytest.approx(within**0.5)
    means = {(r["attack"], r["network"]): r["seeds"] for r in found._means()}
    assert set(means.values()) == {2}


def test_compare_counts_seeds_and_refuses_an_initialisation_that_is_not_there(folder: Path) -> None:
    found = lw.compare(folder, "dense", "imp-02", attack="loss")
    assert len(found.pairs) == 4
    assert found.interval == "Student's t over 2 seeds, initialisations averaged first"
    one = lw.compare(folder, "dense/target/0.1", "imp-02/target/0.1", attack="loss")
    assert one.pairs == (("dense/target/0.1", "imp-02/target/0.1"),)
    assert found.n_members == 2 * one.n_members
    with pytest.raises(UsageError, match=r"dense/target/0\.2"):
        lw.compare(folder, "dense/target/0.2", "imp-02/target/0", attack="loss")


def test_a_folder_of_schema_1_is_read(folder: Path, tmp_path: Path) -> None:
    facts = json.loads((folder / "plan.json").read_text())
    assert facts.pop("schema") == 2
    del facts["sha256"], facts["study"]["run"]["inits"]
    (tmp_path / "plan.json").write_text(seal({**facts, "schema": 1}))
    assert lw.status(tmp_path)["networks"] == {"planned": 12, "done": 0}


def test_fewer_initialisations_are_another_study(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.inits is 1 now and 2 in the folder"):
        lw.run(folder.parent / "small.toml", set=SET, out=folder, **OPTIONS)


def test_a_study_that_stops_early_and_its_slices_end_in_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    study, change = folder.parent / "small.toml", [*SET, "run.inits=2"]
    stopped = tmp_path / "stopped"
    with pytest.raises(BudgetSpent):
        lw.run(study, set=change, out=stopped, budget=0.0, **OPTIONS)
    lw.run(study, set=change, out=stopped, only={"init": "1"}, **OPTIONS)
    assert {row["init"] for row in _rows(stopped / "results.csv")} == {"1"}
    lw.run(study, set=change, out=stopped, **OPTIONS)
    for name in ("results.csv", "tradeoff.json"):
        assert (stopped / name).read_bytes() == (folder / name).read_bytes()


def test_networks_that_diverge_or_collapse_are_named(tmp_path: Path, small: ModuleType) -> None:
    entry = "\n[[networks]]\nmethod = 'dense'\nname = '{}'\ntrain = {{ {} }}\n"
    study = small.STUDY + entry.format("wild", "lr = 1e12") + entry.format("dead", "weight_decay = 9.0")
    (tmp_path / "small.toml").write_text(study)
    found = lw.run(
        tmp_path / "small.toml",
        set=["attacks.names=['loss']", "run.inits=2", "train.epochs=12"],
        out=tmp_path / "run",
        **OPTIONS,
    )
    written = json.loads((tmp_path / "run" / "stability.json").read_text())
    assert sorted(line.partition(":")[0] for line in written["diverged"]) == sorted(
        f"wild/{role}/0{init}" for role in ("target", "shadow") for init in ("", ".1")
    )
    dead = {n.id for n in found.networks if n.network == "dead" and n.test_accuracy <= 0.15}  # 10 classes
    assert {each["id"] for each in written["collapsed"]} == dead
    assert 2 <= len(dead) == len(found.to_frame("collapsed"))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Diverged: 4 networks (wild/" in page
    assert f"Collapsed: {len(dead)} networks (dead/" in page
