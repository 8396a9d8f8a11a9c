"""Purchase-100 and Texas-100 in the forms that people have, in small; what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from lacewing import data
from lacewing.data._hundred import PURCHASE, TEXAS, read_hundred
from lacewing.errors import DataError

RNG = np.random.default_rng(0)
Y = np.arange(300) % 100
X = RNG.integers(0, 2, (300, 7)).astype(np.uint8)


@pytest.fixture(params=[PURCHASE, TEXAS], ids=lambda form: form.name)
def form(request):
    return replace(request.param, records=300, features=7)


@pytest.mark.parametrize("labels", [Y, Y + 1, np.eye(100)[Y], (Y + 1)[:, None]], ids=["0", "1", "one-hot", "column"])
@pytest.mark.parametrize("folder", ["", "of its name"])
def test_the_npz_is_read_with_any_labels(form, labels, folder, tmp_path):
    place = tmp_path / form.name if folder else tmp_path
    place.mkdir(exist_ok=True)
    np.savez(place / f"{form.name}.npz", features=X.astype(float), labels=labels)
    x, y = read_hundred(form, tmp_path)
    assert (x == X).all()
    assert (y == Y).all()
    assert (x.dtype, y.dtype) == (np.uint8, np.int64)


def test_the_texts_of_shokri_are_read(form, tmp_path):
    if len(form.texts[0]) == 1:
        np.savetxt(tmp_path / "dataset_purchase", np.column_stack([Y + 1, X]), "%d", ",")
    else:
        (tmp_path / "texas" / "100").mkdir(parents=True)
        np.savetxt(tmp_path / "texas" / "100" / "feats", X, "%d", ",")
        np.savetxt(tmp_path / "texas" / "100" / "labels", Y + 1, "%d")
    x, y = read_hundred(form, tmp_path)
    assert (x == X).all()
    assert (y == Y).all()


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (X[:-1], Y[:-1], r"has 300 records of 7 features, and the file \(299, 7\)"),
        (X * 2, Y, "neither 0 nor 1"),
        (X, Y % 99, "must have one of the 100 classes"),
        (X, Y + 2, "must have one of the 100 classes"),
        (X, np.where(Y == 1, 1.5, Y), "must have one of the 100 classes"),
        (X, np.ones((300, 100)), "must have one of the 100 classes"),
    ],
)
def test_another_file_is_refused(form, x, y, said, tmp_path):
    np.savez(tmp_path / f"{form.name}.npz", features=x, labels=y)
    with pytest.raises(DataError, match=said):
        read_hundred(form, tmp_path)


def test_other_arrays_texts_of_words_and_no_file_are_one_sentence_each(form, tmp_path):
    with pytest.raises(DataError, match=rf"{form.name}: not found: put {form.name}.npz or "):
        data.load(form.name, tmp_path)
    with pytest.raises(DataError, match="no official download"):
        data.fetch(form.name, tmp_path)
    for name in form.texts[0]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1,zero,1\n")
    with pytest.raises(DataError, match="no table of whole numbers"):
        read_hundred(form, tmp_path)
    np.savez(tmp_path / f"{form.name}.npz", data=X)
    with pytest.raises(DataError, match=r"lacks the arrays features and labels, or x and y \(it holds data\)"):
        read_hundred(form, tmp_path)
