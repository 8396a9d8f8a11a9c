"""Does an audit say "leakage found" where nothing can leak, or "no leakage found" of a model that leaks?

    python benchmarks/nulls.py [--quick] [--audits 200] [--only regression]

Prints one table in Markdown. Each audit has its own data and its own trained network. Of a null audit members and
non-members are both unseen, and the network is above chance on them; of a leaking one the members were trained on to
the end, with labels that are mostly noise. The chance of "leakage found" in a null audit is at most 5 % (Bonferroni
over attacks): of 200 more than 18 happens once in 170 times. Refusals count as failures. The exit code is 1 if more
null audits of a kind find leakage than happens once in 150 times (of 4 more than 2, of 20 more than 4), or one that
leaks is called clean. ``--quick`` does 4 audits of each kind.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binom
from torch import Tensor, nn

import lacewing as lw
from lacewing.attacks._types import Task
from lacewing.errors import LacewingError

Array = npt.NDArray[Any]
FEATURES, CLASSES, LABELS = 12, 3, 4
TRAINED, AUDITED = 200, 150  # records that a network is trained on, and records of each side of a null audit
AUDITS, QUICK_AUDITS = 200, 4
LEVEL, RARE = 0.05, 1 / 150  # the chance of "leakage found" in a null audit; that of as many as fail a kind
PROCESSES = 2


@dataclass
class World:
    """One draw of the truth: records that can be learned, and a network trained on some of them."""

    seed: int
    leak: bool  # the audited members are those that the network was trained on
    task: Task = "classification"
    rows: int = 1  # of each patient, alike but not equal
    binary: bool = False  # few binary features, so that records repeat by nature
    batch_norm: bool = False

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.weights = self.rng.normal(size=(FEATURES, CLASSES if self.task == "classification" else LABELS))
        self.trained = self.draw(TRAINED)
        self.network = self.fit(*self.trained, seed=self.seed)

    def draw(self, n: int) -> tuple[Array, Array]:
        """n records of the same source."""
        people = self.rng.normal(size=(-(-n // self.rows), FEATURES)).repeat(self.rows, axis=0)[:n]
        x = people + (0.3 * self.rng.normal(size=people.shape) if self.rows > 1 else 0.0)
        if self.binary:
            x = people = (x > 0.4).astype(np.float64)
        noise = 4.0 if self.leak else 0.5 if self.binary or self.rows > 1 else 1.5
        score = people @ self.weights + noise * self.rng.normal(size=(len(people), self.weights.shape[1]))
        y = {
            "classification": score.argmax(axis=1),
            "binary": (score[:, 0] > 0).astype(np.int64),
            "multi-label": (score > 0).astype(np.int64),
            "regression": score[:, 0].astype(np.float32),
        }[self.task]
        return x.astype(np.float32), y

    def fit(self, x: Any, y: Any, seed: int) -> nn.Module:
        """A network trained on the records, to the end where it is to leak."""
        torch.manual_seed(seed)
        outputs = {"classification": CLASSES, "multi-label": LABELS}.get(self.task, 1)
        norm = [nn.BatchNorm1d(48, track_running_stats=False)] if self.batch_norm else []
        network = nn.Sequential(nn.Linear(FEATURES, 48), *norm, nn.ReLU(), nn.Linear(48, outputs))
        optimiser = torch.optim.Adam(network.parameters(), 1e-2)
        inputs, target = torch.as_tensor(np.asarray(x)), torch.as_tensor(np.asarray(y))
        for _ in range(250 if self.leak else 40):
            optimiser.zero_grad()
            torch.autograd.backward(self.loss(network(inputs), target))
            optimiser.step()
        return network

    def loss(self, answers: Tensor, y: Tensor) -> Tensor:
        """The loss of the task."""
        if self.task == "classification":
            return nn.functional.cross_entropy(answers, y)
        if self.task == "regression":
            return nn.functional.mse_loss(answers[:, 0], y)
        return nn.functional.binary_cross_entropy_with_logits(answers.reshape(y.shape), y.float())

    def sides(self, inside: int = AUDITED, outside: int = AUDITED) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """(members, non-members)."""
        members = self.trained if self.leak else self.draw(inside)
        return (members[0][:inside], members[1][:inside]), self.draw(outside)


class Noisy(torch.utils.data.Dataset[tuple[Tensor, Any]]):
    """A data set with a random transform."""

    def __init__(self, side: tuple[Array, Array], noise: float) -> None:
        self.side, self.noise = side, noise

    def __len__(self) -> int:
        return len(self.side[0])

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        x = torch.from_numpy(self.side[0][index])
        return x + self.noise * torch.randn_like(x), self.side[1][index]


def _audit(world: World, *sides: Any, model: Any = None, **options: Any) -> lw.Audit:
    options = {"seed": world.seed, "progress": False} | options
    return lw.audit(world.network if model is None else model, *(sides or world.sides()), **options)


def plain(world: World) -> lw.Audit:
    """Arrays, every attack that needs no references."""
    return _audit(world, task=world.task)


def unequal(world: World) -> lw.Audit:
    """Three times as many non-members as members."""
    return _audit(world, *world.sides(120, 360))


def data_set(world: World) -> lw.Audit:
    """Torch data sets without a transform."""
    return _audit(world, *(Noisy(side, 0.0) for side in world.sides()))


def augmented(world: World) -> lw.Audit:
    """Both sides through one random transform, and that is said."""
    return _audit(world, *(Noisy(side, 0.1) for side in world.sides()), augmented=True)


def dropout(world: World) -> lw.Audit:
    """A function that draws its answers at random, and that is said."""
    drops = nn.Dropout(0.1)
    return _audit(world, model=lambda x: world.network(drops(torch.as_tensor(x))).detach().numpy(), augmented=True)


def copies(world: World) -> lw.Audit:
    """Each record up to ten times on its side, without a word about it."""
    times = [world.rng.integers(1, 11, AUDITED) for _ in range(2)]
    sides = [tuple(a.repeat(k, axis=0) for a in side) for side, k in zip(world.sides(), times, strict=True)]
    return _audit(world, *sides)


def oversampled(world: World) -> lw.Audit:
    """One class of the members five times, as training that balances classes has it."""
    (x, y), outside = world.sides()
    times = np.where(y == 0, 5, 1)
    return _audit(world, (x.repeat(times, axis=0), y.repeat(times)), outside)


def patients(world: World) -> lw.Audit:
    """Three rows of each patient, and their ids."""
    ids = np.arange(AUDITED) // world.rows
    return _audit(world, groups=(ids, 1000 + ids))


def probabilities(world: World) -> lw.Audit:
    """A function that answers probabilities."""
    return _audit(world, model=lambda x: world.network(torch.as_tensor(x)).softmax(1).detach().numpy())


def sigmoids(world: World) -> lw.Audit:
    """Several labels, answered by sigmoids."""

    def model(x: Any) -> Array:
        return np.asarray(world.network(torch.as_tensor(x)).sigmoid().detach())

    return _audit(world, model=model, task="multi-label", outputs="sigmoid")


def references(world: World) -> lw.Audit:
    """Six references and every attack with references; the model is asked with its labels' task."""
    return _audit(world, refit=world.fit, references=6, processes=1, task=world.task)


