"""Class inversion: the input that a network takes for a class with the largest confidence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lacewing.errors import UsageError

_PATIENCE = 100  # steps without a lower cost, Fredrikson et al., algorithm 1


def invert_class(
    model: Callable[[Tensor], Tensor],
    label: int,
    shape: tuple[int, ...],
    *,
    steps: int = 1000,
    rate: float = 0.1,
    start: Tensor | None = None,
) -> Tensor:
    """The input of least 1 - softmax(model(x))[label], by gradient descent from ``start``.

    MI-FACE: Fredrikson, Jha and Ristenpart, "Model inversion attacks that exploit confidence information and basic
    countermeasures" (CCS 2015), algorithm 1, without auxiliary term and without post-processing. It gives a picture of
    a class and not of a record, so that it is a weak baseline for reconstruction.

    Args:
        model: in evaluation mode; takes (1, *shape) and answers logits.
        label: of the class.
        shape: of one record.
        steps: at most.
        rate: of gradient descent.
        start: (1, *shape), with the device and precision of the model. None: zeros in fp32 on the CPU.

    Raises:
        UsageError: the model has no such class.
    """
    x = (torch.zeros(1, *shape) if start is None else start.clone()).requires_grad_()
    best, least, waited = x.detach().clone(), float("inf"), 0
    for _ in range(steps):
        logits = model(x)
        if not 0 <= label < logits.shape[1]:
            raise UsageError(f"label = {label}: the model has classes 0 to {logits.shape[1] - 1}.")
        cost = 1 - logits.softmax(1)[0, label]
        (gradient,) = torch.autograd.grad(cost, x)
        waited = 0 if float(cost.detach()) < least else waited + 1
        if not waited:
            best, least = x.detach().clone(), float(cost.detach())
        if waited >= _PATIENCE:
            break
        with torch.no_grad():
            x -= rate * gradient
    return best[0]
