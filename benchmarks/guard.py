"""What it costs to keep pruned weights at zero: a step of torch's optimisers with the guard and without.

    python benchmarks/guard.py [--quick]

Gradients are given. A step with the guard contains what its hooks do in the backward pass. CPU time of one thread,
median of rounds in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lacewing.sparsify import Guard

SHAPES: list[tuple[int, ...]] = [*[(512, 512, 3, 3)] * 4, *[(1024, 1024)] * 8, *[(256, 256, 3, 3)] * 10, (1000, 2048)]
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD, momentum": lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, 1e-3),
    "SGD, fused": lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True, fused=True),
    "AdamW, fused": lambda ps: torch.optim.AdamW(ps, 1e-3, fused=True),
}


def weights(shapes: list[tuple[int, ...]]) -> nn.ParameterList:
    torch.manual_seed(0)
    return nn.ParameterList(nn.Parameter(0.01 * torch.randn(shape)) for shape in shapes)


def prepared(shapes: list[tuple[int, ...]], make: Callable[..., Any], density: float | None) -> Callable[[], float]:
    """A function that takes one step and returns its seconds; ``density`` of kept weights, None without a guard."""
    model = weights(shapes)
    optimizer = make(list(model.parameters()))
    guard = None
    if density is not None:
        masks = {name: torch.rand(p.shape) < density for name, p in model.named_parameters()}
        guard = Guard(model, "none", masks=masks)
        guard.attach(optimizer)
    gradients: list[Tensor] = [0.01 * torch.randn(shape) for shape in shapes]

    def step() -> float:
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        start = time.process_time()
        if guard is not None:
            for parameter, held in guard.held:
                held.mask_gradient(parameter)
        optimizer.step()
        return time.process_time() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description="A step with the guard beside a plain one.")
    parser.add_argument("--quick", action="store_true", help="a hundred times fewer weights, few rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    shapes: list[tuple[int, ...]] = [(256, 512), (64, 64, 3, 3)] if quick else SHAPES
    count = sum(torch.Size(shape).numel() for shape in shapes)
    print(f"{count / 1e6:.1f} M weights, 10 % kept; ms a step, CPU time of one thread")
    for name, make in OPTIMISERS.items():
        steps = {"plain": prepared(shapes, make, None), "guard": prepared(shapes, make, 0.1)}
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        for _ in range(4 if quick else 14):
            for kind, step in steps.items():
                times[kind].append(step())
        plain, guarded = (1e3 * statistics.median(times[kind][2:]) for kind in steps)
        print(f"{name:14} plain {plain:7.2f}  guard {guarded:7.2f}  ratio {guarded / plain:.2f}", flush=True)


if __name__ == "__main__":
    main()
