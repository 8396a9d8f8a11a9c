"""[attribute] in a run: memorised columns are found, later ones change nothing else, bad ones are refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import lacewing as lw
from lacewing.errors import UsageError
from lacewing.study.declared import difference, load_study
from lacewing.study.prepared import Prepared

BITS, WIDTH = 4, 12  # columns that are bits, of all columns


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random records whose labels go with no column, so that a network can only memorise them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, WIDTH)).astype(np.float32)
    x[:, :BITS] = rng.integers(2, size=(400, BITS))
    x[:, BITS] = 1.0
    place = tmp_path_factory.mktemp("table") / "random.npz"
    np.savez(place, x=x, y=rng.integers(2, size=400))
    return place


def study(table: Path, columns: Any = (0, 1, (2, 3)), **more: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "columns",
        "data": {"dataset": str(table)},
        "model": {"name": "mlp", "hidden": [64]},
        "train": {"epochs": 60, "batch_size": 20, "lr": 0.2, "weight_decay": 0.0, "precision": "fp32"},
        "networks": [{"method": "dense"}, {"method": "dense", "name": "brief", "train": {"epochs": 1, "lr": 0.001}}],
        "attacks": {"names": ["loss"]},
        "run": {"seeds": [0, 1, 2]},
        **({} if columns is None else {"attribute": {"columns": columns}}),
        **more,
    }


@pytest.fixture(scope="module")
def found(table: Path, tmp_path_factory: pytest.TempPathFactory) -> lw.Result:
    return lw.run(study(table), out=tmp_path_factory.mktemp("columns") / "run", processes=1, quiet=True)


@pytest.mark.slow
def test_what_is_memorised_is_found_and_nothing_of_a_network_that_learned_nothing(found: lw.Result) -> None:
    assert found.attribute is not None
    assert found.missing == found.attribute.missing == 0
    rows = {(row.network, row.attack): row for row in found.attribute.rows}
    assert len(rows) == 2 * 3
    assert rows["dense", "csmia"].found
    assert rows["dense", "csmia"].surplus > 0.15
    assert not any(row.found for (network, _), row in rows.items() if network == "brief")
    assert "surplus on columns" in str(found)
    assert len(found.to_frame("attribute")) == 6
    assert len(json.loads((found.folder / "attribute.json").read_text())["rows"]) == 6
    page = found.report.read_text()
    assert 'id="attribute-table"' in page


@pytest.mark.slow
def test_the_numbers_are_those_of_the_network_asked_by_hand(found: lw.Result, table: Path) -> None:
    with (found.folder / "attribute.csv").open() as handle:
        written = list(csv.DictReader(handle))
    prepared = Prepared(study(table), out=found.folder)
    records, (mean, std) = prepared.work.records, prepared.work.normalisation
    job = next(job for job in prepared.plan.audited if job.id == "dense/target/1")
    split = prepared.work.split(1)
    weights = load_file(prepared.store.need(job.key, "model.safetensors"))
    matrices = [weights[name] for name in sorted(weights) if name.endswith("weight")]
    biases = [weights[name] for name in sorted(weights) if name.endswith("bias")]

    def csmia(place: int, row: int) -> bool:
        seen = []
        for value in (0.0, 1.0):
            asked = records.x[row].astype(np.float64)
            asked[place] = value
            hidden = np.maximum(matrices[0] @ ((asked - mean) / np.where(std == 0, 1, std)) + biases[0], 0)
            logits = matrices[1] @ hidden + biases[1]
            seen.append((logits.argmax() == records.y[row], abs(logits[0] - logits[1])))
        right = [value for value in (0, 1) if seen[value][0]]
        sure = [each[1] for each in seen]
        guess = right[0] if len(right) == 1 else int(np.argmax(sure) if right else np.argmin(sure))
        return bool(guess == records.x[row, place])

    for place in (0, 1):
        of = [
            r
            for r in written
            if (r["network"], r["seed"], r["column"], r["attack"]) == ("dense", "1", str(place), "csmia")
        ]
        members, others = ([csmia(place, row) for row in rows] for rows in (split.target_train, split.target_test))
        assert float(of[0]["members"]) == pytest.approx(np.mean(members), abs=1e-12)
        assert float(of[0]["nonmembers"]) == pytest.approx(np.mean(others), abs=1e-12)
        gain = np.mean(members) - float(of[0]["imputed_members"])
        assert float(of[0]["surplus"]) == pytest.approx(gain - np.mean(others) + float(of[0]["imputed_nonmembers"]))


@pytest.mark.slow
def test_columns_that_come_later_and_slices_that_are_merged_give_the_same_bytes(
    found: lw.Result, table: Path, tmp_path: Path
) -> None:
    def files(folder: Path) -> list[bytes]:
        return [(folder / name).read_bytes() for name in ("attribute.csv", "attribute.json", "results.csv")]

    options: dict[str, Any] = {"processes": 1, "quiet": True}
    later = tmp_path / "later"
    alone = lw.run(study(table, None), out=later, **options)
    assert alone.attribute is None
    assert (later / "results.csv").read_bytes() == files(found.folder)[2]
    weights = {path: path.stat().st_mtime_ns for path in later.rglob("model.safetensors")}
    lw.run(study(table), out=later, **options)
    assert weights == {path: path.stat().st_mtime_ns for path in later.rglob("model.safetensors")}
    assert files(later) == files(found.folder)
    slices = [tmp_path / name for name in ("first", "second")]
    for seeds, folder in zip((("0",), ("1", "2")), slices, strict=True):
        for seed in seeds:
            lw.run(study(table), out=folder, only={"seed": seed}, **options)
    merged = lw.merge(tmp_path / "merged", slices)
    assert merged.missing == 0
    assert files(merged.folder) == files(found.folder)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([WIDTH], r"attribute.columns: there is no column 12: the table has 12, from 0 to 11"),
        ([BITS], r"attribute.columns: column 4 has one value in all records: there is nothing to guess"),
        ([BITS + 1], r"attribute.columns: column 5 has 400 values, and the model is asked under each"),
        ([list(range(WIDTH))], r"attribute.columns: they are all columns of the table; leave another"),
        ([], r"attribute.columns = \[\]: give a list of columns, their places from 0 or names"),
        ([0, 0], r"attribute.columns = \[0, 0\]: a column is named twice"),
        ([True], r"attribute.columns = \[True\]: true is no column"),
        ([-1], r"attribute.columns = \[-1\]: -1 is no column"),
    ],
)
def test_columns_that_cannot_be_guessed_are_refused_before_training(
    columns: Any, message: str, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        lw.run(study(table, columns), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_images_and_halves_without_a_population_are_refused(table: Path, tmp_path: Path) -> None:
    images = {**study(table), "data": {"dataset": "digits"}}
    with pytest.raises(UsageError, match=r"a record of digits is 1 x 8 x 8, and a column is one of a table"):
        lw.run(images, out=tmp_path / "run", quiet=True)
    halves = study(table, data={"dataset": str(table), "split": "random-halves", "population": 0.0})
    with pytest.raises(UsageError, match=r"attribute: imputation learns from records that no network trains on: set"):
        lw.run({**halves, "run": {"seeds": [0, 1, 2, 3]}}, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_folder_takes_columns_later_and_no_others_then(table: Path) -> None:
    without, with_ = load_study(study(table, None)), load_study(study(table))
    assert difference(without, with_) is None
    assert "attribute" in (difference(with_, without) or "")
    assert "attribute.columns" in (difference(with_, load_study(study(table, [0]))) or "")


def test_only_targets_are_asked_and_no_other_key_changes(table: Path, tmp_path: Path) -> None:
    plans = [Prepared(study(table, columns), out=tmp_path / "run").plan for columns in (None, [0], [1])]
    assert [job.key for job in plans[0].networks] == [job.key for job in plans[1].networks]
    assert [job.key for job in plans[0].readers] == [job.key for job in plans[1].readers]
    asked = [{job.id: dict(job.probes)["attribute"] for job in plan.networks if job.probes} for plan in plans[1:]]
    assert Prepared(study(table, [0, [2, 3]]), out=tmp_path / "run").columns() == {
        "columns": ["0", "2+3"],
        "networks": 6,
        "done": 0,
    }
    assert [*asked[0]] == [job.id for job in plans[1].networks if job.role == "target"]
    assert not {*asked[0].values()} & {*asked[1].values()}
