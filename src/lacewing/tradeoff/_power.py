"""How small a difference in the attack's accuracy so many seeds can tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lacewing.metrics import Detectable, Units, detectable
from lacewing.results import AttackResult
from lacewing.tradeoff._draws import attack_accuracy


def power_of(
    dense: Mapping[int, AttackResult], others: Mapping[int, Sequence[AttackResult]], units: Units
) -> tuple[Detectable | None, str]:
    """The smallest difference in A between a sparse network and the dense one that so many seeds tell, in words too.

    The standard deviation over seeds is the root mean square over the sparse networks that every seed has.
    """
    by_network: dict[str, dict[int, float]] = {}
    for s, results in others.items():
        for r in results:
            if r.network.sparse:
                change = attack_accuracy(r) - attack_accuracy(dense[s])
                by_network.setdefault(r.network.network, {})[s] = change
    whole = [units.average(of_seed) for of_seed in by_network.values() if set(of_seed) == set(dense)]
    if not units.enough:
        return None, f"With fewer than three {units.unit}s no difference between networks is tested."
    if not whole:
        return None, "No sparse network has results in every seed that the dense one has, so no difference is tested."
    sd = math.sqrt(float(np.mean([values.var(ddof=1) for values in whole])))
    if sd < 1e-9:
        return None, f"The {units.unit}s do not differ, which leaves no spread to test a difference by."
    power = detectable(sd, len(units))
    half = "more than 100,000" if power.seeds_for_half is None else f"{power.seeds_for_half:,}"
    return power, (
        f"What {units.text} can show: if the attack's balanced accuracy on a sparse network truly differs by "
        f"{power.difference:.3f} from that on the dense one, 80 % of studies like this one would find a difference. "
        f"Smaller ones are easily missed. The figure is itself uncertain ({power.low:.3f} to {power.high:.3f}), as it "
        f"rests on the spread between {units.text}. To find half of it takes {half} {units.unit}s."
    )
