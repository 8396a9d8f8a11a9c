"""What finished jobs left, read with its digest checked and its content held against what we write. Needs no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lacewing.errors import FolderError, UsageError
from lacewing.metrics import Estimate
from lacewing.property import Measured
from lacewing.results import METRICS, AttackResult, NetworkResult, impossible
from lacewing.study.plan import AttackJob, NetworkJob, PropertyJob
from lacewing.study.store import Store
from lacewing.support.files import read_bounded
from lacewing.support.formats import JSON_BYTES, Arrays, read_arrays

# The arrays that jobs publish: the kinds of their elements. The letters after the last underscore are the axes.
_KINDS = {
    **dict.fromkeys(("member_N", "audited_N", "canary_N", "redrawn_N", "hit_N", "correct_N", "right_NQ"), "b"),
    **dict.fromkeys(("has_N", "second_M"), "b"),
    **dict.fromkeys(("weights_W", "fixed_F", "layers_L", "hidden_H", "inputs_I", "classes_K", "score_AM"), "f"),
    **dict.fromkeys(("part_N", "label_N", "record_N", "group_N", "population_label_Z"), "iu"),
    **dict.fromkeys(("logits_NC", "sensitivity_N", "phi_NQ", "right_NS", "score_N", "confidence_N"), "f"),
    **dict.fromkeys(("gradient_N2", "boundary_N", "layer_NF"), "f"),
    "asked_N": "iu",
    "population_logits_ZC": "f",
    **dict.fromkeys(("inputs_ND", "weights_HD", "initial_HD"), "f"),
    "kept_HD": "b",
    **dict.fromkeys(("csmia_NJ", "lomia_NJ", "likeliest_NJ", "imputed_NJ"), "b"),
    "values_J": "iu",
}
POPULATION = 4  # in part_N
_EMPTY = ("hit_N", "canary_N", "gradient_N2")  # where there is nothing to say
SCORES = ("record_N", "member_N", "hit_N", "correct_N", "score_N", "label_N", "confidence_N", "canary_N")
_OWN = {"score_N", "hit_N"}  # of the attack; the others are about its target's records

KEPT, KEPT_BYTES = 64, 256 << 20  # files of answers that a process keeps in memory: how many, and how large together
_kept: dict[Path, Arrays] = {}  # those used last stand last

_ROUNDING = 1e-9  # of the ends of intervals
_NETWORK = TypeAdapter(NetworkResult)
_Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Attack(BaseModel):
    """metrics.json of an attack."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    attack: str
    variant: str
    threat_model: str
    n_members: _Count
    n_nonmembers: _Count
    metrics: dict[str, tuple[float, float, float] | None]
    notes: dict[str, Any]


class _Told(BaseModel):
    """What metrics.json of a job of [property] says of one attack."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    attack: Annotated[str, Field(max_length=200)]
    chosen: Annotated[str, Field(max_length=200)]
    first: Annotated[int, Field(ge=1, lt=2**31)]
    second: Annotated[int, Field(ge=1, lt=2**31)]
    first_said: Annotated[float, Field(ge=0)]
    second_said: Annotated[float, Field(ge=0)]
    auc: Annotated[float, Field(ge=0, le=1)]


class Property(BaseModel):
    """metrics.json of a job of [property]."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    told: list[_Told]
    density: Annotated[float, Field(gt=0)]
    train_accuracy: Annotated[float, Field(ge=0, le=1)]
    test_accuracy: Annotated[float, Field(ge=0, le=1)]

    def counts(self) -> list[tuple[str, str, Measured]]:
        """The attack, what it looked at, and its decisions."""
        return [(t.attack, t.chosen, Measured(**t.model_dump(exclude={"attack", "chosen"}))) for t in self.told]


def load_told(store: Store, job: PropertyJob) -> Property:
    """The result of a finished job of [property]. Raises `FolderError`, see ``load_network``."""
    path = store.need(job.key, "metrics.json")
    try:
        found = Property.model_validate_json(read_bounded(path, JSON_BYTES))
    except (ValidationError, UsageError) as error:
        raise _foreign(path, error) from None
    sizes = (len(job.first), len(job.second))
    if any((t.first, t.second) != sizes or t.first_said > t.first or t.second_said > t.second for t in found.told):
        raise FolderError(f"{path} does not fit {job.id}; {_MEND}")
    return found


def load_network(store: Store, job: NetworkJob) -> NetworkResult:
    """The result of a finished network job.

    Raises:
        FolderError: a file is lost or damaged, or holds something else than what we write.
    """
    path = store.need(job.key, "metrics.json")
    try:
        found = _NETWORK.validate_json(read_bounded(path, JSON_BYTES))
    except (ValidationError, UsageError) as error:
        raise _foreign(path, error) from None
    if wrong := impossible(found):
        raise FolderError(f"{path}: {wrong} is a number that no network has; {_MEND}")
    if (found.role, found.seed, found.init) != (job.role, job.seed, job.init):
        raise FolderError(f"{path} is of {found.id}, not of {job.id}; {_MEND}")
    # The plan's names for it, which may be others than those under which it was trained.
    found = dataclasses.replace(found, network=job.network, method=job.method, family=job.family, kind=job.kind)
    asked = dict(job.probes).get("population")
    if asked is None or not store.done(asked, "probe.npz"):
        return found
    # A four-way study's population is no part of what a network depends on, so the network does not record it.
    answers = load_probe(store, job, "population")
    right = answers["population_logits_ZC"].argmax(axis=1) == answers["population_label_Z"]
    return dataclasses.replace(found, population_accuracy=float(right.mean()))


