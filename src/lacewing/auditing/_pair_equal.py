"""Dense against sparse at equal accuracy: many networks of each training, compared family against family.

By the rules of `lacewing.tradeoff`: recipes are averaged over the cuts of the records, families have two recipes or
more that vary one thing, and a verdict takes three cuts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lacewing import attacks as registry
from lacewing import tradeoff
from lacewing.attacks import _measure
from lacewing.attacks._types import Attack, Task
from lacewing.auditing import _cache, _evidence, _gather, _json, _refit, _tasks
from lacewing.auditing._gather import Gathered, Settings
from lacewing.auditing._records import Records
from lacewing.auditing._work import Work
from lacewing.config import CONTROLS, Comparison, Tradeoff, validated
from lacewing.errors import UsageError
from lacewing.metrics import FEWEST_SEEDS, Estimate
from lacewing.results import AttackResult, Kind, NetworkResult
from lacewing.support.files import write_atomically
from lacewing.support.formats import read_json

if TYPE_CHECKING:
    from lacewing.auditing._ask import Answers

Train = Callable[[Any, Any, int], Any]
METRIC = "lira-online.auc"
FAMILY = "sparse"  # the name of the family of sparse trainings
FEWEST = 4  # networks of a recipe: each needs others that trained on a record and others that did not
_RECIPES = 6  # of both families
_KNOWN = frozenset({"references", "in-references", "population"})  # what attacks on these networks may need


@dataclass(frozen=True)
class Recipe:
    """One training, the family that it belongs to, and whose networks are the references of an audited model."""

    name: str  # "epochs/10"
    family: str
    kind: Kind
    train: Train
    role: Literal["dense", "sparse"] | None = None
    argument: str = ""  # that gave it, for messages

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors name the argument that gave the training."""
        try:
            yield
        except UsageError as error:
            error.args = (f"{self.argument}: {error}",)
            raise


def recipes(refit: Any, refit_dense: Any, controls: Any) -> tuple[Recipe, ...]:
    """The trainings, the sparse ones first.

    Raises `UsageError` where one is no function, a name is no word or stands for two of them, or ``controls`` has
    nothing to be compared with.
    """
    found = []
    if refit is not None:
        of = refit if isinstance(refit, Mapping) else {"": refit}
        if not of:
            raise UsageError("refit is an empty dict: give the training of the sparse network.")
        for place, (name, train) in enumerate(of.items()):
            argument = f"refit[{name!r}]" if isinstance(refit, Mapping) else "refit"
            found.append(_recipe(FAMILY, name, "sparse", train, argument, "sparse" if place == 0 else None))
    if refit_dense is not None:
        found.append(_recipe("dense", "", "dense", refit_dense, "refit_dense", "dense"))
    if controls is not None:
        if not isinstance(controls, Mapping) or not controls:
            raise UsageError(
                "controls must be a dict of families: {'epochs': {'5': train5, '10': train10}}, each training a "
                "function (x, y, seed) -> model."
            )
        if refit is None:
            raise UsageError("controls are compared with the sparse training: give it as refit=.")
        for family, given in controls.items():
            of = given if isinstance(given, Mapping) else {"": given}
            if family in (FAMILY, "dense", CONTROLS):
                raise UsageError(f"controls[{family!r}]: this name stands for other networks: choose another.")
            for name, train in of.items():
                argument = f"controls[{family!r}]" + (f"[{name!r}]" if isinstance(given, Mapping) else "")
                found.append(_recipe(family, name, "control", train, argument, None))
    by_name: dict[str, Recipe] = {}
    for recipe in found:
        if (first := by_name.setdefault(recipe.name, recipe)) is not recipe:
            raise UsageError(f"{first.argument} and {recipe.argument} are both named '{recipe.name}': rename one.")
    return tuple(found)


def _recipe(
    family: Any, name: Any, kind: Kind, train: Any, argument: str, role: Literal["dense", "sparse"] | None
) -> Recipe:
    if not isinstance(family, str) or not family or not isinstance(name, str):
        raise UsageError(f"{argument}: names of families and trainings must be words.")
    if not callable(train):
        raise UsageError(f"{argument} is a {type(train).__name__}: give a function (x, y, seed) -> model.")
    return Recipe(f"{family}/{name}" if name else family, family, kind, train, role, argument)


def check_metric(metric: str, task: Task) -> None:
    """Raises `UsageError` where it is no metric, or of an attack that these networks do not allow."""
    asked = _question(metric)
    attack = registry.ATTACKS.get(asked.attack)
    if attack is None or not attack.needs <= _KNOWN or attack.about or asked.column == "balanced_accuracy":
        able = sorted(name for name, one in registry.ATTACKS.items() if one.needs <= _KNOWN and not one.about)
        raise UsageError(
            f"metric = {metric!r}: give the auc, tpr@0.01 or tpr@0.001 of one of these attacks: {', '.join(able)}."
        )
    if task not in attack.tasks:
        raise UsageError(f"metric = {metric!r}: '{attack.name}' is not for task='{task}'.")


