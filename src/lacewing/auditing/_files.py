"""The audit of a model in files, as the command line names them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lacewing import models
from lacewing.attacks._types import Task
from lacewing.auditing import _inputs, _outputs, _tables
from lacewing.auditing._attacks import Attacks
from lacewing.auditing._attribute import AttributeAudit, Column, audit_attribute
from lacewing.auditing._inputs import RawData
from lacewing.auditing._model import audit
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._reconstruction import ReconstructionAudit, reconstruct
from lacewing.auditing._result import Audit
from lacewing.config import Model
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Bools
from lacewing.models._weights import load_weights
from lacewing.support.formats import Arrays, array_names, read_arrays
from lacewing.support.loading import is_path, load_function
from lacewing.support.text import say

if TYPE_CHECKING:
    from torch import nn

_NAMES = ("x", "y", "member", "group", "population_x", "population_y")


def audit_model_files(
    *,
    model: str,
    weights: Path | str | None,
    data: Path | str,
    refit: str | Callable[[Any, Any, int], Any] | None = None,
    references: int = 0,
    out: Path | str | None = None,
    attacks: Attacks = "all",
    task: Task = "classification",
    outputs: Outputs | None = None,
    checkpoints: Sequence[Path | str] = (),
    initial: Path | str | None = None,
    pixels: str | None = None,
    **options: Any,
) -> Audit:
    """``audit`` of a model in files, as the command line has it.

    Args:
        model: ``"package.module:factory"``, called as ``factory(shape, outputs)`` with the shape of a record and the
            number of outputs: classes (one more than the largest label), 1 of a binary task, labels or quantities; or
            the path of an ``.onnx`` file.
        weights: its state_dict, ``.safetensors``, or ``.pt``/``.pth`` read with ``weights_only=True``; None of an
            ``.onnx`` file.
        data: an ``.npz`` with ``x`` as the network takes it (normalised, if it was trained so), ``y`` and ``member``
            (1 or 0); optionally ``group`` (ids of patients, users), ``population_x`` and ``population_y``. Or a
            ``.csv`` or ``.parquet`` with the columns ``member``, ``y`` (or ``label``) and, optionally, ``group``, all
            others numbers of x. Or a folder of images, ``members/CLASS/..``, ``nonmembers/CLASS/..`` and, optionally,
            ``population/CLASS/..``.
        refit: ``"package.module:function"``, or the function.
        references: see ``audit``, as are ``out``, ``attacks``, ``task``, ``outputs`` and the other options.
        checkpoints: files as ``weights``, of earlier states of the training, the earliest first.
        initial: a file as ``weights``, of the network before training.
        pixels: of a folder of images, how the network takes them: ``"0-1"``, ``"0-255"`` or ``"MEAN/STD"``.

    Raises:
        UsageError: a file is missing, of another kind, or does not fit the others; see also ``audit``.
    """
    given = read_files(model, weights, data, task, outputs, pixels)
    return audit(
        given.network,
        given.members,
        given.nonmembers,
        refit=load_function(refit, "refit") if isinstance(refit, str) else refit,
        references=references,
        population=given.population,
        attacks=attacks,
        task=task,
        outputs=outputs,
        groups=given.groups,
        out=out,
        checkpoints=[network_of(model, each, given.records, task) for each in checkpoints],
        initial=None if initial is None else network_of(model, initial, given.records, task),
        **options,
    )


def audit_attribute_files(
    *,
    model: str,
    weights: Path | str | None,
    data: Path | str,
    column: Column,
    task: Task = "classification",
    outputs: Outputs | None = None,
    **options: Any,
) -> AttributeAudit:
    """``audit_attribute`` of a model in files; arguments and errors as for `audit_model_files`."""
    if Path(data).is_dir():
        raise UsageError(f"{data} is a folder, and a column is one of a table: give .npz, .csv or .parquet.")
    given = read_files(model, weights, data, task, outputs)
    return audit_attribute(
        given.network,
        given.members,
        given.nonmembers,
        column=column,
        population=given.population,
        task=task,
        outputs=outputs,
        groups=given.groups,
        **options,
    )


def reconstruct_files(
    *,
    model: str,
    weights: Path | str,
    data: Path | str,
    task: Task = "classification",
    outputs: Outputs | None = None,
    pixels: str | None = None,
    **options: Any,
) -> ReconstructionAudit:
    """``reconstruct`` of a model in files; arguments and errors as for `audit_model_files`."""
    if is_onnx(model):
        raise UsageError(
            f"--model: {model} is an ONNX file, and reconstruction reads the weights of a torch network: give "
            "package.module:name of its factory, and --weights."
        )
    given = read_files(model, weights, data, task, outputs, pixels)
    if given.groups is not None:
        raise UsageError(f"{data} holds 'group', which reconstruction of single records does not know: leave it out.")
    return reconstruct(
        given.network,
        given.members,
        given.nonmembers,
        population=given.population,
        task=task,
        outputs=outputs,
        **options,
    )


class _Given(NamedTuple):
    """A model and its records, as they were read from files."""

    network: Any  # a torch module, or the path of an ONNX file
    records: RawData
    members: tuple[Any, Any]
    nonmembers: tuple[Any, Any]
    population: tuple[Any, Any] | None
    groups: tuple[Any, Any] | None


def read_files(
    model: str,
    weights: Path | str | None,
    data: Path | str,
    task: Task,
    outputs: Outputs | None,
    pixels: str | None = None,
) -> _Given:
    _outputs.check(task, outputs)
    path = Path(data)
    if pixels is not None and not path.is_dir():
        raise UsageError(f"--pixels says how images of a folder are read, and {path} is no folder: leave it out.")
    if path.is_dir():
        arrays, note = _tables.of_images(path, pixels)
        say(note, sys.stderr)
    elif _tables.is_table(path) and path.is_file():
        arrays = _tables.of_table(path)
    else:
        arrays = arrays_of(path, _NAMES)
    every, flags = records_of(arrays, data, task)
    reserve = (arrays["population_x"], arrays["population_y"]) if "population_x" in arrays else None
    group = arrays.get("group")
    if group is not None and group.shape != flags.shape:
        raise UsageError(f"{data}: group has shape {group.shape} beside {len(flags)} records: give one id a record.")
    labels = every.form.labels(every.y)
    return _Given(
        model_of(model, weights, every, task),
        every,
        (every.x[flags], labels[flags]),
        (every.x[~flags], labels[~flags]),
        reserve,
        None if group is None else (group[flags], group[~flags]),
    )


def records_of(arrays: Arrays, data: Path | str, task: Task) -> tuple[RawData, Bools]:
    """The records of a file, and (N,) which of them are members. Raises `UsageError` that names the file."""
    member = arrays["member"]
    if member.ndim != 1 or member.shape != arrays["y"].shape[:1] or not np.isin(member, (0, 1)).all():
        raise UsageError(f"{data}: member must hold 1 for each record that the model trained on and 0 for the others.")
    return _inputs.read((arrays["x"], arrays["y"]), f"{data}: x, y", task), member.astype(bool)


def is_onnx(model: str) -> bool:
    """Whether ``model`` names an ONNX file, and no factory."""
    return model.endswith(".onnx")


def model_of(model: str, weights: Path | str | None, records: RawData, task: Task) -> Any:
    """The factory's network with these weights, or the path of an ONNX file, which has its own."""
    if is_onnx(model):
        if weights is not None:
            raise UsageError(f"{model} holds its weights: leave out --weights.")
        return model
    if weights is None:
        raise UsageError("--weights is missing: give the weights of the network that --model builds.")
    return network_of(model, weights, records, task)


