"""The networks of [property]: what they are trained on and asked, and the jobs that tell two worlds apart."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing import data
from lacewing.errors import DivergedError
from lacewing.property import (
    ATTACKS,
    Known,
    fixed_statistics,
    infer,
    mask_statistics,
    measured,
    weight_statistics,
)
from lacewing.results import Epoch, NetworkResult
from lacewing.study.jobs._stored import load_network, load_world
from lacewing.study.jobs._workspace import Workspace
from lacewing.study.plan import NetworkJob, PropertyJob
from lacewing.study.store import Store
from lacewing.support.mapped import take

if TYPE_CHECKING:
    from torch import nn

    from lacewing.sparsify.guard import Guard

_STATISTICS = {  # by name of a statistic: that of the array that holds it
    "weights": "weights_W",
    "fixed": "fixed_F",
    "mask-layers": "layers_L",
    "mask-hidden": "hidden_H",
    "mask-inputs": "inputs_I",
    "mask-classes": "classes_K",
}


def observe_world(
    work: Workspace, job: NetworkJob, model: nn.Module, curve: tuple[Epoch, ...], guard: Guard | None
) -> tuple[NetworkResult, dict[str, npt.NDArray[Any]]]:
    """A network's answers to records that no network of its seed was trained on, and numbers of its weights and mask.

    Raises:
        DivergedError: it answers with NaN or infinity.
    """
    from lacewing import signals
    from lacewing.sparsify import composed_state
    from lacewing.study.accounting import dense_model, describe

    pools, records = work.pools(job.seed)[0], work.records_of(job)
    unpoisoned = np.ones(len(pools.asked), bool)
    if job.world is not None and job.world.poisoned:
        unpoisoned = ~np.isin(pools.asked, work.poison(job.seed)[0])
    asked, kept = pools.asked[unpoisoned], world_members(work, job)
    rows = np.concatenate([asked, kept])
    x, y = take(records.x, rows), records.y[rows]
    none = np.zeros(len(x), bool)
    raw, _ = signals.observe(model, x, normalisation=work.normalisation, sensitivity_of=none, draws=1)
    if not np.isfinite(raw).all():
        raise DivergedError(f"{job.id}: the trained network answers with NaN or infinity; try a smaller train.lr.")
    logits = signals.compact(raw)
    right, inside = logits.argmax(1) == y, np.arange(len(rows)) >= len(asked)
    shape, classes = work.dataset.shape, work.dataset.classes
    dense = dense_model(work.study.model, shape, classes)
    own = dense if job.model == work.study.model else dense_model(job.model, shape, classes)
    masks = guard.masks if guard is not None else {}
    result = NetworkResult(
        network=job.network,
        method=job.method,
        role=job.role,
        seed=job.seed,
        **describe(model, dense, own, masks),
        train_accuracy=float(right[inside].mean()),
        test_accuracy=float(right[~inside].mean()),
        family=job.family,
        kind=job.kind,
        curve=curve,
    )
    state = composed_state(model)
    names = [name for name, _ in own.named_parameters() if name in state] or list(state)
    plain = {name: state[name].detach().cpu().float().numpy() for name in names}
    statistics = {"weights": weight_statistics(plain), "fixed": fixed_statistics(plain)}
    statistics |= mask_statistics({name: mask.cpu().numpy() for name, mask in masks.items()})
    arrays = {
        "record_N": records.id[asked].astype(np.int32),
        "label_N": records.y[asked].astype(np.int32),
        "has_N": pools.asked_has[unpoisoned],
        "logits_NC": logits[~inside],
        **{_STATISTICS[name]: values.astype(np.float32) for name, values in statistics.items()},
    }
    return result, arrays


def world_members(work: Workspace, job: NetworkJob) -> npt.NDArray[np.int64]:
    """The records that a network of [property] trains on, of those of its seed's pools.

    Raises:
        UsageError: the pool has too few of a kind.
    """
    declared, world = work.study.property, job.world
    assert declared is not None
    assert world is not None
    pools, _ = work.pools(job.seed)
    size = declared.records - declared.poisoned * world.poisoned
    drawn = data.world(pools, job.role, world.share, size, job.seed, world.number)
    return np.sort(np.concatenate([drawn, work.poison(job.seed)[0]])) if world.poisoned else drawn


def tell_apart(store: Store, job: PropertyJob) -> None:
    """Run every attack that these networks allow, and publish what it says of each network that is attacked."""
    own_first, own_second, attacked = (
        _known(store, networks, job.poison_label)
        for networks in (job.own_first, job.own_second, [*job.first, *job.second])
    )
    second = np.arange(len(attacked)) >= len(job.first)
    told, scores = [], []
    for name in ATTACKS:
        found = infer(name, own_first, own_second, attacked)
        if found is not None:
            told.append({"attack": name, "chosen": found.chosen, **measured(found.score_M, second)._asdict()})
            scores.append(found.score_M)
    networks = [load_network(store, one) for one in (*job.first, *job.second)]
    plain = {
        "told": told,
        "density": float(np.mean([one.density for one in networks])),
        "train_accuracy": float(np.mean([one.train_accuracy for one in networks])),
        "test_accuracy": float(np.mean([one.test_accuracy for one in networks])),
    }

    def write(folder: Path) -> None:
        np.savez_compressed(folder / "scores.npz", second_M=second, score_AM=np.array(scores, np.float64))
        (folder / "metrics.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")

    store.publish(job.key, {"job": job.id, "finished": time.time()}, write)


def _known(store: Store, networks: Sequence[NetworkJob], poison_label: int | None) -> Known:
    """What several networks of one recipe and seed answered, and numbers of their weights and masks."""
    seen = [load_world(store, network) for network in networks]
    there = {name: array for name, array in _STATISTICS.items() if array in seen[0]}
    return Known(
        np.stack([one["logits_NC"] for one in seen]),
        seen[0]["label_N"],
        seen[0]["has_N"],
        {name: np.stack([one[array] for one in seen]).astype(np.float64) for name, array in there.items()},
        poison_label,
    )