def check_records(metric: str, given: Sequence[Recipe], references: int, records: Records) -> None:
    """Raises `UsageError` where records or references are too few for what is asked, before anything is trained."""
    controls = [recipe for recipe in given if recipe.kind == "control"]
    if controls and references < FEWEST:
        raise UsageError(
            f"references = {references} is too few for controls: give at least {FEWEST}, and {2 * FEWEST_SEEDS} for a "
            "verdict."
        )
    if not _comparable(given, references):
        return
    asked = _question(metric)
    if asked.attack in records.refused:
        raise UsageError(f"metric = {metric!r}: {records.refused[asked.attack]}")
    units = len(records.member_N) if records.group_N is None else len(np.unique(records.group_N))
    if asked.fpr is not None and units // 2 < 1 / asked.fpr:
        raise UsageError(
            f"metric = {metric!r}: networks are trained on half of the {units:,} audited records, and the others are "
            f"too few for a TPR at an FPR of {asked.fpr:g}: give more records, or compare the auc."
        )


def _comparable(given: Sequence[Recipe], references: int) -> bool:
    """Whether there are networks of sparse and of other trainings to show side by side."""
    kinds = {recipe.kind for recipe in given}
    return references >= FEWEST and "sparse" in kinds and len(kinds) > 1


def _question(metric: str) -> Comparison:
    try:
        return validated(Comparison, {"family": FAMILY, "against": CONTROLS, "metric": metric})
    except UsageError as error:
        raise UsageError(f"metric = {metric!r}: {str(error).removeprefix(f'metric = {metric!r}: ')}") from None


def attacks_of(metric: str, given: Sequence[Recipe]) -> list[Attack]:
    """The attack that recipes are compared by, where there are some."""
    return [registry.ATTACKS[_question(metric).attack]] if given else []


@dataclass(frozen=True)
class RecipeRow:
    """A recipe over all its networks."""

    recipe: str
    family: str
    kind: Kind
    networks: int
    accuracy: float  # on records that a network did not train on, mean
    accuracy_members: float
    leak: Estimate  # the metric: mean, and its 95 % interval
    interval: str  # what that is over


@dataclass(frozen=True)
class EqualAccuracy:
    """Networks of several recipes, and the sparse family beside each control family at equal accuracy."""

    metric: str
    references: int  # networks of each recipe
    cuts: int  # of the records; two networks share one
    recipes: tuple[RecipeRow, ...]
    answer: tradeoff.Answer
    missing: str  # what a verdict lacks; empty: nothing
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The answer at equal accuracy, or what is missing for one."""
        if self.missing:
            return f"At equal accuracy nothing is said of sparsity: {self.missing}"
        return f"At equal accuracy, over {self.cuts} cuts of the records: {self.answer.sentence}"

    @property
    def interval(self) -> str:
        """What the intervals are over: of most recipes, and of those that differ."""
        of: dict[str, list[str]] = {}
        for row in self.recipes:
            of.setdefault(row.interval, []).append(row.recipe)
        usual = max(of, key=lambda text: len(of[text]))
        return "; ".join([usual, *(f"of {', '.join(names)} {text}" for text, names in of.items() if text != usual)])

    def rows(self) -> list[dict[str, Any]]:
        """A dict a recipe."""
        return [
            {
                "recipe": row.recipe,
                "family": row.family,
                "kind": row.kind,
                "networks": row.networks,
                "accuracy": row.accuracy,
                "accuracy_members": row.accuracy_members,
                "leak": row.leak.value,
                "leak_low": row.leak.low,
                "leak_high": row.leak.high,
                "interval": row.interval,
            }
            for row in self.recipes
        ]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        answer = self.answer
        return {
            "sentence": self.sentence,
            "metric": self.metric,
            "references": self.references,
            "cuts": self.cuts,
            "verdict": "no verdict" if self.missing else answer.verdict,
            "missing": self.missing,
            "differences": [_json.plain(vars(each)) for each in answer.differences],
            "recipes": self.rows(),
            "interval": self.interval,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The recipes as lines of a table."""
        width = max(len("training"), *(len(row.recipe) for row in self.recipes))
        head = f"{'training':<{width}}  accuracy  {self.metric}"
        rows = [f"{row.recipe:<{width}}  {row.accuracy:8.3f}  {row.leak.text()}" for row in self.recipes]
        return [
            head,
            *rows,
            f"{self.references} networks of each training, on random halves of the records; intervals: 95 %, "
            f"{self.interval}",
        ]


