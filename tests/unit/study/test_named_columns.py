"""A study of a table: [attribute] by names of columns, and keys that follow the records alone."""

import csv

import numpy as np
import pytest

from lacewing.errors import UsageError
from lacewing.study import jobs
from lacewing.study.declared import load_study
from lacewing.study.folder import claim, recorded
from lacewing.study.plan import make_plan
from lacewing.study.prepared import Prepared
from lacewing.study.store import Store


@pytest.fixture
def study(tmp_path):
    rng = np.random.default_rng(0)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["age", "sex", "job", "y"])
        for _ in range(80):
            out.writerow([rng.integers(18, 80), rng.choice(["f", "m"]), rng.choice(["a", "b", "c"]), rng.integers(2)])
    return {
        "name": "table",
        "data": {"dataset": str(tmp_path / "t.csv")},
        "model": {"name": "mlp", "hidden": [8]},
        "networks": [{"method": "dense"}],
        "run": {"seeds": [0]},
    }


def _open(study, tmp_path, columns):
    return jobs.Workspace.open(load_study({**study, "attribute": {"columns": columns}}), Store(tmp_path / "run"), None)


def test_names_stand_for_the_places_of_their_columns(study, tmp_path):
    work = _open(study, tmp_path, ["job", 0, [1, 2]])
    declared = work.study.attribute
    assert declared.places(work.dataset.columns) == ((3, 4, 5), (0,), (1, 2))
    assert declared.names == ("job", "0", "1+2")
    jobs.check_columns(_open(study, tmp_path, ["job", "sex"]))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["jobs"], "the table has no column 'jobs' among its features; did you mean 'job'"),
        (["y"], "the table has no column 'y' among its features"),
        (["sex", 1], "a column is named twice, by its name and by its place"),
        (["age"], "column age has .* values"),
    ],
)
def test_names_of_no_feature_are_one_sentence(study, tmp_path, columns, said):
    with pytest.raises(UsageError, match=f"attribute.columns: {said}"):
        jobs.check_columns(_open(study, tmp_path, columns))


def test_names_need_a_table_that_has_them(study, tmp_path):
    np.savez(tmp_path / "t.npz", x=np.random.default_rng(0).normal(size=(80, 3)), y=np.arange(80) % 2)
    with pytest.raises(UsageError, match="its columns have no names, so give places from 0"):
        jobs.check_columns(_open({**study, "data": {"dataset": str(tmp_path / "t.npz")}}, tmp_path, ["a"]))


def test_keys_follow_the_records_and_not_what_the_study_says_of_columns(study):
    def keys(**said):
        asked = load_study({**study, "data": {**study["data"], **said}})
        return {job.key for job in make_plan(asked, data_digest="0" * 64, models={"": {}}).networks}

    assert keys() == keys(target="y", ignore=["age"], categories=["sex"])


def test_keys_of_answers_about_columns_follow_their_places(study, tmp_path):
    path = tmp_path / "t.csv"
    asked = {**study, "attribute": {"columns": ["sex"]}}

    def keys():
        prepared = Prepared(asked, out=tmp_path / "run", device="cpu")
        claim(prepared.folder, prepared.recorded)
        plan = recorded(prepared.folder).plan
        assert plan == prepared.plan
        target = plan.audited[0]
        return target.key, dict(target.probes)["attribute"]

    network, answers = keys()
    header, _, rows = path.read_text().partition("\n")
    path.write_text("\n".join([header.replace("sex,job", "job,sex"), rows]))  # the same x, and other names
    other, moved = keys()
    assert other == network
    assert moved != answers
