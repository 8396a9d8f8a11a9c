"""Records at the shell beside .npz: tables and folders of images, refused by the name of what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from lacewing import cli
from lacewing.auditing import _pair_equal, _pair_files, _rebuild, _tables
from lacewing.auditing._files import audit_attribute_files, audit_model_files, reconstruct_files
from lacewing.auditing._pair_files import audit_pair_files
from lacewing.cli._common import in_options
from lacewing.errors import UsageError

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(40, 3)), 4)
Y = np.arange(40) % 3
MEMBER = np.arange(40) < 20


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A factory in a module of the user's, and its weights for records of a shape."""
    (tmp_path / "flat.py").write_text(
        "import math\nfrom torch import nn\n"
        "def make(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def make(width: int):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(width, 3))
        save_file(model.state_dict(), tmp_path / "w.safetensors")
        return {"model": "flat:make", "weights": tmp_path / "w.safetensors", "attacks": "loss", "progress": False}

    return make


def table(path, *, label="y", cell=None, more=()):
    rows = [["a", "member", "b", label, "c", "group"]]
    rows += [[x[0], int(m), x[1], y, x[2], f"p{i}"] for i, (x, y, m) in enumerate(zip(X, Y, MEMBER, strict=True))]
    if cell is not None:
        rows[cell[0]][cell[1]] = cell[2]
    path.write_text("\n".join(",".join(map(str, row)) for row in [*rows, *more]) + "\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_read_as_the_arrays_that_it_holds(kind, tmp_path, network):
    path = table(tmp_path / "own.csv", label="label")
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        columns = {"a": X[:, 0], "member": MEMBER, "b": X[:, 1], "label": Y, "c": X[:, 2]}
        import pyarrow.parquet as files

        path = tmp_path / "own.parquet"
        files.write_table(pyarrow.table(columns), path)
    np.savez(tmp_path / "own.npz", x=X, y=Y, member=MEMBER)
    options = network(3)
    found = audit_model_files(data=path, **options)
    wanted = audit_model_files(data=tmp_path / "own.npz", **options)
    np.testing.assert_allclose(found.attacks[0].score_N, wanted.attacks[0].score_N, rtol=1e-6)
    assert _tables.of_table(path)["x"].dtype == np.float64


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": "class"}, "must have the columns member .* and one of y and label; it has a, member, b, class"),
        ({"cell": (3, 0, "big")}, "column 'a' holds a word in record 3: give numbers; frames with words"),
        ({"cell": (3, 0, "")}, "column 'a' is empty in record 3"),
        ({"cell": (3, 0, "1_0")}, "column 'a' holds a word"),
        ({"cell": (0, 1, "7")}, "its first line holds numbers, so that it is no header.$"),
        ({"cell": (0, 0, "b")}, "has two columns of one name"),
        ({"more": [["1", "2"]]}, "line 42 has 2 cells, the header has 6: give it as many"),
        ({"cell": (3, 1, "7")}, "member must hold 1 for each record"),
    ],
)
def test_bad_tables_are_refused_by_column(change, says, tmp_path, network):
    with pytest.raises(UsageError, match=says):
        audit_model_files(data=table(tmp_path / "own.csv", **change), **network(3))


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["--data"], [["name", "y", "member"], ["1", "0", "1"], ["Jane Doe HIV+", "1", "0"]]),
        (["--data"], [["Jane Doe HIV+", "1", "0"], ["John", "0", "1"]]),
        ([], [["score", "member"], ["Jane Doe HIV+", "1"]]),
        ([], [["Jane Doe HIV+", "1"], ["John", "0"]]),
        (["own:fails"], [["x", "y", "member"], *([["1", "0", "1"], ["2", "1", "0"]] * 20)]),
    ],
    ids=["cell", "no header", "score", "no header of scores", "own code"],
)
def test_the_junit_file_and_errors_hold_no_value_of_a_record(words, lines, tmp_path, monkeypatch, capsys):
    table, junit = tmp_path / "own.csv", tmp_path / "gates.xml"
    table.write_text("\n".join(",".join(line) for line in lines))
    own = "own:fails" in words
    if own:
        (tmp_path / "own.py").write_text("def fails(shape, classes):\n    raise ValueError('Jane Doe HIV+')\n")
        monkeypatch.syspath_prepend(tmp_path)
        words = ["--data"]
    command = ["audit", *words, str(table), "--fail-if", "any.auc > 0.6", "--junit", str(junit)]
    if words:
        command += ["--model", "own:fails", "--weights", str(tmp_path / "w.safetensors")]
    monkeypatch.setattr("sys.argv", ["lacewing", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "Jane" not in junit.read_text()
    assert ("Jane" in told) == own  # what the user's own code says is told to the user alone
    assert f"did not run: {'ValueError, see standard error' if own else ''}" in junit.read_text()


def images(folder, *, size=4, mode="RGB"):
    for place, (y, member) in enumerate(zip(Y, MEMBER, strict=True)):
        at = folder / ("members" if member else "nonmembers") / ["cat", "ant", "bee"][y]
        at.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(place).integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels if mode == "RGB" else pixels[..., 0]).save(at / f"{place:03}.png")
    return folder


@pytest.mark.parametrize(
    ("pixels", "values"),
    [
        ("0-1", lambda p: p),
        ("0-255", lambda p: p * 255),
        ("0.5,0.4,0.3/0.2,0.3,0.4", lambda p: (p - (0.5, 0.4, 0.3)) / (0.2, 0.3, 0.4)),
    ],
)
def test_images_by_class_are_read_and_scaled_as_is_said(pixels, values, tmp_path, network, capsys):
    folder = images(tmp_path / "all")
    found, note = _tables.of_images(folder, pixels)
    assert note == "Classes of the images by number from 0: ant, bee, cat."
    order = [i for side in (True, False) for y in (1, 2, 0) for i in range(40) if Y[i] == y and MEMBER[i] == side]
    for row, i in enumerate(order):
        raw = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8) / 255
        np.testing.assert_allclose(found["x"][row], np.moveaxis(values(raw), 2, 0), atol=1e-4)
        assert found["y"][row] == [2, 0, 1][Y[i]]
        assert found["member"][row] == MEMBER[i]
    audit_model_files(data=folder, pixels=pixels, **network(48))
    assert note in capsys.readouterr().err


