"""Reference networks from the user's training function: on random halves, cached by content, in parallel.

Only the answers of a reference and which records it trained on are kept, never the model itself.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing.attacks._types import Task
from lacewing.auditing import _pool
from lacewing.auditing._inputs import Form, RawData
from lacewing.auditing._outputs import Outputs
from lacewing.errors import UsageError
from lacewing.metrics import Bools
from lacewing.support.files import write_atomically
from lacewing.support.formats import read_arrays
from lacewing.support.machine import usable_cores
from lacewing.support.user_code import user_code

if TYPE_CHECKING:
    from lacewing.auditing._ask import Answers

SCHEMA = 1
_WORTH_WORKERS = 20.0  # seconds of training left below which starting worker processes saves nothing
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
    task: Task = "classification"
    outputs: Outputs | None = None

    def __len__(self) -> int:
        return len(self.in_KN)


def halves(group_N: npt.NDArray[np.integer], count: int, seed: int) -> Bools:
    """(count, N): random halves of N records by groups, each odd one the complement of the one before it.

    Groups are taken in random order until no more fit into N // 2 records; without larger groups that is a half.
    """
    groups, group = np.unique(group_N, return_inverse=True)
    size = np.bincount(group)
    inside = np.zeros((count, len(group_N)), bool)
    for k in range(count):
        if k % 2 == 0:
            order = np.random.default_rng([seed, 301, k // 2]).permutation(len(groups))
            inside[k] = np.isin(group, order[np.cumsum(size[order]) <= len(group_N) // 2])
        else:
            inside[k] = ~inside[k - 1]
    return inside


def references(
    work: Work,
    *,
    folder: Path | None,
    version: str | None,
    processes: int | None,
    say: Callable[[str], None],
) -> tuple[list[Answers], list[str]]:
    """The answers of the K references, those of the first with every signal; and notes.

    References that ``folder`` holds under the same content are not trained again. The others are: the first of them
    here, timed, the rest in worker processes where that saves time and the function can be imported there.

    Raises `UsageError` that names the reference: the function fails, or what it returns cannot be asked.
    """
    notes: list[str] = []
    keys = _keys(work, version)
    if keys is None and folder is not None:
        notes.append(
            "References were not cached, since the source code of refit cannot be read (a closure, an object, or code "
            "that was typed in); define it in a file, or pass version=."
        )
    with TemporaryDirectory() as aside:
        place = Path(aside) if keys is None or folder is None else folder / "references"
        paths = [place / f"{key}.npz" for key in keys or [f"{k:064x}" for k in range(len(work))]]
        done = {k: seconds for k, path in enumerate(paths) if (seconds := _seconds(path, work, k)) is not None}
        todo = [k for k in range(len(work)) if k not in done]
        if todo and len(todo) < len(work):
            say(f"{len(done)} of {len(work)} references are there already")
        if todo and not done:
            first = todo.pop(0)
            say(f"training reference 1 of {len(work)}")
            with _threads(1 if _cores(processes) > 1 and _address(work.refit) else None):
                done[first] = train_one(work, first, paths[first])
        if todo:
            _train_rest(work, todo, paths, max(done.values()), _cores(processes), say, notes, fresh=len(done) == 1)
        return [_read(path, work) for path in paths], notes


def _train_rest(
    work: Work,
    todo: Sequence[int],
    paths: Sequence[Path],
    each: float,
    cores: int,
    say: Callable[[str], None],
    notes: list[str],
    *,
    fresh: bool,
) -> None:
    workers = min(cores, len(todo)) if each * len(todo) > _WORTH_WORKERS else 1
    address = _address(work.refit) if workers > 1 else None
    if workers > 1 and address is None:
        notes.append(
            "References were trained one after another: worker processes cannot import refit (a lambda, a closure, a "
            "notebook's function, or a script without `if __name__ == '__main__':`)."
        )
        workers = 1
    rest = each * math.ceil(len(todo) / workers)
    first = f"first reference {_spoken(each)}" if fresh else f"a reference takes {_spoken(each)}"
    count = f"the other {len(todo)} take" if len(todo) > 1 else "the last one takes"
    say(f"{first}; {count} about {_spoken(rest)} on {workers} process{'es' * (workers > 1)}")
    left = list(todo)

    def finished(k: int, seconds: float) -> None:
        left.remove(k)
        say(f"reference {k + 1} done ({_spoken(seconds)}); {len(left)} left")

    if address is not None:
        with TemporaryDirectory() as shared:
            write_work(Path(shared), work)
            why = _pool.run(
                {"work": shared, "refit": address},
                [{"k": k, "path": str(paths[k])} for k in todo],
                workers,
                lambda task, seconds: finished(int(task["k"]), seconds),
            )
        if why is None:
            return
        notes.append(f"References were trained one after another: worker processes cannot import refit ({why}).")
    for k in list(left):
        finished(k, train_one(work, k, paths[k]))


def train_one(work: Work, k: int, path: Path) -> float:
    """Train and ask reference ``k`` and write what it answered to ``path``, atomically; the seconds it took."""
    from torch import nn

    from lacewing.auditing import _ask

    started = time.perf_counter()
    who = f"reference {k + 1}"
    part = work.records.at(work.in_KN[k])
    form = work.records.form
    with _seeded(work.seed_K[k]):
        x, y = form.records(part.x), form.labels(part.y)
        with user_code(f"refit of {who} ({len(part)} records, seed {work.seed_K[k]})"):
            model = work.refit(x, y, work.seed_K[k])
        if model is None:
            raise UsageError("refit returned None: it must return the trained model.")
        if work.white_box and not isinstance(model, nn.Module):
            raise UsageError(
                f"refit returned a {type(model).__name__} and model is a torch module: return the module itself."
            )
        if not work.white_box and isinstance(model, nn.Module):
            model = _as_function(model)
        answers = _ask.ask(
            model,
            work.records,
            work.population,
            queries=work.queries,
            signals=_signals(work, k),
            who=who,
            task=work.task,
            outputs=work.outputs,
        ).answers
    seconds = time.perf_counter() - started
    found = {name: array for name, array in vars(answers).items() if array is not None}
    packed = io.BytesIO()
    np.savez(packed, in_N=work.in_KN[k], seconds=seconds, signals=sorted(_signals(work, k)), **found)
    write_atomically(path, packed.getvalue())
    return seconds


def write_work(folder: Path, work: Work) -> None:
    """What a worker process must know of the audit, beside the function: arrays and a JSON file."""
    arrays = {"x": work.records.x, "y": work.records.y, "in_KN": work.in_KN}
    if work.population is not None:
        arrays |= {"population_x": work.population.x, "population_y": work.population.y}
    np.savez(folder / "work.npz", **arrays)  # type: ignore[arg-type]
    about = {
        "form": vars(work.records.form),
        "seed_K": work.seed_K,
        "queries": work.queries,
        "white_box": work.white_box,
        "signals": work.signals,
        "task": work.task,
        "outputs": work.outputs,
    }
    (folder / "work.json").write_text(json.dumps(about), encoding="utf-8")


def read_work(folder: Path, refit: Refit) -> Work:
    """The inverse of ``write_work``."""
    about = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    fields: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in about["form"].items()}
    form = Form(**fields)
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
            task=about["task"],
            outputs=about["outputs"],
        )


# ------------------------------------------------------------------------------------------------------------- cache


def _keys(work: Work, version: str | None) -> list[str] | None:
    """A key for each reference, a hash of all that it depends on; None where refit's source is not to be had."""
    source = _source(work.refit)
    if source is None and version is None:
        return None
    code = hashlib.sha256((source or "").encode()).hexdigest()
    data = hashlib.sha256()
    for part in (work.records, work.population):
        for array in () if part is None else (part.x, part.y):
            data.update(f"{array.dtype.str}{array.shape}".encode())
            data.update(np.ascontiguousarray(array).tobytes())
    shared = {
        "schema": SCHEMA,
        "data": data.hexdigest(),
        "form": vars(work.records.form),
        "refit": getattr(work.refit, "__qualname__", ""),  # without its module: a script's is "__main__" at times
        "source": code,
        "version": version,
        "queries": work.queries,
        "white_box": work.white_box,
        "task": work.task,
        "outputs": work.outputs,
    }
    keys = []
    for k in range(len(work)):
        records = hashlib.sha256(np.packbits(work.in_KN[k]).tobytes()).hexdigest()
        own = {**shared, "records": records, "seed": work.seed_K[k], "shadow": k == 0}
        keys.append(hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest())
    return keys