def compared(
    given: Sequence[Recipe],
    gathered: Mapping[str, Gathered],
    records: Records,
    settings: Settings,
    metric: str,
    models: Mapping[str, Any],
) -> tuple[EqualAccuracy | None, str]:
    """The comparison of the recipes, networks trained where they are not there yet; or None, and what it lacks."""
    lacking = missing(given, settings.references)
    if not _comparable(given, settings.references):
        return None, f"At equal accuracy nothing is said: {lacking}"
    asked = _question(metric)
    attack = registry.ATTACKS[asked.attack]
    history = _history(settings.folder, metric, given, settings.references)
    notes: list[str] = []
    results, rows = [], []
    units = tradeoff.Units.of(range(settings.references), halves=True)
    known: dict[int, list[Answers]] = {}
    for recipe in given:
        work = control_work(recipe, records, settings, models["sparse"])
        if recipe.role:
            answers = list(gathered[recipe.role].answers)
        elif id(recipe.train) in known:
            answers = known[id(recipe.train)]
        else:
            answers, said = _trained(recipe, work, settings)
            notes += said
        known[id(recipe.train)] = answers
        of = [_attacked(recipe, k, answers, work, records, attack, settings.seed) for k in range(len(answers))]
        leaks = {k: _metric(result, asked.column) for k, result in enumerate(of)}
        leak, interval = units.estimate(leaks)
        inside, outside = (
            float(np.mean([getattr(result.network, name) for result in of]))
            for name in ("train_accuracy", "test_accuracy")
        )
        rows.append(RecipeRow(recipe.name, recipe.family, recipe.kind, len(of), outside, inside, leak, interval))
        results += of
    (answer,) = tradeoff.answers(Tradeoff(primary=asked), results, halves=True, history=history)
    made = EqualAccuracy(
        metric, settings.references, len(units), tuple(rows), answer, lacking, tuple(dict.fromkeys(notes))
    )
    return made, ""


def missing(given: Sequence[Recipe], references: int) -> str:
    """What a verdict at equal accuracy lacks, one sentence; empty: nothing."""
    of: dict[str, int] = {}
    for recipe in given:
        of[recipe.family] = of.get(recipe.family, 0) + 1
    controls = [count for family, count in of.items() if family not in (FAMILY, "dense")]
    most, sparse = max(controls, default=0), of.get(FAMILY, 0)
    lacks = []
    if sparse < 2:
        lacks.append("refit= with two trainings or more of the sparse network (a dict, such as of several densities)")
    if most < 2:
        lacks.append("controls= with a family of two ordinary trainings or more (such as shorter schedules)")
    if sparse and most >= 2 and max(sparse, 2) + most < _RECIPES:
        lacks.append(f"{_RECIPES} trainings in the sparse family and a control family together")
    if references < 2 * FEWEST_SEEDS:
        lacks.append(f"references={2 * FEWEST_SEEDS} or more, two networks for each of {FEWEST_SEEDS} cuts")
    return f"a verdict takes {'; '.join(lacks)}." if lacks else ""


def control_work(recipe: Recipe, records: Records, settings: Settings, model: Any) -> Work:
    """What to train by the recipe: on the same halves and from the same seeds as every other recipe."""
    work = _gather.work_for(recipe.train, records, settings, model)
    return replace(work, signals=(), queries=1, size=_cache.Size())


def _trained(recipe: Recipe, work: Work, settings: Settings) -> tuple[list[Answers], list[str]]:
    say = _gather.to_stderr if settings.progress else _gather.nowhere
    with recipe.named():
        answers, notes = _refit.references(
            work,
            None,
            unchanged=lambda: True,
            folder=settings.folder,
            version=settings.version,
            processes=settings.processes,
            say=lambda text: say(f"{recipe.name}: {text}"),
        )
    return answers, [f"{recipe.name}: {note}" for note in notes]


def _attacked(
    recipe: Recipe, k: int, answers: Sequence[Answers], work: Work, records: Records, attack: Attack, seed: int
) -> AttackResult:
    """Network ``k`` of a recipe, attacked with the others of its recipe as references."""
    evidence = _evidence.of_one(k, answers, records.group_N, work)
    quality = _tasks.quality(answers[k].logits_NC, work.records.y, work.in_KN[k], work.task)
    network = NetworkResult(
        network=recipe.name,
        method=recipe.kind,
        role="target",
        seed=k,
        density=math.nan,
        density_prunable=math.nan,
        parameters=0,
        nonzero=0,
        train_accuracy=quality.members,
        test_accuracy=quality.nonmembers,
        family=recipe.family,
        kind=recipe.kind,
    )
    return _measure.perform(attack, evidence, network, seed=seed)


def _metric(result: AttackResult, column: str) -> Estimate:
    found = result.metrics[column]
    assert found is not None  # see `check_records`
    return found


def _history(folder: Path | None, metric: str, given: Sequence[Recipe], references: int) -> tradeoff.History:
    """What the folder knows: whether another question was answered there before, or this one with fewer networks.

    Writes the question down before anything is trained for it.
    """
    if folder is None:
        return tradeoff.History()
    place = folder / "question.json"
    now = {"metric": metric, "recipes": [recipe.name for recipe in given], "references": references}
    then: Any = None
    if place.is_file():
        then = read_json(place)
    answered = (folder / "pair.json").is_file() and isinstance(then, dict)
    if answered and then.get("metric") != metric:
        return tradeoff.History(late=True)
    if answered and {**then, "metric": metric} != now:
        return tradeoff.History(seeds_then=int(then.get("references", 0)))
    write_atomically(place, json.dumps(now, indent=1) + "\n")
    return tradeoff.History()