def test_bad_folders_are_refused(tmp_path, network):
    folder = images(tmp_path / "all", mode="L")
    assert _tables.of_images(folder, "0-1")[0]["x"].shape == (40, 1, 4, 4)
    options = network(16)
    for pixels, says in ((None, "--pixels is missing"), ("255", "--pixels '255' must say"), ("0.5/0", "must say")):
        with pytest.raises(UsageError, match=says):
            audit_model_files(data=folder, pixels=pixels, **options)
    with pytest.raises(UsageError, match="--pixels has 3 channels and images have 1"):
        _tables.of_images(folder, "1,2,3/1,2,3")
    Image.new("L", (5, 4)).save(folder / "members" / "ant" / "x.png")
    with pytest.raises(UsageError, match=r"several sizes \(1x4x4, 1x4x5\)"):
        _tables.of_images(folder, "0-1")
    (folder / "members" / "ant" / "x.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"x.png cannot be read as an image"):
        _tables.of_images(folder, "0-1")
    (folder / "members" / "dog").mkdir()
    with pytest.raises(UsageError, match="nonmembers has no folder of the class 'dog'"):
        _tables.of_images(folder, "0-1")
    with pytest.raises(UsageError, match="lacks the folder members"):
        _tables.of_images(tmp_path, "0-1")
    with pytest.raises(UsageError, match="--pixels says how images of a folder are read"):
        audit_model_files(data=table(tmp_path / "own.csv"), pixels="0-1", **options)


def test_what_would_be_left_out_of_a_folder_is_refused_and_what_is_hidden_is_no_class(tmp_path, monkeypatch):
    folder = images(tmp_path / "all", mode="L")
    ant = folder / "members" / "ant"
    for side in ("members", "nonmembers"):
        (folder / side / ".ipynb_checkpoints").mkdir()
    (ant / ".DS_Store").write_bytes(b"")
    found, note = _tables.of_images(folder, "0-1")
    assert note == "Classes of the images by number from 0: ant, bee, cat."
    assert found["x"].shape == (40, 1, 4, 4)
    wrong = [
        (ant / "a.gif", "w", r"ant holds 1 of 8 things that are no image file, such as a\.gif: give \.png"),
        (ant / "sub", "d", "such as sub: give"),
        (ant / "dir.png", "d", "no image file, such as dir"),
        (folder / "members" / "a.png", "w", r"members holds a\.png beside the folders of the classes"),
        (folder / "populations", "d", "holds the folder populations beside members, nonmembers"),
    ]
    for path, kind, says in wrong:
        path.mkdir() if kind == "d" else path.write_bytes(b"")
        with pytest.raises(UsageError, match=says):
            _tables.of_images(folder, "0-1")
        path.rmdir() if kind == "d" else path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Image, "MAX_IMAGE_PIXELS", 4)
        with pytest.raises(UsageError, match=r"cannot be read as an image \(DecompressionBombError\)"):
            _tables.of_images(folder, "0-1")
    for path in [*ant.glob("*.png")]:
        path.unlink()
    with pytest.raises(UsageError, match="ant holds no images, so that the class stands on one side"):
        _tables.of_images(folder, "0-1")


