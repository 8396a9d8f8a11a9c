"""[tradeoff]: the question that a study is run to answer, declared before it runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from lacewing.config._bounds import BadValue, distinct, no_longer_than
from lacewing.config._networks import EarlyStopped, Network, family_name, network_name
from lacewing.config._parts import Part, Word
from lacewing.errors import did_you_mean

if TYPE_CHECKING:
    from lacewing.config._study import Study

CONTROLS = "controls"  # every family of complete recipes that are not sparse
TEST_ACCURACY = "test accuracy"
FPRS = (0.01, 0.001)  # at which results hold a TPR
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
            raise BadValue("write ATTACK.auc, ATTACK.balanced_accuracy or ATTACK.tpr@FPR, e.g. 'lira.tpr@0.01'")
        if found["fpr"] is not None and float(found["fpr"]) not in FPRS:
            raise BadValue(f"studies hold TPRs at {' and '.join(map(str, FPRS))}: choose one of them")
        return metric

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
        if name == CONTROLS and any(n.family is not None for n in networks):
            raise ValueError(f"networks: family = '{CONTROLS}' means all controls; choose another name")
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
            if field == "against" and name == CONTROLS:
                if not any(_able(of) for of in there.values() if _kind(of[0]) == "dense"):
                    raise ValueError(
                        f"{where}.against: the study declares no control of two recipes; add [[networks]] entries of "
                        "method = 'dense' with other settings and one `family`"
                    )
                continue
            if name not in there:
                raise ValueError(f"{where}.{field}: there is no family '{name}': {did_you_mean(name, there)}")
            if _kind(there[name][0]) == "early-stopped":
                raise ValueError(
                    f"{where}.{field}: '{name}' are networks observed in mid-schedule, which nobody would ship; they "
                    "are described and never tested"
                )
            if not _able(there[name]):
                raise ValueError(
                    f"{where}.{field}: family '{name}' has one recipe, and a comparison at equal accuracy needs two; "
                    "give several [[networks]] entries the same `family`"
                )
        names = study.attacks.names
        if "all" not in names and asked.attack not in names:
            raise ValueError(
                f"{where}.metric: the attack '{asked.attack}' is not in attacks.names: "
                f"{did_you_mean(asked.attack, names)}"
            )


def _able(networks: list[Network]) -> bool:
    """Whether a family has two recipes."""
    return len(networks) + sum(getattr(network, "levels", 1) - 1 for network in networks) >= 2


def _kind(network: Network) -> str:
    """What a family may not mix: dense recipes, those observed in mid-schedule, sparse ones."""
    if isinstance(network, EarlyStopped):
        return "early-stopped"
    return "dense" if getattr(network, "method", None) == "dense" else "sparse"
