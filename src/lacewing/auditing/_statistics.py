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

    What is exactly zero in a weight with several axes counts as pruned; where nothing is, there is no mask.
    """
    from torch import nn

    if not isinstance(model, nn.Module):
        return {}
    weights = {name: parameter.detach().float().cpu().numpy() for name, parameter in model.named_parameters()}
    weights = {name: array for name, array in weights.items() if array.size}
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
