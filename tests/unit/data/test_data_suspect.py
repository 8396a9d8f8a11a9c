"""Tables that look right and are not: ids, badly written numbers, labels and groups that floats merge."""

import numpy as np
import pytest

from lacewing import data
from lacewing.data import Table
from lacewing.errors import DataError

N = 60
RNG = np.random.default_rng(0)
A = RNG.normal(size=N).round(3)
Y = RNG.integers(0, 2, N)
LARGE = 2**53 + np.arange(N) % 10


def _load(path, columns, groups=(), **asked):
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(f'"{cell}"' for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return data.load(str(path), groups=groups, table=Table(**asked))


def _frame(monkeypatch, tmp_path, held):
    (tmp_path / "my_suspects.py").write_text("held = None\n\n\ndef load():\n    return held\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_suspects

    monkeypatch.setattr(my_suspects, "held", held)
    return data.load("my_suspects:load", table=Table())


DAYS = [f"2024-{1 + k // 28:02d}-{1 + k % 28:02d}" for k in RNG.integers(0, 25, N)]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (DAYS, "dates or times"),
        ([f"{day} 12:30" for day in DAYS], "dates or times"),
        ([f"{1 + k} Jan 2024" for k in RNG.integers(0, 25, N)], "dates or times"),
        ([f"{k:,}" for k in 1000 * RNG.integers(10, 30, N)], "numbers written as words"),
        ([f"1,{k}" for k in RNG.integers(0, 20, N)], "numbers written as words"),
        ([f"${k}" for k in RNG.integers(0, 20, N)], "numbers written as words"),
        ([f"{k} %" for k in RNG.integers(0, 20, N)], "numbers written as words"),
        ([f"[5, {k}]" for k in RNG.integers(0, 20, N)], "lists of numbers"),
    ],
)
def test_words_that_are_numbers_or_dates_are_categories_only_where_the_study_says_so(tmp_path, words, what):
    columns = {"a": A, "when": words, "y": Y}
    with pytest.raises(DataError, match=f"column 'when' holds {what}, such as .* data.categories"):
        _load(tmp_path / "t.csv", columns)
    found = _load(tmp_path / "t.csv", columns, categories=("when",))
    assert len(found.columns["when"]) == len(set(words))


def test_texts_that_begin_as_lists_are_told_at_once(tmp_path):  # and not after as many ways as 2 to the 60th
    with pytest.raises(DataError, match="'w' holds 60 different words"):
        _load(tmp_path / "t.csv", {"a": A, "w": [f"[{'1  ' * 60} and {k}]" for k in range(N)], "y": Y})


def test_words_with_digits_stay_categories(tmp_path):
    for words in (["18-25", "26-40", "41-60"], ["Q1", "Q2", "Q3"], ["5kg", "6kg", "7kg"], ["B-12", "B-13", "may"]):
        found = _load(tmp_path / "t.csv", {"a": A, "w": RNG.choice(words, N), "y": Y})
        assert len(found.columns["w"]) == 3


@pytest.mark.parametrize("ids", [RNG.permutation(N) + 1, np.arange(N)[::-1], np.arange(N) * 10])
def test_numbers_of_records_in_any_order_are_refused(tmp_path, ids):
    with pytest.raises(DataError, match=r"'id' \(the number of each record"):
        _load(tmp_path / "t.csv", {"id": ids, "a": A, "y": Y})


def test_what_may_be_wrong_of_numbers_is_noted(tmp_path):
    found = _load(tmp_path / "t.csv", {"cents": np.cumsum(RNG.integers(1, 9, N)), "code": 7 - Y, "a": A, "y": Y})
    ids, telling = found.notes
    assert ids.startswith(
        "Perhaps ids: cents (another whole number in each record). If it identifies records, set data."
    )
    assert telling.startswith("Labels among the features: code has one value for each class")
    seconds = 1_732_900_000 + RNG.integers(0, 40, N)
    (rounded,) = _load(tmp_path / "t.csv", {"t": seconds, "a": A, "y": Y}).notes
    assert f"t ({len(set(seconds.astype(np.float32)))} of {len(set(seconds))})" in rounded
    assert _load(tmp_path / "t.csv", {"a": A, "y": Y}).notes == ()
    (capitals,) = _load(tmp_path / "t.csv", {"a": A, "y": RNG.choice(["cat", "Cat"], N)}).notes
    assert "'Cat' and 'cat'" in capitals


