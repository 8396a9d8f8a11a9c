"""Averages of weights (SWA, EMA) that are kept beside a pruned network and are not sparse."""

from __future__ import annotations

import gc
import re
import sys
import warnings
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

_EMA = re.compile("(?<![A-Z])EMA|Ema(?![a-z])")  # as a word of a class name
_idle: dict[int, int] = {}  # references to classes that had no instances when these were last looked for


def warn_of_dense_averages(model: nn.Module, masks: Mapping[str, Tensor], seen: dict[int, int]) -> None:
    """Warn of an average of this network that was updated since the last call and is not zero where masks prune.

    Averages are torch's ``AveragedModel`` and modules whose class is named after EMA (timm's), with a copy of the
    network as ``module``; others are not found.

    Args:
        model: the pruned network.
        masks: by parameter name, True for a kept weight.
        seen: how often each average had been written to, by identity; updated.
    """
    places = {id(parameter): place for place, parameter in enumerate(model.parameters())}
    shapes = [parameter.shape for parameter in model.parameters()]
    for average in _averages():
        weights = list(average.module.parameters()) if isinstance(average.module, nn.Module) else []
        if average.module is model or [weight.shape for weight in weights if not is_lazy(weight)] != shapes:
            continue
        written = sum(weight._version for weight in weights)
        updated = seen.get(id(average)) != written
        seen[id(average)] = written
        for name, mask in masks.items():
            weight = weights[places[id(model.get_parameter(name))]].detach()
            if updated and weight[~mask.to(weight.device)].any():
                warnings.warn(
                    f"an average of weights ({type(average).__name__}) holds values at pruned weights of '{name}', so "
                    "that its network is not sparse: begin it anew under the masks, after guard.attach, or use "
                    "sparsify.apply_masks(average.module, guard.masks) at the end of training.",
                    stacklevel=3,
                )
                break


def _averages() -> list[nn.Module]:
    """Those that exist in this process: there is no other way from a network to its averages."""
    kinds = tuple(
        kind for kind in _subclasses(nn.Module) if issubclass(kind, AveragedModel) or _EMA.search(kind.__name__)
    )
    if _references(kinds) == _idle:
        return []  # an instance would be one more reference; this spares the search, which takes 40 ms
    found = [o for o in gc.get_referrers(*kinds) if isinstance(o, nn.Module) and isinstance(o, kinds)]
    _idle.clear()
    if not found:
        _idle.update(_references(kinds))
    return [average for average in found if hasattr(average, "module")]


def _references(kinds: tuple[type, ...]) -> dict[int, int]:
    return {id(kind): sys.getrefcount(kind) for kind in kinds}


def _subclasses(kind: type) -> Iterator[type]:
    children: list[type] = type.__subclasses__(kind)
    for below in children:
        yield below
        yield from _subclasses(below)
