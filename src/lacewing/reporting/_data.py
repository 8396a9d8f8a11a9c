"""What a report is made from, and the groupings that its figures, sentences and tables share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from lacewing.reporting._looks import OWN, Key, appearance, key_of, network_label
from lacewing.results import AttackResult, Estimate, Kind, Look, NetworkResult, is_baseline, is_sparse
from lacewing.tradeoff import BAND_TOLERANCE, PAPER_BAND, Answer, Price, Spread, TradeOff, Units, ordered
from lacewing.tradeoff.cautions import collapsed_recipes

if TYPE_CHECKING:
    from lacewing.attackers import Attackers
    from lacewing.attacks import Attack
    from lacewing.attacks.selfchecks import SelfCheck
    from lacewing.attribute import AttributeFindings
    from lacewing.mechanism import Mechanism
    from lacewing.property import PropertyFindings
    from lacewing.tradeoff.stability import Stability

PAPER_ATTACK = "discriminator"
SHOWN = 0.0005  # a share that one decimal of a per cent shows
SEEDS_LISTED = 4  # of more seeds than these a report gives the range


@dataclass(frozen=True)
class Slice:
    """The attack's success on a part of the records, e.g. name "class", value "3". AUC None: too few of a kind.

    The name "canaries" is for mislabelled records that the study injected: they have a table of their own, of ``found``
    and ``false`` (see `lacewing.risk.canaries`).
    """

    name: str
    value: str
    n_members: int
    n_nonmembers: int
    auc: Estimate | None
    network: str = ""
    attack: str = ""
    found: Estimate | None = None
    false: int | None = None


@dataclass(frozen=True)
class MostVulnerable:
    """The 1 % of a network's records that an attack ranks highest, against the rest, over the networks of its name."""

    network: str
    attack: str
    records: int
    found: float  # how often such members are found in a network that had no part in choosing them
    found_rest: float  # how often all other members are found
    audits: int  # networks of that name over which records were ranked
    listed: Sequence[tuple[int, float]] = ()  # (record, mean rank of its score): only where the report shows records


def registered() -> Mapping[str, Attack]:
    """The package's registry of attacks."""
    from lacewing.attacks import ATTACKS

    return ATTACKS


class Runs(NamedTuple):
    """Every trained network by itself, where a seed has several initialisations, and the attacks on them."""

    networks: Sequence[NetworkResult] = ()
    attacks: Sequence[AttackResult] = ()


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows. Densities, accuracies and metrics are shares; a report prints them in per cent."""

    study: Mapping[str, Any]  # resolved, as in the run folder
    networks: Sequence[NetworkResult]  # both roles, with their curves; one a seed, the mean of its initialisations
    attacks: Sequence[AttackResult]  # likewise
    tradeoff: TradeOff | None  # None: no attack has run yet
    failures: Sequence[str]  # signatures of a result that must be read with care, one sentence each
    environment: Mapping[str, str]  # versions and machine
    jobs_failed: Sequence[str]
    command: str  # makes such a study, for others: it names no folder of this machine
    data_digest: str  # SHA-256 of the data set
    missing: int  # planned networks that are not trained yet
    tradeoffs: Mapping[str, TradeOff] = field(default_factory=dict)  # by attack; those that lack are computed
    answers: Sequence[Answer] = ()  # to the comparisons that the study declared, the primary one first
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (network, attack): why it did not run
    damaged: Sequence[str] = ()  # files of the run folder that are lost or damaged; nothing is made from them
    slices: Sequence[Slice] = ()
    vulnerable: Sequence[MostVulnerable] = ()
    selfchecks: Sequence[SelfCheck] = ()
    copies: int | None = None  # records whose x equals another's; None: not counted
    show_records: bool = False  # ids and scores of single records are private data
    registry: Mapping[str, Attack] = field(default_factory=registered)
    stability: Stability | None = None  # None: each seed has one initialisation
    runs: Runs = field(default_factory=Runs)  # empty: those above
    looks: Mapping[str, Look] = field(default_factory=lambda: OWN)  # by method; the package's own need not be there
    property: PropertyFindings | None = None  # what networks tell of [property]
    attribute: AttributeFindings | None = None  # and of the columns of [attribute]
    attackers: Attackers | None = None  # every kind of attack on every recipe
    mechanism: Mechanism | str = ""  # why networks leak; or a sentence that says why it is not known
    prices: Mapping[str, Price] = field(default_factory=dict)  # by network: of its training
    again: str = ""  # the command that continues this very folder; empty: the one above

    @cached_property
    def _appearance(self) -> Mapping[str, Look]:
        return appearance((n.method for n in self.networks), {**OWN, **self.looks})

    @cached_property
    def collapsed(self) -> Mapping[str, int]:
        """By sparse recipe: how many of its target networks collapsed; their defence means nothing."""
        return collapsed_recipes(self.networks, self.attacks)

    def look(self, method: str) -> Look:
        """How the networks of a method appear."""
        found = self._appearance.get(method)
        return appearance([method], {**OWN, **self.looks})[method] if found is None else found

    def label(self, network: str, method: str) -> str:
        """How the report names a network of a method."""
        return network_label(network, method)

    def key(self, method: str, kind: Kind | None) -> Key:
        """The mark before a network's name in a table."""
        return key_of(self.look(method), kind)


