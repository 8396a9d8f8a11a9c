"""A synthetic study for the report's tests: plausible numbers, every metric computed from simulated scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from lacewing import metrics
from lacewing.attacks._types import Attack, Evidence, Scored
from lacewing.config import Tradeoff
from lacewing.reporting import ReportData
from lacewing.results import AttackResult, Epoch, NetworkResult
from lacewing.tradeoff import answers, tradeoff
from lacewing.tradeoff.cautions import failures

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
    controls: int = 0,
    stops: Sequence[int] = (),
    population: bool = False,
) -> list[NetworkResult]:
    """Both roles of every network: accuracy and memorisation fall as the network gets sparser.

    ``controls``: dense recipes of falling accuracy, one family; ``stops``: epochs at which the dense one is observed.
    """
    prunable = 1 - KEPT_DENSE / PARAMETERS
    grid = [("dense", "dense", 1.0)]
    for level in range(1, levels + 1):
        grid.append((f"imp-{level:02d}", "imp", (1 - fraction) ** level * prunable + 1 - prunable))
    grid += [(name, "butterfly", BUTTERFLY[name]) for name in butterflies]
    grid += [(f"decay-{i}", "dense", 1.0) for i in range(1, controls + 1)]
    found = []
    for seed in seeds:
        for role in ("target", "shadow"):
            for index, (name, method, density) in enumerate(grid):
                rng = np.random.default_rng([seed, role == "shadow", index])
                sparse = -math.log10(density)  # 0 for dense, 2 at 1 %
                test = 0.70 - 0.030 * sparse**2 - (0.015 if method == "butterfly" else 0) + rng.normal(0, 0.004)
                train = 1.0 - 0.085 * sparse**2 + rng.normal(0, 0.002)
                if name.startswith("decay-"):
                    test, train = test - 0.09 * int(name[6:]) / controls, train - 0.13 * int(name[6:]) / controls
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
                        population_accuracy=float(test - 0.01) if population else None,
                        family=FAMILIES.get(name.split("-")[0], name),
                        kind="control" if name.startswith("decay-") else "dense" if method == "dense" else "sparse",
                        curve=curve,
                    )
                )
                if name == "dense":
                    found += [_stopped(found[-1], epoch, epochs) for epoch in stops]
    return found


FAMILIES = {"imp": "imp", "butterfly": "butterfly", "decay": "weight-decay"}


def _stopped(dense: NetworkResult, epoch: int, epochs: int) -> NetworkResult:
    """The dense network after ``epoch`` epochs of its training."""
    share = epoch / epochs
    return dataclasses.replace(
        dense,
        network=f"early-{epoch:03d}",
        method="early-stopped",
        family="early-stopped",
        kind="control",
        test_accuracy=dense.test_accuracy - 0.25 * (1 - share) ** 2,
        train_accuracy=dense.train_accuracy - 0.35 * (1 - share),
        curve=dense.curve[:epoch],
    )


_SPARSE = frozenset({"imp", "butterfly"})
# name: family, strength beside the discriminator's, kinds of network, what it knows of the sparsity, makes decisions
BATTERY: dict[str, tuple[str, float, frozenset[str] | None, str | None, bool]] = {
    "discriminator": ("discriminator", 1.0, None, "same recipe and density", True),
    "discriminator-queries": ("discriminator", 1.1, None, None, True),
    "discriminator-unaware": ("adaptive", 0.8, _SPARSE, "nothing of the sparsity", True),
    "discriminator-mismatched": ("adaptive", 0.9, _SPARSE, "the method, not the density", True),
    "discriminator-imposed-mask": ("adaptive", 1.15, frozenset({"imp"}), "the target's own mask", True),
    "discriminator-all-levels": ("adaptive", 1.2, frozenset({"imp"}), "the answers of all denser levels", True),
    "samia": ("samia", 1.05, None, None, True),
    "loss": ("threshold", 0.9, None, None, True),
    "confidence": ("threshold", 0.9, None, None, True),
    "entropy": ("threshold", 0.6, None, None, True),
    "modified-entropy": ("threshold", 0.92, None, None, True),
    "modified-entropy-per-class": ("threshold", 0.95, None, None, True),
    "gap": ("threshold", 0.5, None, None, True),
    "population": ("population", 0.85, None, None, False),
    "quantile": ("quantile", 0.9, None, None, False),
    "lira-offline": ("lira", 1.3, None, None, True),
    "lira-online": ("lira", 1.5, None, None, True),
    "rmia-offline": ("rmia", 1.35, None, None, False),
    "label-noise": ("label-only", 0.7, None, None, True),
    "gradient-norm-support": ("white-box", 1.0, frozenset({"imp"}), None, True),
}


def _function(evidence: Evidence, *, seed: int) -> Scored:
    raise AssertionError("a report runs no attack")


REGISTRY = {
    name: Attack(
        name=name,
        family=family,
        threat_model=f"What the attacker of the family {family} sees of the network and knows of its members.",
        function=_function,
        needs=frozenset(),
        adaptive=adaptive,
    )
    for name, (family, _, _, adaptive, _) in BATTERY.items()
}


def attack(
    network: NetworkResult, n: int = 2000, leak: float | None = None, name: str = "discriminator"
) -> AttackResult:
    """A Gaussian attack on ``n`` members and ``n`` non-members whose strength follows the network's overfitting."""
    _, factor, _, _, decides = BATTERY[name]
    strength = 3.2 * max(0.0, network.train_accuracy - network.test_accuracy) ** 0.9 if leak is None else leak
    strength *= factor
    rng = np.random.default_rng([network.seed, network.nonzero, n, *name.removeprefix("discriminator").encode()])
    member = np.repeat([True, False], n)
    score = rng.normal(0, 1, 2 * n) + strength * member
    decided = score > strength / 2
    correct = np.where(member, rng.random(2 * n) < network.train_accuracy, rng.random(2 * n) < network.test_accuracy)
    return AttackResult(
        network=network,
        attack=name,
        variant="mlp 30-30" if name == "discriminator" else f"{name}, K = 3",
        threat_model="black-box outputs and sensitivity; one shadow network trained alike on other records",
        n_members=n,
        n_nonmembers=n,
        metrics=metrics.summary(score, member, decided if decides else None),
        notes={"chosen": "mlp 30-30", "signal": "softmax", "norm": "L2"},
        record_N=np.arange(2 * n),
        member_N=member,
        hit_N=decided == member if decides else np.zeros(0, bool),
        correct_N=correct,
        score_N=score,
    )


