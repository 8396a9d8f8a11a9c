"""Records that are too large to be held: read when they are asked for, a hash of each kept, and progress told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data import row_hashes
from lacewing.errors import UsageError

Array = npt.NDArray[Any]
HELD = 1 << 30  # bytes of a part's records, above which they are read as a stream
BLOCK = 1_000  # records that are read together
_EVERY = 5.0  # seconds between lines of progress
Say = Callable[[str], None]


class Streamed:
    """N records of one shape, indexed by rows like an array; each indexing reads them."""

    def __init__(
        self,
        fetches: Sequence[Callable[[Array], Array]],
        part_N: Array,
        row_N: Array,
        hash_N: Array,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        say: Say,
    ) -> None:
        self.fetches, self.part_N, self.row_N, self.hash_N = fetches, part_N, row_N, hash_N
        self.shape, self.dtype, self.say = (len(row_N), *shape), dtype, say
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self.row_N)

    def __getitem__(self, rows: Any) -> Array:
        """(n, ...) the records that ``rows`` (indices, flags or a slice) picks."""
        parts, places = self.part_N[rows], self.row_N[rows]
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        for part, fetch in enumerate(self.fetches):
            of = np.flatnonzero(parts == part)
            of = of[np.argsort(places[of], kind="stable")]  # in the order of the source, which a disk reads fastest
            if of.size:
                found[of] = fetch(places[of])
        return found

    def at(self, rows: Any) -> Streamed:
        """The records that ``rows`` picks, not read yet."""
        return Streamed(
            self.fetches, self.part_N[rows], self.row_N[rows], self.hash_N[rows], self.shape[1:], self.dtype, self.say
        )


def scanned(read: Callable[[Array], tuple[Array, Any]], n: int, name: str, say: Say) -> tuple[Streamed, list[Any]]:
    """The records of a source and what else ``read`` gives of each block of rows (labels), in one pass.

    Raises `UsageError` where records differ in shape or type.
    """
    hashes: list[bytes] = []
    beside = []
    first: Array | None = None
    for rows in blocks(n, BLOCK, f"reading {name}", say):
        x, more = read(rows)
        first = x[:1] if first is None else first
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
            raise UsageError(f"{name} holds records of several shapes or types: give records of one.")
        hashes += row_hashes(x)
        beside.append(more)
    assert first is not None
    every = np.zeros(n, np.int8), np.arange(n), np.frombuffer(b"".join(hashes), "V16")
    return Streamed([lambda rows: read(rows)[0]], *every, first.shape[1:], first.dtype, say), beside


def joined(parts: Sequence[Any]) -> Streamed:
    """Arrays and streams as one stream."""
    streams = [part for part in parts if isinstance(part, Streamed)]
    fetches: list[Callable[[Array], Array]] = []
    codes, rows, hashes = [], [], []
    for part in parts:
        if not isinstance(part, Streamed):
            part = Streamed(
                [part.__getitem__],
                np.zeros(len(part), np.int8),
                np.arange(len(part)),
                np.frombuffer(b"".join(row_hashes(part.astype(streams[0].dtype))), "V16"),
                part.shape[1:],
                part.dtype,
                streams[0].say,
            )
        codes.append(part.part_N + len(fetches))
        rows.append(part.row_N)
        hashes.append(part.hash_N)
        fetches += part.fetches
    dtype = np.result_type(*(part.dtype for part in parts))
    code_N, row_N, hash_N = (np.concatenate(each) for each in (codes, rows, hashes))
    return Streamed(fetches, code_N, row_N, hash_N, streams[0].shape[1:], dtype, streams[0].say)


def blocks(n: int, step: int, what: str = "", say: Say | None = None) -> Iterator[Array]:
    """Rows 0 to n - 1 in blocks; every five seconds ``say`` is told how far it is and how long the rest will take."""
    started = told = time.monotonic()
    for start in range(0, n, step):
        now = time.monotonic()
        if say is not None and start and now - told >= _EVERY:
            told = now
            say(f"{what}: {start:,} of {n:,} records, {left(now - started, start, n)} left")
        yield np.arange(start, min(n, start + step))


def left(seconds: float, done: int, n: int) -> str:
    """How long the rest takes at the pace so far, such as "about 3 min"."""
    rest = seconds * (n - done) / done
    return (
        f"about {rest:.0f} s"
        if rest < 100
        else f"about {rest / 60:.0f} min"
        if rest < 6000
        else f"about {rest / 3600:.0f} h"
    )
