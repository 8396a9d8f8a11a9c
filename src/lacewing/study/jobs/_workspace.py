"""What the jobs of one study share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from lacewing import attacks, data, models
from lacewing.attacks import Attack
from lacewing.errors import DataError, UsageError
from lacewing.results import Epoch
from lacewing.study.declared import Study
from lacewing.study.plan import NetworkJob
from lacewing.study.store import Store
from lacewing.support.machine import give_back_memory, hold_little_memory
from lacewing.support.mapped import Mapped

if TYPE_CHECKING:
    from lacewing.training.replay import Recordings

_KEPT = 4  # splits of seeds, which take a second each where groups are many
_CHANGED = (
    "data.dataset: the records of {} are not those with which this run began: a file must stay as it is while a study "
    "runs, and a function of data.dataset must return the same records at each call. Restore them, and the same "
    "command continues; what is finished is kept."
)
Keep = Literal["all", "signals"]
Report = Callable[[NetworkJob, Epoch], None]
Scale = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # mean and standard deviation


@dataclass(frozen=True)
class Workspace:
    """What the jobs of one study share: the study, its records, the run folder, the device."""

    study: Study
    store: Store
    dataset: data.Dataset
    records: data.Records
    normalisation: Scale
    population: npt.NDArray[np.int64]  # of a four-way study: indices into the data set; under random halves empty
    device: str = "cpu"
    keep: Keep = "all"
    stop: Callable[[], bool] = lambda: False
    report: Report = lambda job, epoch: None
    attacks: Mapping[str, Attack] = field(default_factory=dict)  # those that the study names
    recordings: Recordings | None = None  # of training steps; None: these run one operation after another
    groups: npt.NDArray[np.int64] | None = None  # codes of the data set's records; None: the study has no groups
    _splits: dict[int, data.Split | data.Halves] = field(default_factory=dict)  # by seed, those that were made
    _pools: dict[int, tuple[data.Pools, data.Records]] = field(default_factory=dict)
    _poison: dict[int, tuple[npt.NDArray[np.int64], data.Records]] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        study: Study,
        store: Store,
        source: Path | data.Dataset | None,
        *,
        normalisation: Scale | None = None,
        **options: Any,
    ) -> Workspace:
        """Draw the study's records from a data set, or from the one it names, found under ``source``.

        ``normalisation`` is that of these records, where another process of this run has computed it.

        Raises:
            DataError: the data set is missing, altered, or too small.
            UsageError: the study names an attack that there is not, or that cannot be loaded.
        """
        named = attacks.chosen(study.attacks.names, "attacks.names")
        if isinstance(source, data.Dataset):
            dataset = source
        else:
            ids = [name for name in study.data.groups or () if name != data.DUPLICATES]
            dataset = data.load(study.data.dataset, source, labels=study.data.labels, groups=ids, table=_table(study))
        if study.of_tokens():
            dataset = data.as_tokens(dataset)
            _check_tokens(study, dataset)
        elif dataset.x.dtype == np.int32:
            raise UsageError(
                f"data.tokens: records of {dataset.name} are token ids: set it to true for factories of your own, or "
                "give model.name = 'transformer'."
            )
        elif study.data.padding is not None:
            raise UsageError("data.padding is the id that fills up short records of token ids; leave it out.")
        _check_augment(study, dataset)
        drawn = study.data
        groups = data.groups_of(dataset, drawn.groups)
        settings: dict[str, Any] = drawn.model_dump(include={"records", "label_noise", "seed", "canaries"})
        if dataset.declared:
            records = data.prepare_declared(dataset, **settings)
        else:
            records = data.prepare(dataset, **settings, group_N=groups)
        share = drawn.population if drawn.split == "four-way" else 0.0
        population = data.unused(dataset, records, share, drawn.seed, groups)
        read = records.x[:1] if dataset.declared else records.x  # its records are all the same
        scale = normalisation or (_as_they_are(dataset) if study.of_tokens() else data.normalisation(read))
        work = cls(study, store, dataset, records, scale, population, attacks=named, groups=groups, **options)
        work.split(study.run.seeds[0])
        return work

    @property
    def digest(self) -> str:
        """SHA-256 of the data set; where the study has groups, of them too."""
        return self.dataset.digest if self.groups is None else data.digest_with(self.dataset, self.groups)

    def handed_on(self) -> dict[str, Any]:
        """What other processes of this run need not find out again, as JSON, see `receive`."""
        mapped = isinstance(self.dataset.x, Mapped)
        return {
            "digest": self.digest,
            "found": data.found() if mapped else {},
            "normalisation": [values.tolist() for values in self.normalisation] if mapped else None,
        }

    @classmethod
    def receive(
        cls, handed: Mapping[str, Any], study: Study, store: Store, source: Path | data.Dataset | None, **options: Any
    ) -> Workspace:
        """Open the workspace of a run in another of its processes.

        Args:
            handed: by `handed_on`.
            study, store, source, options: as for `open`.

        Raises:
            DataError: the data are not those with which the run began.
        """
        data.learn(handed["found"])
        if handed["normalisation"] is not None:  # records stay in their file
            hold_little_memory()
        scale = handed["normalisation"]
        mean_std = None if scale is None else (np.array(scale[0], np.float32), np.array(scale[1], np.float32))
        work = cls.open(study, store, source, normalisation=mean_std, **options)
        if work.digest != handed["digest"]:
            raise DataError(_CHANGED.format(study.data.dataset))
        return work

    def check_data(self) -> None:
        """Refuse to go on with records whose file was changed since it was opened. Raises `DataError`."""
        if isinstance(self.dataset.x, Mapped) and self.dataset.x.changed():
            raise DataError(_CHANGED.format(self.study.data.dataset))

    def spare_memory(self) -> None:
        """Give back the memory that a job freed, where records stay in their file because memory is short.

        Not elsewhere: it collects all garbage of the process, which can take longer than training a small network.
        """
        if isinstance(self.dataset.x, Mapped):
            give_back_memory()

    def split(self, seed: int) -> data.Split | data.Halves:
        """The records of one seed's networks.

        Raises:
            DataError: there are too few records, or groups of them that no split can keep together.
        """
        drawn, n, groups = self.study.data, len(self.records), self.records.group_N
        if seed not in self._splits:
            _forget(self._splits)
            self._splits[seed] = (
                data.four_way(n, seed, groups=groups)
                if drawn.split == "four-way"
                else data.random_halves(n, seed, population=drawn.population, data_seed=drawn.seed, groups=groups)
            )
        return self._splits[seed]

    def pools(self, seed: int) -> tuple[data.Pools, data.Records]:
        """The pools of [property] of one seed, and the records that they are indices into.

        Raises:
            UsageError: the records cannot be cut so.
        """
        declared, records = self.study.property, self.records
        assert declared is not None
        if seed not in self._pools:
            _forget(self._pools)
            kind, number = declared.what
            has = None if kind == "redrawn" else data.having(records.x, records.y, records.classes, kind, number)
            found = data.pools(has, len(records), seed, asked=declared.asked)
            self._pools[seed] = found, records if has is not None else data.doubled(records, seed)
        return self._pools[seed]

    def poison(self, seed: int) -> tuple[npt.NDArray[np.int64], data.Records]:
        """Which records of a seed the attacker of [property] poisons with, and the records with his labels on them.

        Raises:
            UsageError: there are too few such records, or there is no such class.
        """
        declared = self.study.property
        assert declared is not None
        assert declared.poison_label is not None
        if seed not in self._poison:
            _forget(self._poison)
            pools, records = self.pools(seed)
            label = declared.poison_label
            rows = data.poison(pools, records.y, records.classes, declared.poisoned, label, seed)
            self._poison[seed] = rows, data.relabelled(records, rows, label)
        return self._poison[seed]

    def records_of(self, job: NetworkJob) -> data.Records:
        """The records that a network's members are indices into: the study's, or those of its seed's pools."""
        if job.world is None:
            return self.records
        return self.poison(job.seed)[1] if job.world.poisoned else self.pools(job.seed)[1]


