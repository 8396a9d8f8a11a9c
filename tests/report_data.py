"""A synthetic study for the report's tests: plausible numbers, every metric computed from simulated scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lacewing import metrics
from lacewing._report import ReportData
from lacewing.cautions import failures
from lacewing.results import AttackResult, Epoch, NetworkResult
from lacewing.tradeoff import tradeoff

PARAMETERS = 272_474
KEPT_DENSE = 1_578  # batch norm and biases, never pruned
BUTTERFLY = {
    "butterfly-s1-l2": 0.3226,
    "butterfly-s1-l3": 0.2961,
    "butterfly-s2-l2": 0.1595,
    "butterfly-s2-l3": 0.1273,
    "butterfly-s3-l2": 0.1179,
    "butterfly-s3-l3": 0.0850,
}


def networks(
    seeds: Sequence[int] = (0, 1),
    levels: int = 5,
    fraction: float = 0.45,
    butterflies: Sequence[str] = ("butterfly-s2-l2", "butterfly-s3-l3"),
    epochs: int = 40,
    collapse: bool = False,
) -> list[NetworkResult]:
    """Both roles of every network: accuracy and memorisation fall as the network gets sparser."""
    prunable = 1 - KEPT_DENSE / PARAMETERS
    grid = [("dense", "dense", 1.0)]
    for level in range(1, levels + 1):
        grid.append((f"imp-{level:02d}", "imp", (1 - fraction) ** level * prunable + 1 - prunable))
    grid += [(name, "butterfly", BUTTERFLY[name]) for name in butterflies]
    found = []
    for seed in seeds:
        for role in ("target", "shadow"):
            for index, (name, method, density) in enumerate(grid):
                rng = np.random.default_rng([seed, role == "shadow", index])
                sparse = -math.log10(density)  # 0 for dense, 2 at 1 %
                test = 0.70 - 0.030 * sparse**2 - (0.015 if method == "butterfly" else 0) + rng.normal(0, 0.004)
                train = 1.0 - 0.085 * sparse**2 + rng.normal(0, 0.002)
                if collapse and density < 0.08:
                    test, train = 0.10, 0.10
                curve = tuple(
                    Epoch(
                        e,
                        2.3 * math.exp(-4 * e / epochs) * (1 + 0.2 * sparse) + abs(rng.normal(0, 0.02)),
                        float(np.clip(train * (1 - math.exp(-4.5 * e / epochs)), 0, 1)),
                        0.1,
                    )
                    for e in range(1, epochs + 1)
                )
                found.append(
                    NetworkResult(
                        network=name,
                        method=method,
                        role=role,  # type: ignore[arg-type]
                        seed=seed,
                        density=density,
                        density_prunable=(density - (1 - prunable)) / prunable,
                        parameters=PARAMETERS,
                        nonzero=round(density * PARAMETERS),
                        train_accuracy=float(np.clip(train, 0, 1)),
                        test_accuracy=float(test),
                        clean_test_accuracy=float(min(1.0, test + 0.04)),
                        curve=curve,
                    )
                )
    return found


def attack(network: NetworkResult, n: int = 2000, leak: float | None = None) -> AttackResult:
    """A Gaussian attack on ``n`` members and ``n`` non-members whose strength follows the network's overfitting."""
    strength = 3.2 * max(0.0, network.train_accuracy - network.test_accuracy) ** 0.9 if leak is None else leak
    rng = np.random.default_rng([network.seed, network.nonzero, n])
    member = np.repeat([True, False], n)
    score = rng.normal(0, 1, 2 * n) + strength * member
    decided = score > strength / 2
    balanced = metrics.balanced_accuracy(decided, member)
    fpr, tpr = metrics.roc(score, member)
    correct = np.where(member, rng.random(2 * n) < network.train_accuracy, rng.random(2 * n) < network.test_accuracy)
    return AttackResult(
        network=network,
        attack="discriminator",
        variant="mlp 30-30",
        threat_model="black-box outputs and sensitivity; one shadow network trained alike on other records",
        n_members=n,
        n_nonmembers=n,
        metrics={
            "balanced_accuracy": balanced,
            "auc": metrics.auc(score, member),
            "tpr_at_fpr_0.01": metrics.tpr_at_fpr(score, member, 0.01) if n >= 100 else None,
            "tpr_at_fpr_0.001": metrics.tpr_at_fpr(score, member, 0.001) if n >= 1000 else None,
            "defence": metrics.defence(balanced),
            "advantage": metrics.advantage(balanced),
            "oracle_balanced_accuracy": metrics.best_threshold_accuracy(score, member),
        },
        notes={"chosen": "mlp 30-30", "signal": "softmax", "norm": "L2"},
        fpr=fpr,
        tpr=tpr,
        record_N=np.arange(2 * n),
        member_N=member,
        hit_N=decided == member,
        correct_N=correct,
    )


def study(name: str = "synthetic", seeds: Sequence[int] = (0, 1), levels: int = 5, **changes: Any) -> dict[str, Any]:
    """A resolved study, as a run folder holds it."""
    train = {
        "epochs": 40,
        "batch_size": 64,
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "one-cycle",
        "augment": ["flip", "crop"],
        "precision": "fp32",
    }
    data = {"dataset": "cifar10", "records": 8000, "label_noise": 0.05, "split": "four-way", "population": 0.0}
    return {
        "schema": 1,
        "name": name,
        "data": data,
        "model": {"name": "resnet20"},
        "train": train,
        "networks": [
            {"method": "dense"},
            {"method": "imp", "levels": levels, "fraction": 0.45, "rewind": "epoch 1"},
            {"method": "butterfly", "segments": 2, "factors": 2, "train": {"lr": 0.2, "weight_decay": 1e-4}},
            {"method": "butterfly", "segments": 3, "factors": 3, "train": {"lr": 0.2, "weight_decay": 1e-4}},
        ],
        "attacks": {"names": ["discriminator"]},
        "run": {"seeds": list(seeds)},
        **changes,
    }


def report_data(
    name: str = "synthetic",
    seeds: Sequence[int] = (0, 1),
    n: int = 2000,
    leak: float | None = None,
    attacked: bool = True,
    missing: int = 0,
    levels: int = 5,
    **grid: Any,
) -> ReportData:
    """A whole report's input; ``leak=0`` for attacks at chance, ``attacked=False`` for a study without attacks yet."""
    nets = networks(seeds=seeds, levels=levels, **grid)
    attacks = [attack(net, n, leak) for net in nets if net.role == "target"] if attacked else []
    found = tradeoff(attacks, resamples=200) if attacks else None
    return ReportData(
        study=study(name, seeds, levels),
        networks=nets,
        attacks=attacks,
        tradeoff=found,
        failures=failures(nets, attacks, found, classes=10) if found else (),
        environment={
            "lacewing": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "numpy": "2.3.1",
            "os": "Linux 6.1 x86_64",
            "cpu": "2 cores",
            "device": "cpu",
        },
        jobs_failed=[],
        command=f"lacewing run {name} --out runs/{name}",
        data_digest="9f2c" * 16,
        missing=missing,
    )