@dataclass(frozen=True)
class Series:
    """The target networks of one name, one per seed."""

    network: str
    method: str
    density: float
    accuracy: Mapping[int, float]  # by seed: test accuracy
    attacked: Mapping[int, AttackResult]  # by seed: the leading attack
    kind: Kind | None = None

    @property
    def baseline(self) -> bool:
        """Whether it is the dense network that the others are measured against."""
        return is_baseline(self.method, self.kind)

    @property
    def control(self) -> bool:
        """Whether it is a control: such as a dense network of another recipe."""
        return self.kind == "control"

    @property
    def sparse(self) -> bool:
        """Whether it is one of the sparse networks that the study is about."""
        return is_sparse(self.method, self.kind)

    @property
    def in_band(self) -> bool:
        """Whether the density lies where the paper states its slope."""
        return PAPER_BAND[0] - BAND_TOLERANCE <= self.density <= PAPER_BAND[1] + BAND_TOLERANCE

    def metric(self, name: str) -> dict[int, Estimate]:
        """The metric by seed, without those that n refused."""
        return estimates(self.attacked, name)


def leading_attack(data: ReportData) -> str | None:
    """The attack that headline and figures are about: the trade-off's, else the paper's, else one with decisions."""
    if data.tradeoff is not None:
        return data.tradeoff.attack
    return main_attack(data.attacks)


def main_attack(attacks: Sequence[AttackResult]) -> str | None:
    """The paper's discriminator where it ran, else the first attack with a balanced accuracy, else the first."""
    names = [a.attack for a in attacks]
    decided = [a.attack for a in attacks if a.metrics.get("balanced_accuracy") is not None]
    return PAPER_ATTACK if PAPER_ATTACK in names else next(iter(decided or names), None)


def attack_names(data: ReportData) -> list[str]:
    """Every attack that ran, was declared or was refused: in the registry's order, families together."""
    declared = [str(name) for name in data.study.get("attacks", {}).get("names", ()) if name != "all"]
    return in_order([*(a.attack for a in data.attacks), *declared, *(name for _, name in data.refused)], data.registry)


def in_order(names: Iterable[str], registry: Mapping[str, Attack]) -> list[str]:
    """Names once each, families together and in the registry's order, names that it does not know last."""
    place = {name: i for i, name in enumerate(registry)}
    first: dict[str, int] = {}
    for name, attack in registry.items():
        first.setdefault(attack.family, place[name])

    def key(name: str) -> tuple[int, int, str]:
        known = registry.get(name)
        return (first[known.family], place[name], "") if known is not None else (len(place), 0, name)

    return sorted(dict.fromkeys(names), key=key)


def results_of(data: ReportData) -> dict[tuple[str, str], dict[int, AttackResult]]:
    """Results on target networks by (network, attack), then by seed; early stops are left out, as in `series`."""
    found: dict[tuple[str, str], dict[int, AttackResult]] = {}
    for a in sorted(data.attacks, key=lambda a: a.network.seed):
        if a.network.role == "target" and not a.network.stopped:
            found.setdefault((a.network.network, a.attack), {}).setdefault(a.network.seed, a)
    return found


def estimates(results: Mapping[int, AttackResult], metric: str) -> dict[int, Estimate]:
    """The metric by seed, without those that n or the attack does not allow."""
    every = {seed: result.metrics.get(metric) for seed, result in results.items()}
    return {seed: estimate for seed, estimate in every.items() if estimate is not None}


def series(data: ReportData) -> list[Series]:
    """Target networks by name: the dense one, controls, then sparse ones; each by method and falling density.

    Early stops are left out: they have their line in the trade-off plane, and the section "At equal accuracy".
    """
    lead = leading_attack(data)
    attacked: dict[str, dict[int, AttackResult]] = {}
    for attack in data.attacks:
        if attack.attack == lead and attack.network.role == "target":
            attacked.setdefault(attack.network.network, {}).setdefault(attack.network.seed, attack)
    names: dict[str, list[NetworkResult]] = {}
    for network in data.networks:
        if network.role == "target" and not network.stopped:
            names.setdefault(network.network, []).append(network)
    found = [
        Series(
            network=name,
            method=members[0].method,
            density=fmean(m.density for m in members),
            accuracy={m.seed: m.test_accuracy for m in sorted(members, key=lambda m: m.seed)},
            attacked=dict(sorted(attacked.get(name, {}).items())),
            kind=members[0].kind,
        )
        for name, members in names.items()
    ]
    methods = ordered(s.method for s in found)
    return sorted(found, key=lambda s: (not s.baseline, s.sparse, methods.index(s.method), -s.density, s.network))


def seeds_of(data: ReportData) -> list[int]:
    """The seeds that have a trained target network."""
    return sorted({n.seed for n in data.networks if n.role == "target"})


