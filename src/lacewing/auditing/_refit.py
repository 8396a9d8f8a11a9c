"""Reference networks from the user's training function: on random halves, cached by content, in parallel.

Only the answers of a reference and which records it trained on are kept, never the model itself.
"""

from __future__ import annotations

import functools
import math
import random
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import BuiltinFunctionType, FunctionType, MethodType, MethodWrapperType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from lacewing.attacks._references import refuse_twins
from lacewing.attacks._types import CLASSES
from lacewing.auditing import _cache, _checkpoints, _pool
from lacewing.auditing._bytecode import names
from lacewing.auditing._cache import Stored
from lacewing.auditing._statistics import of_module
from lacewing.auditing._work import Work, address_of, can_be_written, write_work
from lacewing.errors import UsageError
from lacewing.support.machine import usable_cores
from lacewing.support.user_code import user_code

if TYPE_CHECKING:
    from lacewing.auditing._ask import Answers

_PLAIN = (type(None), bool, int, float, complex, str, bytes)  # what cannot be trained
_CODE = (FunctionType, BuiltinFunctionType, ModuleType, type)
_METHODS = (MethodType, BuiltinFunctionType, MethodWrapperType)
_WORTH_WORKERS = 20.0  # seconds of training left below which starting worker processes saves nothing


def references(
    work: Work,
    target: Answers | None,
    *,
    unchanged: Callable[[], bool],
    folder: Path | None,
    version: str | None,
    processes: int | None,
    say: Callable[[str], None],
) -> tuple[list[Answers], list[str]]:
    """The answers of the K references, those of the first with every signal; and notes.

    References that ``folder`` holds under the same content are not trained again. The others are: the first of them
    here, timed, the rest in worker processes where that saves time and the function can be imported there.

    Args:
        work: what to train and ask.
        target: what the audited model answered; each reference is compared with it as soon as it is there. None: no
            model is audited, and references are compared with each other.
        unchanged: whether the audited model is still as it was given; asked after each training here.
        folder: see above; None: nothing is kept.
        version: of the user's, part of the keys.
        processes: worker processes; None: one a core.
        say: where to tell how long it will take.

    Raises:
        UsageError: the function fails, what it returns cannot be asked, is the audited model or a network that another
            reference is already, or it trains the audited model; the sentence names the reference.
    """
    notes: list[str] = []
    keys, why = None, ""
    if folder is not None:
        keys, why = keys_of(work, version)
        notes += [why] * bool(why)
    with TemporaryDirectory() as aside:
        place = Path(aside) if keys is None or folder is None else folder / "references"
        paths = [place / f"{key}.npz" for key in keys or [f"{k:064x}" for k in range(len(work))]]
        found: dict[int, Stored] = {}

        def take(k: int, stored: Stored | None) -> None:
            if stored is None:
                return
            _refuse_unlike(work, k, stored, target, found)
            found[k] = stored

        def trained(k: int, *, here: bool) -> None:
            if here and not unchanged():
                raise UsageError(
                    f"refit changed the audited model as it trained reference {k + 1}, so that model is no longer what "
                    "was given: train a new model, or a copy.deepcopy, in each call, and give the audit the model "
                    "again."
                )
            take(k, _cache.read(paths[k], len(work.records), _signals(work, k)))

        for k, stored in enumerate(_in_force(work, paths, notes)):
            take(k, stored)
        todo = [k for k in range(len(work)) if k not in found]
        if todo and len(todo) < len(work):
            say(f"{len(found)} of {len(work)} references are there already")
        fresh = not found
        if todo and fresh:
            first = todo.pop(0)
            say(f"training reference 1 of {len(work)}")
            with threads(1 if cores(processes) > 1 and address_of(work.refit) else None):
                train_one(work, first, paths[first])
            trained(first, here=True)
        if todo:
            each = max(stored.seconds for stored in found.values())
            _train_rest(work, todo, paths, each, cores(processes), say, notes, trained, fresh=fresh)
    notes += _cache.sizes_differ([found[k].size for k in range(len(work))], work.size)
    notes += _refuse_twins(work, target, found)
    lacking = dict.fromkeys(found[0].unmeasured.values())
    notes += [f"The shadow network (reference 1) lacks what some attacks need. {why}" for why in lacking]
    return [found[k].answers for k in range(len(work))], notes