def copies_with_references(world: World) -> lw.Audit:
    """Each record twice on its side, and references."""
    sides = [tuple(a.repeat(2, axis=0) for a in side) for side in world.sides()]
    return _audit(world, *sides, refit=world.fit, references=6, processes=1)


def patients_with_references(world: World) -> lw.Audit:
    """Three rows of each patient, their ids, and references."""
    ids = np.arange(AUDITED) // world.rows
    return _audit(world, groups=(ids, 1000 + ids), refit=world.fit, references=6, processes=1)


def copied_arrays(world: World) -> lw.Audit:
    """Outputs in arrays, each record ten times, without a word about it."""
    (x, y), (other_x, other_y) = world.sides()
    answers = np.asarray(world.network(torch.from_numpy(np.concatenate([x, other_x]))).detach())
    label, member = np.concatenate([y, other_y]), np.arange(2 * AUDITED) < AUDITED
    given = {"logits": answers, "label": label, "member": member}
    return lw.audit_scores({name: values.repeat(10, axis=0) for name, values in given.items()}, seed=world.seed)


def arrays(world: World) -> lw.Audit:
    """Outputs in arrays, with references that were trained on halves of the records."""
    (x, y), (other_x, other_y) = world.sides()
    every, label = np.concatenate([x, other_x]), np.concatenate([y, other_y])
    half = world.rng.permutation(len(every)) % 2 == 0
    inside = np.stack([half, ~half] * 2)
    for row in (2, 3):
        inside[row] = world.rng.permutation(len(every)) % 2 == 0
    inside[3] = ~inside[2]
    others = [world.fit(every[rows], label[rows], seed=k) for k, rows in enumerate(inside)]
    answers = [network(torch.from_numpy(every)).detach().numpy() for network in (world.network, *others)]
    return lw.audit_scores(
        {
            "logits": answers[0],
            "label": label,
            "member": np.arange(len(every)) < len(x),
            "reference_logits": np.stack(answers[1:]),
            "reference_in": inside,
        },
        seed=world.seed,
        task=world.task,
    )


