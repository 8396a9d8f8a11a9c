"""What attacks find with 2, 4, 8 and 16 references, beside LiRA and RMIA.

    python benchmarks/references.py [--quick] [--seeds 6] [--targets 4] [--only digits] [--data-root DIR]

Prints two tables in Markdown. For each seed a tenth of the records is population, and 18 perceptrons are trained in one
stack, each on a random half of the rest, in pairs of complementary halves. A network is attacked with K references:
random pairs, never its own. There is no shadow network, so that K is all that an attacker trains: temperature, kappa
and offline a come from references taken as targets. LiRA takes its registry's choices, and at K = 2, where no record
has a spread of its own, one spread for all. Figures are means over the attacked networks of a seed, then over seeds;
intervals are Student's t over seeds, of paired differences. The seed redraws population, halves and networks; the
records of the data set are the same.

``--quick`` trains small networks on the digits for two seeds, for a test.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lacewing import data, metrics
from lacewing.attacks import ATTACKS, Evidence, Observed, Population, References, base, lira, lira_nig, phi
from lacewing.attacks._logits import log_true_class_probability
from lacewing.config import Train
from lacewing.metrics import Estimate, Floats
from lacewing.models.mlp import mlp
from lacewing.training.stack import train_stack

PAIRS = 9  # of complementary networks: eight are the most references, and one holds the target
HIDDEN = (128, 64)
BUDGETS = (2, 4, 8, 16)
PROCESSES = 2
BASELINES = {"online": ("lira-online", "rmia-online"), "offline": ("lira-offline", "rmia-offline")}
NEW = {
    "online": ("nig-t-online", "base-online", "rmia-tuned-online"),
    "offline": ("nig-t-offline", "base-offline", "rmia-tuned-offline", "calibrated-loss", "calibrated-log-odds"),
}
Found = dict[tuple[str, int], tuple[float, float]]  # (attack, K) -> AUC and TPR at 1 %


@dataclass(frozen=True)
class Size:
    """How much is trained and attacked."""

    epochs: int = 40
    targets: int = 4
    budgets: tuple[int, ...] = BUDGETS


@dataclass(frozen=True)
class Networks:
    """M networks, N audited records, Z of the population."""

    logits_MNC: npt.NDArray[np.float32]
    label_N: npt.NDArray[np.int64]
    in_MN: npt.NDArray[np.bool_]
    population_MZC: npt.NDArray[np.float32]
    population_Z: npt.NDArray[np.int64]
    accuracy: tuple[float, float]  # on members, on others


def train(name: str, root: Path | None, seed: int, epochs: int) -> Networks:
    """The networks of a seed; 2j and 2j + 1 are trained on complementary halves."""
    torch.set_num_threads(1)
    dataset = data.load(name, root)
    x, y = np.asarray(dataset.x).reshape(len(dataset), -1).astype(np.float32), dataset.y
    rng = np.random.default_rng([seed, 26])
    order = rng.permutation(len(x))
    audited, population = np.split(order, [len(x) * 9 // 20 * 2])
    half = rng.random((PAIRS, len(audited))).argsort(axis=1) < len(audited) // 2
    in_MN = np.stack([half, ~half], axis=1).reshape(2 * PAIRS, -1)
    torch.manual_seed(seed)
    models = [mlp(x.shape[1], int(y.max()) + 1, HIDDEN) for _ in in_MN]
    mean, std = data.normalisation(x)
    config = Train(epochs=epochs, batch_size=64, lr=0.1, weight_decay=5e-4, precision="fp32", stack=len(models))
    members = np.stack([audited[inside] for inside in in_MN])
    seeds = [1000 * seed + k for k in range(len(models))]
    train_stack(models, x, y, members, config, normalisation=(mean, std), seeds=seeds)
    with torch.no_grad():
        logits = np.stack([model(torch.from_numpy((x - mean) / std)).numpy() for model in models])
    right = logits[:, audited].argmax(axis=2) == y[audited]
    return Networks(
        logits[:, audited],
        y[audited],
        in_MN,
        logits[:, population],
        y[population],
        (float(right[in_MN].mean()), float(right[~in_MN].mean())),
    )


def held_by(networks: Networks, target: int, references: Sequence[int]) -> Evidence:
    """What an attacker of network ``target`` holds with these references, and no shadow."""
    which = list(references)
    return Evidence(
        Observed(
            networks.logits_MNC[target],
            networks.label_N,
            networks.in_MN[target],
            None,
            np.arange(len(networks.label_N)),
        ),
        References(networks.logits_MNC[which], networks.in_MN[which], tuple(map(str, which))),
        Population(networks.population_MZC[target], networks.population_Z, networks.population_MZC[which]),
    )


def drawn(target: int, budget: int, rng: np.random.Generator) -> list[int]:
    """The references of ``target``: ``budget`` networks in whole pairs, none of its own pair."""
    pairs = rng.permutation([pair for pair in range(PAIRS) if pair != target // 2])[: budget // 2]
    return [network for pair in pairs for network in (2 * pair, 2 * pair + 1)]


def scores_of(held: Evidence) -> dict[str, Callable[[], Floats]]:
    """By name, what computes the scores of an attack: the registry's, and some under fixed settings."""
    seen, references = held.observed, held.references
    assert references is not None
    names = [name for mode in BASELINES for name in (*BASELINES[mode], *NEW[mode])]
    found: dict[str, Callable[[], Floats]] = {name: partial(_registered, name, held) for name in names}
    target = phi(seen.logits_NC, seen.label_N)[:, None]
    reference = np.stack([phi(own, seen.label_N) for own in references.logits_KNC])[:, :, None]
    log_odds = (target, reference, references.in_KN)
    if len(references) == 2:
        for mode in ("online", "offline"):
            found[f"lira-{mode}"] = partial(lira, *log_odds, mode=mode, variance="global")
    for kappa in (0.01, 1.0):
        found[f"nig-t-online, kappa = {kappa:g}"] = partial(lira_nig, *log_odds, kappa=kappa)
    for temperature in (1.0, 2.0):
        log_p = partial(log_true_class_probability, labels_N=seen.label_N, temperature=temperature)
        others = np.stack([log_p(own) for own in references.logits_KNC])
        found[f"base-online, T = {temperature:g}"] = partial(base, log_p(seen.logits_NC), others, references.in_KN)
    return found


