"""One reader per file format: bounded in memory, executing nothing, with one sentence for every error.

Files may be untrusted. No reader here runs code from a file, allocates more memory than the file justifies, or raises
anything but `UsageError` (or `OSError`, where the disk fails).
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import re
import tomllib
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.support.files import open_regular, read_bounded

if TYPE_CHECKING:
    from torch import Tensor

Arrays = dict[str, npt.NDArray[Any]]

JSON_BYTES = 64 << 20  # a training curve of 100,000 epochs has 12 MB
TOML_BYTES = 1 << 20
CSV_BYTES = 512 << 20
_PLAIN = b"0123456789.+-eE,\r\n"
_DOTS = 2_000  # in a line of TOML: the time that tomllib takes grows with the square of the parts of a dotted key
_ANY_ARCHIVE = 1 << 30  # bytes that an archive may hold however small it is
_RATIO = 200  # above that: bytes of content for each byte of the archive. Zeros reach 1,000, and so do bombs.
_MEMBERS = 10_000
_HEADER = 10_000  # bytes of an array's header
_KINDS = "buifcSU"  # of arrays: numbers and plain text; no objects, no structures, no dates
_SEAL = "sha256"
_NESTED = 4  # levels at which a state_dict is looked for in a checkpoint
_DEEPEST = 100  # nesting of lists and objects; our own files have fewer than twenty levels
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OPENING, _CLOSING = (list(pair) for pair in (b"[{", b"]}"))


def parse_json(data: str | bytes, where: str) -> Any:
    """The value of a JSON text. NaN and Infinity, which are not JSON, are refused.

    Raises:
        UsageError: it is not JSON, is nested too deeply, or holds a number of thousands of digits.
    """
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass") if isinstance(data, bytes) else data
        if _depth(text) > _DEEPEST:
            raise UsageError(f"{where} is nested too deeply: at most {_DEEPEST} levels are read.")
        return _DECODER.decode(text)
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are of this kind
        raise UsageError(f"{where} is not JSON ({_short(error)}).") from None


def _depth(text: str) -> int:
    """How deeply lists and objects are nested; 0 where there are too few of them to be nested too deeply.

    Python's recursion limit does not protect: libraries raise it, and the decoder then overflows the stack.
    """
    if text.count("[") + text.count("{") <= _DEEPEST:
        return 0
    codes = np.frombuffer(_STRING.sub("", text).encode("ascii", "replace"), np.uint8)
    step = np.isin(codes, _OPENING).astype(np.int32) - np.isin(codes, _CLOSING)
    return int(step.cumsum().max(initial=0))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """The value that a JSON file holds. Raises `UsageError`, see `parse_json`, and `OSError`."""
    return parse_json(read_bounded(path, limit), str(path))


def seal(fields: Mapping[str, Any]) -> str:
    """JSON text of an object with the SHA-256 of its content, which `read_sealed` checks."""
    return json.dumps({**fields, _SEAL: _digest(fields)}, indent=1, sort_keys=True, allow_nan=False)


def read_sealed(path: Path | str) -> dict[str, Any]:
    """The object that `seal` wrote, without its checksum.

    Raises:
        UsageError: the content is damaged, was altered, or is of another kind.
        OSError: it cannot be read.
    """
    return parse_sealed(read_bounded(path, JSON_BYTES), str(path))


def parse_sealed(data: bytes, where: str) -> dict[str, Any]:
    """As `read_sealed`, from the content of the file ``where``."""
    found = parse_json(data, where)
    if not isinstance(found, dict) or found.pop(_SEAL, None) != _digest(found):
        raise UsageError(f"{where} is damaged or was altered: its content does not match its checksum.")
    return found


def _digest(fields: Mapping[str, Any]) -> str:
    try:
        text = _ENCODER.encode(fields)
    except (RecursionError, ValueError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


class NotTOML(UsageError):
    """The text is not valid TOML."""


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables that TOML text holds.

    Raises:
        NotTOML: it is not TOML.
        UsageError: it is nested too deeply, or holds a number of thousands of digits or a key of thousands of parts.
    """
    if any(line.count(".") > _DOTS for line in text.split("\n")):
        raise UsageError(f"{where} has a line with more than {_DOTS:,} dots; remove them.")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply; a study needs three levels.") from None
    except tomllib.TOMLDecodeError as error:
        raise NotTOML(f"{where} is not valid TOML: {_short(error)}.") from None
    except ValueError:  # of int()
        raise UsageError(f"{where} holds a number with too many digits; give a smaller one.") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables that a TOML file holds. Raises `UsageError`, see `parse_toml`, and `OSError`."""
    try:
        text = read_bounded(path, TOML_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file in UTF-8; a study is written in TOML.") from None
    return parse_toml(text, str(path))


def read_csv(path: Path) -> list[list[str]]:
    """The rows of a CSV file in UTF-8, empty ones left out. Raises `UsageError` and `OSError`."""
    try:
        text = read_bounded(path, CSV_BYTES).decode("utf-8-sig")
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a .csv file in UTF-8; save it as one.") from None
    except csv.Error as error:
        raise UsageError(f"{path} is not a .csv file ({_short(error)}).") from None


def read_plain_csv(path: Path, words: Collection[str]) -> tuple[list[str], npt.NDArray[np.float64]] | None:
    """The names (D,) and cells (N, D) of a CSV file of plain numbers, in a third of the time of `read_csv`.

    None: something is not so plain, such as quotes, spaces, words, an empty cell, lines of other lengths or a column of
    one of these names in ``words``, so that `read_csv` has to read it. Raises `UsageError` and `OSError` for what is no
    file of a bounded size.
    """
    first, _, rest = read_bounded(path, CSV_BYTES).partition(b"\n")
    if rest.translate(None, _PLAIN) or not rest.strip():
        return None
    try:
        header = first.decode("utf-8-sig").removesuffix("\r")
        names = header.split(",")
        if not header or set(header) & set('"\r') or {name.strip() for name in names} & {*words}:
            return None
        cells = np.loadtxt(io.StringIO(rest.decode("ascii")), delimiter=",", ndmin=2, comments=None)
    except ValueError:  # of bytes that are no text, too
        return None
    return (names, cells) if cells.shape[1] == len(names) else None


def is_number(word: str) -> bool:
    """Whether a cell of a table is written as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def array_names(path: Path) -> list[str]:
    """The names of what an .npz file holds. Raises `UsageError` and `OSError`, see `read_arrays`."""
    with _archive(path) as archive:
        return [member.filename.removesuffix(".npy") for member in archive.infolist()]