def load_attacks(store: Store, ran: Iterable[AttackJob]) -> list[AttackResult]:
    """The results of finished attack jobs; what attacks on one network have in common is held once.

    Raises:
        FolderError: see ``load_network``.
    """
    networks: dict[str, NetworkResult] = {}
    common: dict[tuple[str, str], npt.NDArray[Any]] = {}

    def held(job: AttackJob, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        first = values if name in _OWN else common.setdefault((job.target.key, name), values)
        return first if np.array_equal(first, values) else values

    results = []
    for job in ran:
        if job.target.key not in networks:
            networks[job.target.key] = load_network(store, job.target)
        path = store.need(job.key, "metrics.json")
        try:
            found = _Attack.model_validate_json(read_bounded(path, JSON_BYTES))
        except (ValidationError, UsageError) as error:
            raise _foreign(path, error) from None
        arrays = _arrays(store.need(job.key, "scores.npz"), SCORES)
        members = int(arrays["member_N"].sum())
        if (found.attack, found.n_members, found.n_nonmembers) != (
            job.attack,
            members,
            len(arrays["member_N"]) - members,
        ):
            raise FolderError(f"{path} does not fit {job.id} or the scores beside it; {_MEND}")
        if wrong := [name for name, e in found.metrics.items() if not _possible(name, e)]:
            raise FolderError(f"{path}: {wrong[0][:40]!r} is no measure with its interval; {_MEND}")
        fields = found.model_dump()
        fields["metrics"] = {name: None if e is None else Estimate(*e) for name, e in found.metrics.items()}
        kept: dict[str, Any] = {name: held(job, name, arrays[name]) for name in SCORES}
        results.append(AttackResult(network=networks[job.target.key], **fields, **kept))
    return results


def _possible(name: str, estimate: tuple[float, float, float] | None) -> bool:
    """Whether a metric is known and lies in its interval; rates and accuracies within 0 and 1."""
    if name not in METRICS or estimate is None:
        return name in METRICS
    value, low, high = estimate
    inside = low - _ROUNDING <= value <= high + _ROUNDING
    return inside and (name in ("defence", "advantage") or (low >= -_ROUNDING and high <= 1 + _ROUNDING))


def load_signals(store: Store, network: NetworkJob) -> Mapping[str, npt.NDArray[Any]]:
    """What a finished network answered. Raises `FolderError`, see ``load_network``."""
    needed = ("part_N", "member_N", "audited_N", "label_N", "record_N", "logits_NC", "sensitivity_N")
    return _cached(store.need(network.key, "signals.npz"), needed)


def load_world(store: Store, network: NetworkJob) -> Arrays:
    """What a finished network of [property] answered. Raises `FolderError`, see ``load_network``."""
    needed = ("record_N", "label_N", "has_N", "logits_NC", "weights_W", "fixed_F")
    return _arrays(store.need(network.key, "signals.npz"), needed)


def load_probe(store: Store, network: NetworkJob, kind: str) -> Mapping[str, npt.NDArray[Any]]:
    """What a finished network answered to one kind of question. Raises `FolderError`, see ``load_network``."""
    return _cached(store.need(dict(network.probes)[kind], "probe.npz"), ())


def _arrays(path: Path, needed: Iterable[str]) -> Arrays:
    """The arrays of a job's file: known names, kinds of elements, one length for each axis."""
    try:
        found = read_arrays(path)
    except UsageError as error:
        raise _foreign(path, error) from None
    lacking = [name for name in needed if name not in found]
    if lacking or not found:
        raise FolderError(f"{path} lacks {', '.join(lacking) or 'any array'}; {_MEND}")
    lengths: dict[str, int] = {}
    for name, values in found.items():
        axes = name.rpartition("_")[2]
        if name not in _KINDS or values.dtype.kind not in _KINDS[name] or values.ndim != len(axes):
            raise FolderError(f"{path} holds {name[:40]!r} of dtype {values.dtype}, shape {values.shape}; {_MEND}")
        if name in _EMPTY and not values.size:
            continue
        for axis, length in zip(axes, values.shape, strict=True):
            if length != (int(axis) if axis.isdecimal() else lengths.setdefault(axis, length)):
                raise FolderError(f"{path}: {name} has shape {values.shape}, unlike the other arrays; {_MEND}")
    return found


def _cached(path: Path, needed: Iterable[str]) -> Arrays:
    """`_arrays`, kept: many attacks read the same networks, and a finished job's files never change."""
    found = _kept.pop(path, None)
    found = _arrays(path, needed) if found is None else found
    _kept[path] = found  # the last to be dropped
    while len(_kept) > KEPT or (len(_kept) > 1 and sum(map(_bytes, _kept.values())) > KEPT_BYTES):
        _kept.pop(next(iter(_kept)))
    return found


def _bytes(arrays: Arrays) -> int:
    return sum(values.nbytes for values in arrays.values())


_MEND = "it is no file of ours, or of another version: remove that folder, and run the study again."


def _foreign(path: Path, error: Exception) -> FolderError:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, problem["loc"])) or "its content"
        return FolderError(f"{path}: {field[:80]}: {problem['msg']}; {_MEND}")
    return FolderError(f"{error} {_MEND[0].upper()}{_MEND[1:]}")
