"""The signs that a study says less than it seems to: the sentences that a report puts where nobody overlooks them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lacewing.results import AttackResult, NetworkResult
from lacewing.tradeoff import TradeOff, show


def failures(
    networks: Sequence[NetworkResult],
    attacks: Sequence[AttackResult],
    tradeoff: TradeOff,
    *,
    classes: int | None = None,
) -> tuple[str, ...]:
    """The signs that a study says less than it seems to, a sentence each with its numbers; empty: none found.

    Attack near chance on the dense networks (A0's interval reaches 1/2); slope not resolved; accuracy collapsed (test
    accuracy below the larger of half the dense network's and 1.5/classes, the latter at most 0.05 above chance);
    a dense network with less than 98 % train accuracy; target and shadow further apart in train or test accuracy than
    0.05 + 1.96 sqrt(p (1 - p) 2/n), p their mean and n the records attacked of that kind; at least half of the
    butterfly networks dominated by IMP. ``classes`` is read from the attacks' notes where it is not given.
    """
    if classes is None:
        classes = next((int(a.notes["classes"]) for a in attacks if "classes" in a.notes), None)
    found = []
    a0, n_seeds = tradeoff.dense_balanced_accuracy, len(tradeoff.seeds)
    near_chance = a0 is not None and a0.low <= 0.5
    if a0 is not None and near_chance:
        found.append(
            f"Attack near chance on the dense network: no leakage found above a balanced accuracy of {a0.high:.3f} at "
            f"n = {tradeoff.dense_records} records ({n_seeds} seed{'s' * (n_seeds > 1)}, measured {show(a0)})."
        )
    if not near_chance and tradeoff.slope.verdict != "slope resolved":
        found.append(f"No slope to quote: {tradeoff.slope.sentence}")
    found += _collapsed(networks, classes)
    dense = [n for n in networks if n.method == "dense"]
    young = [n for n in dense if n.train_accuracy < 0.98]
    if young:
        found.append(
            f"Memorisation is incomplete: {len(young)} of {len(dense)} dense networks reach less than 98% train "
            f"accuracy ({_listed(f'{n.id} {n.train_accuracy:.1%}' for n in young)}): a longer training may leak more."
        )
    found += _strangers(networks, attacks)
    butterflies = [p for p in tradeoff.points if p.method == "butterfly"]
    if butterflies and 2 * len(tradeoff.dominated) >= len(butterflies):
        seeds = max(p.defence.n for p in butterflies)
        which = _listed(f"{b} by {i}" for b, i in tradeoff.dominated.items())
        found.append(
            f"Butterfly is dominated by IMP: {len(tradeoff.dominated)} of {len(butterflies)} butterfly networks have "
            f"both lower test accuracy and lower defence than an IMP network in means of n = {seeds} seeds ({which})."
        )
    return tuple(found)


def _collapsed(networks: Sequence[NetworkResult], classes: int | None) -> list[str]:
    dense = {(n.role, n.seed): n.test_accuracy for n in networks if n.method == "dense"}
    chance = 0.0 if classes is None else min(1.5 / classes, 1 / classes + 0.05)
    floor = {n.id: max(chance, dense.get((n.role, n.seed), 0.0) / 2) for n in networks}
    low = [n for n in networks if n.test_accuracy < floor[n.id]]
    if not low:
        return []
    shown = _listed(f"{n.id} {n.test_accuracy:.1%}, below {floor[n.id]:.1%}" for n in low)
    return [f"Accuracy collapsed in {len(low)} of {len(networks)} networks ({shown}): their defence is worth nothing."]


def _strangers(networks: Sequence[NetworkResult], attacks: Sequence[AttackResult]) -> list[str]:
    sizes = {a.network.id: (a.n_members, a.n_nonmembers) for a in attacks}
    shadows = {(n.network, n.seed): n for n in networks if n.role == "shadow"}
    couples = [
        (n, shadows[n.network, n.seed]) for n in networks if n.role == "target" and (n.network, n.seed) in shadows
    ]
    found = []
    for target, shadow in couples:
        accuracies = {
            "train": (target.train_accuracy, shadow.train_accuracy),
            "test": (target.test_accuracy, shadow.test_accuracy),
        }
        for (kind, (t, s)), n in zip(accuracies.items(), sizes.get(target.id, (0, 0)), strict=True):
            p = (t + s) / 2
            noise = 1.96 * math.sqrt(p * (1 - p) * 2 / n) if n else 0.0
            if abs(t - s) > 0.05 + noise:
                found.append(f"{target.network} of seed {target.seed}: {kind} {t:.1%} against {s:.1%}, n = {n}")
    if not found:
        return []
    return [
        f"Target and shadow do not resemble each other in {len(found)} of {2 * len(couples)} accuracies, so the attack "
        f"says little there ({_listed(found)}; allowed: 5 points and 1.96 standard errors)."
    ]


def _listed(items: Iterable[str]) -> str:
    shown = list(items)
    return "; ".join(shown[:5]) + (f"; and {len(shown) - 5} more" if len(shown) > 5 else "")
