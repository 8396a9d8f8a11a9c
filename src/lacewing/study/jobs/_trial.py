"""A trial of the study's networks before anything is written: what a user's model does wrong shows at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from lacewing import models
from lacewing.errors import DivergedError, UsageError, UserCodeError
from lacewing.methods import Method
from lacewing.study.jobs._networks import build
from lacewing.study.jobs._observe import members
from lacewing.study.jobs._workspace import Workspace
from lacewing.study.plan import NetworkJob
from lacewing.support.mapped import blocks, take
from lacewing.support.user_code import user_code

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lacewing.training.batches import Batch

_FEW = 8  # records that a network is tried on, where a batch has as many


def try_networks(work: Workspace, networks: Iterable[NetworkJob]) -> None:
    """Train each distinct architecture for two steps on a few records, and ask it in evaluation mode.

    The batches are no larger than the study's; where its last batch holds a single record, so does one of them. Models
    of the registry, which are known to work, are tried in that case alone. Where the user has a loop of their own, that
    trains an epoch on a few records instead. The random streams of the caller stay as they were.

    Raises:
        UserCodeError: the model, or the loop, fails.
        UsageError: it has nothing to train, answers something else than finite logits (records, classes), or changes
            its input.
    """
    import torch

    if work.device == "cuda" and not torch.cuda.is_available():
        return  # the GPUs are those of a cluster
    alike: dict[str, list[NetworkJob]] = {}
    for job in networks:
        shape = job.spec.settings() if job.spec.reshapes else None
        train, trainer = job.train, None if type(job.spec).trainer is Method.trainer else job.method
        kind = (job.model, shape, trainer, train.precision, train.channels_last, train.dropout, train.fit)
        alike.setdefault(repr(kind), []).append(job)
    for jobs in alike.values():
        recipes = {(o.seed, o.role, o.world is None, o.train.holdout, o.train.batch_size): o for o in jobs}
        loop = jobs[0].train.fit is not None
        lonely = "" if loop else next((found for job in recipes.values() if (found := _last_of_one(work, job))), "")
        if lonely or models.is_own(jobs[0].model) or jobs[0].spec.source is not None or loop:
            with torch.random.fork_rng(["cuda"] if work.device == "cuda" else []):
                _try(work, jobs, lonely)


def _try(work: Workspace, jobs: Sequence[NetworkJob], lonely: str) -> None:
    import torch
    from torch.nn.parameter import is_lazy

    from lacewing.study.accounting import nonzero
    from lacewing.training.batches import Batches
    from lacewing.training.loop import lay_out, train_step
    from lacewing.training.optimizers import optimizer_of

    job, place = jobs[0], models.named(jobs[0].model)
    if job.spec.reshapes:
        place = f"network '{job.network}': {place}"
    try:
        model = build(work, job)
    except UsageError as error:
        if isinstance(error, UserCodeError) or not job.spec.reshapes:
            raise
        raise type(error)(f"network '{job.network}': {error}") from None
    parameters = list(model.parameters())
    if any(is_lazy(parameter) for parameter in parameters):
        raise UsageError(f"{place} has lazy layers: give every layer its sizes.")
    if not any(parameter.requires_grad for parameter in parameters):
        raise UsageError(f"{place} has no parameters to train: return a module that has some.")

    channels_last = lay_out(model, work.records.x.ndim, job.train.channels_last)
    rows = np.arange(min(_FEW, len(work.records)))
    if work.study.of_tokens():  # of the largest ids, which an embedding may lack
        largest = np.concatenate([block.max(axis=1) for block in blocks(work.records.x)])
        rows = np.argsort(-largest, kind="stable")[:_FEW]
    x, y = work.records.x[rows], work.records.y[rows]

    def batch(count: int) -> Batch:
        config = job.train.model_copy(update={"batch_size": count})
        batches = Batches(x, y, config, work.normalisation, torch.device(work.device), channels_last)
        return next(batches.epoch(0))

    if job.train.fit is not None:
        _try_loop(work, job)
    optimizer = optimizer_of(model.parameters(), job.train, lr=1e-9)
    each = f" of shape {work.dataset.shape}"
    few = min(_FEW, max(other.train.batch_size for other in jobs))
    steps = [] if job.train.fit is not None else [(few, ""), (few, "")]
    for count, why in (*steps, *([(1, lonely)] if lonely else [])):
        model.train()
        trained_on = batch(count)
        with _theirs(job, f"{place}, in training mode on {_spoken(count)}{each}{why},"):
            answer, as_it_was = _forward(model, trained_on.inputs, job.train.precision)
        _check(place, "training", answer, as_it_was, trained_on.inputs, work.dataset.classes)
        with _theirs(job, f"{place}: a training step on {_spoken(count)}{why}"):
            train_step(model, trained_on, optimizer, job.train)
    if (trainer := job.spec.trainer(job.train, len(members(work, job)[0]))) is not None:
        nonzero(job, copy.deepcopy(model))  # refuses a model that cannot be trained so
        batches = Batches(x, y, job.train, work.normalisation, torch.device(work.device), channels_last)
        with _theirs(job, f"{place}: a training step of method {job.method}"):
            trainer.epoch(model, batches, optimizer, 0, [1e-9] * len(batches), {})
    model.eval()
    for count in (few, 1):
        inputs = batch(count).inputs
        with torch.no_grad(), _theirs(job, f"{place}, in evaluation mode on {_spoken(count)}{each},"):
            answer, as_it_was = _forward(model, inputs, "fp32")
        _check(place, "evaluation", answer, as_it_was, inputs, work.dataset.classes)


def _try_loop(work: Workspace, job: NetworkJob) -> None:
    """Have the user's loop train an epoch on two batches of the network's records, and end it."""
    from lacewing.training.own_loop import train_by

    kept, records = members(work, job)[0][: 2 * job.train.batch_size], work.records_of(job)
    with suppress(DivergedError):  # this is told of the network that does, where there is one
        train_by(
            build(work, job),
            take(records.x, kept),
            records.y[kept],
            job.train,
            normalisation=work.normalisation,
            seed=0,
            stop_after=1,
        )


def _last_of_one(work: Workspace, job: NetworkJob) -> str:
    """Words that say so where the last batch of a network's epoch holds a single record; else none."""
    kept, _, _ = members(work, job)
    size = job.train.batch_size
    if len(kept) % size != 1 and size != 1:
        return ""
    batches = math.ceil(len(kept) / size)
    return f" (the last of {batches} batches: {len(kept)} records, train.batch_size = {size}; choose another size)"