def _refuse_twins(
    work: Work, target: Answers | None, found: Mapping[int, Stored], latest: str | None = None
) -> list[str]:
    """See `refuse_twins`: among the references, and between them and the model."""
    named = {} if target is None else {"the model": target.logits_NC}
    named |= {f"reference {k + 1}": stored.answers.logits_NC for k, stored in sorted(found.items())}
    return refuse_twins(
        named,
        mend="refit must train a new model on the records that it gets, and neither return nor load one that is there.",
        latest=latest,
        shifted=work.task in CLASSES,
        truth=work.records.y if work.task == "regression" else None,
    )


def _refuse_unlike(work: Work, k: int, stored: Stored, target: Answers | None, others: Mapping[int, Stored]) -> None:
    """Refuse a reference that answers other classes than the model, or is the model or another reference."""
    first = next(iter(others.values()), stored).answers if target is None else target
    classes, theirs = stored.answers.logits_NC.shape[1], first.logits_NC.shape[1]
    if classes != theirs:
        who = "reference 1" if target is None else "model"
        raise UsageError(
            f"reference {k + 1} answers {classes} classes and {who} {theirs}: refit must give every model the same "
            "classes, in the same order."
        )
    _refuse_twins(work, target, {**others, k: stored}, latest=f"reference {k + 1}")
    if target is not None:
        _checkpoints.refuse_shared(target.before_TNC, stored.answers.before_TNC, f"reference {k + 1}")


def _in_force(work: Work, paths: Sequence[Path], notes: list[str]) -> list[Stored | None]:
    """The finished references, without those that belong to a model of another size."""
    found = [_cache.read(path, len(work.records), _signals(work, k)) for k, path in enumerate(paths)]
    old = [stored for stored in found if stored is not None and _cache.outdated(stored, work.size)]
    if old:
        notes.append(
            f"{len(old)} references were trained again: those that were stored have {old[0].size.parameters:,} "
            f"parameters and the model {work.size.parameters:,}, so what refit builds has changed since."
        )
    return [None if stored in old else stored for stored in found]


def _train_rest(
    work: Work,
    todo: Sequence[int],
    paths: Sequence[Path],
    each: float,
    cores: int,
    say: Callable[[str], None],
    notes: list[str],
    trained: Callable[..., None],
    *,
    fresh: bool,
) -> None:
    workers = min(cores, len(todo)) if each * len(todo) > _WORTH_WORKERS else 1
    address = address_of(work.refit) if workers > 1 and can_be_written(work) else None
    if workers > 1 and address is None:
        reason = (
            "cannot import refit (a lambda, a closure, a notebook's function, or a script without `if __name__ == "
            "'__main__':`)"
            if can_be_written(work)
            else "get frames whose columns are named by words or whole numbers alone"
        )
        notes.append(f"References were trained one after another: worker processes {reason}.")
        workers = 1
    rest = each * math.ceil(len(todo) / workers)
    first = f"first reference {_spoken(each)}" if fresh else f"a reference takes {_spoken(each)}"
    count = f"the other {len(todo)} take" if len(todo) > 1 else "the last one takes"
    say(f"{first}; {count} about {_spoken(rest)} on {workers} process{'es' * (workers > 1)}")
    left = list(todo)

    def finished(k: int, seconds: float, *, here: bool) -> None:
        trained(k, here=here)
        left.remove(k)
        say(f"reference {k + 1} done ({_spoken(seconds)}); {len(left)} left")

    if address is not None:
        with TemporaryDirectory() as shared:
            write_work(Path(shared), work)
            why = _pool.run(
                {"work": shared, "refit": address},
                [{"k": k, "path": str(paths[k])} for k in todo],
                workers,
                lambda task, seconds: finished(int(task["k"]), seconds, here=False),
            )
        if why is None:
            return
        notes.append(f"References were trained one after another: worker processes cannot import refit ({why}).")
    for k in list(left):
        finished(k, train_one(work, k, paths[k]), here=True)


