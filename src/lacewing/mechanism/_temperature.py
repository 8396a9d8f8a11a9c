"""Temperature: logits divided by a number. It changes how sure a network is, and none of its answers.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (ICML 2017), section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lacewing.attacks import Evidence, Observed, References
from lacewing.mechanism._measure import largest_probability
from lacewing.metrics import Bools, Floats

_ENDS = (0.01, 100.0)  # temperatures searched


def evidence_of(phi_N: Floats, member_N: Bools, phi_KN: Floats, in_KN: Bools) -> Evidence:
    """What an attacker who scores nothing but log-odds holds: those of a network and of its K references.

    The log-odds stand as two-class logits (0, phi) beside the label 1, whose log-odds are phi again. There is no
    shadow, so that scores alone can be had of it.
    """
    n = len(phi_N)

    def logits(phi: Floats) -> Floats:
        return np.stack([np.zeros_like(phi), phi], axis=-1)

    observed = Observed(logits(phi_N), np.ones(n, np.int64), member_N, None, np.arange(n))
    names = tuple(f"reference {number}" for number in range(len(phi_KN)))
    return Evidence(observed, References(logits(phi_KN), in_KN, names) if len(phi_KN) else None)


def matching_temperature(logits_MNC: Sequence[npt.NDArray[np.floating]], confidence: float) -> float | None:
    """The temperature at which the mean largest probability, over networks and records, is ``confidence``.

    Found by bisection, since the mean falls as the temperature rises; None where none from .01 to 100 reaches it.
    """
    low, high = map(math.log, _ENDS)

    def mean(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        return float(np.mean([largest_probability(logits, temperature).mean() for logits in logits_MNC]))

    if not logits_MNC or not mean(high) <= confidence <= mean(low):
        return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) > confidence else (low, middle)
    return math.exp((low + high) / 2)
