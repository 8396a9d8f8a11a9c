"""The figure of a study for a notebook: how far an attack tells members of each network, and at what accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from lacewing.errors import UsageError, did_you_mean
from lacewing.reporting._data import estimates, main_attack
from lacewing.reporting._rocs import curve
from lacewing.results import AttackResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def networks_figure(attacks: Sequence[AttackResult], attack: str | None, most: int) -> Figure:
    """ROC of one attack on each network, and its AUC over test accuracy.

    Left: TPR at each FPR on logarithmic axes, the mean over seeds, from 1/non-members on. Right: small dots are seeds,
    large ones their mean.

    Args:
        attacks: results on target networks.
        attack: its name; None: the one that the report is about.
        most: networks shown, the first ones; of the others the legend has the number.

    Raises:
        UsageError: the attack did not run, or none did.
    """
    from matplotlib.figure import Figure

    attack = attack or main_attack(attacks)
    if attack is None:
        raise UsageError("No attack has run yet: there is nothing to plot.")
    results = [result for result in attacks if result.attack == attack]
    if not results:
        ran = {result.attack for result in attacks}
        raise UsageError(f"The attack '{attack}' is not in the result: {did_you_mean(attack, ran)}")
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    roc = figure.add_subplot(1, 2, 1, xscale="log", yscale="log", xlabel="false-positive rate")
    roc.set(ylabel="true-positive rate", title=f"{attack}: ROC")
    plane = figure.add_subplot(1, 2, 2, xlabel="test accuracy", ylabel="AUC", title=f"{attack}: AUC")
    by_network: dict[str, dict[int, AttackResult]] = {}
    for result in results:
        by_network.setdefault(result.network.network, {})[result.network.seed] = result
    least = 1.0
    for place, (name, of_seed) in enumerate(list(by_network.items())[:most]):
        colour = f"C{place}"
        if (drawn := curve(list(of_seed.values()))) is not None:
            seen = drawn.tpr_G > 0
            roc.plot(drawn.fpr_G[seen], drawn.tpr_G[seen], color=colour, label=name)
            least = min(least, float(drawn.fpr_G[0]))
        areas = {seed: found.value for seed, found in estimates(of_seed, "auc").items()}
        accuracy = {seed: of_seed[seed].network.test_accuracy for seed in areas}
        plane.plot(list(accuracy.values()), list(areas.values()), ".", color=colour, markersize=4)
        if areas:
            plane.plot(fmean(accuracy.values()), fmean(areas.values()), "o", color=colour, label=name)
    least = min(least, 0.5)
    roc.plot([least, 1.0], [least, 1.0], color="0.6", linestyle=":", label="chance")
    roc.set(xlim=(least, 1.0), ylim=(least, 1.05))
    plane.axhline(0.5, color="0.6", linestyle=":", label="chance")
    left = len(by_network) - most
    plane.legend(title=f"{most} networks, {left} left out" if left > 0 else None, fontsize="small")
    return figure