def train_one(work: Work, k: int, path: Path) -> float:
    """Train and ask reference ``k`` and write what it answered to ``path``, atomically; the seconds it took."""
    from torch import nn

    from lacewing.auditing import _ask
    from lacewing.auditing._opened import opened

    started = time.perf_counter()
    who = f"reference {k + 1}"
    part = work.records.at(work.in_KN[k])
    form = work.records.form
    with _seeded(work.seed_K[k]):
        x, y = form.records(part.x), form.labels(part.y)
        with user_code(f"refit of {who} ({len(part)} records, seed {work.seed_K[k]})"):
            returned = work.refit(x, y, work.seed_K[k])
        given, states = _checkpoints.split(returned, work.checkpoints, who)
        if given is None:
            raise UsageError("refit returned None: it must return the trained model.")
        model = opened(given, who)
        if work.white_box and not isinstance(model, nn.Module):
            raise UsageError(
                f"refit returned a {type(model).__name__} and model is a torch module: return the module itself."
            )
        _refuse_again(work, k, given)
        size = _cache.size(model)
        numbers = of_module(model) if work.statistics else {}
        wrap = _as_function if not work.white_box and isinstance(model, nn.Module) else _same
        asked = _ask.ask(
            wrap(model),
            work.records,
            work.population,
            queries=work.queries,
            signals=_signals(work, k),
            who=who,
            task=work.task,
            outputs=work.outputs,
        )
        answers = replace(asked.answers, **numbers)
        if _checkpoints.NEED in _signals(work, k):
            options: Any = {"task": work.task, "outputs": work.outputs, "as_model": wrap}
            named = f"checkpoints of {who}"
            before = _checkpoints.answers(states, model, answers.logits_NC, work.records, who=named, **options)
            answers = replace(answers, before_TNC=before)
    seconds = time.perf_counter() - started
    _cache.write(
        path,
        answers,
        in_N=work.in_KN[k],
        seconds=seconds,
        signals=_signals(work, k),
        unmeasured=asked.unmeasured,
        size=size,
        target=work.size,
    )
    return seconds


def _refuse_again(work: Work, k: int, model: Any) -> None:
    """Refuse what refit returned before: it goes on training one model, which then knows all records."""
    parts = list(_parts(model, set()))
    for earlier in work.returned:
        if len(earlier) == len(parts) and all(_is(kept, part) for kept, part in zip(earlier, parts, strict=True)):
            raise UsageError(
                f"refit returned for reference {k + 1} the same object as for one before, or a method or function of "
                "the same object: build a new model in each call."
            )
    with suppress(TypeError):  # of what cannot be referred to weakly
        work.returned.append([part if isinstance(part, _PLAIN) else weakref.ref(part) for part in parts])


def _is(kept: Any, part: Any) -> bool:
    if isinstance(kept, weakref.ref):
        kept = kept()
        return kept is not None and kept is part
    return type(kept) is type(part) and bool(kept == part)


def _parts(model: Any, met: set[int]) -> Iterator[Any]:
    """The objects that a model's answers come from: those behind bound methods, partial functions and closures."""
    if id(model) in met and not isinstance(model, _PLAIN):
        return
    met.add(id(model))
    owner = getattr(model, "__self__", None)
    if isinstance(model, functools.partial):
        for each in (model.func, *model.args, *(model.keywords[name] for name in sorted(model.keywords))):
            yield from _parts(each, met)
    elif isinstance(model, _METHODS) and owner is not None and not isinstance(owner, ModuleType):
        yield from _parts(owner, met)
    elif isinstance(model, FunctionType) and (held := list(_held(model))):
        for each in held:
            yield from _parts(each, met)
    else:
        yield model


def _held(function: FunctionType) -> Iterator[Any]:
    """What a function holds: its closure, its defaults, and models that are globals."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # empty
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for name in sorted({name for name, *_ in names(function.__code__)[0]} & set(function.__globals__)):
        value = function.__globals__[name]
        if not isinstance(value, _CODE) and (callable(value) or hasattr(value, "predict")):
            yield value


def keys_of(work: Work, version: str | None) -> tuple[list[str] | None, str]:
    return _cache.keys(
        work.refit,
        version,
        data=(work.records, work.population),
        settings={
            "queries": work.queries,
            "white_box": work.white_box,
            "task": work.task,
            "outputs": work.outputs,
            **({"statistics": True} if work.statistics else {}),
            **({"checkpoints": work.checkpoints} if work.checkpoints else {}),
        },
        in_KN=work.in_KN,
        seed_K=work.seed_K,
    )


def _signals(work: Work, k: int) -> frozenset[str]:
    """What is asked of reference k beside logits: all that attacks need of the shadow, nothing of the others."""
    return frozenset(work.signals) if k == 0 else frozenset()


# ----------------------------------------------------------------------------------------------------------- running


def cores(processes: int | None) -> int:
    return usable_cores() if processes is None else processes


def _same(model: Any) -> Any:
    return model


def _as_function(model: Any) -> Callable[[Any], Any]:
    """A module as a function from records to logits, since the audited model is such a function."""

    def answer(x: Any) -> Any:
        import torch

        model.eval()
        with torch.no_grad():
            if isinstance(x, dict):
                return model(**{name: torch.as_tensor(value) for name, value in x.items()})
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
def threads(count: int | None) -> Iterator[None]:
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