def _registered(name: str, held: Evidence) -> Floats:
    return ATTACKS[name].function(held, seed=0).scores_N


def one_seed(name: str, root: Path | None, seed: int, size: Size) -> tuple[Found, tuple[float, float], int]:
    """AUC and TPR at 1 % of every attack, means over the targets of a seed; accuracies, and audited members."""
    networks = train(name, root, seed, size.epochs)
    values = defaultdict[tuple[str, int], list[tuple[float, float]]](list)
    rng = np.random.default_rng([seed, 27])
    for target in range(0, 2 * size.targets, 2):
        for budget in size.budgets:
            held = held_by(networks, target, drawn(target, budget, rng))
            for attack, score in scores_of(held).items():
                scores, member = score(), held.observed.member_N
                fpr, tpr = metrics.roc(scores, member)
                at_one = float(tpr[np.searchsorted(fpr, 0.01, side="right") - 1])
                values[attack, budget].append((metrics.auc(scores, member).value, at_one))
    means = {key: tuple(np.mean(each, axis=0).tolist()) for key, each in values.items()}
    return means, networks.accuracy, int(networks.in_MN[0].sum())


def gain(found: Sequence[Found], attack: str, over: str, budget: int, measure: int) -> Estimate:
    """The mean over seeds of an attack's AUC (measure 0) or TPR (1) less another's, with its interval."""
    difference = [one[attack, budget][measure] - one[over, budget][measure] for one in found]
    estimate = metrics.mean_over_seeds(difference)
    assert estimate is not None  # there are two seeds or more
    return estimate


def levels(found: Mapping[str, Sequence[Found]], budgets: Sequence[int]) -> list[str]:
    """The table of what each attack finds."""
    rows = [_row("data", "attack", *(f"K = {k}" for k in budgets)), _row(*["---"] * (2 + len(budgets)))]
    for name, seeds in found.items():
        for attack in dict.fromkeys(attack for attack, _ in seeds[0]):
            cells = (np.mean([one[attack, k] for one in seeds], axis=0) for k in budgets)
            rows.append(_row(name, f"`{attack}`", *(f"{auc:.3f}, {100 * tpr:.1f} %" for auc, tpr in cells)))
    return rows


def gains(found: Mapping[str, Sequence[Found]], budgets: Sequence[int]) -> list[str]:
    """The table of paired differences, AUC and TPR at 1 % in points."""
    rows = [_row("data", "attack", "over", "", *(f"K = {k}" for k in budgets)), _row(*["---"] * (4 + len(budgets)))]
    for name, seeds in found.items():
        pairs = [(new, over) for mode in NEW for new in NEW[mode] for over in BASELINES[mode]]
        for attack, over in pairs:
            for measure, word in enumerate(("AUC", "TPR at 1 %")):
                each = (gain(seeds, attack, over, k, measure) for k in budgets)
                rows.append(_row(name, f"`{attack}`", f"`{over}`", word, *(_signed(e, measure) for e in each)))
    return rows


def _signed(estimate: Estimate, measure: int) -> str:
    scale, form = (100, "+.1f") if measure else (1, "+.3f")
    value, low, high = (format(scale * part, form) for part in estimate)
    return f"{value} [{low}, {high}]"


def _row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--only", choices=("location30", "digits"))
    parser.add_argument("--data-root", type=Path)
    given = parser.parse_args()
    if not given.seeds >= 2 or not 1 <= given.targets <= PAIRS:
        parser.error(f"--seeds must be 2 or more, --targets 1 to {PAIRS}")
    size, seeds = Size(targets=given.targets), given.seeds
    names = [given.only] if given.only else ["location30", "digits"]
    if given.quick:
        size, seeds, names = Size(epochs=8, targets=1, budgets=(2, 4)), 2, ["digits"]
    begun = time.monotonic()
    found: dict[str, list[Found]] = {}
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        waiting = {
            name: [pool.submit(one_seed, name, given.data_root, seed, size) for seed in range(seeds)] for name in names
        }
        for name, jobs in waiting.items():
            done = [job.result() for job in jobs]
            found[name] = [means for means, _, _ in done]
            train_accuracy, test_accuracy = np.mean([accuracy for _, accuracy, _ in done], axis=0)
            print(
                f"{name}: {seeds} seeds, {size.targets} targets each, n = {done[0][2]} members and as many others; "
                f"accuracy {train_accuracy:.3f} on members, {test_accuracy:.3f} on others.",
                flush=True,
            )
    print("", *levels(found, size.budgets), "", *gains(found, size.budgets), "", sep="\n")
    print(f"{time.monotonic() - begun:.0f} s, {os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
