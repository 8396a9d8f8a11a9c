"""Control networks that share one property of a pruned network and lack another, to tell which property matters.

- ``random_mask``: the same density in each layer, at random positions (Frankle et al. 2021, "Pruning neural networks at
  initialization: why are we missing the mark?").
- ``shuffle``: the same density in each output unit or input, at random positions within it.
- ``redraw``: the same mask on freshly drawn weights (Frankle & Carbin 2019).
- ``narrow``: no mask: a dense network with the same number of parameters.

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
    """Masks that keep as many weights of each layer as the given ones, at random positions."""
    return {name: _permuted(mask.reshape(1, -1), seed, name).view_as(mask) for name, mask in masks.items()}


def shuffle(masks: Mapping[str, Tensor], seed: int, *, within: Literal["outputs", "inputs"] = "outputs") -> Masks:
    """Masks that keep as many weights of each output unit (or input) as the given ones, at random positions.

    Units that pruning emptied stay empty. (Shuffled over whole layers, a mask is a ``random_mask``.)

    Args:
        masks: by parameter name; outputs along the first axis, inputs along the second.
        seed: of the permutations.
        within: "outputs" or "inputs", whose counts are kept.

    Raises:
        UsageError: another ``within``, or a weight without inputs.
    """
    if within not in ("outputs", "inputs"):
        raise UsageError(f"within {within!r} must be 'outputs' or 'inputs'.")
    axis = 0 if within == "outputs" else 1
    found: Masks = {}
    for name, mask in masks.items():
        if mask.ndim < 2:
            raise UsageError(f"weight '{name}' has one axis, and a mask is shuffled over inputs and outputs.")
        units = mask.movedim(axis, 0)
        shuffled = _permuted(units.flatten(1), seed, name).view(units.shape)
        found[name] = shuffled.movedim(0, axis).contiguous()
    return found


def redraw(factory: Callable[[], nn.Module], masks: Mapping[str, Tensor], seed: int) -> nn.Module:
    """A new network from ``factory``, initialised under ``seed``, with its pruned weights at zero.

    Raises:
        UsageError: masks of another model.
    """
    model = _drawn(factory, seed)
    apply_masks(model, masks)
    return model


def narrow(factory: Callable[[int], nn.Module], parameters: int, seed: int, *, widest: int = 4096) -> nn.Module:
    """The dense network whose number of parameters is nearest to ``parameters``.

    Args:
        factory: maps a width (a whole number from 1) to a model whose number of parameters grows with the width.
        parameters: number to match: the non-zero parameters of the pruned network.
        seed: of the initialisation.
        widest: the largest width to try.

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
            f"no width matches {parameters} parameters: width {width} has {size(width)}; give a factory with "
            "smaller steps, or another number."
        )
    return _drawn(lambda: factory(width), seed)


def _drawn(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        return factory()


def _permuted(rows: Tensor, seed: int, name: str) -> Tensor:
    """Permute each row independently; the permutation depends on the seed and the layer's name."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))  # torch's seeds have 32 bits
    order = torch.rand(rows.shape, generator=generator).argsort(1)
    return rows.gather(1, order.to(rows.device))