def _forget(made: dict[int, Any]) -> None:
    while len(made) >= _KEPT:
        del made[next(iter(made))]


def _instead(padding: int | None) -> str:
    return "" if padding is None else f" instead of {padding}"


def _table(study: Study) -> data.Table:
    """What the study says of the columns of its data set."""
    said = study.data
    return data.Table(said.target, said.ignore or (), said.categories or (), said.padding)


def _check_augment(study: Study, dataset: data.Dataset) -> None:
    """Refuse mirrored and shifted copies of records that are no images. Raises `UsageError`."""
    if len(dataset.shape) == 3:
        return
    kind = "token ids" if study.of_tokens() else "rows of a table"
    if any(study.train_of(network).augment for network in study.networks):
        raise UsageError(f"train.augment: it mirrors and shifts images, and records here are {kind}; leave it out.")


def _as_they_are(dataset: data.Dataset) -> Scale:
    """Mean 0 and standard deviation 1."""
    (length,) = dataset.shape
    return np.zeros(length, np.float32), np.ones(length, np.float32)


def _check_tokens(study: Study, dataset: data.Dataset) -> None:
    """Refuse a study of token ids that changes them, or whose models do not read them.

    Raises:
        UsageError: it names the field.
    """
    for model in (study.model, *(study.model_of(network) for network in study.networks)):
        if models.takes_tokens(model):
            models.check(model, dataset.shape, dataset.classes)
            models.check_tokens(model, dataset.x)
            padding = model.options.get("padding")
            if study.data.padding not in (None, padding):
                raise UsageError(
                    f"data.padding = {study.data.padding} fills up short records, and 'transformer' would read it as a "
                    f"token; set model.options.padding = {study.data.padding}{_instead(padding)}."
                )
        elif not models.is_own(model):
            raise UsageError(
                f"{models.named(model)} takes numbers, and records are token ids here; use 'transformer' or a factory "
                "of your own for all networks."
            )
    declared = study.property is not None and study.property.what.kind == "feature"
    for name, found in (
        ("train.mixup", any(study.train_of(network).mixup for network in study.networks)),
        ("attribute", study.attribute is not None),
        ("property.of", declared),
        *((f"signals.{name}", True) for name in study.signals.model_dump(exclude_defaults=True)),
    ):
        if found:
            raise UsageError(f"{name}: it changes or orders numbers of records, and token ids are names; leave it out.")
