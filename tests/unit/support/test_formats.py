"""Every reader: what is whole comes back, and whatever else is one sentence of ours."""

import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from lacewing.errors import UsageError
from lacewing.support import formats as formats
from lacewing.support.files import read_bounded
from lacewing.support.formats import (
    array_names,
    parse_json,
    parse_toml,
    read_arrays,
    read_csv,
    read_plain_csv,
    read_sealed,
    read_state,
    read_tensors,
    seal,
)

NUMBERS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.unicode_string_dtypes(min_len=1, max_len=5),
)


@given(hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)), st.booleans())
@settings(max_examples=150, deadline=None)
def test_an_npz_gives_back_what_numpy_wrote(tmp_path_factory, array, packed):
    path = tmp_path_factory.getbasetemp() / "whole.npz"
    (np.savez_compressed if packed else np.savez)(path, a=array, b=np.asfortranarray(array))
    found = read_arrays(path)
    with np.load(path, allow_pickle=False) as wanted:
        for name in ("a", "b"):
            assert found[name].dtype == wanted[name].dtype
            assert found[name].shape == wanted[name].shape
            assert found[name].tobytes() == wanted[name].tobytes()
    for name in ("a", "b"):
        assert found[name].flags.writeable
    assert array_names(path) == ["a", "b"]
    assert list(read_arrays(path, only=["b", "none"])) == ["b"]


def _npy(shape: str, descr: str = "'<f8'", content: bytes = bytes(8), order: str = "False") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


def _zip(path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_a_small_file_is_read_without_the_memory_that_its_limit_allows(tmp_path, size):
    path = tmp_path / "x.json"
    path.write_bytes(b"x" * size)
    tracemalloc.start()
    try:
        assert read_bounded(path, 64 << 20) == b"x" * size
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert read_bounded(path, 1000) == b"x" * size
    if size:
        with pytest.raises(UsageError, match="is larger than"):
            read_bounded(path, size - 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_a_file_whose_size_is_not_told_is_read_whole_and_bounded():
    assert Path("/proc/self/status").stat().st_size == 0
    assert b"VmPeak" in read_bounded("/proc/self/status", 1 << 20)
    with pytest.raises(UsageError, match="is larger than"):
        read_bounded("/proc/self/status", 10)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("a.npy", _npy("(1000000000000,)"))], "claims the shape"),
        ([("a.npy", _npy("(1" + "0" * 300 + ",)"))], "claims the shape"),
        ([("a.npy", _npy("(-1,)"))], "claims the shape"),
        ([("a.npy", _npy("(2,)"))], "claims the shape"),
        ([("a.npy", _npy("(1,)", content=bytes(9)))], "claims the shape"),
        ([("a.npy", _npy("(True,)"))], "not a complete .npz"),
        ([("a.npy", _npy("(1,)", order="[]"))], "not a complete .npz"),
        ([("a.npy", _npy("(" * 300 + ")" * 300))], "not a complete .npz"),
        ([("a.npy", _npy("(99999999999,)", descr="'<U0'", content=b""))], "neither numbers nor plain text"),
        ([("a.npy", _npy("(1,)", descr="'|O'"))], "dtype object"),
        ([("a.npy", _npy("(1,)", descr="[('x', '<f8')]"))], "neither numbers nor plain text"),
        ([("a.npy", _npy("(1,)", descr="'<M8[s]'"))], "neither numbers nor plain text"),
        ([("a.npy", _npy("(8,)", descr="'|b1'", content=b"\x01\x02" + bytes(6)))], "truth values other than 0 and 1"),
        ([("a.npy", b"\x93NUMPY\x09\x00")], "unknown format"),
        ([("a.npy", b"")], "not an array"),
        ([("notes.txt", b"hello")], "not an array"),
        ([("a.npy", _npy("(1,)")), ("a.npy", _npy("(1,)"))], "duplicate names"),
        ([("a.npy", _npy("(1,)")), ("a", _npy("(1,)"))], "duplicate names"),
    ],
)
def test_an_npz_that_lies_is_refused(tmp_path, members, says):
    with pytest.raises(UsageError, match=says):
        read_arrays(_zip(tmp_path / "a.npz", *members))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_ANY_ARCHIVE", 1 << 20)
    zeros = _npy("(2500000,)", content=bytes(20_000_000))
    path = _zip(tmp_path / "a.npz", ("a.npy", zeros), method=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 50_000
    tracemalloc.start()
    with pytest.raises(UsageError, match="a ratio that measured values do not reach"):
        read_arrays(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    monkeypatch.undo()
    assert read_arrays(path)["a"].shape == (2_500_000,)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_an_altered_npz_gives_the_same_arrays_or_is_refused(tmp_path_factory, data):
    packed = io.BytesIO()
    np.savez_compressed(packed, x=np.arange(20.0).reshape(4, 5), y=np.array([True, False]))
    content = bytearray(packed.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "altered.npz"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)
    try:
        found = read_arrays(path)
    except UsageError:
        return
    for name, array in found.items():  # a byte of a name or of a time was altered: never one of the numbers
        assert array.tobytes() in (np.arange(20.0).tobytes(), np.array([True, False]).tobytes()), name


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "NaN", "[-Infinity]", "{", "", "\x00", b"\xff\xfe", b"\xed\xa0\x80"],
)
def test_bad_json_is_one_sentence(text):
    with pytest.raises(UsageError, match=r"^the file is (not JSON|nested too deeply)") as refused:
        parse_json(text, "the file")
    assert "\n" not in str(refused.value)


