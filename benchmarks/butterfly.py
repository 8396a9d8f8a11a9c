"""Linear butterfly layers beside lazylinop, dense layers and their compiled form; a large convolution beside dense.

    python benchmarks/butterfly.py [--quick] [--only lazylinop|dense|compiled|conv]...

CPU time of one thread, median of rounds in turns. Layers are square Monarch chains in fp32. lazylinop gets records in
columns and its operator built beforehand; ours gets rows, multiplies by its gain and adds no bias. Every way must give
what the eager layer gives, or the script ends with an error. The roofline is that of the arithmetic of a chain applied
factor by factor, at the rate of a product of two 1,024 x 1,024 matrices in the same run. The convolution has 512
channels on 4 x 4 images and its cheapest chain of two factors. Workers of studies keep memory that is freed, so that
its pages are not cleared at each step; to measure as there, set MALLOC_TRIM_THRESHOLD_=4294967296 and
MALLOC_MMAP_THRESHOLD_=1073741824.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from lacewing.sparsify import Chain, KSConv2d, KSLinear

Call = Callable[[], Any]
PARTS = ["lazylinop", "dense", "compiled", "conv"]


def medians(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Median microseconds a call; a round of each takes at least a millisecond."""
    often = {}
    for name, call in calls.items():
        call()
        start = time.process_time()
        call()
        often[name] = max(1, round(1e-3 / max(time.process_time() - start, 1e-6)))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    begun, rounds = time.process_time(), 0
    while rounds < 5 or time.process_time() - begun < seconds * len(calls):
        for name, call in calls.items():
            call()  # untimed: what it needs is in cache no more
            start = time.process_time()
            for _ in range(often[name]):
                call()
            taken[name].append((time.process_time() - start) / often[name])
        rounds += 1
    return {name: 1e6 * statistics.median(values) for name, values in taken.items()}


def compiled(layer: nn.Linear | KSLinear, batches: list[int], seconds: float) -> list[float]:
    """Print a line for each batch size and pass of a square layer; returns compiled / eager."""
    torch.compiler.reset()  # all layers share what is compiled for their shapes, and torch keeps eight of those
    n = layer.in_features
    other = torch.compile(layer, fullgraph=True, dynamic=False)
    ratios = []
    for batch in batches:
        x, upstream = torch.randn(batch, n, requires_grad=True), torch.randn(batch, n)
        moved = [x, *layer.parameters()]

        def forward(way: Any, x: torch.Tensor = x) -> Any:
            with torch.no_grad():
                return [way(x)]

        def both(way: Any, x: torch.Tensor = x, moved: Any = moved, upstream: torch.Tensor = upstream) -> Any:
            return torch.autograd.grad(way(x), moved, upstream)

        for passes, work in (("forward", forward), ("forward + backward", both)):
            for ours, theirs in zip(work(other), work(layer), strict=True):
                torch.testing.assert_close(ours, theirs)
            calls: dict[str, Call] = {"eager": partial(work, layer), "compiled": partial(work, other)}
            taken = medians(calls, seconds)
            ratios.append(taken["compiled"] / taken["eager"])
            print(
                f"{type(layer).__name__:8} n = {n:<5} batch {batch:<5} {passes:19} eager {taken['eager']:9.1f} us, "
                f"compiled {taken['compiled']:9.1f} us ({ratios[-1]:.2f})",
                flush=True,
            )
    return ratios


