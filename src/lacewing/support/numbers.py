"""Checks of numbers that users give as arguments or options: their type and their bounds."""

from __future__ import annotations

import math
from numbers import Integral, Real

from lacewing.errors import UsageError

MOST_PROCESSES = 1_024
MOST_SEED = 2**63 - 1  # of numpy and torch


def whole(name: str, value: object, least: int, most: int, *, why: str = "") -> int:
    """``value``, an integer of Python or numpy from ``least`` to ``most``, as an int.

    Raises:
        UsageError: another type or out of bounds. The message starts with ``name`` and ends with ``why``.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most:
        return int(value)
    raise UsageError(f"{name} = {_shown(value)}: give a whole number from {least:,} to {most:,}{_because(why)}.")


def number(name: str, value: object, least: float, most: float, *, why: str = "") -> float:
    """``value``, a number from ``least`` to ``most``, as a float; see ``whole``."""
    if isinstance(value, Real) and not isinstance(value, bool) and least <= _float(value) <= most:
        return float(value)
    raise UsageError(f"{name} = {_shown(value)}: give a number from {least:,g} to {most:,g}{_because(why)}.")


def processes(value: object) -> int | None:
    """The checked number of worker processes; None: one per core."""
    return None if value is None else whole("processes", value, 1, MOST_PROCESSES)


def seed(value: object, name: str = "seed") -> int:
    """The checked seed, from 0 to the largest that numpy and torch accept."""
    return whole(name, value, 0, MOST_SEED, why="the range of seeds in numpy and torch")


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
