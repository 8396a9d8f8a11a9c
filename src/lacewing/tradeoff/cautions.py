"""Signs that the results of a study must be read with care, a sentence each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lacewing.attacks._fit import at_chance
from lacewing.results import AttackResult, NetworkResult, repeat
from lacewing.tradeoff import BUTTERFLY, SHORT, TradeOff, Units


def failures(
    networks: Sequence[NetworkResult],
    attacks: Sequence[AttackResult],
    tradeoff: TradeOff | None,
    *,
    classes: int | None = None,
    study: Mapping[str, Any] | None = None,
    trained_on: Mapping[str, int] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Signs that the results of a study must be read with care, a sentence each with its numbers; empty: none found.

    ``tradeoff`` is that of the leading attack, None where no attack makes decisions; ``study`` is the resolved study,
    None where it is not known (batches and controls are then not checked); ``trained_on`` has by a network's id how
    many records it was trained on, where attacks count groups of them.

    Attack near chance on the dense networks (A0's interval reaches 1/2, and so does one dense network's own), or so few
    seeds that A0's interval reaches 1/2 although no dense network's own does; fewer than three seeds; no slope;
    accuracy collapsed (test accuracy below the larger of half the dense network's and 1.5/classes, the latter at most
    0.05 above chance); a dense network with less than 98 % train accuracy; target and shadow further apart in train or
    test accuracy than 0.05 + 1.96 sqrt(p (1 - p) 2/n), p their mean and n the records attacked of that kind; at least
    half of the butterfly networks below an IMP network in mean accuracy and mean defence; an epoch whose last batch
    holds a single record; sparse networks beside a dense one that leaks, and no family of two controls to tell
    sparsity from lower accuracy. Controls and dense networks stopped early are meant to be less accurate, so that is no
    sign. ``classes`` is read from the attacks' notes where it is not given.
    """
    controls = study is None or _controls(networks)
    networks = [n for n in networks if not n.stopped]
    attacks = [a for a in attacks if not a.network.stopped]
    if classes is None:
        classes = next((int(a.notes["classes"]) for a in attacks if "classes" in a.notes), None)
    found = _slope(attacks, tradeoff) if tradeoff is not None else []
    found += _collapsed(networks, classes)
    found += _undertrained([n for n in networks if n.baseline])
    found += _mismatched_pairs(networks, attacks)
    found += _below_in_means(tradeoff) if tradeoff is not None else []
    found += _lone_records(attacks, study, trained_on) if study is not None else []
    found += _no_control(tradeoff) if tradeoff is not None and not controls else []
    return tuple(found)


def _undertrained(dense: Sequence[NetworkResult]) -> list[str]:
    """Dense networks that have not memorised their training records."""
    low = [n for n in dense if n.train_accuracy < 0.98]
    if not low:
        return []
    return [
        f"Memorisation is incomplete: {len(low)} of {len(dense)} dense networks reach less than 98% train "
        f"accuracy ({_listed(f'{n.id} {_down(n.train_accuracy)}' for n in low)}): longer training may leak more."
    ]


def untrained_dense(attacks: Sequence[AttackResult]) -> str | None:
    """A sentence where a dense target is at chance on its own members: what it leaks cannot be asked. None: none is."""
    dense = (a for a in attacks if a.network.baseline and a.network.role == "target")
    found = next((chance for a in dense if (chance := at_chance(a, f"the network {a.network.id}"))), None)
    return None if found is None else f"This study cannot say what its dense network leaks: {found}."


def _down(share: float) -> str:
    """A percentage, rounded down: what is less than 98 % does not read as 98.0 %."""
    return f"{math.floor(1000 * share + 1e-9) / 1000:.1%}"


