"""Numbers that a user gives as an argument or an option: of the right type and within bounds, or one sentence."""

from __future__ import annotations

import math
from numbers import Integral, Real

from lacewing.errors import UsageError

MOST_PROCESSES = 1_024
MOST_SEED = 2**63 - 1  # of numpy and torch


def whole(name: str, value: object, least: int, most: int, *, why: str = "") -> int:
    """``value`` as an int, which it must be (of Python or numpy), from ``least`` to ``most``.

    Raises:
        UsageError: it begins with ``name``; ``why`` ends it.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most:
        return int(value)
    raise UsageError(f"{name} = {_shown(value)}: give a whole number from {least:,} to {most:,}{_because(why)}.")


def number(name: str, value: object, least: float, most: float, *, why: str = "") -> float:
    """``value`` as a float, which must be a number above or equal to ``least`` and at most ``most``; see ``whole``."""
    if isinstance(value, Real) and not isinstance(value, bool) and least <= _float(value) <= most:
        return float(value)
    raise UsageError(f"{name} = {_shown(value)}: give a number from {least:,g} to {most:,g}{_because(why)}.")


def processes(value: object) -> int | None:
    """How many worker processes are asked for; None: as many as there are cores."""
    return None if value is None else whole("processes", value, 1, MOST_PROCESSES)


def seed(value: object, name: str = "seed") -> int:
    """A seed that numpy and torch take."""
    return whole(name, value, 0, MOST_SEED, why="as numpy and torch take it")


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # of a whole number beyond 1e308
        return math.inf


def _because(why: str) -> str:
    return f", {why}" if why else ""


def _shown(value: object) -> str:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "a number of more than 64 bits"  # Python refuses to write thousands of digits
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]} ..."
