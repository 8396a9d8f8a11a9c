"""Times a few training steps as a worker does them: a process of one thread that ``lacewing.study.estimate`` starts.

It receives what to time, says that it is ready, waits for another message, so that several can begin together, and
sends what it measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from lacewing import models
from lacewing.bench._measure import held_bytes, training_step
from lacewing.config import Train
from lacewing.inputs import network_inputs
from lacewing.methods import Dense, DpImp, DpSgd, of_entry
from lacewing.signals import observe
from lacewing.sparsify import prune
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import plain_weights
from lacewing.study.declared import Study, load_study
from lacewing.study.plan import NetworkJob
from lacewing.support.child import Parent
from lacewing.support.machine import peak_memory
from lacewing.training.loop import lay_out, train
from lacewing.training.optimizers import optimizer_of
from lacewing.training.private import PrivateSgd

SMALL = 32  # most records of the first, rough timing
FEW = 2  # before that, to see how many records time allows
FORWARD = 250  # most records whose observation is timed
LONGEST = 10.0  # seconds on the wall for what follows the first step; the rest is extrapolated
_LONG = LONGEST / 4  # a first step that takes longer counts, and is the only one
_OF_A_STEP = 1 / 3  # what an answer takes of a step, where time is up: backward costs twice the forward pass


@dataclass(frozen=True)
class Kind:
    """Networks whose training steps cost the same."""

    name: str = field(compare=False)
    built: str = ""  # what the entry says of its architecture, as JSON; "": the study's model
    pruned: bool = False
    batch_size: int = 64
    precision: str = "fp32"
    channels_last: bool = True
    augment: tuple[str, ...] = ()
    private: str = ""  # trained by DP-SGD: "noise", or "clipping" alone
    optimizer: str = "sgd"
    clip_norm: float = 0.0
    momentum: float | None = None  # None: the default of the optimiser
    optimizer_options: str = "{}"  # as JSON

    @classmethod
    def of(cls, job: NetworkJob) -> Kind:
        """The kind of a planned network."""
        own = {"model": job.spec.model, "method": job.spec.settings() if job.spec.reshapes else {}}
        built = json.dumps(own, sort_keys=True) if any(own.values()) else ""
        pruned, private = job.spec.masked, ""
        if isinstance(job.spec, DpSgd | DpImp):
            private = "clipping" if job.spec.noise == 0 else "noise"
        of_steps = {"batch_size", "precision", "channels_last", "augment", "optimizer", "clip_norm"}
        settings = job.train.model_dump(include=of_steps)
        settings["momentum"] = job.train.momentum
        settings["optimizer_options"] = json.dumps(job.train.optimizer_options, sort_keys=True)
        name = job.network if built or private else "dense"
        return cls("pruned" if pruned and not private else name, built, pruned, private=private, **settings)

    def build(self, study: Study, shape: Sequence[int], classes: int) -> nn.Module:
        """A fresh network of this kind."""
        own = json.loads(self.built) if self.built else {"model": {}, "method": {}}
        model = models.build(study.model_of(Dense(model=own["model"])), tuple(shape), classes)
        return of_entry(own["method"], 0, {}).build(model) if own["method"] else model

    def train(self, records: int, batch_size: int) -> Train:
        """Settings of a training that is timed: as the study has them, with a rate that moves nothing."""
        momentum: dict[str, Any] = {} if self.momentum is None else {"momentum": self.momentum}
        return Train(
            epochs=10**5,
            batch_size=min(batch_size, records),
            lr=1e-6,
            schedule="constant",
            precision=self.precision,  # type: ignore[arg-type]
            channels_last=self.channels_last,
            augment=self.augment,  # type: ignore[arg-type]
            optimizer=self.optimizer,  # type: ignore[arg-type]
            clip_norm=self.clip_norm,
            optimizer_options=json.loads(self.optimizer_options),
            **momentum,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Kind:
        """From JSON."""
        return cls(**{**fields, "augment": tuple(fields["augment"])})


class _Enough(Exception):
    """Ends a training that has run long enough."""


@dataclass(frozen=True)
class _Bench:
    """What is trained on: N records of a study, on a device."""

    study: Study
    x: Any
    y: Any
    normalisation: tuple[Any, Any]
    classes: int
    device: str

    def model(self, kind: Kind) -> tuple[nn.Module, Guard | None]:
        model = kind.build(self.study, self.x.shape[1:], self.classes).to(self.device)
        masks = prune(model, fraction=0.5) if kind.pruned and plain_weights(model) else None
        return model, Guard(model, "init", masks=masks) if masks else None

    def step(self, kind: Kind, records: int, batch_size: int, seconds: float) -> float:
        """Seconds of a step, the median over epochs of ``records``.

        The first, which warms up, does not count, unless it takes so long that it is the only one.
        """
        model, guard = self.model(kind)
        config = kind.train(records, batch_size)
        ends: list[float] = []
        begin = time.perf_counter()

        def on_epoch(_: object) -> None:
            ends.append(time.perf_counter())
            if len(ends) == 1 and ends[0] - begin > _LONG:
                ends.insert(0, begin)
                raise _Enough
            if len(ends) > 1 and ends[-1] - ends[0] >= seconds:
                raise _Enough

        with suppress(_Enough):
            train(
                model,
                self.x[:records],
                self.y[:records],
                config,
                normalisation=self.normalisation,
                seed=0,
                guard=guard,
                on_epoch=on_epoch,
                trainer=PrivateSgd(float(kind.private == "noise"), 1.0) if kind.private else None,
            )
        return float(median(np.diff(ends))) / -(-records // config.batch_size)


def measure(bench: _Bench, kinds: Sequence[Kind], batches: Sequence[int], seconds: float) -> dict[str, Any]:
    """Seconds of a step of each kind, while time allows, and memory.

    The first kind is timed at its batch size or the largest that time allows; others, where their own takes too long,
    at a small one, and scaled as the first. After the first step nothing is timed that would not end in ``LONGEST``.

    Args:
        bench: the records; at most one epoch over them is timed.
        kinds: at least one.
        batches: of each kind, the records of a step in training.
        seconds: for all of it, roughly.

    Returns:
        ``start``: seconds that a process takes before its first step; ``steps``: seconds of a step, None where time
        was up; ``records``: of each step that was timed; ``forward``: seconds of an answer; ``peak``: bytes of a step,
        None where time was up and they cannot be counted; ``idle``, ``resident``: bytes of this process before its
        first step and at most, None where the system does not say.
    """
    begin, idle = time.perf_counter(), peak_memory()
    optimizer_of([nn.Parameter(torch.zeros(1))], kinds[0].train(1, 1))  # torch's first imports seconds of modules
    few = min(FEW, batches[0])
    first = bench.step(kinds[0], few, few, 0.0) / few
    end = time.perf_counter() + LONGEST

    def fits(seconds: float) -> bool:
        return time.perf_counter() + seconds <= end

    least = max(few, min(SMALL, int(seconds / 4 / first)))  # a step of large images takes seconds
    if least > few:
        bench.step(kinds[0], min(least, batches[0]), min(least, batches[0]), 0.0)  # libraries choose their kernels
    start = time.perf_counter() - begin
    steps: list[float | None] = []
    records: list[int | None] = []
    a_record = first
    growth = 1.0  # seconds a record of the first kind at its batch size, relative to a small one
    for kind, batch in zip(kinds, batches, strict=True):
        left = max(begin + start + seconds - time.perf_counter(), 0.0)
        if steps and (not left or not fits(2 * min(least, batch) * a_record)):
            steps.append(None)
            records.append(None)
            continue
        small = min(least, batch)
        again = steps or least > few or first * few < seconds / 4
        rough = bench.step(kind, small, small, 0.02) / small if again else first
        share = left / 2 if not steps else left / (len(kinds) - len(steps))
        size = min(batch, max(small, int(share / 4 / rough)))
        if steps and size < batch:
            each, size = rough * growth, small
        elif size == small and rough * size > share / 4:  # one measurement must do
            each = rough
        else:
            an_epoch = size * max(1, min(len(bench.y) // size, int(share / 4 / (rough * size))))
            each = bench.step(kind, an_epoch, size, share / 4) / size
        if not steps:
            growth, a_record = each / rough, each
        steps.append(each * batch)
        records.append(size)
    asked = fits(4 * few * a_record)  # two answers about each of a few records, twice
    forward = _forward(bench, kinds[0], seconds / 8, a_record) if asked else _OF_A_STEP * a_record
    return {
        "start": start,
        "steps": steps,
        "records": records,
        "forward": forward,
        "peak": _peak(bench, kinds[0], batches[0])
        if fits(3 * few * a_record)
        else _counted(bench, kinds[0], batches[0]),
        "idle": idle,
        "resident": peak_memory(),
    }


def _forward(bench: _Bench, kind: Kind, seconds: float, a_record: float) -> float:
    """Seconds in which a trained network answers about one record."""
    model, _ = bench.model(kind)
    lay_out(model, bench.x.ndim, kind.channels_last)
    records = min(len(bench.y), FORWARD, max(FEW, int(seconds / max(a_record, 1e-9))))

    def ask() -> float:
        begin = time.perf_counter()
        observe(
            model, bench.x[:records], normalisation=bench.normalisation, sensitivity_of=np.ones(records, bool), draws=1
        )
        return (time.perf_counter() - begin) / (2 * records)

    ask()
    return ask()


def _peak(bench: _Bench, kind: Kind, batch: int) -> int:
    """Bytes that a training step holds, see `held_bytes`: counted for few records, of which it is a linear function."""
    model, _ = bench.model(kind)
    shape = (1, -1) + (1,) * (bench.x.ndim - 2)
    mean, std = (torch.from_numpy(a).view(shape) for a in bench.normalisation)
    channels_last = lay_out(model, bench.x.ndim, kind.channels_last)
    optimizer = optimizer_of(model.parameters(), kind.train(len(bench.y), batch))

    def held(records: int) -> int:
        labels = torch.from_numpy(bench.y[:records]).to(bench.device)
        inputs = network_inputs(torch.from_numpy(bench.x[:records]), mean, std).to(bench.device)
        if channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return held_bytes(training_step(model, optimizer, inputs, labels, kind.precision), model, optimizer)

    few, more = min(FEW, batch), min(2 * FEW, batch)
    found = held(few)
    return found if more == few else found + (held(more) - found) * (batch - few) // (more - few)


def _counted(bench: _Bench, kind: Kind, batch: int) -> int | None:
    """As ``_peak``, counted without computing the step; None for a model that cannot be run without values."""
    from lacewing.study.estimate import _machines

    with suppress(Exception):
        return _machines.count(kind, bench.study, bench.x.shape[1:], bench.classes, batch).held
    return None


def serve() -> None:
    """See the module."""
    parent = Parent()
    try:
        setup = parent.receive()
        torch.set_num_threads(1)
        with np.load(setup["sample"], allow_pickle=False) as arrays:
            sample = dict(arrays)
        normalisation = sample["mean"], sample["std"]
        study = load_study(setup["study"])
        bench = _Bench(study, sample["x"], sample["y"], normalisation, setup["classes"], setup["device"])
        kinds = [Kind.from_dict(fields) for fields in setup["kinds"]]
        parent.send({"ready": True})
        parent.receive()
        parent.send(measure(bench, kinds, setup["batches"], setup["seconds"]))
    except Exception as error:  # a model that this machine cannot train: the plan stands without an estimate
        parent.send({"error": " ".join(f"{type(error).__name__}: {error}".split())})


if __name__ == "__main__":
    serve()