def _slope(attacks: Sequence[AttackResult], tradeoff: TradeOff) -> list[str]:
    """The leading attack near chance on the dense networks, or else why it has no slope."""
    a0, verdict = tradeoff.dense_balanced_accuracy, tradeoff.slope.verdict
    units = Units.of(tradeoff.seeds, halves=tradeoff.unit == "cut")
    if a0 is None or a0.low > 0.5:
        if verdict in ("slope resolved", "not finished"):
            return []
        if verdict == "fewer than three seeds":
            return [
                f"No verdict without three {tradeoff.unit}s: the intervals here are over records and leave out the "
                f"spread over seeds, of which {units.text} say too little."
            ]
        return [f"No slope to quote: {_first_sentence(tradeoff.slope.sentence)}"]
    own = [
        e
        for a in attacks
        if (a.attack, a.network.role) == (tradeoff.attack, "target") and a.network.baseline
        if (e := a.metrics.get("balanced_accuracy")) is not None
    ]
    if own and all(e.low > 0.5 for e in own):
        values = [e.value for e in own]
        return [
            f"Too few seeds to estimate the mean leak: each of the {len(own)} dense networks leaks its training "
            f"records (balanced accuracy {min(values):.3f} to {max(values):.3f}, each interval over records above "
            f"0.5), and the interval of their mean reaches 0.5 ({a0.text(SHORT)}, {tradeoff.interval})."
        ]
    if random := untrained_dense(attacks):
        return [random]
    counts = {a.n_members + a.n_nonmembers for a in attacks if a.attack == tradeoff.attack and a.network.baseline}
    n = " to ".join(map(str, sorted({min(counts), max(counts)}))) if counts else "unknown"
    sentence = (
        f"Attack near chance on the dense network: no leakage found above a balanced accuracy of {a0.high:.3f} at "
        f"n = {n} records a network ({units.text}, measured {a0.text(SHORT)}, {tradeoff.interval})."
    )
    others = sorted(
        {
            a.attack
            for a in attacks
            if a.network.baseline and a.attack != tradeoff.attack and (e := a.metrics.get("auc")) and e.low > 0.5
        }
    )
    if others:
        sentence += (
            f" That is the attack '{tradeoff.attack}'; {len(others)} other{'s have' if len(others) > 1 else ' has'} an "
            f"AUC above 0.5 there ({_listed(others)})."
        )
    return [sentence]


def _first_sentence(text: str) -> str:
    """The text up to the first full stop that a space follows, so that decimal points do not count."""
    return text.partition(". ")[0].rstrip(".") + "."


def _below_in_means(tradeoff: TradeOff) -> list[str]:
    butterflies = [p for p in tradeoff.points if p.method == BUTTERFLY]
    if not butterflies or 2 * len(tradeoff.dominated) < len(butterflies):
        return []
    seeds = max(p.defence.n for p in butterflies)
    units = Units.of(tradeoff.seeds, halves=tradeoff.unit == "cut").text
    counted = units if seeds == len(tradeoff.seeds) else f"{seeds} seed{'s' * (seeds > 1)}"
    which = _listed(f"{b} by {i}" for b, i in tradeoff.dominated.items())
    have = "has" if len(tradeoff.dominated) == 1 else "have"
    return [
        f"Butterfly below IMP in means: over {counted} and without a test, {len(tradeoff.dominated)} of "
        f"{len(butterflies)} butterfly networks {have} both lower test accuracy and lower defence than an IMP network "
        f"({which})."
    ]


def _lone_records(
    attacks: Sequence[AttackResult], study: Mapping[str, Any], trained_on: Mapping[str, int]
) -> list[str]:
    """Networks whose epochs end with a batch of one record, whose batch statistics are that record's alone."""
    found = []
    for entry in study.get("networks", ()):
        if {**(study.get("model") or {}), **(entry.get("model") or {})}.get("name") in ("mlp", "vit", "transformer"):
            continue  # these have no batch normalisation
        size = int({**study.get("train", {}), **(entry.get("train") or {})}.get("batch_size") or 0)
        name = entry.get("name") or entry.get("method", "network")
        of_entry = [a for a in attacks if _is_of(a.network, entry, study)]
        counts = {trained_on.get(a.network.id, a.n_members) for a in of_entry}
        found += [f"{name}: {n} records in batches of {size}" for n in sorted(counts) if size > 1 and n % size == 1]
    if not found:
        return []
    which = _listed(dict.fromkeys(found))
    return [
        f"A batch of a single record: the last batch of every epoch holds one record ({which}); with batch "
        "normalisation its statistics are that record's alone, which disturbs training and spoils memorisation. Choose "
        "another train.batch_size."
    ]


def _is_of(network: NetworkResult, entry: Mapping[str, Any], study: Mapping[str, Any]) -> bool:
    """Whether a network is one of a [[networks]] entry: their names begin with the entry's name, if it has one.

    An entry without a name has the networks of its method that no other entry has.
    """

    def named(of: Mapping[str, Any]) -> bool:
        return f"{network.network}-".startswith(f"{of['name']}-")

    if network.method != entry.get("method"):
        return False
    if entry.get("name"):
        return named(entry)
    others = (of for of in study["networks"] if of.get("name") and of.get("method") == network.method)
    return not any(map(named, others))