def test_columns_of_an_index_and_other_separators_are_refused(tmp_path):
    path = tmp_path / "own.csv"
    for name in ("", "Unnamed: 0", "__index_level_0__"):
        path.write_text(f"{name},a,y,member\n0,1,0,1\n1,2,1,0\n")
        with pytest.raises(UsageError, match=f"has the column '{name}', .* index=False"):
            _tables.of_table(path)
    for mark in (";", "\t"):
        path.write_text("a,y,member\n0.5,0,1\n".replace(",", mark))
        with pytest.raises(UsageError, match=r"has one column .*: separate cells by commas"):
            _tables.of_table(path)


def test_reconstruction_takes_folders_of_images_and_the_audit_of_a_column_does_not(tmp_path, network, monkeypatch):
    monkeypatch.setattr(_rebuild, "_INVERSION_STEPS", 2)
    folder, given = images(tmp_path / "all"), network(48)
    options = {"model": given["model"], "weights": given["weights"], "data": folder}
    found = reconstruct_files(**options, pixels="0-255", progress=False)
    assert [row.attack for row in found.rows] == ["inversion"]
    with pytest.raises(UsageError, match="is a folder, and a column is one of a table"):
        audit_attribute_files(**options, column=0)


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "CMYK"])
def test_images_whose_pixels_a_conversion_would_clip_are_refused(mode, tmp_path):
    folder = images(tmp_path / "all", mode="L")
    pixels = np.arange(16).reshape(4, 4) * 4000
    image = Image.fromarray(pixels.astype(np.float32 if mode == "F" else np.int32 if mode == "I" else np.uint16))
    path = folder / "members" / "ant" / ("a.jpg" if mode == "CMYK" else "a.tif")
    (Image.new("CMYK", (4, 4)) if mode == "CMYK" else image).save(path)
    with pytest.raises(UsageError, match=rf"a\.\w+ is an image of mode {mode}: give 8-bit images of mode 1, L, P, LA"):
        _tables.of_images(folder, "0-1")


def test_an_onnx_file_needs_no_weights_and_a_network_does(tmp_path, network):
    options = network(3)
    path = table(tmp_path / "own.csv")
    with pytest.raises(UsageError, match=r"m.onnx holds its weights: leave out --weights"):
        audit_model_files(data=path, **{**options, "model": "m.onnx"})
    with pytest.raises(UsageError, match="--weights is missing"):
        audit_model_files(data=path, **{**options, "weights": None})


@pytest.mark.parametrize("name", ["netz", "", "netz:"])
def test_a_model_that_is_no_name_of_a_function_is_refused(tmp_path, network, name):
    path, options = table(tmp_path / "own.csv"), {**network(3), "model": name}
    text = f"--model: '{name}' must read package.module:name"
    with pytest.raises(UsageError, match=text):
        audit_model_files(data=path, **options)
    with pytest.raises(UsageError, match=text):
        audit_pair_files(data=path, against=tmp_path / "d.safetensors", **options)
    with pytest.raises(UsageError, match=text):
        reconstruct_files(model=name, weights=options["weights"], data=path)


def test_what_does_not_go_with_an_onnx_file_is_refused_with_the_reason(tmp_path, network):
    options = {**network(3), "model": "m.onnx", "weights": None, "data": table(tmp_path / "own.csv")}
    with pytest.raises(UsageError, match=r"ONNX file, into which the weights c\.pt cannot be loaded"):
        audit_model_files(checkpoints=["c.pt"], **options)
    with pytest.raises(UsageError, match=r"ONNX file, into which the weights i\.pt cannot be loaded"):
        audit_model_files(initial="i.pt", **options)
    with pytest.raises(UsageError, match=r"against: d\.pt is no \.onnx file as --model is"):
        audit_pair_files(against="d.pt", **options)
    with pytest.raises(UsageError, match="reconstruction reads the weights of a torch network"):
        reconstruct_files(model="m.onnx", weights="w.pt", data=options["data"])


def test_errors_at_the_shell_name_its_options():
    said = "metric = 'foo': x, y"
    for text, wanted in {
        said: "--metric foo: x, y",
        "retrain=True trains, with l2=0.001.": "--retrain trains, with --l2 0.001.",
        "give refit_dense=, or dry_run in /a/dry_run/b.": "give --refit-dense, or --dry-run in /a/dry_run/b.",
    }.items():
        with pytest.raises(UsageError) as caught, in_options():
            raise UsageError(text)
        assert str(caught.value) == wanted
    with pytest.raises(UsageError) as caught:
        _pair_equal.check_metric("foo", "classification")
    assert str(caught.value).count("metric =") == 1


def test_a_family_and_a_single_training_of_its_name_are_told_apart_from_a_training_given_twice():
    one = "json:dumps"
    with pytest.raises(UsageError, match="'e' is given as one training and as a family"):
        _pair_files._controls([f"e={one}", f"e/5={one}"])
    with pytest.raises(UsageError, match="'e' is given as one training and as a family"):
        _pair_files._controls([f"e/5={one}", f"e={one}"])
    with pytest.raises(UsageError, match="'e/5' is given twice"):
        _pair_files._controls([f"e/5={one}", f"e/5={one}"])
