"""Record a training step once and replay it, which makes small networks on a GPU faster.

A step of ResNet-20 has some 400 kernels of a few microseconds, and launching them takes longer than running them. A
recording holds everything that a step needs (records gathered, cropped, flipped; the learning rate; masks; the
optimiser), so that a step is a single launch and the host waits for the device once per epoch. A recording serves every
network of its shape: the next network's records, weights, masks and optimiser state are copied into its memory.
"""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lacewing.errors import UsageError, did_you_mean
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import Masks
from lacewing.training import objective
from lacewing.training.batches import Batches
from lacewing.training.optimizers import clip, optimizer_of, tensors_of

WARM_UP = 3  # steps before a recording, as torch requires
KEPT = 4  # recordings in memory: of dense, pruned and some butterfly networks

WAYS = ("eager", "compiled", "graph", "compiled-graph")
_RECORDS = ("x", "y", "mean", "std")  # the tensors of `Batches`
_PER_STEP = {"epochs", "lr", "schedule", "milestones", "gamma", "warmup", "holdout"}  # of [train]; given to an epoch

Record = Callable[[Callable[[], None]], Callable[[], None]]
Prepare = Callable[[nn.Module], Callable[..., Any]]


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Record a step as a CUDA graph; returns a function that replays it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def recordings_for(device: str, way: str | None = None, *, strict: bool = False) -> Recordings | None:
    """How training steps run on a device; None: one operation after another.

    Args:
        device: "cpu" or "cuda".
        way: "eager", "compiled", "graph" or "compiled-graph"; by default the environment's ``LACEWING_STEPS``, or
            "eager": the others have not been tested on a GPU yet.
        strict: see ``Recordings``.

    Raises:
        UsageError: an unknown name, or graphs without a CUDA device.
    """
    way = way or os.environ.get("LACEWING_STEPS") or "eager"
    if way not in WAYS:
        raise UsageError(f"LACEWING_STEPS={way}: {did_you_mean(way, WAYS)}")
    if way == "eager":
        return None
    if way.endswith("graph") and device != "cuda":
        raise UsageError(f"LACEWING_STEPS={way} needs a CUDA device; on the CPU use eager or compiled.")
    if way.startswith("compiled"):  # beyond this limit torch silently runs further shapes uncompiled
        torch._dynamo.config.recompile_limit = 256
    compiled = partial(torch.compile, dynamic=False)  # a smaller last batch is compiled separately
    return Recordings(
        cuda_graph if way.endswith("graph") else lambda step: step,
        compiled if way.startswith("compiled") else lambda model: model,
        strict=strict,
        way=way,
    )


class Recordings:
    """The recordings of a process, one per shape of networks; the least recently used are dropped first.

    Args:
        record: turns a step function into a replayable one; tests on the CPU use the function itself.
        prepare: turns the model into the function to record: ``torch.compile``, or the model itself.
        strict: whether a model that cannot be recorded is an error; otherwise its steps run one by one, with a note.
        way: the name of this mode in job.json.
    """

    def __init__(
        self,
        record: Record = cuda_graph,
        prepare: Prepare = lambda model: model,
        *,
        strict: bool = False,
        way: str = "graph",
    ) -> None:
        self.record, self.prepare, self.strict, self.way = record, prepare, strict, way
        self.kept: OrderedDict[tuple[object, ...], Replay] = OrderedDict()

    def of(self, model: nn.Module, batches: Batches, masks: Masks) -> Replay:
        """The recording for a model, its records and its masks, of which only the shapes matter.

        Raises:
            RuntimeError: an operation of the model cannot be recorded.
        """
        key = _shape_of(model, batches, masks)
        if key not in self.kept:
            self.kept[key] = Replay(model, batches, masks, record=self.record, prepare=self.prepare)
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        self.kept.move_to_end(key)
        return self.kept[key]


def _shape_of(model: nn.Module, batches: Batches, masks: Masks) -> tuple[object, ...]:
    """The key of a recording: everything but the content of tensors."""
    tensors = tuple((name, t.shape, t.dtype, t.stride(), t.requires_grad) for name, t in _tensors(model))
    config = batches.config.model_dump(exclude=_PER_STEP)
    records = (batches.x.shape, batches.x.dtype, str(batches.y.device), batches.channels_last)
    return repr(model), tensors, repr(config), records, tuple(masks)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


