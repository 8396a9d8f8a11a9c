"""Reading files of known size and checksum; whatever differs is an error that names the file and the mend."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Protocol

from lacewing.errors import DataError

BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


class Readable(Protocol):
    """An open binary file, compressed or not."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""


def read_limited(stream: Readable, limit: int, where: str, mend: str) -> bytes:
    """All bytes of ``stream``; DataError when there are more than ``limit`` (a wrong file, or a zip bomb)."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise DataError(f"{where}: is altered (more than {limit:,} bytes, too large for this data set); {mend}")
    return data


def read_maybe_gz(path: Path, limit: int, mend: str) -> bytes:
    """The content of ``path``, decompressed when its name ends in .gz; at most ``limit`` bytes."""
    if path.suffix != ".gz":
        with path.open("rb") as stream:
            return read_limited(stream, limit, str(path), mend)
    try:
        with gzip.open(path, "rb") as stream:
            return read_limited(stream, limit, str(path), mend)
    except BROKEN_GZIP as error:
        raise DataError(f"{path}: is truncated or altered (gzip: {error}); {mend}") from error


def verify(data: bytes, where: str, mend: str, *, size: int | None = None, checksum: str | None = None) -> None:
    """DataError unless ``data`` has ``size`` bytes and the ``checksum`` ``algorithm:hexdigest`` (None: unknown)."""
    if size is not None and len(data) != size:
        state = "truncated" if len(data) < size else "altered"
        raise DataError(f"{where}: is {state} ({len(data):,} bytes instead of {size:,}); {mend}")
    if checksum is not None:
        algorithm, want = checksum.split(":")
        found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
        if found != want:
            raise DataError(f"{where}: is truncated or altered ({algorithm.upper()} {found} instead of {want}); {mend}")
