"""What the references of one audit share, and its way to worker processes."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._types import Task
from lacewing.auditing._cache import Size
from lacewing.auditing._form import from_json, to_json
from lacewing.auditing._inputs import RawData
from lacewing.auditing._outputs import Outputs
from lacewing.data import deal
from lacewing.errors import DataError, UsageError
from lacewing.metrics import Bools
from lacewing.support.formats import Arrays

Refit = Callable[[Any, Any, int], Any]


@dataclass(frozen=True, eq=False)
class Work:
    """What every reference of one audit shares. Reference k trains on ``records`` where ``in_KN[k]``."""

    refit: Refit
    records: RawData
    population: RawData | None
    in_KN: Bools
    seed_K: tuple[int, ...]
    queries: int
    white_box: bool  # the audited model is a torch module, so references must be
    signals: tuple[str, ...]  # asked of the first reference, beside logits
    size: Size  # of the audited model
    task: Task = "classification"
    outputs: Outputs | None = None
    statistics: bool = False  # of weights and masks, where refit returns torch modules
    checkpoints: int = 0  # how many refit returns beside a model
    returned: list[list[Any]] = field(default_factory=list)  # by refit, in this process: weak references to its parts

    def __len__(self) -> int:
        return len(self.in_KN)


def halves(group_N: npt.NDArray[np.integer], count: int, seed: int) -> Bools:
    """(count, N): random halves of N records by groups, each odd one the complement of the one before it.

    Larger groups are dealt as a study's are (`data.deal`), so that the sides differ by at most the largest group.

    Raises `UsageError` where a group holds more than half of the records, or a half fewer than five groups.
    """
    groups, first, size = np.unique(group_N, return_index=True, return_counts=True)
    if len(groups) < len(group_N):
        if size.max() > len(group_N) // 2:
            raise UsageError(
                f"refit: one group, or set of equal records, holds {size.max()} of the {len(group_N)} audited records, "
                "more than half, and references train on halves: divide that group or leave it out."
            )
        group_N = first[np.searchsorted(groups, group_N)]
    inside = np.zeros((count, len(group_N)), bool)
    for k in range(count):
        if k % 2 == 0:
            rng = np.random.default_rng([seed, 301, k // 2])
            if len(groups) == len(group_N):
                inside[k, rng.permutation(len(groups))[: len(groups) // 2]] = True
            else:
                inside[k] = _dealt(group_N, rng)
        else:
            inside[k] = ~inside[k - 1]
    return inside


def _dealt(group_N: npt.NDArray[np.integer], rng: np.random.Generator) -> Bools:
    try:
        return np.asarray(deal(group_N.astype(np.int64), 2, rng, "the references' halves") == 0)
    except DataError as error:
        raise UsageError(f"refit: {str(error).removeprefix('data.groups: ')}") from None


def can_be_written(work: Work) -> bool:
    """Whether `write_work` can hand the records to another process: columns of frames may be of any type, as dates."""
    return work.records.form.plain


def write_work(folder: Path, work: Work) -> None:
    """What a worker process must know of the audit, beside the function: arrays and a JSON file."""
    arrays: Arrays = {"x": work.records.x, "y": work.records.y, "in_KN": work.in_KN}
    if work.population is not None:
        arrays |= {"population_x": work.population.x, "population_y": work.population.y}
    np.savez(folder / "work.npz", **arrays)  # type: ignore[arg-type]
    about = {
        "form": to_json(work.records.form),
        "seed_K": work.seed_K,
        "queries": work.queries,
        "white_box": work.white_box,
        "signals": work.signals,
        "size": vars(work.size),
        "task": work.task,
        "outputs": work.outputs,
        "statistics": work.statistics,
        "checkpoints": work.checkpoints,
    }
    (folder / "work.json").write_text(json.dumps(about), encoding="utf-8")


def read_work(folder: Path, refit: Refit) -> Work:
    """The inverse of ``write_work``."""
    about = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    form = from_json(about["form"])
    with np.load(folder / "work.npz", allow_pickle=False) as arrays:
        population = RawData(arrays["population_x"], arrays["population_y"], form) if "population_x" in arrays else None
        return Work(
            refit=refit,
            records=RawData(arrays["x"], arrays["y"], form),
            population=population,
            in_KN=arrays["in_KN"],
            seed_K=tuple(about["seed_K"]),
            queries=about["queries"],
            white_box=about["white_box"],
            signals=tuple(about["signals"]),
            size=Size(**about["size"]),
            task=about["task"],
            outputs=about["outputs"],
            statistics=about["statistics"],
            checkpoints=about["checkpoints"],
        )


def address_of(refit: Refit) -> dict[str, str] | None:
    """Where a worker process finds the function: module, file and name; None where it cannot."""
    if not inspect.isfunction(refit) or not refit.__qualname__.isidentifier():
        return None
    module = sys.modules.get(refit.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or getattr(module, refit.__name__, None) is not refit:
        return None
    name = refit.__module__
    if name == "__main__":
        if not _guarded(Path(file)):
            return None
        spec = getattr(module, "__spec__", None)
        name = "__mp_main__" if spec is None else spec.name
    return {"module": name, "file": str(Path(file).resolve()), "name": refit.__name__}


def _guarded(script: Path) -> bool:
    """Whether a script keeps what it does under ``if __name__ == "__main__":``, so that a worker can import it."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError):
        return False
    tests = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
    return any("__name__" in test and "'__main__'" in test for test in tests)
