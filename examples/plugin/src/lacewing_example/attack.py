"""An attack: the margin of the given class."""

import numpy as np
import numpy.typing as npt

from lacewing.attacks import Evidence


def margin(evidence: Evidence) -> npt.NDArray[np.float64]:
    """How far the logit of the given class lies above the largest of the others: (N,), higher for members."""
    seen = evidence.observed
    rows = np.arange(len(seen.label_N))
    others = seen.logits_NC.astype(np.float64)
    given = others[rows, seen.label_N]
    others[rows, seen.label_N] = -np.inf
    return given - others.max(axis=1)