def network_of(model: str, weights: Path | str, records: RawData, task: Task) -> nn.Module:
    """The factory's network for such records, with the weights of a file."""
    if is_onnx(model):
        raise UsageError(
            f"--model: {model} is an ONNX file, into which the weights {weights} cannot be loaded: leave them out, or "
            "give package.module:name of the factory."
        )
    if not is_path(model):
        raise UsageError(f"--model: {model[:80]!r} must read package.module:name, a module's name and not a file's.")
    count = {"classification": int(records.y.max()) + 1, "binary": 1}.get(task) or records.y.shape[1]
    network = models.build(Model(factory=model), records.x.shape[1:], count)
    load_weights(network, Path(weights))
    return network


def arrays_of(
    path: Path, names: Sequence[str], needed: Sequence[str] = ("x", "y", "member"), *, what: str = "data"
) -> Arrays:
    """The arrays of an .npz, of these ``names`` alone. Raises `UsageError` that says what is missing or too much."""
    if not path.is_file():
        raise UsageError(f"{what}: there is no file {path}; give an .npz with {', '.join(needed)}.")
    held = array_names(path)
    for name in held:
        if name not in names:
            raise UsageError(f"{what}: {path} holds '{name}'; {did_you_mean(name, names)}")
    wanted = [*needed]
    if "population_x" in held or "population_y" in held:
        wanted += ["population_x", "population_y"]
    if missing := [name for name in wanted if name not in held]:
        raise UsageError(f"{what}: {path} lacks {' and '.join(missing)}: it must hold {', '.join(wanted)}.")
    return read_arrays(path)
