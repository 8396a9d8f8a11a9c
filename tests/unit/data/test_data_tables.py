"""Tables as data sets against pandas and scikit-learn: .csv, .parquet, frames; what is refused, with its columns."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from lacewing import cli, data
from lacewing.data import Table
from lacewing.errors import DataError

pandas = pytest.importorskip("pandas")
N = 60
RNG = np.random.default_rng(0)
FRAME = pandas.DataFrame(
    {
        "age": RNG.integers(18, 80, N),
        "hours": RNG.normal(40, 9, N).round(2),
        "sex": RNG.choice(["Male", "Female"], N),
        "owner": RNG.choice([True, False], N),
        "grade": RNG.integers(1, 4, N),
        "patient": RNG.choice(["a", "b", "c"], N),
        "income": RNG.choice([">50K", "<=50K"], N),
    }
)
ASKED = Table(target="income", ignore=("patient",), categories=("grade",))


def _csv(path: Path, frame, index: bool = False) -> str:
    frame.to_csv(path, index=index)
    return str(path)


def _expected(frame) -> np.ndarray:
    """Dummies in alphabetical order of values, each in its column's place."""
    parts = [frame[["age"]], frame[["hours"]]]
    parts += [pandas.get_dummies(frame[name].astype(str)) for name in ("sex", "owner", "grade")]
    return np.concatenate([part.to_numpy(np.float64) for part in parts], axis=1)


def test_the_command_says_the_values_of_a_category_in_the_order_of_its_places(tmp_path, monkeypatch, capsys):
    frame = FRAME.assign(grade=FRAME.grade.astype(object), town=[f"town {i % 7} " + "x" * 50 for i in range(N)])
    frame.loc[3, "sex"] = None
    path = _csv(tmp_path / "t.csv", frame)
    options = ["--target", "income", "--ignore", "patient", "--category", "grade"]
    monkeypatch.setattr(sys, "argv", ["lacewing", "data", "check", path, *options])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    assert "age: column 0" in lines
    assert "sex: columns 2, 3, 4, 3 values: 'Female', 'Male', (missing)" in lines
    assert "grade: columns 7, 8, 9, 3 values: '1', '2', '3'" in lines
    (towns,) = (line for line in lines if line.startswith("town"))
    assert ", 7 values: 'town 0 xxx" in towns
    assert towns.count("town") == 6
    assert towns.endswith(" ...")


@pytest.fixture(params=["csv", "parquet", "frame", "categorical", "polars"])
def read(request, tmp_path, monkeypatch):
    """Reads a frame in one of the forms that hold it."""

    def load(frame, **options) -> data.Dataset:
        if request.param == "csv":
            return data.load(_csv(tmp_path / "t.csv", frame), **options)
        if request.param == "parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(tmp_path / "t.parquet", index=False)
            return data.load(str(tmp_path / "t.parquet"), **options)
        if request.param == "categorical":
            words = [name for name in frame.columns if not pandas.api.types.is_numeric_dtype(frame[name])]
            frame = frame.astype(dict.fromkeys(words, "category"))
        if request.param == "polars":
            frame = pytest.importorskip("polars").from_dicts(frame.to_dict("records"))
        (tmp_path / "my_frames.py").write_text("held = None\n\n\ndef load():\n    return held\n")
        monkeypatch.syspath_prepend(tmp_path)
        import my_frames

        monkeypatch.setattr(my_frames, "held", frame)
        return data.load("my_frames:load", **options)

    return load


def test_numbers_stay_and_categories_are_one_hot_in_every_form(read):
    found = read(FRAME, table=ASKED, groups=())
    np.testing.assert_allclose(found.x, _expected(FRAME), rtol=1e-6)
    assert found.class_names == ("<=50K", ">50K")
    assert (found.y == (FRAME["income"] == ">50K")).all()
    assert found.columns == {"age": (0,), "hours": (1,), "sex": (2, 3), "owner": (4, 5), "grade": (6, 7, 8)}


