"""[property] in a run: what is planted is found, killed runs end in the same bytes, bad worlds are refused at once."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lacewing as lw
from lacewing.errors import UsageError
from lacewing.study import jobs
from lacewing.study.declared import difference, load_study
from lacewing.study.prepared import Prepared

STUDY: dict[str, Any] = {
    "schema": 1,
    "name": "told",
    "data": {"dataset": "digits", "records": 800},
    "model": {"name": "mlp", "hidden": [16]},
    "train": {"epochs": 6, "batch_size": 20, "precision": "fp32"},
    "networks": [{"method": "dense"}, {"method": "imp", "levels": 1, "fraction": 0.7}],
    "attacks": {"names": ["loss"]},
    "property": {"of": "class 3", "shares": [[0.02, 0.4]], "networks": 8, "records": 60, "stack": 4},
    "run": {"seeds": [0]},
}
TOML = """
[property]
of = "redrawn labels"
shares = [[0.0, 0.5]]
networks = 4
records = 60
stack = 2
"""


def varied(**property_: Any) -> dict[str, Any]:
    return {**STUDY, "property": {**STUDY["property"], **property_}}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> lw.Result:
    return lw.run(STUDY, out=tmp_path_factory.mktemp("told") / "run", processes=1, quiet=True)


def test_a_share_that_shifts_the_answers_is_found(found: lw.Result) -> None:
    assert found.property is not None
    assert found.missing == 0
    assert [each.id for each in found.networks] == [
        "dense/target/0",
        "imp-01/target/0",
        "dense/shadow/0",
        "imp-01/shadow/0",
    ]
    by_attack = {(row.network, row.attack): row for row in found.property.rows}
    for network in ("dense", "imp-01"):
        assert by_attack[network, "log-odds"].found
        assert by_attack[network, "outputs"].accuracy == 1
        assert by_attack[network, "log-odds"].attacked == 8
    assert {attack for network, attack in by_attack if network == "dense"} == {
        "log-odds", "kl", "outputs", "weights", "fixed"
    }  # fmt: skip
    assert ("imp-01", "mask") in by_attack
    with (found.folder / "property.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["accuracy"]) for row in rows] == [row.accuracy for row in found.property.seeds]
    assert "0.02 or 0.4 of class 3" in str(found)
    document = json.loads((found.folder / "property.json").read_text())
    assert len(document["rows"]) == len(by_attack) == len(found.to_frame("property"))


@pytest.mark.slow
def test_worlds_change_nothing_of_what_is_about_membership(found: lw.Result, tmp_path: Path) -> None:
    without = {name: value for name, value in STUDY.items() if name != "property"}
    alone = lw.run(without, out=tmp_path / "run", processes=1, quiet=True)
    assert alone.property is None
    assert (alone.folder / "results.csv").read_bytes() == (found.folder / "results.csv").read_bytes()
    assert not (alone.folder / "property.csv").exists()


def test_the_report_shows_every_recipe_and_attack(found: lw.Result) -> None:
    page = found.report.read_text()
    assert 'id="property-table"' in page
    assert (found.folder / "figures" / "property.svg").is_file()
    assert page.count("2\u202f% or 40\u202f%") >= 2
    assert "mask alone" in page


def test_the_records_of_a_world_are_those_of_its_share(found: lw.Result) -> None:
    prepared = Prepared(STUDY, out=found.folder)
    seen: dict[tuple[str, float], set[int]] = {}
    for job in (job for job in prepared.plan.networks if job.world is not None):
        assert job.world is not None
        members = jobs.world_members(prepared.work, job)
        assert len(members) == 60
        assert (prepared.work.records.y[members] == 3).sum() == round(job.world.share * 60)
        seen.setdefault((job.role, job.world.share), set()).update(members.tolist())
        asked = jobs.load_world(prepared.store, job)["record_N"]
        assert not set(prepared.work.records.id[members].tolist()) & set(asked.tolist())
    for share in (0.02, 0.4):  # the attacker's records are never those of the attacked networks
        assert not seen["shadow", 0.02] & seen["target", share]
    table = prepared.table()
    assert len(table) == 4
    worlds = prepared.worlds()
    assert worlds is not None
    assert worlds["networks"] == worlds["done"] == 2 * 2 * 8


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"of": "class 77"}, r"property.of: there is no class 77; the classes are 0 to 9"),
        ({"of": "feature 0"}, r"property.of = 'feature 0': no record has it"),
        ({"of": "age"}, r"property.of = 'age': write 'class 3'"),
        ({"shares": [[0.2, 0.2]]}, r"the worlds 0.2 and 0.2 are the same"),
        ({"shares": [[0.1, 0.2], [0.2, 0.1]]}, r"names a pair twice"),
        ({"shares": [[0.1, 0.9]]}, r"a world of 0.9 needs 54 records with the property"),
        ({"networks": 1}, r"property.networks = 1"),
        ({"networks": 5}, r"give an even number"),
        ({"records": 600}, r"records without the property for property.records = 600"),
        ({"asked": 0.001}, r"property.asked = 0.001"),
        ({"share": 0.1}, r"unknown field 'property.share'"),
        ({"networks": 2000, "shares": [[0.1, 0.2], [0.3, 0.4]]}, r"property.networks: 24,000 networks"),
        ({"shares": [[0.1, 0.101]]}, r"property.shares: 0.1 and 0.101 are both 6 of 60 records"),
        ({"shares": [[0.1, float("nan")]]}, r"property.shares"),
        ({"poison": 0.1}, r"property.poison_label is missing: give the class that poison = 0.1 is labelled with"),
        ({"poison_label": 1}, r"property.poison_label says what .* and poison is 0; give both"),
        ({"poison": 0.1, "poison_label": 10}, r"property.poison_label: there is no class 10; the classes are 0 to 9"),
        ({"poison": 0.1, "poison_label": 3}, r"property.poison_label: records of class 3 have this label already"),
        ({"poison": 0.001, "poison_label": 1}, r"property.poison: 0.001 of 60 records is none"),
        ({"poison": 0.9, "poison_label": 1}, r"property.poison = 0.9"),
        ({"poison": 0.4, "poison_label": 1}, r"property.poison takes 24 of the 1\d asked records .* at least 2"),
        (
            {"of": "redrawn labels", "poison": 0.1, "poison_label": 1},
            r"property.poison: poisoned records have the property and another label",
        ),
    ],
)
def test_worlds_that_cannot_be_made_are_refused_before_anything_is_trained(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        lw.run(varied(**changed), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_groups_and_worlds_are_refused_together(tmp_path: Path) -> None:
    study = {**STUDY, "data": {**STUDY["data"], "groups": ["duplicates"]}}
    with pytest.raises(UsageError, match=r"data\.groups keeps records together"):
        lw.run(study, out=tmp_path / "run", quiet=True)


def test_keys_of_worlds_depend_on_what_they_are_drawn_by_and_others_do_not() -> None:
    def keys(**changed: Any) -> tuple[set[str], set[str]]:
        plan = Prepared(varied(**changed), out="nowhere").plan
        return {job.key for job in plan.audited}, {job.key for job in plan.networks if job.world is not None}

    audited, worlds = keys()
    assert len(worlds) == 32
    for changed in ({"of": "class 4"}, {"records": 61}, {"asked": 0.3}, {"stack": 2}):
        other, theirs = keys(**changed)
        assert other == audited
        assert not worlds & theirs
    assert worlds < keys(shares=[[0.02, 0.4], [0.4, 0.5]])[1]  # a pair more keeps what is there
    alone = {name: value for name, value in STUDY.items() if name != "property"}
    without = Prepared(alone, out="nowhere").plan
    assert {job.key for job in without.networks} == audited
    assert difference(load_study(alone), load_study(STUDY)) is None
    assert difference(load_study(STUDY), load_study(alone)) is not None
    changed = difference(load_study(STUDY), load_study(varied(records=61)))
    assert changed == "property.records is 61 now and 60 in the folder"


def _published(folder: Path, networks: int) -> bool:
    return len(list(folder.glob("jobs/*/metrics.json"))) >= networks


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bytes(small: ModuleType, study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 12") + TOML)
    done = small.lacewing("run", study, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    killed = tmp_path / "killed"
    for published in (3, 12):  # networks, before the run is killed
        done_so_far = partial(_published, killed, published)
        small.killed("run", study, "--out", killed, "--processes", 1, when=done_so_far)
    status = small.lacewing("status", killed, "--json")
    assert json.loads(status.stdout)["networks"]["planned"] > json.loads(status.stdout)["networks"]["done"]
    done = small.lacewing("run", study, "--out", killed)
    assert done.returncode == 0, done.stderr
    for name in ("results.csv", "property.csv", "property.json"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(killed.glob("work/*"))
    slices = [tmp_path / "targets", tmp_path / "shadows"]
    for role, folder in zip(("target", "shadow"), slices, strict=True):
        done = small.lacewing("run", study, "--out", folder, "--only", f"role={role}")
        assert done.returncode == 0, done.stderr
    done = small.lacewing("merge", tmp_path / "merged", *slices)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "merged" / "property.csv").read_bytes() == (tmp_path / "whole" / "property.csv").read_bytes()


def test_snap_trains_poisoned_networks_beside_the_others(found: lw.Result, tmp_path: Path) -> None:
    study = varied(poison=0.1, poison_label=1)
    study["networks"] = STUDY["networks"][:1]
    prepared = Prepared(study, out=tmp_path)
    worlds = [job for job in prepared.plan.networks if job.world is not None]
    clean = [job for job in worlds if job.world and not job.world.poisoned]
    before = [job for job in Prepared(STUDY, out=found.folder).plan.networks if job.network == "dense" and job.world]
    assert [job.key for job in clean] == [job.key for job in before]
    assert len(worlds) == 2 * len(clean) == len({job.key for job in worlds})
    records = prepared.work.records
    rows, theirs = prepared.work.poison(0)
    pools, _ = prepared.work.pools(0)
    assert len(rows) == 6
    assert set(rows) <= set(pools.asked.tolist())
    assert (records.y[rows] == 3).all()
    assert (theirs.y[rows] == 1).all()
    assert (np.delete(theirs.y, rows) == np.delete(records.y, rows)).all()
    for job in worlds:
        assert job.world is not None
        members = jobs.world_members(prepared.work, job)
        assert len(members) == len(set(members.tolist())) == 60
        assert (set(rows.tolist()) <= set(members.tolist())) == job.world.poisoned
        y = prepared.work.records_of(job).y[members]
        assert (y == 3).sum() == round(job.world.share * (60 - 6 * job.world.poisoned))
    assert difference(load_study(STUDY | {"networks": study["networks"]}), load_study(study)) is None
    assert difference(load_study(study), load_study(STUDY | {"networks": study["networks"]})) is not None


@pytest.mark.slow
def test_poison_tells_what_it_was_planted_for_and_a_killed_run_ends_in_the_same_bytes(
    small: ModuleType, study: Path, tmp_path: Path
) -> None:
    text = study.read_text().replace("epochs = 3", "epochs = 12").replace("records = 240", "records = 1200")
    shares = '\n[property]\nof = "class 2"\nshares = [[0.03, 0.3]]\nnetworks = 16\nrecords = 100\nstack = 4\n'
    poison = "poison = 0.1\npoison_label = 5\n"
    study.write_text(text + shares)
    done = small.lacewing("run", study, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    before = json.loads((tmp_path / "whole" / "property.json").read_text())
    study.write_text(text + shares + poison)
    killed = tmp_path / "killed"
    small.killed("run", study, "--out", killed, "--processes", 1, when=partial(_published, killed, 40))
    for folder in (tmp_path / "whole", killed):  # one extends networks that are there, one goes on
        done = small.lacewing("run", study, "--out", folder)
        assert done.returncode == 0, done.stderr
    for name in ("results.csv", "property.csv", "property.json"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    found = json.loads((killed / "property.json").read_text())
    assert (found["poison"], found["poison_label"]) == (0.1, 5)
    assert [row for row in found["rows"] if row["attack"] != "snap"] == before["rows"]
    (snap,) = [row for row in found["rows"] if row["attack"] == "snap" and row["network"] == "dense"]
    assert snap["low"] > 0.5
    assert snap["chosen"] == "log-odds of class 5"
    assert "SNAP (poisons training)" in (killed / "report.html").read_text()


@pytest.mark.slow
def test_redrawn_labels_are_told_by_networks_that_learned_them(tmp_path: Path) -> None:
    study = {**varied(of="redrawn labels", shares=[[0.0, 0.8]]), "run": {"seeds": [0, 1]}}
    study["train"] = {**STUDY["train"], "epochs": 20}
    found = lw.run(study, out=tmp_path / "run", quiet=True)
    assert found.property is not None
    rows = {(row.network, row.attack): row for row in found.property.rows}
    assert rows["dense", "log-odds"].found
    assert rows["dense", "log-odds"].seeds == 2
    assert np.isfinite(rows["dense", "log-odds"].p)