def test_a_process_that_raised_pythons_recursion_limit_does_not_die_of_nested_json():
    """As libraries do; the decoder would overflow the stack."""
    code = (
        "import sys; sys.setrecursionlimit(10**6)\n"
        "from lacewing.support.formats import parse_json\n"
        "from lacewing.errors import UsageError\n"
        "for text in ('[' * 500_000, '{\"a\":[\"]]]]\", ' * 100_000):\n"
        "    try:\n        parse_json(text, 'it')\n"
        "    except UsageError as error:\n        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.count("nested too deeply")) == (0, 2)


def test_brackets_in_texts_are_no_nesting():
    text = json.dumps({"note": "[" * 1000, "rows": [[1, {"a": '"]\\'}]] * 300})
    assert parse_json(text, "it") == json.loads(text)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "a", "a = 1\na = 2", "a = \x00", "[a]\n[a]"]
)
def test_bad_toml_is_one_sentence(text):
    with pytest.raises(
        UsageError, match=r"^the study (is not valid TOML|is nested too deeply|holds a number with too many)"
    ) as refused:
        parse_toml(text, "the study")
    assert "\n" not in str(refused.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "sha256"), JSON, min_size=1, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_a_sealed_file_comes_back_and_no_altered_one_does(tmp_path_factory, fields, data):
    path = tmp_path_factory.getbasetemp() / "sealed.json"
    path.write_text(seal(fields), encoding="utf-8")
    assert read_sealed(path) == fields
    altered = json.loads(path.read_text(encoding="utf-8"))
    name = data.draw(st.sampled_from(sorted(fields)))
    value = data.draw(JSON)
    if json.dumps(value) != json.dumps(fields[name]):
        path.write_text(json.dumps({**altered, name: value}), encoding="utf-8")
        with pytest.raises(UsageError, match="damaged or was altered"):
            read_sealed(path)
    del altered[name]
    path.write_text(json.dumps(altered), encoding="utf-8")
    with pytest.raises(UsageError, match="damaged or was altered"):
        read_sealed(path)


@pytest.mark.parametrize("text", ["5", "[]", "null", '"x"', "{}", '{"sha256": 5}', '{"a": 1, "sha256": []}'])
def test_another_kind_of_value_is_not_sealed(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match="damaged or was altered"):
        read_sealed(tmp_path / "a.json")


def test_nothing_larger_than_its_bound_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "CSV_BYTES", 10)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n1,2\n")
    with pytest.raises(UsageError, match="larger than 10 bytes"):
        read_csv(tmp_path / "a.csv")


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["1", "-2.5e3", ".5", "0", "7.", "1e400", ",", ",", "\n", "\n", "\r\n", "-", "e", " "]))
)
def test_a_plain_csv_is_read_as_its_cells_say_or_not_at_all(tmp_path_factory, pieces):
    path = tmp_path_factory.getbasetemp() / "plain.csv"
    path.write_bytes("".join(["a,b\n", *pieces]).encode())
    plain = read_plain_csv(path, words=())
    if plain is not None:
        names, *rows = read_csv(path)
        assert plain[0] == names
        assert plain[1].tolist() == [list(map(float, row)) for row in rows]


def test_what_is_plain_in_a_csv(tmp_path):
    def read(content):
        (tmp_path / "a.csv").write_bytes(content)
        return read_plain_csv(tmp_path / "a.csv", words=("id",))

    names, cells = read(b"\xef\xbb\xbfscore,member\r\n-1.5e-3,1\r\n\r\n2,0\r\n")
    assert names == ["score", "member"]
    np.testing.assert_array_equal(cells, [[-0.0015, 1], [2, 0]])
    few = (b"", b"a\n", b"a\n\n", b"\n1\n", b'"a"\n1\n', b"\xff\n1\n")
    for other in (*few, b"a,b\n1\n", b"a\n1\n1,2\n", b"a\n 1\n", b"a\nnan\n", b"a, id\n1,2\n"):
        assert read(other) is None, other


@pytest.mark.parametrize(
    "read",
    [
        read_arrays,
        read_sealed,
        read_csv,
        partial(read_plain_csv, words=()),
        read_tensors,
        read_state,
        formats.read_toml,
    ],
)
def test_a_folder_and_a_pipe_are_no_files(tmp_path, read):
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises((UsageError, IsADirectoryError, PermissionError)):
        read(tmp_path / "folder.pt")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.pt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        with pytest.raises(UsageError, match="not a regular file"):
            read(tmp_path / "pipe.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_weights_are_one_sentence(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(0)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in read_state(path).items())
    whole = path.read_bytes()
    draws = np.random.default_rng(0)
    refused = []
    for _ in range(60):
        content = bytearray(whole[: draws.integers(len(whole))] if draws.random() < 0.3 else whole)
        if content:
            content[draws.integers(min(len(content), 400))] ^= int(draws.integers(1, 256))
        path.write_bytes(content)
        try:
            read_state(path)
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not any("\n" in sentence for sentence in refused)


def test_a_checkpoint_that_holds_more_than_tensors_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    for name, content in {
        "evil": Evil(),
        "model": torch.nn.Linear(2, 2),
        "list": [torch.ones(2)],
        "deep": {"a": {"b": [torch.ones(1)]}},
        "optimiser": {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}},
        "numbers": {"metrics": {"accuracy": torch.tensor(0.9)}},
    }.items():
        torch.save(content, tmp_path / f"{name}.pt")
        with pytest.raises(UsageError, match="state_dict"):
            read_state(tmp_path / f"{name}.pt")
    assert not (tmp_path / "made").exists()