def _controls(networks: Sequence[NetworkResult]) -> bool:
    """Whether a family holds two recipes that are not sparse, each trained under every seed: the controls.

    The first network of a pruned sequence and the last state of an observed training are dense networks, too. They
    have the family of their entry, so a family that holds a sparse or a stopped network has no controls.
    """
    targets = [n for n in networks if n.role == "target"]
    seeds = {n.seed for n in targets}
    families: dict[str, list[NetworkResult]] = {}
    for n in targets:
        families.setdefault(n.family or n.network, []).append(n)
    return any(
        sum({n.seed for n in of if n.network == name} == seeds for name in {n.network for n in of}) > 1
        for of in families.values()
        if not any(n.sparse or n.stopped for n in of)
    )


def _no_control(tradeoff: TradeOff) -> list[str]:
    a0 = tradeoff.dense_balanced_accuracy
    if not any(p.sparse and p.relative_gain for p in tradeoff.points) or a0 is None or a0.low <= 0.5:
        return []
    return [
        "No control at equal accuracy: this study cannot separate what sparsity does to the leak from what lower "
        'accuracy does. Add [[networks]] of method = "dense" with other settings (fewer epochs, more weight decay, '
        "less width) and one `family`, and declare [tradeoff] primary. Dense networks stopped early show how leak "
        "and accuracy go together, but no verdict rests on them."
    ]


def collapsed_recipes(
    networks: Sequence[NetworkResult], attacks: Sequence[AttackResult], classes: int | None = None
) -> dict[str, int]:
    """By sparse recipe: how many of its targets collapsed, see `failures`; without recipes of which none did.

    A network that is at chance on its own members collapsed, too: with classes of very different size its test accuracy
    may be high. Not so where the dense network of its seed is at chance as well: of few members of rare classes a test
    cannot tell. ``classes`` is read from the attacks' notes where it is not given.
    """
    if classes is None:
        classes = next((int(a.notes["classes"]) for a in attacks if "classes" in a.notes), None)
    targets = [n for n in networks if n.role == "target" and n.sparse]
    ids = {n.id for n, _ in _below_floor([n for n in networks if not n.stopped], classes)}
    names = {n.id for n in targets}
    unclear = {
        (a.network.seed, a.network.init)
        for a in attacks
        if a.network.baseline and a.network.role == "target" and at_chance(a, "") is not None
    }
    asked = [a for a in attacks if a.network.id in names and (a.network.seed, a.network.init) not in unclear]
    ids |= {a.network.id for a in asked if at_chance(a, "") is not None}
    counted: dict[str, int] = {}
    for n in targets:
        if n.id in ids:
            counted[n.network] = counted.get(n.network, 0) + 1
    return counted


def _collapsed(networks: Sequence[NetworkResult], classes: int | None) -> list[str]:
    low = _below_floor(networks, classes)
    if not low:
        return []
    of = sum(n.kind != "control" for n in networks)
    shown = _listed(f"{n.id} {n.test_accuracy:.1%}, below {floor:.1%}" for n, floor in low)
    return [f"Accuracy collapsed in {len(low)} of {of} networks ({shown}): their defence means nothing."]


def _below_floor(networks: Sequence[NetworkResult], classes: int | None) -> list[tuple[NetworkResult, float]]:
    """The networks that are no controls whose test accuracy collapsed, each with the least that is none."""
    dense = {(n.role, n.seed, n.init): n.test_accuracy for n in networks if n.baseline}
    networks = [n for n in networks if n.kind != "control"]
    chance = 0.0 if classes is None else min(1.5 / classes, 1 / classes + 0.05)
    floors = ((n, max(chance, dense.get((n.role, n.seed, n.init), 0.0) / 2)) for n in networks)
    return [(n, floor) for n, floor in floors if n.test_accuracy < floor]


def _mismatched_pairs(networks: Sequence[NetworkResult], attacks: Sequence[AttackResult]) -> list[str]:
    """Targets whose accuracy differs from that of their shadow by more than chance."""
    sizes = {a.network.id: (a.n_members, a.n_nonmembers) for a in attacks}
    shadows = {(n.network, n.seed, n.init): n for n in networks if n.role == "shadow"}
    targets = {(n.network, n.seed, n.init): n for n in networks if n.role == "target"}
    couples = [(target, shadows[place]) for place, target in targets.items() if place in shadows]
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
                seed = repeat(target.seed, target.init)
                found.append(f"{target.network} of seed {seed}: {kind} {t:.1%} against {s:.1%}, n = {n}")
    if not found:
        return []
    return [
        f"Target and shadow do not resemble each other in {len(found)} of {2 * len(couples)} accuracies, so the attack "
        f"says little there ({_listed(found)}; allowed: 5 points and 1.96 standard errors)."
    ]


def _listed(items: Iterable[str]) -> str:
    shown = list(items)
    return "; ".join(shown[:5]) + (f"; and {len(shown) - 5} more" if len(shown) > 5 else "")
