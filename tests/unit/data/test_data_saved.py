"""Folders of Hugging Face datasets: token ids, images, tables, splits, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from lacewing import data
from lacewing.data import Table
from lacewing.errors import DataError, UsageError

hf = pytest.importorskip("datasets")
N = 24
LABEL = [k % 3 for k in range(N)]
NAMES = ["no", "maybe", "yes"]


def _saved(tmp_path, columns, **options):
    made = hf.Dataset.from_dict({**columns, "label": LABEL})
    made.cast_column("label", hf.ClassLabel(names=NAMES)).save_to_disk(str(tmp_path / "set"))
    return data.load(str(tmp_path / "set"), **options)


def test_token_ids_and_names_of_classes(tmp_path):
    ids = [[2 + k, 3] + [4] * (k % 2) for k in range(N)]
    found = _saved(tmp_path, {"input_ids": ids, "idx": list(range(N))}, table=Table(ignore=("idx",), padding=0))
    assert found.x.tolist() == [each + [0] * (3 - len(each)) for each in ids]
    assert found.class_names == tuple(NAMES)
    assert found.y.tolist() == LABEL


def test_splits_are_merged_in_order_and_rows_that_were_chosen_alone_are_read(tmp_path):
    whole = hf.Dataset.from_dict({"a": [float(k) ** 0.5 for k in range(N)], "b": list("xy" * 12), "label": LABEL})
    whole = whole.cast_column("label", hf.ClassLabel(names=NAMES))
    parts = {"train": whole.select(range(3, 20)), "test": whole.select([0, 2, 1])}
    hf.DatasetDict(parts).save_to_disk(str(tmp_path / "set"))
    found = data.load(str(tmp_path / "set"))
    order = [*range(3, 20), 0, 2, 1]
    np.testing.assert_allclose(found.x[:, 0], np.sqrt(order), rtol=1e-6)
    assert found.x[:, 1].tolist() == [float(k % 2 == 0) for k in order]
    assert found.columns == {"a": (0,), "b": (1, 2)}
    assert found.y.tolist() == [LABEL[k] for k in order]


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)])
def test_images(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (N, *shape), np.uint8)
    found = _saved(tmp_path, {"image": list(map(Image.fromarray, pixels))})
    assert found.x.dtype == np.uint8
    assert (found.x == (pixels[:, None] if len(shape) == 2 else pixels.transpose(0, 3, 1, 2))).all()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"text": [f"words {k}" for k in range(N)]},
            "column 'text' holds 24 different words .* texts are given as",
        ),
        ({"input_ids": [[1, 2]] * N, "text": ["a"] * N}, r"token ids \('input_ids'\) beside the columns text"),
        ({"a": list(range(5, 29)), "label2": LABEL}, "'a' .*the number of each record"),
    ],
)
def test_columns_that_are_no_records_are_one_sentence(tmp_path, columns, said):
    with pytest.raises(DataError, match=said):
        _saved(tmp_path, columns)


def test_images_of_two_sizes_and_records_without_a_label_are_refused(tmp_path):
    images = [Image.new("L", (4 + (k == 5), 4)) for k in range(N)]
    with pytest.raises(DataError, match=r"images of several shapes \(record 0: \(1, 4, 4\), record 5: \(1, 4, 5\)\)"):
        _saved(tmp_path, {"image": images})
    unlabelled = hf.Dataset.from_dict({"a": [0.5, 0.25, 1.5], "label": [-1, 0, 1]})
    unlabelled.cast_column("label", hf.ClassLabel(names=NAMES)).save_to_disk(str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"'label' of .* has records without a label"):
        data.load(str(tmp_path / "none"))


def test_broken_and_transparent_images_are_refused(tmp_path):
    made = hf.Dataset.from_dict({"image": [Image.new("L", (4, 4))] * N, "label": LABEL})
    made = made.cast_column("label", hf.ClassLabel(names=NAMES)).cast_column("image", hf.Image())
    clear = Image.new("P", (4, 4))
    clear.info["transparency"] = 0
    content = io.BytesIO()
    clear.save(content, "png", transparency=0)
    for place, bytes_, said in (
        ("broken", b"no image", "the image of record 2 cannot be read as an image"),
        ("clear", content.getvalue(), "the image of record 2 is transparent in part"),
    ):
        kept = made.cast_column("image", hf.Image(decode=False))
        kept = kept.map(lambda row, k: {"image": {"bytes": bytes_, "path": None}} if k == 2 else row, with_indices=True)  # noqa: B023
        kept.cast_column("image", hf.Image()).save_to_disk(str(tmp_path / place))
        with pytest.raises(DataError, match=said):
            data.load(str(tmp_path / place))


def _content(image, kind="png", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return {"bytes": content.getvalue(), "path": None}


def _of_files(tmp_path, third, **options):
    """Images in files, of which the third is this one."""
    rows = [_content(Image.new("RGB", (4, 6), (k, 0, 0))) for k in range(N)]
    rows[2] = third
    made = hf.Dataset.from_dict({"image": rows, "label": LABEL}).cast_column("label", hf.ClassLabel(names=NAMES))
    made.cast_column("image", hf.Image(**options)).save_to_disk(str(tmp_path / "set"))
    return data.load(str(tmp_path / "set"))


def test_images_are_read_by_the_rules_for_folders_of_images(tmp_path):
    opaque = Image.new("RGBA", (4, 6), (7, 8, 9, 255))
    assert (_of_files(tmp_path / "opaque", _content(opaque)).x[2] == np.array([7, 8, 9])[:, None, None]).all()
    deep = (np.arange(24).reshape(6, 4) * 300).astype(np.uint16)
    several = Image.new("RGB", (4, 6))
    for name, third, said in (
        ("deep", _content(Image.fromarray(deep)), "the image of record 2 is an image of mode I;16: give 8-bit images"),
        ("frames", _content(several, "tiff", save_all=True, append_images=[several]), "record 2 holds 2 images, pages"),
        ("none", None, "the image of record 2 is missing: leave the record out"),
        ("grey", _content(Image.new("L", (4, 6))), r"several shapes .* bring them to one size and mode"),
    ):
        with pytest.raises(DataError, match=said):
            _of_files(tmp_path / name, third)


def test_images_stand_upright_and_have_the_mode_of_their_feature(tmp_path):
    wide, turned = Image.new("RGB", (6, 4), (50, 60, 70)), Image.Exif()
    wide.putpixel((0, 0), (255, 255, 255))
    turned[0x0112] = 6  # a camera that was held on its side
    x = _of_files(tmp_path / "up", _content(wide, "png", exif=turned)).x
    assert x.shape == (N, 3, 6, 4)
    assert (x[2, :, 0, 3] == 255).all()
    assert (x[2, :, 0, 0] == [50, 60, 70]).all()
    assert _of_files(tmp_path / "grey", _content(Image.new("RGB", (4, 6))), mode="L").x.shape == (N, 1, 6, 4)


def test_a_damaged_folder_and_one_without_the_package_are_one_sentence(tmp_path, monkeypatch):
    _saved(tmp_path, {"a": [0.5 * k**2 for k in range(N)]})
    (next((tmp_path / "set").glob("*.arrow"))).write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read as a folder of datasets"):
        data.load(str(tmp_path / "set"))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs the package datasets.*\[hf\]"):
        data.load(str(tmp_path / "set"))


def test_a_feature_of_named_codes_is_one_hot(tmp_path):
    made = hf.Dataset.from_dict({"a": [float(k) ** 0.5 for k in range(N)], "sex": LABEL, "label": LABEL[::-1]})
    made.cast_column("sex", hf.ClassLabel(names=["m", "f", "x"])).save_to_disk(str(tmp_path / "set"))
    found = data.load(str(tmp_path / "set"))
    assert (found.x[:, 1:] == np.eye(3)[[[1, 0, 2][k] for k in LABEL]]).all()