@pytest.mark.parametrize(
    "ids",
    [
        np.r_[:200, :200],
        np.r_[10:210, 5:125],
        np.r_[200:0:-1, 90:0:-1],
        RNG.permutation(np.r_[:200, :200]),
        RNG.permutation(np.r_[:200, :150, :40]),
    ],
)
def test_ids_of_tables_that_were_joined_are_noted(tmp_path, ids):
    n = len(ids)
    columns = {"row": ids, "age": RNG.integers(18, 80, n), "visits": RNG.geometric(0.1, n), "y": np.arange(n) % 3 % 2}
    (note,) = _load(tmp_path / "t.csv", columns).notes
    assert note.startswith(
        "Perhaps ids: row (it counts up and begins again, as the ids of tables that were joined do)."
    )
    assert _load(tmp_path / "t.csv", columns, ignore=("row",)).notes == ()


def test_ids_and_labels_in_an_array_are_noted_by_their_places(tmp_path):
    x = np.stack([A, RNG.permutation(N) + 7.0, 2.0 * Y[::-1], 5.0 - Y, np.arange(N) % 30], axis=1)
    np.savez(tmp_path / "u.npz", x=x, y=Y)
    ids, telling = data.load(str(tmp_path / "u.npz")).notes
    assert ids.startswith("Perhaps ids: x[:, 1] (another whole number in each record).")
    assert telling.startswith("Labels among the features: x[:, 3] has one value for each class")
    far = np.stack([2**60 + RNG.permutation(N), 1_732_900_000 + RNG.integers(0, 40, N)], axis=1)
    np.savez(tmp_path / "u.npz", x=far, y=Y)
    ids, rounded = data.load(str(tmp_path / "u.npz")).notes
    assert ids.startswith("Perhaps ids: x[:, 0] (another")
    assert rounded.startswith("Rounded to float32: x[:, 0] (1 of 60), x[:, 1] (")
    np.savez(tmp_path / "u.npz", x=x[:, [0, 2, 4]].astype(np.uint8), y=Y)
    assert data.load(str(tmp_path / "u.npz")).notes == ()


@pytest.mark.parametrize("in_order", [True, False])
def test_hours_of_many_days_are_no_ids(tmp_path, in_order):
    n = 24 * 50
    hours = np.arange(n) % 24
    columns = {"hour": hours if in_order else RNG.permutation(hours), "a": RNG.random(n), "y": np.arange(n) % 3 % 2}
    assert _load(tmp_path / "t.csv", columns).notes == ()


def test_ids_are_noted_by_their_names_too_unless_the_study_says_what_they_are(tmp_path):
    columns = {
        "user_id": RNG.integers(0, 9, N),
        "PassengerId": RNG.choice(["u", "v"], N),
        "a": A,
        "paid": Y[::-1],
        "y": Y,
    }
    (note,) = _load(tmp_path / "t.csv", columns).notes
    assert note.startswith("Perhaps ids: user_id (by its name), PassengerId (by its name).")
    (note,) = _load(tmp_path / "t.csv", columns, categories=("user_id",)).notes
    assert note.startswith("Perhaps ids: PassengerId (by its name).")
    assert _load(tmp_path / "t.csv", columns, groups=("user_id",), categories=("PassengerId",)).notes == ()


@pytest.mark.parametrize("labels", [["0", "1", "inf"], ["1e300", "1e301", "5"], [2**53, 2**53 + 1, 2**53 + 2]])
def test_labels_that_floats_cannot_tell_apart_are_refused(tmp_path, labels):
    with pytest.raises(DataError, match=r"data.target: .* holds infinite labels or some from"):
        _load(tmp_path / "t.csv", {"a": A, "y": RNG.choice(labels, N)})


@pytest.mark.parametrize("word", ["NA", "NaN"])
def test_a_missing_word_is_no_class(tmp_path, word):
    with pytest.raises(DataError, match="has no label in 2 of 60 records"):
        _load(tmp_path / "t.csv", {"a": A, "y": [word, word, *["cat", "dog"] * 29]})


def test_ids_of_groups_are_what_is_written(tmp_path):
    found = _load(tmp_path / "t.csv", {"p": LARGE, "a": A, "y": Y}, groups=("p",))
    assert found.groups["p"].tolist() == list(map(str, LARGE))
    with pytest.raises(DataError, match=r"data.groups: 'p' .* holds the ids '7' and '07', which are one number"):
        _load(tmp_path / "t.csv", {"p": ["7", "07"] * 30, "a": A, "y": Y}, groups=("p",))


