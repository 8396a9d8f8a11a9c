"""An estimate as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lacewing.support.durations import duration, step_time


def as_text(found: Mapping[str, Any]) -> str:
    """The estimate as lines to print."""
    if found["here"] is None:
        return f"estimate: every network is trained; not counted: {found['not_counted']}"
    here = found["here"]
    lines = [
        f"estimate for {found['networks']} networks, {found['epochs']} epochs; not counted: {found['not_counted']}"
    ]
    if "error" in here:
        lines.append(f"  here: not possible: {here['error']}")
    else:
        count = here["processes"]
        workers = f"{count} worker{'s' * (count > 1)}"
        whose = "it" if here["device"] == "cpu" else "the GPU's"
        lines.append(
            f"  here, {here['device']}, {workers}: about {duration(here['seconds'])}, {_memory(here['memory_bytes'])} "
            f"of memory{' in all' * (count > 1)}; a training takes at least {_memory(here['step_bytes'])} of "
            f"{whose}"
        )
        lines.append(f"  a training step, timed now{_at_once(here['timed_at_once'])}: {_steps(here['kinds'])}")
    lines += map(_line, found["on"])
    return "\n".join([*lines, _kept(found["data_bytes"], found["storage"])])


def _kept(data: int, storage: Mapping[str, int]) -> str:
    return (
        f"  each worker holds {_bytes(data)} of records; an attack loads up to {_bytes(storage['attack'])} of signals\n"
        f"  on disk: signals up to {_bytes(storage['signals_each'])} a network, {_bytes(storage['signals'])} in all; "
        f"weights {_bytes(storage['weights'])}, which --keep signals removes"
    )


def _steps(kinds: Sequence[Mapping[str, Any]]) -> str:
    timed = [f"{kind['name']} {step_time(kind['step_seconds'])}{_scaled(kind)}" for kind in kinds if kind["timed"]]
    rest = [kind["name"] for kind in kinds if not kind["timed"]]
    return ", ".join(timed) + (f"; assumed to cost as much as dense: {', '.join(rest)}" if rest else "")


def _scaled(kind: Mapping[str, Any]) -> str:
    """Which part of the batch was timed, where it was not all of it."""
    records, batch = kind["timed_records"], kind["step_records"]
    return "" if records >= batch else f" (scaled from a step of {records} records to the batch of {batch:,})"


def _at_once(count: int) -> str:
    return f" in {count} processes at once" if count > 1 else ""


def _line(there: Mapping[str, Any]) -> str:
    what = f"  on {there['machine']} x {there['count']}"
    if "error" in there:
        return f"{what}: cannot be counted: {there['error']}"
    low, high = there["times_floor"]
    if there["busy"] < there["count"]:
        what += f" ({there['busy']} of them have work)"
    return (
        f"{what}, {' and '.join(there['precision'])}: at least {duration(there['floor_seconds'])} (limited by "
        f"{there['binds']}); {low:g} to {high:g} times that in eager PyTorch, a rule of thumb: "
        f"{duration(there['seconds'][0])} to {duration(there['seconds'][1])}{_price(there)}\n"
        f"    a training needs at least {_bytes(there['held_bytes'])} there{_too_much(there)}"
    )


def _price(there: Mapping[str, Any]) -> str:
    if there["price"] is None:
        return ""
    low, high = there["price"]
    return f"; price at {there['rate']:g} an hour each: {_amount(low)} to {_amount(high)}"


def _amount(price: float) -> str:
    return f"{price:,.2f}" if price >= 1 else f"{price:.2g}"


def _too_much(there: Mapping[str, Any]) -> str:
    memory = there["memory_bytes"]
    if memory is None or there["held_bytes"] <= memory:
        return ""
    return f", which has {_bytes(memory)}: lower train.batch_size"


def _memory(count: float | None) -> str:
    return "an unknown amount" if count is None else _bytes(count)


def _bytes(count: float) -> str:
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    if count < 2**20:
        return f"{count / 2**10:.0f} KiB"
    return f"{count / 2**20:.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**20:.1f} MiB"