def percent(share: float, digits: int = 1) -> str:
    """``0.1234`` as ``12.3 %``, with a narrow no-break space and a true minus sign."""
    return f"{_number(100 * share, digits)}\u202f%"


def percent_range(low: float, high: float, digits: int = 1) -> str:
    """``(0.1, 0.2)`` as ``10.0 to 20.0 %``."""
    return f"{_number(100 * low, digits)} to {_number(100 * high, digits)}\u202f%"


def lost(loss: float, of: str = "") -> str:
    """A relative loss in words, ``of`` what; a network may also be the more accurate one."""
    return f"loses {percent(loss)}{of}" if loss > -SHOWN else f"is {percent(-loss)} more accurate"


def number(value: float, digits: int = 3) -> str:
    """A plain number with a true minus sign."""
    return _number(value, digits)


def signed(value: float, digits: int = 3) -> str:
    """A difference: a plain number with its sign, but for 0."""
    text = _number(value, digits)
    return text if text.startswith("\u2212") or float(text) == 0 else f"+{text}"


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return ("" if float(text) == 0 else "\u2212" if value < 0 else "") + text.lstrip("-")


def share_text(e: Estimate, digits: int = 1) -> str:
    """A share in per cent with its interval: ``71.5 % (69.9 to 73.0 %)``."""
    return f"{percent(e.value, digits)} ({percent_range(e.low, e.high, digits)})"


def units_of(found: TradeOff) -> str:
    """What a trade-off's numbers are means over: ``3 seeds``, or ``8 cuts (16 seeds)``."""
    return Units.of(found.seeds, halves=found.unit == "cut").text


LEAST_GAIN = -1.0  # relative: nothing of the defence is left


def spread_text(spread: Spread, found: TradeOff, least: float = -math.inf) -> str:
    """A mean in per cent with its interval over seeds, or, where these are too few, with their range, named so."""
    return f"{percent(spread.mean)} ({span_text(spread, found, least)})"


def span_text(spread: Spread, found: TradeOff, least: float = -math.inf) -> str:
    """The interval of a mean over seeds, cut at ``least``, and what it is over.

    Of fewer than three seeds, and of seeds that do not differ, it is their range.
    """
    if spread.n == 1:
        return "one seed"
    if spread.low is None or spread.high is None or spread.high - spread.low < 1e-12:
        return f"range {percent_range(spread.min, spread.max)} over {spread.n} seeds"
    over = f"{spread.n} seeds"
    if found.unit == "cut":
        over = units_of(found) if spread.n == len(found.seeds) else f"the cuts of {over}"
    return f"95\u202f% interval {percent_range(max(spread.low, least), spread.high)}, t over {over}"


def over_seeds(by_seed: Mapping[int, Estimate], *, halves: bool, most: float = 1.0) -> tuple[Estimate, str] | None:
    """The mean over seeds with its interval, cut to 0..``most``, and what that is over; None without a seed.

    See `lacewing.tradeoff.Units.estimate`, which the trade-off's numbers come from too.
    """
    if not by_seed:
        return None
    units = Units.of(by_seed, halves=halves)
    found, over = units.estimate(by_seed, most)
    return found, over if units.enough else f"{over}; {units.text}"


def realised(results: Mapping[int, AttackResult], metric: str) -> str:
    """``, FPR 0.9 %``: the mean FPR that was realised for a TPR at a fixed FPR; "" where results do not hold it."""
    found = estimates(results, metric.replace("tpr_at_fpr", "realised_fpr")).values() if "tpr_at" in metric else ()
    return f", FPR {percent(fmean(e.value for e in found), 2)}" if found else ""


def density_text(density: float) -> str:
    """A density in per cent: one decimal from 1 % on, two below."""
    return "100\u202f%" if density >= 0.9995 else percent(density, 1 if density >= 0.01 else 2)


def seeds_text(seeds: Sequence[int]) -> str:
    """``seed 0``, ``seeds 0, 1, 2``, or ``seeds 0 to 15``."""
    ordered = sorted(seeds)
    if len(ordered) > SEEDS_LISTED and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"seeds {ordered[0]} to {ordered[-1]}"
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def unfinished(data: ReportData) -> bool:
    """Whether planned attacks have not run: what a test says now would come from looking before the end."""
    return data.tradeoff is not None and data.tradeoff.slope.verdict == "not finished"


def random_halves(data: ReportData) -> bool:
    """Whether every network's members are a random half of one set, so that seeds share their records."""
    return bool(data.study.get("data", {}).get("split") == "random-halves")


def n_text(data: ReportData) -> str:
    """``n = 1,000 members and 1,000 non-members per network``."""
    if not data.attacks:
        return "no attack yet"
    members, others = {a.n_members for a in data.attacks}, {a.n_nonmembers for a in data.attacks}

    def span(counts: set[int]) -> str:
        return "\u2013".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))

    unit = ", counted in groups" if data.study.get("data", {}).get("groups") else ""
    return f"n\u00a0=\u00a0{span(members)} members and {span(others)} non-members per network{unit}"
