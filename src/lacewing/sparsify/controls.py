"""Controls: networks that share one property of a pruned network and lack another, to tell which of them matters.

- ``random_mask``: as dense in every layer, at random places (Frankle et al. 2021, "Pruning neural networks at
  initialization: why are we missing the mark?").
- ``shuffle``: as dense in every unit, or every input, at random places within it.
- ``redraw``: the same mask on weights drawn anew (Frankle & Carbin 2019).
- ``narrow``: no mask at all: a dense network of as many parameters.

Each is trained like the pruned network: ``guard = Guard(model, masks=masks)``, then the same ``fit(model, guard)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.sparsify.masks import Masks, apply_masks


def random_mask(masks: Mapping[str, Tensor], seed: int) -> Masks:
    """Masks that keep as many weights of each layer as the given ones, anywhere in it."""
    return {name: _permuted(mask.reshape(1, -1), seed, name).view_as(mask) for name, mask in masks.items()}


def shuffle(masks: Mapping[str, Tensor], seed: int, *, within: Literal["outputs", "inputs"] = "outputs") -> Masks:
    """Masks that keep as many weights of each output unit (or of each input) as the given ones, anywhere in it.

    So the units that pruning emptied stay empty. (Shuffled over whole layers, a mask is a ``random_mask``.)

    Args:
        masks: by parameter name; outputs along the first axis, inputs along the second.
        seed: of the permutations.
        within: whose counts are kept.
    """
    if within not in ("outputs", "inputs"):
        raise UsageError(f"within {within!r} must be 'outputs' or 'inputs'.")
    axis = 0 if within == "outputs" else 1
    found: Masks = {}
    for name, mask in masks.items():
        units = mask.movedim(axis, 0)
        shuffled = _permuted(units.reshape(len(units), -1), seed, name).view(units.shape)
        found[name] = shuffled.movedim(0, axis).contiguous()
    return found


def redraw(factory: Callable[[], nn.Module], masks: Mapping[str, Tensor], seed: int) -> nn.Module:
    """A new network from ``factory``, drawn under ``seed``, with what is pruned at zero.

    Raises:
        UsageError: masks of another model.
    """
    model = _drawn(factory, seed)
    apply_masks(model, masks)
    return model


def narrow(factory: Callable[[int], nn.Module], parameters: int, seed: int, *, widest: int = 4096) -> nn.Module:
    """The dense network whose number of parameters is nearest to ``parameters``.

    Args:
        factory: from a width (any whole number that scales the model, from 1) to a model; more parameters with width.
        parameters: to match: the non-zero parameters of the pruned network.
        seed: of the initialisation.
        widest: where the search ends.

    Raises:
        UsageError: even width 1 has more than twice as many parameters, or ``widest`` fewer than half.
    """

    def size(width: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in _drawn(lambda: factory(width), seed).parameters())

    low, high = 1, widest
    while low < high:  # the least width that has at least so many
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle) >= parameters else (middle + 1, high)
    width = min((w for w in (low - 1, low) if w >= 1), key=lambda w: abs(size(w) - parameters))
    if not parameters / 2 <= size(width) <= 2 * parameters:
        raise UsageError(
            f"no width matches {parameters} parameters: width {width} has {size(width)}; give a factory that reaches "
            "both sides, or another number."
        )
    return _drawn(lambda: factory(width), seed)


def _drawn(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        return factory()


def _permuted(rows: Tensor, seed: int, name: str) -> Tensor:
    """Each row in an order of its own, drawn from the seed and the layer's name."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))  # torch's seeds have 32 bits
    order = torch.rand(rows.shape, generator=generator).argsort(1)
    return rows.gather(1, order.to(rows.device))