def audit(names: Sequence[str] = tuple(BATTERY), n: int = 1000, leak: float | None = None, **changes: Any) -> Any:
    """An audit of one network, as the package's audits look to a report."""
    network = networks(seeds=(0,), levels=0, butterflies=())[0]
    attacks = tuple(attack(network, n, leak, name) for name in names if BATTERY[name][2] is None)
    facts = {
        "sentence": f"An answer about {len(attacks)} attacks.",
        "accuracy": "accuracy: members 98.0 %, non-members 71.0 %",
        "attacks": attacks,
        "refused": {
            "lira-online": "It needs reference networks trained on every record.",
            "new-one": "It needs x | y.",
        },
        "selfchecks": CHECKED,
        "epsilon": {a.attack: metrics.Estimate(0.5, 0.25, 0.75) for a in attacks[:3]},
        "epsilon_other": {a.attack: {"hull_bonferroni_split": 0.125, "gaussian_dp": 3.5} for a in attacks[:3]},
        "delta": 1e-5,
        "notes": ("20 % of the non-members were set aside as population.",),
    }
    return SimpleNamespace(**{**facts, **changes})


CHECKED = (
    SimpleNamespace(name="null audit", passed=True, sentence="Permuted membership gave chance in 96 of 100 repeats."),
    SimpleNamespace(name="planted leak", passed=False, sentence="A planted leak was not found: AUC 0.52."),
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


PRIMARY = {"primary": {"family": "imp", "against": "weight-decay", "metric": "discriminator.balanced_accuracy"}}


def report_data(
    name: str = "synthetic",
    seeds: Sequence[int] = (0, 1),
    n: int = 2000,
    leak: float | None = None,
    attacked: bool = True,
    missing: int = 0,
    levels: int = 5,
    names: Sequence[str] = ("discriminator",),
    halves: bool = False,
    declared: Mapping[str, Any] | None = None,
    **grid: Any,
) -> ReportData:
    """A whole report's input; ``leak=0`` for attacks at chance, ``attacked=False`` for a study without attacks yet.

    ``names``: attacks of `BATTERY`. ``halves``: the split random-halves, which has no shadow networks. ``declared``:
    the study's [tradeoff], see `PRIMARY`.
    """
    nets = [net for net in networks(seeds=seeds, levels=levels, **grid) if net.role == "target" or not halves]
    attacks = [
        attack(net, n, leak, name)
        for net in nets
        for name in names
        if attacked and net.role == "target" and (BATTERY[name][2] is None or net.method in BATTERY[name][2])
    ]
    decided = [name for name in names if BATTERY[name][4] and any(a.attack == name for a in attacks)]
    found = tradeoff(attacks, attack=decided[0], networks=nets, halves=halves, resamples=200) if decided else None
    asked = Tradeoff.model_validate(declared or {})
    resolved = study(name, seeds, levels, attacks={"names": list(names)})
    if halves:
        resolved["data"] |= {"split": "random-halves", "population": 0.1}
    return ReportData(
        study=resolved,
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
        answers=answers(asked, attacks, nets, halves=halves),
        registry=REGISTRY,
    )


def compared(**changes: Any) -> ReportData:
    """A study of three seeds with controls, early stops and a declared question; ``changes`` as `report_data`'s."""
    options = {"n": 400, "levels": 6, "fraction": 0.35, "controls": 5, "stops": (20, 30), "epochs": 40}
    names = ("discriminator", "loss")
    return report_data(**{"seeds": (0, 1, 2), "declared": PRIMARY, "names": names, **options, **changes})
