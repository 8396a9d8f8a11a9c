"""Finished references on disk: what each is known by, what is stored, and whether it still belongs to the model."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing.auditing._inputs import RawData
from lacewing.auditing._recipe import recipe
from lacewing.errors import UsageError
from lacewing.support.files import write_atomically
from lacewing.support.formats import Arrays, read_arrays

if TYPE_CHECKING:
    from lacewing.auditing._ask import Answers

SCHEMA = 2  # in every key
_BESIDE = ("in_N", "seconds", "signals", "unmeasured", "parameters", "shapes", "for_shapes")  # stored with the answers


@dataclass(frozen=True)
class Size:
    """How many parameters a torch module has, and a digest of their shapes in order; 0 and "" of a function."""

    parameters: int = 0
    shapes: str = ""


def size(model: Any) -> Size:
    """The size of a torch module; of anything else `Size()`."""
    from torch import nn

    if not isinstance(model, nn.Module):
        return Size()
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    count = sum(parameter.numel() for parameter in model.parameters())
    return Size(count, hashlib.sha256(repr(shapes).encode()).hexdigest())


def keys(
    refit: Callable[..., Any],
    version: str | None,
    *,
    data: tuple[RawData, RawData | None],
    settings: Mapping[str, Any],
    in_KN: npt.NDArray[np.bool_],
    seed_K: Collection[int],
) -> tuple[list[str] | None, str]:
    """A key for each reference, a hash of all that it depends on; None, and why, where ``refit`` cannot be identified.

    Args:
        refit: the training function, see `lacewing.auditing._recipe.recipe`.
        version: of the user's; vouches for what of ``refit`` cannot be identified, and is part of the key.
        data: the records, and the population.
        settings: what is asked of every reference.
        in_KN: which records each trains on.
        seed_K: of their trainings.
    """
    code, unknown = recipe(refit)
    if unknown and version is None:
        return None, (
            f"References were not cached, since refit depends on {_listed(unknown)}, of which it cannot be said "
            "whether it changed since: pass version=, and change it whenever that changes."
        )
    digest = hashlib.sha256()
    for part in data:
        for array in () if part is None else (part.x, part.y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    shared = {
        "schema": SCHEMA,
        "data": digest.hexdigest(),
        "form": data[0].form.key(),
        "recipe": code,
        "version": version,
        **settings,
    }
    found = []
    for k, (inside_N, seed) in enumerate(zip(in_KN, seed_K, strict=True)):
        records = hashlib.sha256(np.packbits(inside_N).tobytes()).hexdigest()
        own = {**shared, "records": records, "seed": seed, "shadow": k == 0}
        # Columns of frames may be of any type, such as dates.
        text = json.dumps(own, sort_keys=True, default=lambda value: [type(value).__qualname__, repr(value)])
        found.append(hashlib.sha256(text.encode()).hexdigest())
    return found, ""


@dataclass(frozen=True, eq=False)
class Stored:
    """A finished reference."""

    answers: Answers
    seconds: float  # that it took
    size: Size
    for_shapes: str  # of the model that was audited when it was trained
    unmeasured: Mapping[str, str] = field(default_factory=dict)  # by signal that was asked: why it is not there


def write(
    path: Path,
    answers: Answers,
    *,
    in_N: npt.NDArray[np.bool_],
    seconds: float,
    signals: Collection[str],
    unmeasured: Mapping[str, str],
    size: Size,
    target: Size,
) -> None:
    """Store what a reference answered, atomically; the arguments are as in `Stored`, ``target`` is the model's size."""
    found = {name: array for name, array in vars(answers).items() if array is not None}
    packed = io.BytesIO()
    np.savez(
        packed,
        in_N=in_N,
        seconds=seconds,
        signals=sorted(signals),
        unmeasured=json.dumps(dict(unmeasured)),
        parameters=size.parameters,
        shapes=size.shapes,
        for_shapes=target.shapes,
        **found,
    )
    write_atomically(path, packed.getvalue())


def read(path: Path, n: int, signals: Collection[str]) -> Stored | None:
    """A finished reference; None where there is none, it lacks a signal or is of other records, or is damaged."""
    with suppress(OSError, UsageError, ValueError, KeyError, TypeError):
        whole = read_arrays(path)  # reads, and so checks, every byte
        if len(whole["logits_NC"]) == n and set(signals) <= set(whole["signals"].tolist()):
            return _stored(whole)
    return None


def _stored(whole: Arrays) -> Stored:
    from lacewing.auditing._ask import Answers

    return Stored(
        Answers(**{name: whole[name] for name in whole if name not in _BESIDE}),
        float(whole["seconds"]),
        Size(int(whole["parameters"]), str(whole["shapes"])),
        str(whole["for_shapes"]),
        json.loads(str(whole["unmeasured"])) if "unmeasured" in whole else {},
    )


def outdated(stored: Stored, target: Size) -> bool:
    """Whether a reference is of another size than the audited model, and was trained for a model of another size.

    Then something that its key does not hold has changed the model. One that was of another size than its model from
    the beginning is of a recipe that makes such models.
    """
    return bool(target.shapes) and stored.size.shapes != target.shapes and stored.for_shapes != target.shapes


def sizes_differ(found: Collection[Size], target: Size) -> list[str]:
    """Notes where references are not of the model's size, or not of one size."""
    notes = []
    counts = sorted({size.parameters for size in found})
    if len({size.shapes for size in found}) > 1:
        notes.append(
            f"References are not of one size: they have between {counts[0]:,} and {counts[-1]:,} parameters."
            if len(counts) > 1
            else f"References are not of one architecture, at {counts[0]:,} parameters each."
        )
    if target.shapes and any(size.shapes and size.shapes != target.shapes for size in found):
        other = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
        notes.append(
            f"References are of another architecture than the model: {other} parameters, the model "
            f"{target.parameters:,}. A real attacker trains references like the model, and finds more."
        )
    return notes


def _listed(unknown: Collection[str]) -> str:
    some = [*unknown][:3]
    return " and ".join(some) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