def test_networks_see_numbers_standardised_by_column_and_categories_as_they_are(tmp_path):
    found = data.load(_csv(tmp_path / "t.csv", FRAME), table=ASKED)
    mean, std = data.normalisation(found.x)
    seen = (found.x - mean) / std
    scaled = StandardScaler().fit_transform(FRAME[["age", "hours"]])
    np.testing.assert_allclose(seen[:, :2], scaled, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(seen[:, 2:], _expected(FRAME)[:, 2:])


def test_ids_of_groups_are_no_features(read):
    found = read(FRAME, table=Table("income", ignore=("grade",)), groups=("patient",))
    assert "patient" not in found.columns
    assert (found.groups["patient"] == FRAME["patient"]).all()


def test_a_missing_word_is_a_category_and_a_missing_number_is_refused(read):
    words = FRAME.astype({"sex": object})
    words.loc[[3, 5], "sex"] = None
    found = read(words, table=ASKED)
    assert len(found.columns["sex"]) == 3
    assert np.flatnonzero(found.x[:, found.columns["sex"][-1]]).tolist() == [3, 5]
    numbers = FRAME.astype({"hours": float})
    numbers.loc[[3, 5, 7], "hours"] = np.nan
    with pytest.raises(DataError, match=r"'hours' \(no number in 3 of 60 records\); fill in these values"):
        read(numbers, table=ASKED)


def test_a_frame_without_rows_is_refused(tmp_path, monkeypatch):
    (tmp_path / "my_rows.py").write_text("held = None\n\n\ndef load():\n    return held\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_rows

    monkeypatch.setattr(my_rows, "held", FRAME.astype({"income": object})[:0])
    with pytest.raises(DataError, match=r"data.target: .*'income' holds no record: give a table with rows"):
        data.load("my_rows:load", table=ASKED)


def test_labels_beside_a_frame_are_read_and_are_not_named_twice(tmp_path, monkeypatch):
    (tmp_path / "my_pairs.py").write_text("held = None\n\n\ndef load():\n    return held\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_pairs

    monkeypatch.setattr(my_pairs, "held", (FRAME.drop(columns="income"), FRAME["income"]))
    found = data.load("my_pairs:load", table=Table(ignore=("patient",), categories=("grade",)))
    np.testing.assert_allclose(found.x, _expected(FRAME), rtol=1e-6)
    with pytest.raises(DataError, match="my_pairs:load returns the labels beside its frame"):
        data.load("my_pairs:load", table=ASKED)
    monkeypatch.setattr(my_pairs, "held", (FRAME, FRAME["income"][:-1]))
    with pytest.raises(DataError, match="returned 60 rows and 59 labels"):
        data.load("my_pairs:load", table=Table())


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        ({}, Table("incme"), r"data.target: .* has no column 'incme'; its columns are age, hours, sex"),
        ({}, Table(), r"data.target: name the column of labels of .*; its columns are age"),
        ({}, Table("hours"), r"data.target: .*'hours' holds 60 different numbers that are not whole"),
        ({}, Table("income", ignore=("ages",)), r"data.ignore: .* no column 'ages'; did you mean 'age'"),
        ({}, Table("income", categories=("income",)), r"data.categories: 'income' is the column of labels"),
        ({"income": ["one"] * N}, ASKED, r"data.target: .*'income' holds one class, 'one', in all records"),
        (
            {"price": [f"{k},{k % 9}" for k in range(N)]},
            ASKED,
            r"'price' holds numbers written as words, such as '0,0'",
        ),
        ({"income": [None] + ["a", "b"] * 29 + ["a"]}, ASKED, r"'income' has no label in 1 of 60 records .*record 0"),
        ({"age": ["x", *["31"] * 59]}, ASKED, r"'age' \(numbers, and a word in record 0\); mend these cells"),
        ({"age": [np.inf, *range(59)]}, ASKED, r"'age' \(infinite values\)"),
        ({"id": range(7, 67)}, ASKED, r"'id' \(the number of each record, as an index does\); take these columns out"),
        ({"name": [f"n{k}" for k in range(N)]}, ASKED, r"column 'name' holds 60 different words in 60 records"),
        ({"Unnamed: 0": RNG.integers(0, 9, N)}, ASKED, r"the column 'Unnamed: 0', as the index of a frame is called"),
        ({}, Table("income", ignore=tuple(FRAME.columns[:-1])), "has no column beside"),
    ],
)
def test_columns_that_cannot_be_read_are_one_sentence(tmp_path, change, asked, said):
    with pytest.raises(DataError, match=said) as caught:
        data.load(_csv(tmp_path / "t.csv", FRAME.assign(**change)), table=asked)
    assert len(str(caught.value).splitlines()) == 1


def test_dates_as_words_are_no_categories(read):
    dates = FRAME.assign(when=pandas.date_range("2026-01-01", periods=N).astype(str))
    with pytest.raises(DataError, match=r"'when' holds (dates or times, such as|60 different words)"):
        read(dates, table=ASKED)


def test_words_that_are_categories_of_a_mixed_column_are_read_where_the_study_says_so(tmp_path):
    mixed = FRAME.assign(grade=["none", *["1", "2"] * 29, "3"])
    assert len(data.load(_csv(tmp_path / "t.csv", mixed), table=ASKED).columns["grade"]) == 4


def test_a_file_of_another_kind_is_said_to_be_one_and_no_name_of_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.tsv").write_text("a\ty\n1\t0\n")
    with pytest.raises(DataError, match=r"data\.dataset: own\.tsv: files of this kind are not read; .* takes \.npz"):
        data.load("own.tsv")
    (tmp_path / "digits").write_text("")
    assert data.load("digits").name == "digits"


def test_a_file_without_a_header_or_with_columns_of_no_table_is_refused(tmp_path):
    with (tmp_path / "bare.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[1, 2, 0], [3, 4, 1]])
    with pytest.raises(DataError, match="its first line holds numbers"):
        data.load(str(tmp_path / "bare.csv"), table=Table("y"))
    with pytest.raises(DataError, match="there is no such file"):
        data.load(str(tmp_path / "none.csv"))
    np.savez(tmp_path / "t.npz", x=np.eye(4), y=[0, 1, 0, 1])
    for name in ("digits", str(tmp_path / "t.npz")):
        with pytest.raises(DataError, match=r"data.ignore: .* is no table with names"):
            data.load(name, table=Table(ignore=("a",)))


# ------------------------------------------------------------------------------------------------------------- tokens


def _ids(tmp_path, table=None, **columns):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(arrow.table(columns), tmp_path / "ids.parquet")
    return data.load(str(tmp_path / "ids.parquet"), table=table or Table(padding=0))


RAGGED = [[5, 7], [3], [4, 1, 9], [2, 2]]


def test_lists_of_ids_are_filled_up_at_their_ends(tmp_path):
    found = _ids(tmp_path, input_ids=RAGGED, label=[0, 1, 0, 1])
    assert found.x.dtype == np.int32
    assert found.x.tolist() == [[5, 7, 0], [3, 0, 0], [4, 1, 9], [2, 2, 0]]
    padded = [[*ids, *[0] * (3 - len(ids))] for ids in RAGGED]
    mask = [[int(k > 0) for k in ids] for ids in padded]
    zeros = [[0] * 3] * 4
    same = _ids(tmp_path, input_ids=padded, attention_mask=mask, token_type_ids=zeros, label=[0, 1, 0, 1])
    assert (same.x == found.x).all()
    assert same.digest == found.digest


@pytest.mark.parametrize(
    ("columns", "table", "said"),
    [
        ({"ids": RAGGED}, Table(), r"records of 'ids' hold 1 to 3 ids: set data.padding"),
        ({"ids": [[1, 0, 2], [3], [4], [5]]}, Table(padding=0), r"data.padding = 0 between other ids .* record 0"),
        ({"ids": [[1, -2], [3, 1], [4, 1], [5, 1]]}, Table(), "ids below 0"),
        ({"ids": RAGGED, "age": [1, 2, 3, 9]}, Table(padding=0), r"\('ids'\) beside the columns age"),
        ({"a": RAGGED, "b": RAGGED}, Table(padding=0), "has lists in the columns a, b"),
        ({"ids": [[], [], [], []]}, Table(padding=0), "all records of 'ids' are empty"),
        ({"ids": [[1, 2]] * 4, "attention_mask": [[1, 0]] * 4}, Table(), "hides the ids 2: set data.padding"),
    ],
)
def test_lists_that_are_no_records_of_ids_are_one_sentence(tmp_path, columns, table, said):
    with pytest.raises(DataError, match=said):
        _ids(tmp_path, table, label=[0, 1, 0, 1], **columns)


def test_the_command_tells_which_columns_of_x_a_column_makes(tmp_path, capsys):
    from lacewing.cli._data import app

    where = _csv(tmp_path / "t.csv", FRAME)
    options = ["--target", "income", "--ignore", "patient", "--category", "grade"]
    app(["check", where, *options], standalone_mode=False)
    said = capsys.readouterr().out
    assert "age: column 0\n" in said
    assert "grade: columns 6, 7, 8, 3 values: '1', '2', '3'\n" in said