def read_arrays(path: Path, only: Iterable[str] | None = None) -> Arrays:
    """The arrays of an .npz file by name: numbers, truth values and plain text.

    Args:
        path: the file.
        only: read only these of the arrays that exist.

    Raises:
        UsageError: the .npz is incomplete; a member is not an array of numbers or text, or claims more than the file
            can hold.
        OSError: the disk fails.
    """
    with _archive(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        chosen = members if only is None else {name: members[name] for name in only if name in members}
        return {name: _member(archive, member, f"{path}: {name}") for name, member in chosen.items()}


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open .npz whose members have different names and plausible sizes."""
    with open_regular(path) as stream:
        if stream.read(2) != b"PK":  # the start of every zip
            raise UsageError(f"{path} is not an .npz archive; write it with numpy.savez_compressed.")
        size = stream.seek(0, io.SEEK_END)
        try:
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                names = {member.filename.removesuffix(".npy") for member in members}
                if len(members) > _MEMBERS or len(names) < len(members):
                    raise UsageError(f"{path} holds duplicate names or over {_MEMBERS:,} arrays; write it again.")
                claimed = sum(member.file_size for member in members)
                if claimed > max(_ANY_ARCHIVE, _RATIO * size):
                    raise UsageError(
                        f"{path} claims {claimed:,} bytes of content in {size:,} bytes, a ratio that measured values"
                        " do not reach. If the file is yours, write it with numpy.savez."
                    )
                yield archive
        except UsageError:
            raise
        except Exception as error:  # a bad archive can raise nearly anything
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: before the start
                raise
            raise UsageError(f"{path} is not a complete .npz archive ({_short(error)}); write it again.") from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> npt.NDArray[Any]:
    with archive.open(member) as stream:
        if member.filename[-4:] != ".npy" or stream.read(6) != b"\x93NUMPY":
            raise UsageError(f"{where} is not an array; write the file with numpy.savez.")
        major = stream.read(2)[0]
        if major not in (1, 2):  # 3 is for names of fields alone, which are refused
            raise UsageError(f"{where} has the unknown format {major}; write it with numpy.savez.")
        header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream, max_header_size=_HEADER)
        if dtype.hasobject:
            raise UsageError(
                f"{where} has dtype object, which is stored as a pickle and never loaded: make it an array of numbers, "
                "e.g. with np.stack."
            )
        if dtype.kind not in _KINDS or dtype.itemsize == 0 or dtype.subdtype is not None:
            raise UsageError(f"{where} has dtype {dtype}, which is neither numbers nor plain text: convert it.")
        bytes_ = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or bytes_ != member.file_size - stream.tell():
            raise UsageError(f"{where} claims the shape {shape}, which does not match the number of bytes in the file.")
        content = bytearray(bytes_)
        filled, view = 0, memoryview(content)
        while filled < bytes_:
            count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
            if not count:
                raise UsageError(f"{where} is truncated.")
            filled += count
        stream.read(1)  # the end, where the checksum is compared
    if dtype.kind == "b" and bytes_ and np.frombuffer(content, np.uint8).max() > 1:
        raise UsageError(f"{where} holds truth values other than 0 and 1; it is damaged.")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        UsageError: the safetensors file is damaged or incomplete.
        OSError: the disk fails.
    """
    from safetensors import safe_open

    with open_regular(path):  # a pipe or a folder is refused before the library opens it
        pass
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except Exception as error:  # the library raises its own exceptions, and torch's for unknown types
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UsageError(f"{path} is not a complete safetensors file ({_short(error)}).") from None


def read_state(path: Path) -> dict[str, Tensor]:
    """The state_dict of a .safetensors, .pt or .pth file, on the CPU; nothing in it is executed.

    A checkpoint that holds other things beside one state_dict (``{"state_dict": ..., "epoch": ...}``) counts as that.

    Raises:
        UsageError: it is not such a file, or holds more than names and tensors.
        OSError: the disk fails.
    """
    import torch

    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    try:
        with open_regular(path) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged file makes torch warn before it fails
            state = torch.load(stream, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UsageError(f"{path} cannot be read as a state_dict of plain tensors ({type(error).__name__}).") from None
    return _innermost(state, path)


def _innermost(state: Any, path: Path) -> dict[str, Tensor]:
    """The state_dict itself, or the only one within what a training stored beside it."""
    for _ in range(_NESTED + 1):
        if _is_state(state):
            return dict(state)
        inside = {name: v for name, v in state.items() if _holds_state(v)} if isinstance(state, Mapping) else {}
        if len(inside) > 1:
            raise UsageError(
                f"{path} holds several networks ({', '.join(map(repr, inside))}): save the state_dict of the one that "
                "you mean."
            )
        if not inside:
            break
        (state,) = inside.values()
    raise UsageError(f"{path} is not a state_dict: a mapping from names to tensors.")


def _is_state(value: Any) -> bool:
    """Whether it maps names to tensors alone, some of which are no single numbers."""
    import torch

    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    tensors = [each for each in value.values() if isinstance(each, torch.Tensor)]
    return len(tensors) == len(value) and any(tensor.ndim for tensor in tensors)


def _holds_state(value: Any, depth: int = 0) -> bool:
    """Whether a state_dict is in it. What an optimiser stores is none, since its names are numbers."""
    if _is_state(value):
        return True
    if not isinstance(value, Mapping) or depth == _NESTED or not all(isinstance(name, str) for name in value):
        return False
    return any(_holds_state(each, depth + 1) for each in value.values())


def _short(error: BaseException) -> str:
    """What an error says, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 200 else text[:197] + "...").rstrip(".")
