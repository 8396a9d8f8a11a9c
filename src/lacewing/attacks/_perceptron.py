"""A perceptron that learns membership: scikit-learn's arithmetic without its loss and checks in each step.

What is computed is what scikit-learn 1.9 computes in `MLPClassifier(solver="adam", activation="relu")` with its
defaults (L2 penalty 1e-4, betas .9 and .999, epsilon 1e-8, Glorot's uniform start of weights and biases): the same
draws of `numpy.random.RandomState`, and the same operations on float64 in the same order, so that the bits are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats

PENALTY = 1e-4
BETAS = (0.9, 0.999)
EPSILON = 1e-8
_CHUNK = 1 << 13  # parameters that are updated at a time, so that they stay in the cache
_ROWS = 1 << 14  # at least, of which the outputs of all layers are held at once when a perceptron answers

Layer = tuple[Floats, Floats]  # weights (a, b), biases (b,)


def fit_and_score(
    x_NF: Floats,
    member_N: Bools,
    ask_MF: Floats,
    hidden: Sequence[int],
    rate: float,
    *,
    seed: int,
    epochs: int,
    batch: int,
) -> Floats:
    """P(member), (M,), of the rows of ``ask_MF`` by one perceptron fitted to (x, member) for all epochs.

    Args:
        x_NF: features to fit on, finite.
        member_N: their membership.
        ask_MF: features to answer.
        hidden: units of each hidden layer.
        rate: Adam's learning rate, constant.
        seed: of the start and of the order of records, 0 to 2**32 - 1.
        epochs: passes over the records.
        batch: records a step, 1 to N.

    Raises:
        UsageError: the weights became infinite or NaN.
    """
    from threadpoolctl import threadpool_limits

    widths = [x_NF.shape[1], *hidden, 1]
    rng = np.random.RandomState(seed)
    # All parameters in one buffer, and all gradients: Adam takes a few operations on it, however many layers there are.
    flat, gradient = np.empty((2, sum((a + 1) * b for a, b in pairwise(widths))))
    layers, gradients = _views(flat, widths), _views(gradient, widths)
    for weight, bias in layers:
        bound = np.sqrt(6.0 / sum(weight.shape))
        weight[...] = rng.uniform(-bound, bound, weight.shape)
        bias[...] = rng.uniform(-bound, bound, bias.shape)
    penalised = sum(weight.size for weight, _ in layers)
    rooms = [np.empty((2, batch, width)) for width in widths[1:]]  # for outputs and errors of each layer
    adam = _adam(flat, gradient, rate)
    y_N1 = member_N.astype(np.float64)[:, None]
    with threadpool_limits(1):  # one thread: sums in one order on any number of cores
        for chosen in _batches(rng, len(x_NF), epochs, batch):
            size = len(chosen)
            outputs = _forward(layers, x_NF.take(chosen, axis=0), [room[0, :size] for room in rooms])
            delta = np.subtract(outputs[-1], y_N1.take(chosen, axis=0), out=rooms[-1][1, :size])
            for index in range(len(hidden), -1, -1):
                np.matmul(outputs[index].T, delta, out=gradients[index][0])
                delta.sum(axis=0, out=gradients[index][1])
                if index:
                    delta = np.matmul(delta, layers[index][0].T, out=rooms[index - 1][1, :size])
                    delta *= outputs[index] > 0
            gradient[:penalised] += PENALTY * flat[:penalised]
            gradient /= size
            next(adam)
        if not np.isfinite(flat).all():
            raise UsageError("A discriminator's weights became infinite: give features of a smaller range.")
        parts = np.split(ask_MF, range(_ROWS, len(ask_MF) - _ROWS + 1, _ROWS))  # the last has up to two times as many
        return np.concatenate([_forward(layers, part, [None] * len(layers))[-1][:, 0] for part in parts])


def _views(flat: Floats, widths: Sequence[int]) -> list[Layer]:
    """The layers as parts of the buffer: first the weights of all, then the biases."""
    shapes = list(pairwise(widths))
    *weights, biases = np.split(flat, np.cumsum([a * b for a, b in shapes]))
    parts = zip(weights, shapes, np.split(biases, np.cumsum(widths[1:-1])), strict=True)
    return [(weight.reshape(shape), bias) for weight, shape, bias in parts]


def _forward(layers: Sequence[Layer], x_BF: Floats, rooms: Sequence[Floats | None]) -> list[Floats]:
    """The input and each layer's outputs; where there is room for them they are written there."""
    from scipy.special import expit

    outputs = [x_BF]
    for (weight, bias), room in zip(layers, rooms, strict=True):
        z: Floats = np.matmul(outputs[-1], weight, out=room)
        z += bias
        outputs.append(expit(z, out=z) if len(outputs) == len(layers) else np.maximum(z, 0, out=z))
    return outputs


def _batches(rng: np.random.RandomState, n: int, epochs: int, batch: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of the records of each step; each epoch shuffles the order of the last one."""
    order = np.arange(n)
    for _ in range(epochs):
        moved = np.arange(n)
        rng.shuffle(moved)
        order = order[moved]
        for start in range(0, n, batch):
            yield order[start : start + batch]


def _adam(flat: Floats, gradient: Floats, rate: float) -> Iterator[None]:
    """Adam (Kingma and Ba, arXiv 1412.6980): each `next` changes the parameters once by what the gradient then is."""
    first, second = np.zeros_like(flat), np.zeros_like(flat)
    spare, step = np.empty((2, _CHUNK)), 0
    while True:
        step += 1
        scale = rate * np.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step)
        for start in range(0, len(flat), _CHUNK):
            g, m, v = (array[start : start + _CHUNK] for array in (gradient, first, second))
            up, down = spare[:, : len(g)]
            m *= BETAS[0]
            m += np.multiply(g, 1 - BETAS[0], out=up)
            v *= BETAS[1]
            np.multiply(g, g, out=up)
            v += np.multiply(up, 1 - BETAS[1], out=up)
            np.sqrt(v, out=down)
            down += EPSILON
            np.multiply(m, -scale, out=up)
            up /= down
            flat[start : start + _CHUNK] += up
        yield
