"""Numbers of a network's weights and of its mask, of the same length for every network of a recipe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lacewing.metrics import Floats

_QUANTILES = np.linspace(0, 1, 21)
Weights = Mapping[str, npt.NDArray[np.generic]]  # by name, in the order of the model


def weight_statistics(weights: Weights) -> Floats:
    """(W,) what stays the same when hidden units change places.

    21 quantiles of every array, and of the norms and the means of the rows and columns of each that has several axes
    (outputs x inputs, as torch keeps them).
    """
    found = []
    for array in (np.asarray(each, np.float64) for each in weights.values()):
        found.append(np.quantile(array, _QUANTILES))
        if array.ndim > 1:
            flat = array.reshape(len(array), array.shape[1], -1)
            for axes in ((1, 2), (0, 2)):
                found += [
                    np.quantile(each, _QUANTILES) for each in (np.sqrt((flat**2).sum(axis=axes)), flat.mean(axis=axes))
                ]
    return np.concatenate(found)


def fixed_statistics(weights: Weights) -> Floats:
    """(F,) what is tied to an input or a class, whose order everybody knows.

    Norm and mean of the weights of each input in the first array that has several axes; of each class in the last one,
    and the array after that one (the biases), if it has one number a class.
    """
    arrays = [np.asarray(each, np.float64) for each in weights.values()]
    wide = [place for place, array in enumerate(arrays) if array.ndim > 1]
    if not wide:
        return np.concatenate([array.ravel() for array in arrays])
    first, last = arrays[wide[0]], arrays[wide[-1]]
    first, last = first.reshape(len(first), first.shape[1], -1), last.reshape(len(last), -1)
    found = [np.sqrt((first**2).sum(axis=(0, 2))), first.mean(axis=(0, 2))]
    found += [np.sqrt((last**2).sum(axis=1)), last.mean(axis=1)]
    after = arrays[wide[-1] + 1 :]
    return np.concatenate([*found, *(array for array in after if array.shape == (len(last),))])


def mask_statistics(masks: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Floats]:
    """How many weights a mask keeps: in each layer, for each input, for each class, and for hidden units, sorted.

    ``masks`` holds True where a weight is kept, (outputs, inputs, ...), in the order of the model. Empty where there is
    no mask. Inputs are those of the first array, classes those of the last one; the hidden units are the outputs of
    every array but the last.
    """
    kept = [np.asarray(mask, bool).reshape(len(mask), -1) for mask in masks.values()]
    if not kept:
        return {}
    first = np.asarray(next(iter(masks.values())), bool)
    inputs = first.reshape(len(first), first.shape[1], -1).sum(axis=(0, 2)) if first.ndim > 1 else first.astype(int)
    hidden = [np.sort(mask.sum(axis=1)) for mask in kept[:-1]]
    found = {
        "mask-layers": np.array([mask.sum() for mask in kept]),
        "mask-hidden": np.concatenate(hidden) if hidden else np.zeros(0),
        "mask-inputs": inputs,
        "mask-classes": kept[-1].sum(axis=1),
    }
    return {name: values.astype(np.float64) for name, values in found.items() if len(values)}