def _source(refit: Refit) -> str | None:
    """The source of the function's module; None for what that source does not settle: closures, objects, typed code."""
    if not inspect.isfunction(refit) or "<locals>" in refit.__qualname__:
        return None
    try:
        return inspect.getsource(sys.modules[refit.__module__])
    except (OSError, TypeError, KeyError):
        return None


def _read(path: Path, work: Work) -> Answers:
    from lacewing.auditing._ask import Answers

    found = read_arrays(path)
    return Answers(**{name: found[name] for name in found if name not in ("in_N", "seconds", "signals")})


def _signals(work: Work, k: int) -> frozenset[str]:
    """What is asked of reference k beside logits: all that attacks need of the shadow, nothing of the others."""
    return frozenset(work.signals) if k == 0 else frozenset()


def _seconds(path: Path, work: Work, k: int) -> float | None:
    """How long a finished reference took; None where there is none, it lacks a signal, or its file is damaged."""
    with suppress(OSError, UsageError, ValueError, KeyError, TypeError):
        whole = read_arrays(path)  # reads, and so checks, every byte
        if len(whole["logits_NC"]) == len(work.records) and _signals(work, k) <= set(whole["signals"].tolist()):
            return float(whole["seconds"])
    return None


# ----------------------------------------------------------------------------------------------------------- running


def _address(refit: Refit) -> dict[str, str] | None:
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


def _cores(processes: int | None) -> int:
    return usable_cores() if processes is None else processes


def _as_function(model: Any) -> Callable[[Any], Any]:
    """A module as a function from records to logits, since the audited model is such a function."""

    def answer(x: Any) -> Any:
        import torch

        model.eval()
        with torch.no_grad():
            return model(x if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x)))

    return answer


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Global generators seeded for user code that draws from them, and put back afterwards."""
    import torch

    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Set torch to the threads of a worker, so that the time of the first reference predicts that of the others."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _spoken(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
