"""Damage, drawn at random: of bytes, of words, of values, of JSON, of arrays."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import warnings
import zipfile
import zlib
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

HOSTILE = (
    "",
    " ",
    "\x00",
    "\x1b[2J\x07",
    "\u202egnp.\u2066",
    "=1+1",
    "../../../x",
    "/tmp/lacewing-fuzz/x",
    "C:\\x",
    "..\\x",
    "a" * 5000,
    "[red]x[/red]",
    "<script>alert(1)</script>",
    "| a | `b` |",
    "{{ 7 * 7 }}",
    "%s%n",
    "\ud800",
    "ß日本\U0001f469\u200d\U0001f52c",
    "nan",
    "1e400",
    "9" * 5000,
    "true",
    "null",
    "dense/target/0",
    "digits",
)
NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    255,
    2**31 - 1,
    2**31,
    2**63 - 1,
    2**63,
    2**64,
    10**400,
    -(10**400),
    0.5,
    -0.5,
    1e-300,
    1e300,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    True,
    False,
)


def value(random: Random, depth: int = 2) -> Any:
    """Any JSON value."""
    kind = random.randrange(6 if depth else 4)
    if kind == 0:
        return random.choice(NUMBERS)
    if kind == 1:
        return random.choice(HOSTILE)
    if kind == 2:
        return random.choice((None, True, False, [], {}, "", 0))
    if kind == 3:
        return random.randrange(-10, 1000) / random.choice((1, 1, 7, 1000))
    if kind == 4:
        return [value(random, depth - 1) for _ in range(random.randrange(4))]
    return {random.choice((*HOSTILE[:12], "files", "key", "schema")): value(random, depth - 1) for _ in range(3)}


def damaged(random: Random, content: bytes) -> bytes:
    """Content with bytes flipped, cut, doubled or put in."""
    made = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at = random.randrange(len(made) + 1)
        length = random.choice((1, 1, 4, 16, 200))
        kind = random.randrange(7)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << random.randrange(8)
        elif kind == 1 and at < len(made):
            made[at] = random.randrange(256)
        elif kind == 2:
            del made[at:]
        elif kind == 3:
            del made[at : at + length]
        elif kind == 4:
            made[at:at] = random.randbytes(length)
        elif kind == 5:
            made[at:at] = made[at : at + length]
        else:
            made[at : at + length] = bytes(min(length, max(len(made) - at, 0)))
    return bytes(made)


_WORDS = re.compile(r"\s+|\w+|\W")


def reworded(random: Random, text: str) -> str:
    """Text with words left out, doubled, exchanged or replaced by hostile ones."""
    words = _WORDS.findall(text)
    for _ in range(random.choice((1, 1, 2, 4))):
        at, other = random.randrange(len(words)), random.randrange(len(words))
        kind = random.randrange(5)
        if kind == 0:
            words[at] = ""
        elif kind == 1:
            words[at] += words[at]
        elif kind == 2:
            words[at], words[other] = words[other], words[at]
        elif kind == 3:
            words[at] = random.choice(HOSTILE)
        else:
            words[at] = str(random.choice(NUMBERS))
    return "".join(words)


def json_text(random: Random, content: bytes) -> bytes:
    """A JSON document with one value replaced by another of any type, a name changed, or the whole made odd."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):  # it was altered before
        return damaged(random, content)
    kind = random.randrange(12)
    if kind == 0:
        return json.dumps(value(random)).encode()
    if kind == 1:
        return b"[" * 100_000 + b"]" * 100_000
    if kind == 2:
        return b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    if kind == 3:
        return content.replace(b": ", b": " + b"9" * 5000, 1)
    if kind == 4:
        return b"\xef\xbb\xbf" + content
    if kind == 5:
        return content.decode().encode("utf-16")
    if kind == 6:
        return damaged(random, content)
    if kind == 7:
        return content[:-1] + b"\xff\xfe"
    return json.dumps(exchanged(random, document), indent=1).encode("utf-8", "surrogatepass")


def exchanged(random: Random, document: Any) -> Any:
    """The document with one of its values, at any depth, replaced, left out, or put under another name."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, inner in items:
            places.append((node, key))
            walk(inner)

    walk(document)
    if not places:
        return value(random)
    node, key = random.choice(places)
    kind = random.randrange(6)
    if kind == 0 and isinstance(node, dict):
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[random.choice(HOSTILE)] = node.pop(key)
    elif kind == 2 and isinstance(node, list):
        node.append(value(random))
    else:
        node[key] = value(random)
    return document


_DTYPES = ("<f4", "<f8", "<f2", "<i1", "<i8", "<u8", "|b1", "<c16", "<U7", "|S3", "<M8[s]", "<m8[D]", ">i4", "|V5")


def array(random: Random, made: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of another type, shape, layout or content."""
    kind = random.randrange(14)
    with np.errstate(all="ignore"):
        if kind == 0:
            try:
                return made.astype(random.choice(_DTYPES))
            except (TypeError, ValueError):
                return np.zeros(made.shape, random.choice(_DTYPES))
        if kind == 1:
            return made[: random.randrange(len(made) + 1)] if made.ndim else made
        if kind == 2:
            return made.reshape(random.choice(((-1,), (1, -1), (-1, 1), (1, 1, -1))))
        if kind == 3:
            return np.asfortranarray(made.T)
        if kind == 4:
            return np.full(made.shape, random.choice((0, 1, -1, 2, 1e30, math.nan, math.inf)))
        if kind == 5:
            odd = made.astype(np.float64) if made.dtype.kind in "biuf" else np.zeros(made.shape)
            odd.flat[random.randrange(max(odd.size, 1)) : 1 + odd.size // 2] = random.choice(
                (*NUMBERS[:4], 1e300, math.nan)
            )
            return odd
        if kind == 6:
            return np.array(random.choice((0, 1.5, "x", b"y")))
        if kind == 7:
            fields = np.zeros(len(made) if made.ndim else 1, [("a", "<i4"), ("b", "<f8", (2,))])
            return fields
        if kind == 8:
            return np.array([random.choice(HOSTILE[3:]) for _ in range(len(made) if made.ndim else 1)])
        if kind == 9:
            return np.zeros((0, *made.shape[1:]), made.dtype)
        if kind == 10:
            return np.zeros((*made.shape, 2)[:8])
        if kind == 11:
            return np.concatenate([made, made[:1]]) if made.ndim else made
        if kind == 12:
            return np.random.default_rng(random.randrange(1000)).permutation(made) if made.ndim else made
        return made


