"""Whether a study can answer the questions that it declares: families, recipes, seeds, attacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lacewing.config import CONTROLS, FEWEST_RECIPES, FEWEST_SEEDS, Tradeoff
from lacewing.errors import did_you_mean
from lacewing.methods import Method
from lacewing.results import STOPPED


def families(networks: Iterable[Method]) -> dict[str, list[Method]]:
    """The [[networks]] entries of each family, in the order of the study."""
    found: dict[str, list[Method]] = {}
    for network in networks:
        for name in network.families:
            found.setdefault(name, []).append(network)
    return found


def check_families(networks: Iterable[Method]) -> None:
    """Refuse families that mix kinds of networks.

    Raises:
        ValueError: it names the field.
    """
    for name, members in families(networks).items():
        if name == CONTROLS:
            raise ValueError(f"networks: '{CONTROLS}' means all controls; choose another name or family")
        kinds = {_kind(network) for network in members}
        if len(kinds) > 1:
            listed = ", ".join(f"'{n.entry}' ({_kind(n)})" for n in members)
            raise ValueError(f"networks: family '{name}' holds {listed}; put different kinds into different families")


def check_declared(
    tradeoff: Tradeoff, networks: Iterable[Method], seeds: Sequence[int], attacks: Sequence[str], *, halves: bool
) -> None:
    """Refuse a declared comparison that this study can never answer.

    Args:
        tradeoff: the questions.
        networks: the entries of the study.
        seeds: of the study.
        attacks: the names of those that it declares.
        halves: whether two seeds share one cut of the records.

    Raises:
        ValueError: it names the field.
    """
    there = families(networks)
    count = {name: sum(network.families[name] for network in of) for name, of in there.items()}
    for where, asked in tradeoff.declared():
        if asked.family == asked.against:
            raise ValueError(f"{where}.against: '{asked.against}' is the family itself; name another")
        for field, name in (("family", asked.family), ("against", asked.against)):
            if not (field == "against" and name == CONTROLS):
                _check_family(there, count, f"{where}.{field}", name)
        against = [n for n, of in there.items() if _kind(of[0]) == "dense" and n != asked.family and count[n] > 1]
        if asked.against != CONTROLS:
            against = [asked.against]
        elif not against:
            raise ValueError(
                f"{where}.against: the study declares no control of two recipes; add [[networks]] entries of method = "
                "'dense' with other settings and one `family`"
            )
        most = count[asked.family] + max(count[name] for name in against)
        if most < FEWEST_RECIPES:
            raise ValueError(
                f"{where}: both families have {most} recipes together, and a comparison at equal accuracy takes "
                f"{FEWEST_RECIPES} of similar accuracy; declare more"
            )
        _check_seeds(seeds, halves, where)
        if "all" not in attacks and asked.attack not in attacks:
            raise ValueError(
                f"{where}.metric: the attack '{asked.attack}' is not in attacks.names: "
                f"{did_you_mean(asked.attack, attacks)}"
            )


def _check_family(there: dict[str, list[Method]], count: dict[str, int], where: str, name: str) -> None:
    if name not in there:
        raise ValueError(f"{where}: there is no family '{name}': {did_you_mean(name, there)}")
    if not there[name][0].complete:
        raise ValueError(
            f"{where}: '{name}' are networks observed in mid-schedule, which nobody would ship; they are described and "
            "never tested"
        )
    if count[name] < 2:
        raise ValueError(
            f"{where}: family '{name}' has one recipe, and a comparison at equal accuracy needs two; give several "
            "[[networks]] entries the same `family`"
        )


def _check_seeds(seeds: Sequence[int], halves: bool, where: str) -> None:
    if halves:
        cuts = len({seed // 2 for seed in seeds})
        if cuts < FEWEST_SEEDS:
            raise ValueError(
                f"{where}: run.seeds makes {cuts} cuts of the records (seeds 2j and 2j + 1 share one), and a verdict "
                f"needs {FEWEST_SEEDS}: name seeds 0 to {2 * FEWEST_SEEDS - 1}"
            )
    elif len(seeds) < FEWEST_SEEDS:
        raise ValueError(f"{where}: run.seeds names {len(seeds)}, and a verdict needs {FEWEST_SEEDS}")


def recipes(networks: Iterable[Method]) -> int:
    """How many recipes entries declare: the levels of IMP count each."""
    return sum(network.recipes for network in networks)


def _kind(network: Method) -> str:
    """What a family may not mix: complete recipes that are not sparse, those observed in mid-schedule, sparse ones."""
    if not network.complete:
        return STOPPED
    return "sparse" if network.role == "sparse" else "dense"
