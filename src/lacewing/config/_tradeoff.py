"""[tradeoff]: the question that a study is run to answer, declared before it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator, model_validator

from lacewing.config._bounds import BadTogether, BadValue, distinct, no_longer_than
from lacewing.config._networks import EarlyStopped, Network, family_name, network_name
from lacewing.config._parts import Part, Word
from lacewing.errors import did_you_mean

if TYPE_CHECKING:
    from lacewing.config._study import Study

CONTROLS = "controls"  # every family of complete recipes that are not sparse
TEST_ACCURACY = "test accuracy"
FPRS = (0.01, 0.001)  # at which results hold a TPR
FEWEST_RECIPES = 6  # of both families, see `lacewing.tradeoff`
FEWEST_SEEDS = 3  # or cuts; as in `lacewing.metrics`
_METRIC = re.compile(r"(?P<attack>[\w-]+)\.(?:(?P<name>auc|balanced_accuracy)|tpr@(?P<fpr>\d*\.?\d+(?:e-?\d+)?))")


class Comparison(Part):
    """Does one family of networks leak less, or more, than others at equal accuracy?"""

    family: Word  # the name of a [[networks]] entry, or of its `family`
    against: Word = CONTROLS  # another family, or all controls
    at: str = TEST_ACCURACY
    metric: Word  # "lira.tpr@0.01", "discriminator.balanced_accuracy", "rmia-offline.auc"

    @field_validator("at")
    @classmethod
    def _at_test_accuracy(cls, at: str) -> str:
        if at != TEST_ACCURACY:
            raise BadValue(
                f"only '{TEST_ACCURACY}' can be declared; equal train accuracy and equal density are described without "
                "a verdict, and the population is the same records in every seed, whose error no seed averages out"
            )
        return at

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        found = _METRIC.fullmatch(metric)
        if found is None:
            raise BadValue(
                "write ATTACK.auc, ATTACK.balanced_accuracy, ATTACK.tpr@0.01 or ATTACK.tpr@0.001, e.g. "
                "'lira-offline.tpr@0.01'"
            )
        if found["fpr"] is None:
            return metric
        if float(found["fpr"]) not in FPRS:
            raise BadValue(f"studies hold TPRs at {' and '.join(map(str, FPRS))}: choose one of them")
        return f"{found['attack']}.tpr@{float(found['fpr']):g}"  # .01 and 1e-2 are one question

    @property
    def attack(self) -> str:
        """The attack whose result is compared."""
        return self.metric.partition(".")[0]

    @property
    def column(self) -> str:
        """The metric as results name it, e.g. ``tpr_at_fpr_0.01``."""
        _, _, name = self.metric.partition(".")
        return f"tpr_at_fpr_{float(name.removeprefix('tpr@')):g}" if name.startswith("tpr@") else name


class Tradeoff(Part):
    """One primary question, whose verdict is tested at 5 %; more of them are Holm-corrected together."""

    primary: Comparison | None = None
    comparisons: Annotated[
        tuple[Comparison, ...],
        Field(strict=False),
        distinct("a comparison"),
        no_longer_than(100, "corrected for so many, none is found"),
    ] = ()

    @model_validator(mode="after")
    def _asked_once(self) -> Tradeoff:
        if self.primary is not None and self.primary in self.comparisons:
            raise BadTogether("comparisons holds the primary question; leave it out there")
        return self

    def declared(self) -> tuple[tuple[str, Comparison], ...]:
        """Every declared comparison with the field that declares it."""
        first = (("tradeoff.primary", self.primary),) if self.primary is not None else ()
        return (*first, *((f"tradeoff.comparisons.{i}", each) for i, each in enumerate(self.comparisons)))


def families(study: Study) -> dict[str, list[Network]]:
    """The [[networks]] entries of each family, in the order of the study."""
    found: dict[str, list[Network]] = {}
    for network in study.networks:
        found.setdefault(family_name(network), []).append(network)
    return found


def check_families(study: Study) -> None:
    """Refuse families that mix kinds of networks.

    Raises:
        ValueError: it names the field.
    """
    for name, networks in families(study).items():
        if name == CONTROLS:
            raise ValueError(f"networks: '{CONTROLS}' means all controls; choose another name or family")
        kinds = {_kind(network) for network in networks}
        if len(kinds) > 1:
            listed = ", ".join(f"'{network_name(n)}' ({_kind(n)})" for n in networks)
            raise ValueError(f"networks: family '{name}' holds {listed}; put different kinds into different families")


def check_declared(study: Study) -> None:
    """Refuse a declared comparison that this study can never answer.

    Raises:
        ValueError: it names the field.
    """
    there = families(study)
    for where, asked in study.tradeoff.declared():
        if asked.family == asked.against:
            raise ValueError(f"{where}.against: '{asked.against}' is the family itself; name another")
        for field, name in (("family", asked.family), ("against", asked.against)):
            if not (field == "against" and name == CONTROLS):
                _check_family(there, f"{where}.{field}", name)
        against = [n for n, of in there.items() if _kind(of[0]) == "dense" and n != asked.family and recipes(of) > 1]
        if asked.against != CONTROLS:
            against = [asked.against]
        elif not against:
            raise ValueError(
                f"{where}.against: the study declares no control of two recipes; add [[networks]] entries of method = "
                "'dense' with other settings and one `family`"
            )
        most = recipes(there[asked.family]) + max(recipes(there[name]) for name in against)
        if most < FEWEST_RECIPES:
            raise ValueError(
                f"{where}: both families have {most} recipes together, and a comparison at equal accuracy takes "
                f"{FEWEST_RECIPES} of similar accuracy; declare more"
            )
        _check_seeds(study, where)
        names = study.attacks.names
        if "all" not in names and asked.attack not in names:
            raise ValueError(
                f"{where}.metric: the attack '{asked.attack}' is not in attacks.names: "
                f"{did_you_mean(asked.attack, names)}"
            )


def _check_family(there: dict[str, list[Network]], where: str, name: str) -> None:
    if name not in there:
        raise ValueError(f"{where}: there is no family '{name}': {did_you_mean(name, there)}")
    if _kind(there[name][0]) == "early-stopped":
        raise ValueError(
            f"{where}: '{name}' are networks observed in mid-schedule, which nobody would ship; they are described and "
            "never tested"
        )
    if recipes(there[name]) < 2:
        raise ValueError(
            f"{where}: family '{name}' has one recipe, and a comparison at equal accuracy needs two; give several "
            "[[networks]] entries the same `family`"
        )


def _check_seeds(study: Study, where: str) -> None:
    seeds = study.run.seeds
    if study.data.split == "random-halves":
        cuts = len({seed // 2 for seed in seeds})
        if cuts < FEWEST_SEEDS:
            raise ValueError(
                f"{where}: run.seeds makes {cuts} cuts of the records (seeds 2j and 2j + 1 share one), and a verdict "
                f"needs {FEWEST_SEEDS}: name seeds 0 to {2 * FEWEST_SEEDS - 1}"
            )
    elif len(seeds) < FEWEST_SEEDS:
        raise ValueError(f"{where}: run.seeds names {len(seeds)}, and a verdict needs {FEWEST_SEEDS}")


def recipes(networks: Iterable[Network]) -> int:
    """How many recipes entries declare: the levels of IMP count each."""
    return sum(getattr(network, "levels", 1) for network in networks)


def _kind(network: Network) -> str:
    """What a family may not mix: dense recipes, those observed in mid-schedule, sparse ones."""
    if isinstance(network, EarlyStopped):
        return "early-stopped"
    return "dense" if getattr(network, "method", None) == "dense" else "sparse"
