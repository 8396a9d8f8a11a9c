"""A user's .npz: what is accepted, how it is laid out, and what is said of everything else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lacewing.data import load
from lacewing.errors import DataError

Y = np.arange(12) % 3


def saved(folder: Path, **arrays: Any) -> str:
    path = folder / "own.npz"
    np.savez_compressed(path, **arrays)
    return str(path)


@pytest.mark.parametrize(
    ("given_shape", "shape"),
    [((5,), (5,)), ((8, 9), (1, 8, 9)), ((3, 8, 9), (3, 8, 9)), ((8, 9, 3), (3, 8, 9)), ((1, 8, 4), (1, 8, 4))],
)
def test_shapes_become_tabular_or_channels_first(
    tmp_path: Path, given_shape: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).normal(size=(12, *given_shape))
    data = load(saved(tmp_path, x=x, y=Y))
    assert (data.name, data.shape, len(data), data.classes) == ("own.npz", shape, 12, 3)
    expected = np.moveaxis(x, -1, 1) if given_shape == (8, 9, 3) else x.reshape(12, *shape)
    np.testing.assert_array_equal(data.x, expected.astype(np.float32))
    assert data.x.dtype == np.float32
    assert data.x.flags.c_contiguous


@pytest.mark.parametrize(
    ("given_dtype", "dtype"),
    [("u1", "u1"), ("i8", "u1"), ("?", "u1"), (">f4", "<f4"), ("f8", "<f4"), ("f2", "<f4"), (">i2", "u1")],
)
@pytest.mark.parametrize("label_dtype", ["u1", "i2", ">i8", "u8"])
def test_numbers_become_uint8_or_float32_and_labels_int64(
    tmp_path: Path, given_dtype: str, dtype: str, label_dtype: str
) -> None:
    x = np.arange(24).reshape(12, 2) // 2 % 2
    data = load(saved(tmp_path, x=x.astype(given_dtype), y=Y.astype(label_dtype)))
    assert data.x.dtype == np.dtype(dtype)
    assert data.y.dtype == np.int64
    np.testing.assert_array_equal(data.x, x)
    np.testing.assert_array_equal(data.y, Y)


def test_integers_outside_a_byte_keep_their_values(tmp_path: Path) -> None:
    x = np.array([[-1, 300], [2, -5]] * 6)
    np.testing.assert_array_equal(load(saved(tmp_path, x=x, y=Y)).x, x.astype(np.float32))


def test_the_digest_follows_the_content_and_not_the_file(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(256, size=(12, 4), dtype=np.uint8)
    first = load(saved(tmp_path, x=x, y=Y)).digest
    np.savez(tmp_path / "other.npz", y=Y.astype(np.int16), x=x)
    assert load(str(tmp_path / "other.npz")).digest == first
    assert load(saved(tmp_path, x=x, y=(Y + 1) % 3)).digest != first
    assert load(saved(tmp_path, x=x.astype(np.float32), y=Y)).digest != first
    assert load(saved(tmp_path, x=x.reshape(12, 2, 2), y=Y)).digest != first


def with_value(value: float) -> np.ndarray:
    x = np.arange(24.0).reshape(12, 2)
    x[5, 1] = value
    return x


GOOD = np.arange(24.0).reshape(12, 2)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": GOOD * 0, "y": Y}, r"all 12 records of x are the same"),
        ({"x": GOOD, "y": np.arange(12)}, r"12 classes of 12 records: y must hold each record's class"),
        ({"x": GOOD}, r"lacks the array y \(it holds x\)"),
        ({"a": GOOD}, r"lacks the array x and y"),
        ({"x": GOOD, "y": Y[:-1]}, r"x holds 12 records and y 11 labels"),
        ({"x": with_value(np.nan), "y": Y}, r"x holds NaN or Inf in 1 of 12 records \(the first is record 5\)"),
        ({"x": with_value(-np.inf), "y": Y}, r"x holds NaN or Inf"),
        ({"x": with_value(1e300), "y": Y}, r"x holds values beyond float32 .*1e\+300"),
        ({"x": GOOD, "y": Y.astype(float)}, r"y has dtype float64, but labels must be integers"),
        ({"x": GOOD, "y": Y > 0}, r"y has dtype bool"),
        ({"x": GOOD, "y": np.eye(3, dtype=int)[Y]}, r"y has shape \(12, 3\).*one-hot"),
        ({"x": GOOD, "y": Y - 1}, r"labels must be 0..K-1; found 3 different values in -1..1"),
        ({"x": GOOD, "y": Y + 1}, r"labels must be 0..K-1; found 3 different values in 1..3"),
        ({"x": GOOD, "y": Y * 2}, r"labels must be 0..K-1; found 3 different values in 0..4"),
        ({"x": GOOD, "y": Y.astype("u8") + 2**63}, r"labels must be 0..K-1"),
        ({"x": GOOD, "y": Y * 0}, r"y holds 1 class"),
        ({"x": GOOD[:0], "y": Y[:0]}, r"y holds 0 class"),
        ({"x": GOOD[:, :0], "y": Y}, r"x is empty"),
        ({"x": GOOD.astype(object), "y": Y}, r"x has dtype object"),
        ({"x": GOOD, "y": Y.astype(object)}, r"y has dtype object"),
        ({"x": GOOD.astype(complex), "y": Y}, r"x has dtype complex128"),
        ({"x": GOOD.astype(str), "y": Y}, r"x has dtype <U"),
        ({"x": GOOD[:, 0], "y": Y}, r"x has shape \(12,\), which is none of"),
        ({"x": np.float64(1), "y": Y}, r"x has shape \(\), which is none of"),
        ({"x": np.zeros((12, 5, 8, 8)), "y": Y}, r"x has shape \(12, 5, 8, 8\), which is none of"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=rf"own\.npz: .*{said}"):
        load(saved(tmp_path, **arrays))


def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, x=np.random.default_rng(0).normal(size=(12, 50)), y=Y))
    whole = path.read_bytes()
    for end in (0, 1, 30, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"own\.npz"):
            load(str(path))


def test_an_altered_byte_never_gives_other_records(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, x=np.random.default_rng(0).integers(9, size=(12, 4)), y=Y))
    digest, whole = load(str(path)).digest, path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x21]) + whole[position + 1 :])
        try:
            assert load(str(path)).digest == digest  # the byte was a time stamp, say
        except DataError:
            refused += 1
    assert refused > len(whole) / 2


def test_files_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz: there is no such file"):
        load(str(tmp_path / "none.npz"))
    np.save(tmp_path / "array.npy", GOOD)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    np.array([{}], dtype=object).dump(tmp_path / "pickle.npz")
    for name in ("array.npz", "text.npz", "pickle.npz"):
        with pytest.raises(DataError, match=rf"{name} is not an .npz archive"):
            load(str(tmp_path / name))


@pytest.mark.parametrize(
    "ids", [np.arange(12) // 3 - 1, np.repeat(["ann", "bob", "eve"], 4), np.repeat([b"a", b"b"], 6)]
)
def test_an_array_of_ids_is_read_where_a_study_names_it(tmp_path: Path, ids: Any) -> None:
    path = saved(tmp_path, x=GOOD, y=Y, patient=ids)
    named, plain = load(path, groups=["patient"]), load(path)
    np.testing.assert_array_equal(named.groups["patient"], ids)
    assert (named.digest, dict(plain.groups)) == (plain.digest, {})


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (np.arange(12.0), "patient has dtype float64, but ids of groups must be whole numbers or words"),
        (Y[:11], r"patient has shape \(11,\): give one id a record, shape \(12,\)"),
        (Y[:, None], r"patient has shape \(12, 1\)"),
        (np.array(["a", "nan", "NaN"] * 4), "patient holds 'nan' as the id of 8 records"),
        (np.array(["a", "", "b"] * 4), "patient holds '' as the id of 4 records"),
        (np.array([b"a", b" None", b"b"] * 4), "patient holds 'None' as the id of 4 records"),
        (np.array(["a", "a ", "b"] * 4), "patient holds ids that differ in spaces alone"),
    ],
)
def test_an_array_that_holds_no_ids_is_refused(tmp_path: Path, ids: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(saved(tmp_path, x=GOOD, y=Y, patient=ids), groups=["patient"])


def test_a_missing_array_of_ids_names_those_that_there_are(tmp_path: Path) -> None:
    said = r"data\.groups: .*own\.npz has no array 'user' beside x and y \(others: patient\); name one of them, or give"
    with pytest.raises(DataError, match=said):
        load(saved(tmp_path, x=GOOD, y=Y, patient=Y), groups=["user"])
    with pytest.raises(DataError, match=r"data\.groups: digits has no array 'user' beside x and y \(others: none\)"):
        load("digits", groups=["user"])