def test_large_ids_and_coded_words_and_indices_of_a_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    path, codes = tmp_path / "t.parquet", np.arange(N) % 3
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"p": LARGE, "c": pandas.Categorical(codes), "y": Y}).to_parquet(path, index=False)
    found = data.load(str(path), groups=("p",))
    assert found.groups["p"].tolist() == list(map(str, LARGE))
    assert (found.x == np.eye(3)[codes]).all()
    words = [f"{k}.5" for k in codes]
    write_table(arrow.table({"a": A, "w": words, "y": Y}), path)
    with pytest.raises(DataError, match="column 'w' holds numbers written as words"):
        data.load(str(path))
    pandas.DataFrame({"a": A, "y": Y}, index=pandas.Index(RNG.permutation(N) // 2, name="patient")).to_parquet(path)
    with pytest.raises(DataError, match="the column 'patient', which was the index of a frame"):
        data.load(str(path))
    assert len(data.load(str(path), groups=("patient",)).columns) == 1


def test_whole_numbers_that_arrow_calls_a_dictionary_are_categories(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import ParquetFile, write_table

    path, codes, labels = tmp_path / "t.parquet", np.arange(N) % 3, (np.arange(N) % 4) * 5 + 2
    coded = {name: arrow.array(each).dictionary_encode() for name, each in (("c", codes), ("y", labels))}
    write_table(arrow.table({"plain": codes, **coded}), path)
    assert all("RLE_DICTIONARY" in ParquetFile(path).metadata.row_group(0).column(k).encodings for k in range(3))
    found = data.load(str(path))
    assert (found.x == np.concatenate([codes[:, None], np.eye(3)[codes]], axis=1)).all()
    assert found.class_names == ("2", "7", "12", "17")  # in the order of numbers
    assert (found.y == np.arange(N) % 4).all()
    write_table(arrow.table({"plain": codes, **coded}), path, store_schema=False)  # of which nothing is left then
    assert (data.load(str(path)).x == np.stack([codes, codes], axis=1)).all()


def test_categories_of_a_frame_are_one_hot_and_columns_keep_their_names(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    codes = np.arange(N) % 3
    found = _frame(monkeypatch, tmp_path, pandas.DataFrame({"c": pandas.Categorical(codes), "y": Y}))
    assert (found.x == np.eye(3)[codes]).all()
    for names in (["a", "a", "y"], [1, "1", "y"]):
        held = pandas.DataFrame(np.stack([A, A, Y], axis=1))
        held.columns = names
        with pytest.raises(DataError, match="the frame has two columns called"):
            _frame(monkeypatch, tmp_path, held)


def test_frames_that_are_none_are_one_sentence(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame({"a": A})
    held = {
        "mixed|numbers, and a word": x.assign(b=pandas.Series([True, 1] * 30, dtype=object), y=Y),
        "Interval objects": x.assign(b=pandas.arrays.IntervalArray.from_breaks(np.arange(N + 1)), y=Y),
        "beyond float64": x.assign(b=pandas.Series([10**400, 5] * 30, dtype=object), y=Y),
        "lists of what is no whole number": x.assign(b=[[[1], [2, 3]]] * N, y=Y),
        "returned a frame and a NoneType": (x, None),
        "returned a frame and a int": (x, 5),
        "whose indices differ": (x, pandas.Series(Y).sample(frac=1, random_state=0)),
        r"returned \(frame, y, groups\)": (x, Y, {}),
    }
    for said, each in held.items():
        with pytest.raises(DataError, match=said):
            _frame(monkeypatch, tmp_path, each)
    beside = pandas.DataFrame(dict.fromkeys(("y", "label", "labels", "the labels"), A))
    assert len(_frame(monkeypatch, tmp_path, (beside, Y)).columns) == 4


def test_ids_of_padding_out_of_range_are_refused_and_empty_records_noted(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(arrow.table({"ids": [[5, 6], [0, 0], [7, 8], [9, 1]], "y": [0, 1, 0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"data.padding = 1099511627776: ids lie in 0 to"):
        data.load(str(tmp_path / "t.parquet"), table=Table(padding=2**40))
    (note,) = data.load(str(tmp_path / "t.parquet"), table=Table(padding=0)).notes
    assert note.startswith("Empty records: 1 of 4 records")
