"""The audit of a dense and a sparse network in files, as the command line names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lacewing.attacks._types import Task
from lacewing.auditing import _files
from lacewing.auditing._inputs import RawData
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._pair import audit_pair
from lacewing.auditing._pair_cost import PairCost
from lacewing.auditing._pair_result import PairAudit
from lacewing.errors import UsageError
from lacewing.support.loading import load_function

Train = Callable[[Any, Any, int], Any]


def audit_pair_files(
    *,
    model: str,
    weights: Path | str | None,
    against: Path | str,
    data: Path | str,
    refit: str | None = None,
    refit_dense: str | None = None,
    variations: Sequence[str] = (),
    controls: Sequence[str] = (),
    task: Task = "classification",
    outputs: Outputs | None = None,
    pixels: str | None = None,
    **options: Any,
) -> PairAudit | PairCost:
    """``audit_pair`` of two networks in files, as the command line has it.

    Args:
        model: see `lacewing.auditing._files.audit_model_files`, as for ``data``; the factory builds both networks.
        weights: of the sparse network; None of an ``.onnx`` file.
        against: weights of the dense network; beside an ``.onnx`` file another one.
        data: see ``model``.
        refit: ``"package.module:function"``, the training of the sparse network.
        refit_dense: the same of the dense one.
        variations: ``"NAME=package.module:function"``, further trainings of sparse networks.
        controls: ``"FAMILY/NAME=package.module:function"``, trainings of dense networks that vary one thing, or
            ``"FAMILY=..."``, a single one.
        task: see `audit_pair`, as for ``outputs`` and the other options.
        outputs: see ``task``.
        pixels: see ``model``.
        options: see ``task``.

    Raises:
        UsageError: a file is missing, of another kind, or does not fit the others; see also `audit_pair`.
    """
    own = model if weights is None else weights
    if Path(own).resolve() == Path(against).resolve():
        raise UsageError(f"against: {against} is the file of the sparse network too: give that of the dense one.")
    if _files.is_onnx(model) and not _files.is_onnx(str(against)):
        raise UsageError(f"against: {against} is no .onnx file as --model is: give the dense network as one too.")
    given = _files.read_files(model, weights, data, task, outputs, pixels)
    dense = str(against) if _files.is_onnx(model) else _dense(model, against, given.records, task)
    return audit_pair(
        dense,
        given.network,
        given.members,
        given.nonmembers,
        refit=_sparse(refit, variations),
        refit_dense=None if refit_dense is None else load_function(refit_dense, "refit-dense"),
        controls=_controls(controls),
        population=given.population,
        task=task,
        outputs=outputs,
        groups=given.groups,
        **options,
    )


def _dense(model: str, against: Path | str, records: RawData, task: Task) -> Any:
    try:
        return _files.network_of(model, against, records, task)
    except UsageError as error:
        error.args = (f"against: {str(error).removeprefix('weights: ')}",)
        raise


def _sparse(refit: str | None, variations: Sequence[str]) -> Train | dict[str, Train] | None:
    if refit is None:
        if variations:
            raise UsageError("variation: give the training of the sparse network itself as --refit.")
        return None
    own = load_function(refit, "refit")
    if not variations:
        return own
    found = {refit.rpartition(":")[2]: own}
    for text in variations:
        name, function = _named(text, "variation", "20=net:train_20")
        if name in found:
            raise UsageError(f"variation: '{name}' is given twice: name each training differently.")
        found[name] = function
    return found


def _controls(controls: Sequence[str]) -> dict[str, Train | dict[str, Train]] | None:
    families: dict[str, dict[str, Train]] = {}
    single: dict[str, Train] = {}
    for text in controls:
        path, function = _named(text, "control", "epochs/10=net:train_10")
        family, _, name = path.partition("/")
        if name in families.get(family, {}) or (not name and family in single):
            raise UsageError(f"control: '{path}' is given twice: name each training differently, FAMILY/NAME=...")
        if (name and family in single) or (not name and family in families):
            raise UsageError(
                f"control: '{family}' is given as one training and as a family: name each of its trainings, "
                f"{family}/NAME=..."
            )
        if name:
            families.setdefault(family, {})[name] = function
        else:
            single[family] = function
    return {**families, **single} or None


def _named(text: str, field: str, example: str) -> tuple[str, Train]:
    name, equal, path = text.partition("=")
    if not equal or not name.strip() or not path.strip():
        raise UsageError(f"{field}: {text[:80]!r} must be written NAME=package.module:function, e.g. {example}.")
    return name.strip(), load_function(path.strip(), field)
