"""Pruning a tenth of large models to be kept, beside `torch.kthvalue` on the same magnitudes alone.

    python benchmarks/prune.py [--quick]

CPU time of one thread, median of rounds in turns; the second number prunes a fifth of what the first left.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lacewing import sparsify
from lacewing.config import Model
from lacewing.models import build


def transformer(depth: int, words: int, width: int = 768) -> nn.Module:
    """The linear layers of one: 108 M weights at depth 12 and 30,000 words."""
    block = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    layers = [nn.Linear(inputs, outputs, bias=False) for _ in range(depth) for inputs, outputs in block]
    return nn.Sequential(*layers, nn.Linear(width, words, bias=False))


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(model: nn.Module, rounds: int) -> str:
    magnitudes = torch.cat([model.get_parameter(name).detach().abs().flatten() for name in sparsify.prunable(model)])
    first = sparsify.prune(model, density=0.1)
    calls: dict[str, Callable[[], Any]] = {
        "kthvalue": lambda: magnitudes.kthvalue(round(0.9 * len(magnitudes))),
        "prune": lambda: sparsify.prune(model, density=0.1),
        "again": lambda: sparsify.prune(model, first, fraction=0.2),
    }
    taken: dict[str, list[float]] = {kind: [] for kind in calls}
    for _ in range(rounds):
        for kind, call in calls.items():
            taken[kind].append(seconds(call))
    kth, once, again = (statistics.median(taken[kind]) for kind in calls)
    return (
        f"{len(magnitudes) / 1e6:5.1f} M weights: kthvalue {kth:.3f} s, prune {once:.3f} s ({once / kth:.2f}), "
        f"a second level {again:.3f} s ({again / kth:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="prune() beside kthvalue.")
    parser.add_argument("--quick", action="store_true", help="small models, two rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    resnet = build(Model(name="resnet20" if quick else "resnet50"), (3, 32, 32), 1000)
    models = {"ResNet-20" if quick else "ResNet-50": resnet, "transformer": transformer(1 if quick else 12, 30_000)}
    for name, model in models.items():
        print(f"{name:12} {measure(model, 2 if quick else 5)}", flush=True)


if __name__ == "__main__":
    main()
