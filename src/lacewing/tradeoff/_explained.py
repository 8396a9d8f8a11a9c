"""What explains the leak: how far a network fits its training records, and what its method adds to that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lacewing.metrics import Floats
from lacewing.results import AttackResult
from lacewing.tradeoff._draws import attack_accuracy
from lacewing.tradeoff._types import Explained

LEAST_TRAIN_ACCURACY = 0.8
_FEWEST = 5  # networks for each coefficient, so that noise explains little


def explained(results: Sequence[AttackResult]) -> Explained | None:
    """The share of the spread of A over networks that a quadratic in train accuracy explains.

    Least squares over the targets that fit more than 80 % of their records, every seed and method together; then again
    with a constant for each method. A description: the networks of one seed share records, and train accuracy is no
    cause that was set. What the method adds is the difference of both adjusted shares, which allow for the number of
    coefficients (it may be negative). None for fewer than five networks a coefficient, or where A or train accuracy
    does not vary.
    """
    used = [r for r in results if r.network.train_accuracy > LEAST_TRAIN_ACCURACY]
    train = np.array([r.network.train_accuracy for r in used])
    leak = np.array([attack_accuracy(r) for r in used])
    methods = sorted({r.network.method for r in used})
    if len(used) < _FEWEST * (2 + len(methods)) or np.ptp(train) == 0 or np.ptp(leak) == 0:
        return None
    centred = train - 1
    curve = np.stack([np.ones_like(train), centred, centred**2], axis=1)
    which = np.array([[r.network.method == method for method in methods[1:]] for r in used], np.float64)
    every = np.concatenate([curve, which.reshape(len(used), -1)], axis=1)
    alone = _share(curve, leak)
    adds = _adjusted(every, leak) - _adjusted(curve, leak)
    c0, c1, c2 = map(float, np.linalg.lstsq(curve, leak, rcond=None)[0])
    sentence = (
        f"Over the {len(used)} networks that fit more than {LEAST_TRAIN_ACCURACY:.0%} of their training records, a "
        f"quadratic in train accuracy explains {alone:.1%} of the spread of A; knowing the method as well adds "
        f"{f'{adds:.1%}' if adds >= 0.0005 else 'nothing'}, adjusted for the number of coefficients."
    )
    return Explained(
        LEAST_TRAIN_ACCURACY,
        len(used),
        alone,
        adds,
        (c0 - c1 + c2, c1 - 2 * c2, c2),
        sentence,
    )


def _adjusted(columns: Floats, y: Floats) -> float:
    """The explained share, adjusted for the number of coefficients."""
    n, coefficients = columns.shape
    return float(1 - (1 - _share(columns, y)) * (n - 1) / (n - coefficients))


def _share(columns: Floats, y: Floats) -> float:
    fitted = columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(1 - ((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum())