KINDS: Mapping[str, tuple[Callable[[World], lw.Audit], dict[str, Any]]] = {
    "plain": (plain, {}),
    "unequal sides": (unequal, {}),
    "data set": (data_set, {}),
    "augmented=True": (augmented, {}),
    "random answers": (dropout, {}),
    "copies on a side": (copies, {}),
    "oversampled class": (oversampled, {}),
    "natural copies": (plain, {"binary": True}),
    "groups": (patients, {"rows": 3}),
    "batch statistics": (plain, {"batch_norm": True}),
    "probabilities": (probabilities, {}),
    "binary": (plain, {"task": "binary"}),
    "multi-label": (plain, {"task": "multi-label"}),
    "sigmoids": (sigmoids, {"task": "multi-label"}),
    "regression": (plain, {"task": "regression"}),
    "references": (references, {}),
    "references, regression": (references, {"task": "regression"}),
    "references, multi-label": (references, {"task": "multi-label"}),
    "references, binary": (references, {"task": "binary"}),
    "references, copies": (copies_with_references, {}),
    "references, groups": (patients_with_references, {"rows": 3}),
    "arrays": (arrays, {}),
    "arrays, regression": (arrays, {"task": "regression"}),
    "arrays, multi-label": (arrays, {"task": "multi-label"}),
    "arrays of copies": (copied_arrays, {}),
}


def said(kind: str, leak: bool, seed: int) -> str:
    """What one audit says: "found", "clean", or why there is no answer."""
    torch.set_num_threads(1)
    audit, truth = KINDS[kind]
    try:
        sentence = audit(World(seed=seed, leak=leak, **truth)).sentence
    except LacewingError as error:
        return f"refused: {error}"
    starts = {"Leakage found": "found", "No leakage found": "clean"}
    return next((short for start, short in starts.items() if sentence.startswith(start)), sentence.partition(":")[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_AUDITS} audits of each kind")
    parser.add_argument("--audits", type=int, help="audits of each kind")
    parser.add_argument("--only", choices=KINDS, action="append", help="one kind (repeatable)")
    asked = parser.parse_args()
    audits = asked.audits or (QUICK_AUDITS if asked.quick else AUDITS)
    most = int(binom.isf(RARE, audits, LEVEL))
    print('| kind | null: "leakage found" | null: not answered | leaking: "leakage found" | leaking: called clean |')
    print("|---|---|---|---|---|")
    wrong = 0
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        for kind in asked.only or KINDS:
            null, leaking = (
                Counter(pool.map(partial(said, kind, leak), range(audits), chunksize=4)) for leak in (False, True)
            )
            lost = audits - null["found"] - null["clean"]
            print(f"| {kind} | {null['found']} | {lost} | {leaking['found']} | {leaking['clean']} |", flush=True)
            for why in {*null, *leaking} - {"found", "clean"}:
                print(f"{kind}: {null[why]} null, {leaking[why]} leaking: {why}", file=sys.stderr)
            wrong += null["found"] + lost > most or leaking["clean"] > 0
    print(
        f"\n{audits} audits of each kind; at most {most} null ones may find leakage or not answer; {wrong} kinds fail."
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
