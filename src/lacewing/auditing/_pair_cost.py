"""What the networks of an audit of a dense and a sparse network would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lacewing.auditing import _cost, _gather
from lacewing.auditing._gather import Settings
from lacewing.auditing._pair_equal import Recipe, control_work
from lacewing.auditing._records import Records
from lacewing.errors import UsageError


@dataclass(frozen=True)
class RecipeCost:
    """What the networks of one training would take."""

    recipe: str
    networks: int
    there: int  # of them, in the folder already
    seconds_each: float  # of one that was trained for this, and not kept
    seconds: float  # until the rest is trained
    processes: int


@dataclass(frozen=True)
class PairCost:
    """What `audit_pair` would train: ``dry_run=True``."""

    recipes: tuple[RecipeCost, ...]

    @property
    def networks(self) -> int:
        """How many networks there are to train, those that are there included."""
        return sum(each.networks for each in self.recipes)

    @property
    def seconds(self) -> float:
        """Until all are trained."""
        return sum(each.seconds for each in self.recipes)

    def as_json(self) -> dict[str, Any]:
        """Its fields, with a schema number."""
        return {"schema": 1, "networks": self.networks, "seconds": self.seconds, **asdict(self)}

    def __str__(self) -> str:
        lines = [
            f"{each.recipe}: {each.networks} networks, {each.there} of them there already; one takes "
            f"{each.seconds_each:.2g} s, the others about {each.seconds:.0f} s on {each.processes} "
            f"process{'es' * (each.processes > 1)}"
            for each in self.recipes
        ]
        return "\n".join([*lines, f"{self.networks} networks, about {self.seconds:.0f} s; nothing was kept"])


def cost_of(recipes: Sequence[Recipe], records: Records, settings: Settings, models: Mapping[str, Any]) -> PairCost:
    """Train a network or two of each recipe, keep nothing, and say what all would take.

    Raises `UsageError` where there is nothing to train, or a training fails.
    """
    if not recipes:
        raise UsageError("dry_run says what training takes: give refit, refit_dense or controls, and references.")
    found = []
    for recipe in recipes:
        if recipe.role:
            work = _gather.work_for(recipe.train, records, settings, models[recipe.role])
        else:
            work = control_work(recipe, records, settings, models["sparse"])
        with recipe.named():
            took = _cost.cost(work, folder=settings.folder, version=settings.version, processes=settings.processes)
        found.append(RecipeCost(recipe.name, *took))
    return PairCost(tuple(found))
