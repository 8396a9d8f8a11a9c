"""Numbers of a torch module's weights and of its mask, as property inference compares them between networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lacewing.property import fixed_statistics, mask_statistics, weight_statistics

if TYPE_CHECKING:
    from lacewing.auditing._ask import Answers
    from lacewing.auditing._call import Array

ARRAYS = {  # by name of a statistic: the field of `Answers` that holds it
    "weights": "weights_W",
    "fixed": "fixed_F",
    "mask-layers": "layers_L",
    "mask-hidden": "hidden_H",
    "mask-inputs": "inputs_I",
    "mask-classes": "classes_K",
}


def of_module(model: Any) -> dict[str, Array]:
    """The fields of `Answers` for a torch module, none for anything else.

    A weight that the network makes of others, such as one with a mask of ``torch.nn.utils.prune``, is read as it
    computes with it. What is exactly zero in a weight with several axes counts as pruned; where nothing is, there is no
    mask.
    """
    from torch import nn

    from lacewing.sparsify.effective import effective

    if not isinstance(model, nn.Module):
        return {}
    place = {name: number for number, (name, _) in enumerate(model.named_modules(remove_duplicate=False))}
    inside = {name: number for number, (name, _) in enumerate(model.named_parameters(remove_duplicate=False))}
    tensors = {name: weight.tensor for name, weight in effective(model).items() if weight.tensor.numel()}
    # In the order of the model, where a weight that is made stands before the other parameters of its layer.
    order = sorted(tensors, key=lambda name: (place[name.rpartition(".")[0]], inside.get(name, -1)))
    weights = {name: tensors[name].float().cpu().numpy() for name in order}
    if not weights:
        return {}
    found = {"weights": weight_statistics(weights), "fixed": fixed_statistics(weights)}
    masks = {name: array != 0 for name, array in weights.items() if array.ndim > 1}
    if not all(mask.all() for mask in masks.values()):
        found |= mask_statistics(masks)
    return {ARRAYS[name]: values for name, values in found.items()}


def shared(answers: list[Answers]) -> Mapping[str, Array]:
    """By name, the statistics (K, W) that all of K networks have in equal length, and as finite numbers."""
    found = {}
    for name, field in ARRAYS.items():
        values = [getattr(each, field) for each in answers]
        if all(value is not None for value in values) and len({value.shape for value in values}) == 1:
            stacked = np.stack(values)
            if np.isfinite(stacked).all():
                found[name] = stacked
    return found