class Replay:
    """Epochs of recorded steps.

    Args:
        model: a network of the recorded shape, in training mode; it is not changed.
        batches: the records of the network, on its device.
        masks: by parameter name, True for a kept weight.
        record, prepare: see ``Recordings``.

    Raises:
        RuntimeError: an operation of the model cannot be recorded.
        TypeError: the model cannot be copied.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        masks: Masks,
        *,
        record: Record,
        prepare: Prepare,
    ) -> None:
        self.model, self.batches = copy.deepcopy(model), copy.copy(batches)
        for name in _RECORDS:
            setattr(self.batches, name, getattr(batches, name).clone())
        self.forward = prepare(self.model)
        config, device = batches.config, batches.y.device
        self.bf16, self.size = config.precision == "bf16", config.batch_size
        self.places = torch.arange(self.size, device=device)
        self.drawn = [tensor.to(device) for tensor in batches.draw(0)]
        self.rates = torch.zeros(len(batches), device=device)
        self.rate = torch.zeros((), device=device)
        self.at = torch.zeros(1, dtype=torch.int64, device=device)  # the step of the epoch
        self.sums = torch.zeros(2, device=device)
        cuda = device.type == "cuda"
        self.optimizer = optimizer_of(
            self.model.parameters(), config, lr=self.rate, fused=True if cuda else None, capturable=cuda
        )
        self.guard = Guard(self.model, "none", masks=masks)
        self.guard.attach(self.optimizer)
        last = len(batches.y) - (len(batches) - 1) * self.size
        self._warm_up(
            {last, self.size} if len(batches) > 1 else {last}
        )  # both sizes are compiled before they are recorded
        self.last = record(lambda: self._step(last))
        self.full = record(lambda: self._step(self.size)) if len(batches) > 1 else self.last

    @contextmanager
    def lent_to(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, masks: Masks
    ) -> Iterator[None]:
        """Train ``model`` within this context: its tensors and its optimiser's use the recording's memory."""
        for name in _RECORDS:
            getattr(self.batches, name).copy_(getattr(batches, name))
        for (_, held), mask in zip(self.guard.held, masks.values(), strict=True):
            held.set(mask)
        with torch.no_grad():
            for (_, ours), (_, theirs) in zip(_tensors(self.model), _tensors(model), strict=True):
                ours.copy_(theirs)
                theirs.data = ours.data
        self._lend_state(model, optimizer)
        try:
            yield
        finally:
            for _, tensor in _tensors(model):
                tensor.data = tensor.data.clone()
            for parameter in model.parameters():
                kept = {kind: tensor.clone() for kind, tensor in tensors_of(optimizer, parameter).items()}
                optimizer.state[parameter].update(kept)

    def _lend_state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Share the tensors of the optimiser; before its first step they are zero."""
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            before = tensors_of(optimizer, theirs)
            for kind, tensor in tensors_of(self.optimizer, ours).items():
                tensor.copy_(before[kind]) if kind in before else tensor.zero_()
                optimizer.state[theirs][kind] = tensor

    def epoch(self, seed: int, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Train an epoch.

        Args:
            seed: of the pass over the records, see ``Batches.draw``.
            rates: the learning rate of each of its steps.

        Returns:
            The sum of losses over records, and the number of right answers; on the device.
        """
        for kept, new in zip(self.drawn, self.batches.draw(seed), strict=True):
            kept.copy_(new, non_blocking=True)
        self.rates.copy_(torch.tensor(rates))
        self.at.zero_()
        self.sums.zero_()
        for _ in range(len(self.batches) - 1):
            self.full()
        self.last()
        loss, right = self.sums.clone()
        return loss, right

    def _step(self, count: int) -> None:
        """One step on the next ``count`` records, without synchronising with the host."""
        places = self.at * self.size + self.places[:count]
        inputs, labels, mixed = self.batches.batch(*(drawn[places] for drawn in self.drawn))
        self.rate.copy_(self.rates.index_select(0, self.at)[0])
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.forward(inputs)
        smoothing = self.batches.config.label_smoothing
        loss, recorded = objective.losses(logits.float(), labels, smoothing=smoothing, mixed=mixed)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip(self.model.parameters(), self.batches.config)
        self.optimizer.step()
        self.sums += torch.stack([recorded * count, objective.right(logits, labels, mixed).sum()])
        self.at += 1

    def _warm_up(self, counts: Collection[int]) -> None:
        """Run steps on the copied model, so that kernels are chosen and the optimiser's state exists."""
        if self.at.device.type != "cuda":
            return self._warm_up_steps(counts)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._warm_up_steps(counts)
        torch.cuda.current_stream().wait_stream(stream)
        return None

    def _warm_up_steps(self, counts: Collection[int]) -> None:
        for count in [count for count in sorted(counts) for _ in range(WARM_UP)]:
            self.at.fill_(0 if count == self.size else len(self.batches) - 1)  # mixup pairs records within their batch
            self._step(count)
