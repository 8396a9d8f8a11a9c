"""Training steps as one recorded sequence of kernels that is replayed: what a small network on a GPU needs.

A step of ResNet-20 is some 400 kernels of a few microseconds, and launching them one by one takes longer than they do.
Recorded with everything a step needs (records gathered, cropped, flipped; the learning rate of the step; masks; SGD), a
step is a single launch, and the host waits for the device once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lacewing.batches import Batches

WARM_UP = 3  # steps in front of a recording, as torch asks for

Record = Callable[[Callable[[], None]], Callable[[], None]]


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Record a step as a CUDA graph; what is returned replays it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class Replay:
    """Epochs of recorded steps.

    Args:
        model: in training mode; its weights and buffers keep their memory from here on.
        batches: its records, on the model's device.
        optimizer: SGD, fused on CUDA; its learning rate becomes a tensor.
        bf16: whether the forward pass runs under autocast.
        record: makes a replayable step of a function; on the CPU, for tests, the function itself will do.

    Raises:
        RuntimeError: the model does something that cannot be recorded. Nothing has been trained then.
    """

    def __init__(
        self, model: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer, *, bf16: bool, record: Record
    ) -> None:
        self.model, self.batches, self.optimizer, self.bf16 = model, batches, optimizer, bf16
        device, count = batches.y.device, len(batches.y)
        self.size = batches.config.batch_size
        self.places = torch.arange(self.size, device=device)
        self.drawn = [tensor.to(device) for tensor in batches.draw(0)]
        self.rates = torch.zeros(len(batches), device=device)
        self.rate = torch.zeros((), device=device)
        self.at = torch.zeros(1, dtype=torch.int64, device=device)  # the step of the epoch
        self.sums = torch.zeros(2, device=device)
        for group in optimizer.param_groups:
            group["lr"] = self.rate
        last = count - (len(batches) - 1) * self.size
        kept = self._state()
        try:
            self._warm_up(min(self.size, last))
            self.last = record(lambda: self._step(last))
            self.full = record(lambda: self._step(self.size)) if len(batches) > 1 else self.last
        finally:
            self._restore(kept)

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
        """One step on the next ``count`` records, of which the host need know nothing."""
        places = self.at * self.size + self.places[:count]
        index, *where = (drawn[places] for drawn in self.drawn)
        labels = self.batches.y[index]
        self.rate.copy_(self.rates.index_select(0, self.at)[0])
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(self.batches.gather(index, *where))
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        right = (logits.detach().argmax(1) == labels).sum()
        self.sums += torch.stack([loss.detach() * count, right])
        self.at += 1

    def _warm_up(self, count: int) -> None:
        """Steps that choose kernels and make the optimiser's state; what they trained is undone afterwards."""
        if self.at.device.type != "cuda":
            return self._warm_up_steps(count)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._warm_up_steps(count)
        torch.cuda.current_stream().wait_stream(stream)
        return None

    def _warm_up_steps(self, count: int) -> None:
        for _ in range(WARM_UP):
            self.at.zero_()
            self._step(count)

    def _momentum(self) -> dict[nn.Parameter, Tensor]:
        states = {parameter: self.optimizer.state[parameter] for parameter in self.model.parameters()}
        return {p: s["momentum_buffer"] for p, s in states.items() if s.get("momentum_buffer") is not None}

    def _state(self) -> tuple[dict[str, Tensor], dict[nn.Parameter, Tensor]]:
        state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return state, {parameter: buffer.clone() for parameter, buffer in self._momentum().items()}

    def _restore(self, kept: tuple[dict[str, Tensor], dict[nn.Parameter, Tensor]]) -> None:
        """In place: a recording knows tensors by their memory. A momentum that was not there yet is zero."""
        state, momentum = kept
        self.model.load_state_dict(state)
        with torch.no_grad():
            for parameter, buffer in self._momentum().items():
                buffer.copy_(momentum[parameter]) if parameter in momentum else buffer.zero_()