@contextmanager
def _theirs(job: NetworkJob, place: str) -> Iterator[None]:
    """What a user's model raises is the user's; what one of ours raises is ours, save that it was given one record."""
    if models.is_own(job.model) or job.spec.source is not None or "(the last of" in place:
        with user_code(place):
            yield
    else:
        yield


def _forward(model: nn.Module, inputs: Tensor, precision: str) -> tuple[object, Tensor]:
    """The answer, and what the inputs were before."""
    import torch

    before = inputs.clone()
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return model(inputs), before


def _check(place: str, mode: str, answer: object, as_it_was: Tensor, inputs: Tensor, classes: int) -> None:
    """Refuse what is not finite logits, and a model that wrote into its input."""
    import torch

    records = len(inputs)
    wanted = f"it must return logits of shape ({records}, {classes}): a row a record, a column a class of the data"
    if not isinstance(answer, torch.Tensor):
        raise UsageError(f"{place} returns a {type(answer).__name__} in {mode} mode; {wanted}.")
    if answer.shape != (records, classes) or not answer.is_floating_point():
        kind = str(answer.dtype).removeprefix("torch.")
        raise UsageError(
            f"{place} returns {kind} of shape {tuple(answer.shape)} to {_spoken(records)} in {mode} mode; {wanted}."
        )
    if not torch.isfinite(answer).all():
        raise UsageError(f"{place} returns NaN or infinite values in {mode} mode, before any training; mend the model.")
    if not torch.equal(as_it_was, inputs):
        raise UsageError(f"{place} changes its input in place in {mode} mode: let it work on a copy.")


def _spoken(records: int) -> str:
    return f"{records} record{'s' * (records != 1)}"