def beside_lazylinop(n: int, batches: list[int], seconds: float) -> None:
    """Print a line for each batch size: the forward pass of ours / lazylinop's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = torch.get_num_threads()
        from lazylinop.butterfly import ksm

        torch.set_num_threads(threads)  # its import changes them
    layer = KSLinear(n, n, bias=False)
    factors = [factor.detach() for factor in layer.factors]
    operator = ksm([*factors[:-1], layer.gain * factors[-1]], {"backend": "xp", "params": None})
    for batch in batches:
        x = torch.randn(batch, n)
        columns = x.t().contiguous()

        def ours(x: torch.Tensor = x) -> Any:
            with torch.no_grad():
                return layer(x)

        def theirs(columns: torch.Tensor = columns) -> Any:
            return operator @ columns

        torch.testing.assert_close(theirs().t(), ours())
        taken = medians({"ours": ours, "lazylinop": theirs}, seconds)
        print(
            f"n = {n:<5} batch {batch:<5} {'forward':19} ours  {taken['ours']:9.1f} us, lazylinop "
            f"{taken['lazylinop']:8.1f} us ({taken['ours'] / taken['lazylinop']:.2f})",
            flush=True,
        )


def beside_dense(n: int, batch: int, layers: int, seconds: float) -> None:
    """Print a line: forward + backward of butterfly / dense, ``layers`` of each with ReLUs between."""
    ours, dense = (
        nn.Sequential(*(module for _ in range(layers) for module in (kind(n, n), nn.ReLU())))[:-1]
        for kind in (KSLinear, nn.Linear)
    )
    x, upstream, square = torch.randn(batch, n, requires_grad=True), torch.randn(batch, n), torch.randn(1024, 1024)

    def step(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.grad = None
        x.grad = None
        model(x).backward(upstream)

    calls: dict[str, Call] = {
        "ours": partial(step, ours),
        "dense": partial(step, dense),
        "product": partial(torch.mm, square, square),
    }
    taken = medians(calls, seconds)
    nnz = sum(module.chain.nnz for module in ours.modules() if isinstance(module, KSLinear))
    floor = taken["product"] * 3 * batch * nnz / 1024**3  # a product and its two gradients
    print(
        f"n = {n:<5} batch {batch:<5} {'forward + backward':19} ours  {taken['ours']:9.1f} us, dense "
        f"{taken['dense']:12.1f} us ({taken['ours'] / taken['dense']:.2f}), {layers} layer{'s' * (layers > 1)}, "
        f"{taken['ours'] / floor:.1f} x its roofline",
        flush=True,
    )


def convolution(channels: int, batches: list[int], seconds: float) -> float:
    """Print a line for each layout, batch size and pass: a convolution of ours / torch's; returns the largest ratio."""
    ratios = []
    for layout in (torch.contiguous_format, torch.channels_last):
        dense = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(memory_format=layout)  # type: ignore[call-overload]
        ours = KSConv2d.like(dense, Chain.cheapest(channels, 9 * channels, 2))
        torch.testing.assert_close(ours.plain()(torch.ones(1, channels, 4, 4)), ours(torch.ones(1, channels, 4, 4)))
        for batch in batches:
            x, upstream = (torch.randn(batch, channels, 4, 4).to(memory_format=layout) for _ in range(2))
            x.requires_grad_()

            def forward(layer: torch.nn.Module, x: torch.Tensor = x) -> None:
                with torch.no_grad():
                    layer(x)

            def both(layer: torch.nn.Module, x: torch.Tensor = x, upstream: torch.Tensor = upstream) -> None:
                torch.autograd.grad(layer(x), [x, *layer.parameters()], upstream)

            for passes, work in (("forward", forward), ("forward + backward", both)):
                taken = medians({"ours": partial(work, ours), "dense": partial(work, dense)}, seconds)
                ratios.append(taken["ours"] / taken["dense"])
                print(
                    f"{channels} channels, {str(layout).removeprefix('torch.'):17} batch {batch:<4} {passes:19} ours "
                    f"{taken['ours']:9.1f} us, dense {taken['dense']:9.1f} us ({ratios[-1]:.2f})",
                    flush=True,
                )
    return max(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description="Butterfly layers beside other ways to multiply.")
    parser.add_argument("--quick", action="store_true", help="one small layer, a moment each")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part of it (repeatable)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.ones(2**22)  # once 16 MB are given back, glibc keeps memory: else each call asks for its megabytes anew
    sizes, seconds = ([64], 0.02) if given.quick else ([256, 1024, 4096], 0.5)
    parts, ratios = given.only or PARTS, []
    if "lazylinop" in parts:
        for n in sizes:
            beside_lazylinop(n, [1, 64], seconds)
    if "dense" in parts:
        for n, batch, layers in [(64, 64, 2)] if given.quick else [(1024, 1024, 1), (4096, 1024, 1), (768, 128, 8)]:
            beside_dense(n, batch, layers, seconds)
    if "compiled" in parts:
        compiled(nn.Linear(8, 8), [1], seconds)  # hardly any arithmetic: what torch.compile itself takes
        for n in sizes:
            ratios += compiled(KSLinear(n, n), [64] if given.quick else [1, 64, 1024], seconds)
        print(f"ratio: {max(ratios):.2f}, compiled / eager at most")
    if "conv" in parts:
        most = convolution(64, [8], 0.02) if given.quick else convolution(512, [8, 128], 3)
        print(f"ratio: {most:.2f}, convolution / dense at most")


if __name__ == "__main__":
    main()
