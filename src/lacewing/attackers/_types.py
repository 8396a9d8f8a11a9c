"""What the table of attackers holds: a row a recipe, a cell a kind of attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from lacewing.metrics import Estimate
from lacewing.results import Kind

SCHEMA = 1
KindOfAttack = Literal["membership", "adaptive", "property", "reconstruction", "attribute"]
KINDS: tuple[KindOfAttack, ...] = get_args(KindOfAttack)
BASELINES: Mapping[KindOfAttack, tuple[float, str]] = {  # what an attacker without the network reaches
    "membership": (0.5, "chance"),
    "adaptive": (0.5, "chance"),
    "property": (0.5, "chance"),
    "reconstruction": (0.5, "who knows the prior alone"),
    "attribute": (0.0, "imputation"),
}
MEASURES: Mapping[KindOfAttack, str] = {
    "membership": "AUC",
    "adaptive": "AUC",
    "property": "share of networks whose world is named",
    "reconstruction": "AUC",
    "attribute": "surplus on members",
}
HOLDS: Mapping[KindOfAttack, str] = {
    "membership": "knows the recipe, but neither the mask nor the dense version of the network",
    "adaptive": "holds the network's mask, its dense version or the levels between, or trained under its mask",
    "property": "has networks of its own of both worlds",
    "reconstruction": "holds the first layer, and asks whether a record is one of those that it was trained on",
    "attribute": "knows a record but for a column",
}
Standing = Literal["above", "not above", "below", "no verdict", "not run"]


class Tried(NamedTuple):
    """One attack on the networks of a recipe."""

    attack: str
    by_seed: Mapping[int, Estimate]  # with the interval over its own records or networks
    decisions: tuple[float, int] | None = None  # right ones, of how many, where these are what is counted
    below_prior: bool = False  # guesses fewer of the members' values than imputation does
    about: str = ""  # a sentence of more numbers
    masked: bool = False  # only a network with a mask can be attacked so, so that no dense one lacks it


@dataclass(frozen=True, slots=True)
class Recipe:
    """The target networks of one name."""

    network: str
    method: str
    kind: Kind | None
    density: float  # mean over seeds, as the accuracy
    test_accuracy: float

    @property
    def baseline(self) -> bool:
        """Whether it is the dense network that others stand beside."""
        return self.kind == "dense"


@dataclass(frozen=True, slots=True)
class Cell:
    """The strongest attack of a kind on a recipe, by its mean over seeds; ``why`` there is none, where none ran."""

    kind: KindOfAttack
    why: str = ""
    attack: str = ""
    value: float | None = None
    low: float | None = None  # 95 % over seeds or cuts, Bonferroni over the attacks of this kind; None: too few
    high: float | None = None
    tried: int = 0
    units: str = ""  # what is replicated: "5 seeds"
    alike: bool = False  # the seeds do not differ, and the interval is over records
    corrected: bool = True  # the interval, for the number of attacks; those over records are stored at 95 %
    difference: Estimate | None = None  # to the dense network, see `gathered`
    compared: tuple[str, str] | None = None  # the attacks here and on the dense network that the difference is of
    waiting: tuple[str, ...] = ()  # attacks of the kind that are not finished on this recipe, and do not count
    below_prior: bool = False
    about: str = ""
    others: tuple[tuple[str, float], ...] = ()  # (attack, mean) of every attack, the strongest first

    @property
    def baseline(self) -> float:
        """What an attacker without the network reaches."""
        return BASELINES[self.kind][0]

    @property
    def standing(self) -> Standing:
        """Where the interval lies beside the baseline."""
        if self.value is None:
            return "not run"
        if self.low is None or self.high is None:
            return "no verdict"
        if self.low > self.baseline:
            return "above"
        return "below" if self.high < self.baseline else "not above"


@dataclass(frozen=True, slots=True)
class Row:
    """A recipe under every kind of attack."""

    recipe: Recipe
    cells: Mapping[KindOfAttack, Cell]


@dataclass(frozen=True)
class Attackers:
    """Which attack succeeds at which density, and what that says about sparsity as a defence."""

    rows: tuple[Row, ...]
    enough: bool  # whether there are seeds for a verdict
    about: Mapping[KindOfAttack, str] = field(default_factory=dict)  # what a kind is asked for in this study
    waiting: tuple[KindOfAttack, ...] = ()  # kinds with attacks that are not finished

    @property
    def ran(self) -> tuple[KindOfAttack, ...]:
        """The kinds that ran on any recipe."""
        return tuple(kind for kind in KINDS if any(row.cells[kind].value is not None for row in self.rows))

    @property
    def dense(self) -> Row | None:
        """The row that differences are to."""
        return next((row for row in self.rows if row.recipe.baseline), None)

    def table(self) -> list[dict[str, Any]]:
        """A dict a recipe and kind of attack: success, interval, baseline, where it stands, difference to dense."""
        return [
            {
                "network": row.recipe.network,
                "density": row.recipe.density,
                "test_accuracy": row.recipe.test_accuracy,
                "attackers": cell.kind,
                "attack": cell.attack,
                "measure": MEASURES[cell.kind],
                "value": cell.value,
                "low": cell.low,
                "high": cell.high,
                "baseline": cell.baseline,
                "stands": cell.standing,
                "tried": cell.tried,
                "over": cell.units,
                "corrected": cell.corrected,
                "to_dense": cell.difference and cell.difference.value,
                "to_dense_low": cell.difference and cell.difference.low,
                "to_dense_high": cell.difference and cell.difference.high,
                "to_dense_of": None if cell.compared is None else " - ".join(cell.compared),
                "not_run": cell.why,
                "waiting": ", ".join(cell.waiting),
            }
            for row in self.rows
            for cell in row.cells.values()
        ]


def as_json(found: Attackers) -> dict[str, Any]:
    """attackers.json: the table, and what each kind holds and is compared with."""
    kinds = {kind: {"holds": HOLDS[kind], "measure": MEASURES[kind], "baseline": BASELINES[kind][1]} for kind in KINDS}
    return {"schema": SCHEMA, "attackers": kinds, "rows": found.table()}