def npy(made: npt.NDArray[Any]) -> bytes:
    """An array as a .npy file, pickled where numpy would."""
    out = io.BytesIO()
    np.lib.format.write_array(out, made, allow_pickle=True)
    return out.getvalue()


def header(random: Random, member: bytes) -> bytes:
    """A .npy file whose header claims something else than follows."""
    shape = random.choice(
        (
            "(99999999999,)",
            "(1000000, 1000000)",
            "(-1,)",
            "()",
            "(5, )",
            "(2**40,)",
            "(1.5,)",
            "('a',)",
            "None",
            "(" * 99,
        )
    )
    descr = random.choice(
        ("'<f8'", "'<f8'", "'|O'", "'<U999999999'", "'|V9999999999'", "[('a', '<f8')]", "'x'", "None", "'<f8' * 9", "5")
    )
    order = random.choice(("False", "False", "True", "None", "7"))
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    if random.random() < 0.2:
        text = damaged(random, text.encode()).decode("latin1")
    version = random.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    raw = text.encode("latin1") + b"\n"
    length = len(raw) if random.random() < 0.8 else random.choice((0, 65535))
    size = struct.pack("<H" if version == (1, 0) else "<I", min(length, 65535))
    return b"\x93NUMPY" + bytes(version) + size + raw + member[128:]


def archive(random: Random, arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """An .npz of these arrays with one thing wrong: an array, a member, the archive, its bytes."""
    members = [(f"{name}.npy", npy(made)) for name, made in arrays.items()]
    names = list(arrays)
    name = random.choice(names)
    at = names.index(name)
    kind = random.randrange(12)
    packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    if kind <= 3:
        members[at] = (f"{name}.npy", npy(array(random, arrays[name])))
    elif kind == 4:
        members[at] = (f"{name}.npy", header(random, members[at][1]))
    elif kind == 5:
        members[at] = (f"{name}.npy", damaged(random, members[at][1]))
    elif kind == 6:
        members.append((f"{name}.npy", npy(array(random, arrays[name]))))  # the same name twice
    elif kind == 7:
        odd = random.choice(
            ("x", f"{name}", "../../evil.npy", "/abs.npy", f"{name}.npy.npy", "\x1b[2J.npy", "score.npy/")
        )
        members.append((odd, random.choice((b"", b"junk", members[at][1]))))
    elif kind == 8 and random.random() < 0.3:
        return bomb(random.choice((1 << 28, 1 << 31)))
    elif kind == 9:
        del members[at]
    elif kind == 10:
        things = np.array([{}, [1], None, "x"][: random.randrange(1, 5)], dtype=object)
        members[at] = (f"{name}.npy", npy(things))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing, compresslevel=1) as made:
        for member, content in members:
            _write(made, member, content)
    whole = out.getvalue()
    return damaged(random, whole) if kind == 11 or random.random() < 0.1 else whole


def _write(made: zipfile.ZipFile, member: str, content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that stands twice
        made.writestr(zipfile.ZipInfo(member), content, compress_type=made.compression)


def bomb(size: int) -> bytes:
    """An .npz of a few megabytes at most whose one array ``score`` holds ``size`` bytes of zeros, as it claims."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({size // 8},), }}"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + (text.ljust(117) + "\n").encode()
    zeros = bytes(1 << 24)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    count = size >> 24
    checksum = zlib.crc32(head)
    for _ in range(count):
        checksum = zlib.crc32(zeros, checksum)
    data = first + block * count + packer.flush(zlib.Z_FINISH)
    name, length = b"score.npy", len(head) + (count << 24)
    sizes = struct.pack("<III", checksum, len(data), length)
    local = struct.pack("<IHHHHH", 0x04034B50, 20, 0, 8, 0, 33) + sizes + struct.pack("<HH", len(name), 0) + name
    central = struct.pack("<IHHHHHH", 0x02014B50, 20, 20, 0, 8, 0, 33) + sizes
    central += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    start = len(local) + len(data)
    return local + data + central + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(central), start, 0)
