"""The restricted unpickler: numpy arrays and plain containers come through, nothing else is even looked up."""

import collections
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacewing.data._pickles import load_plain
from lacewing.errors import DataError


class Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.args


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("array", [np.arange(12, dtype=np.uint8).reshape(3, 4), np.asfortranarray(np.eye(3)[:, :2])])
def test_arrays_and_plain_containers_come_back(protocol: int, array: np.ndarray) -> None:
    value = {"data": array if protocol > 2 else 1, "labels": [1, 2, (3, None)], "text": "ü", "n": 2**40, "f": 0.5}
    read = load_plain(pickle.dumps(value, protocol), "file", "mend")
    assert read.keys() == value.keys()
    np.testing.assert_array_equal(read["data"], value["data"])
    assert {k: v for k, v in read.items() if k != "data"} == {k: v for k, v in value.items() if k != "data"}


def payloads(witness: Path) -> list[tuple[str, bytes]]:
    import os
    import shutil
    import subprocess

    touch = f"open({str(witness)!r}, 'w')"
    calls = [
        ("system", Call(os.system, f"touch {witness}")),
        ("eval", Call(eval, touch)),
        ("exec", Call(exec, touch)),
        ("open", Call(open, str(witness), "w")),
        ("Popen", Call(subprocess.Popen, ["touch", str(witness)])),
        ("rmtree", Call(shutil.rmtree, "/nonexistent")),
        ("getattr", Call(getattr, "text", "format")),
        ("fromfile", Call(np.fromfile, "/etc/hostname")),
        ("load", Call(np.load, "/etc/hostname", None, True)),
        ("save", Call(np.save, str(witness), np.zeros(1))),
        ("OrderedDict", collections.OrderedDict(a=1)),
        ("Path", Path("x")),
    ]
    made = [(name, pickle.dumps({"data": value}, protocol)) for name, value in calls for protocol in (0, 2, 4)]
    by_hand = {
        "os.system": b"cos\nsystem\n(S'touch %s'\ntR.",
        "__builtin__.eval": b"c__builtin__\neval\n(S'1'\ntR.",
        "numpy.core.multiarray.fromfile": b"cnumpy.core.multiarray\nfromfile\n(S'/etc/hostname'\ntR.",
        "numpy._core.numeric._frombuffer": b"cnumpy._core.numeric\n_frombuffer\n.",
        "numpy.lib.npyio.os.system": b"\x80\x04\x8c\x0fnumpy.lib.npyio\x8c\x09os.system\x93.",
        "numpy.ndarray.tofile": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    }
    return made + [(name.rsplit(".", 1)[1], data) for name, data in by_hand.items()]


def test_every_other_global_is_refused_by_name_and_nothing_runs(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for name, data in payloads(witness):
        with pytest.raises(DataError, match=rf"batch: the pickle asks for \S*{name}\S*, which is refused"):
            load_plain(data, "batch", "mend")
    assert not list(tmp_path.iterdir())


def test_no_global_of_numpy_or_of_dangerous_modules_is_admitted_but_the_four() -> None:
    dangerous = [
        "builtins",
        "posix",
        "os",
        "io",
        "sys",
        "shutil",
        "subprocess",
        "importlib",
        "pickle",
        "copyreg",
        "operator",
        "functools",
        "types",
        "codecs",
    ]
    modules = [name for name in list(sys.modules) if name.split(".")[0] == "numpy"] + dangerous
    reached = set()
    for module in modules:
        for name in {"_reconstruct", *vars(sys.modules[module])}:
            try:
                load_plain(f"c{module}\n{name}\n.".encode(), "file", "mend")
            except DataError:
                continue
            reached.add((module, name))
    assert reached <= {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")} | {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
    assert len(reached) >= 3


@given(st.binary(max_size=60).filter(lambda b: b"r" not in b))  # r: a memo index that can ask for gigabytes
def test_garbage_is_a_data_error_or_plain_data(data: bytes) -> None:
    try:
        value = load_plain(b"\x80\x02" + data, "file", "mend")
    except DataError:  # anything else that is raised fails the test
        return
    assert isinstance(value, int | float | str | bytes | bytearray | list | dict | tuple | set | frozenset | None)


def test_state_cannot_be_set_on_what_is_admitted() -> None:
    before = dict(vars(np.ndarray))
    for target in (b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"):
        for state in (b"}S'x'\nI1\ns", b"(N}S'tofile'\nI1\nst"):
            with pytest.raises(DataError):
                load_plain(target + state + b"b.", "file", "mend")
    assert dict(vars(np.ndarray)) == before
