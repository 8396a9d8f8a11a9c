"""What the memory layout of images does: to the gradients of ResNet-20, to its results, and to the time of a step.

    python benchmarks/layout.py [--part gradients|results|time] [--seeds 8] [--data-root DIR] [--quick]

Networks are trained on a few images of CIFAR-10, averaged down to 16 x 16. ``gradients``: errors against float64, of
batch norm alone and of whole gradients at the start of training, after a few epochs and at the end. A gradient is also
compared with that of float64 in which every ReLU passes what it passed in the other arithmetic: the error that is left
is rounding, the rest comes from ReLUs whose input changed its sign. ``results``: networks trained in either layout from
the same seeds; accuracy, and the AUC of the loss attack, as differences paired by seed. Beside them the network whose
initial weights are moved by one rounding, and bf16. ``time``: CPU time of a step on images of 32 x 32, one thread,
medians of rounds in turns. Memory is held as a worker of a study holds it. ``--quick`` is a small form, on
scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lacewing import data, metrics
from lacewing.config import Train
from lacewing.models.resnet import ResNet
from lacewing.support.child import WORKER_ENVIRONMENT
from lacewing.training.batches import Batch
from lacewing.training.loop import lay_out, train, train_step
from lacewing.training.optimizers import optimizer_of
from lacewing.training.precision import Precision

BATCH, BATCHES, EARLY = 32, 2, 4  # of gradients; epochs


class Form(NamedTuple):
    """An arithmetic; ``norm_in_nchw``: of batch norm alone, whatever the layout of the rest."""

    name: str
    channels_last: bool
    precision: Precision = "fp32"
    norm_in_nchw: bool = False

    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


NCHW, LAST, BF16 = Form("NCHW", False), Form("channels-last", True), Form("channels-last, bf16", True, "bf16")
LAST_BUT_NORM = Form("channels-last, batch norm in NCHW", True, norm_in_nchw=True)


class Size(NamedTuple):
    """How much is done."""

    depth: int
    members: int
    others: int
    config: Train
    seeds: int
    rounds: int
    batches: tuple[int, ...]  # of steps that are timed


FULL = Size(20, 320, 2000, Train(epochs=24, batch_size=64, lr=0.1, precision="fp32"), 8, 8, (32, 64))
QUICK = Size(8, 64, 64, Train(epochs=2, batch_size=32, lr=0.1, precision="fp32"), 2, 2, (32,))


class Task(NamedTuple):
    """Records drawn for a seed, members first, and what standardises the members."""

    x: npt.NDArray[np.generic]
    y: npt.NDArray[np.int64]
    members: int
    scale: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

    def inputs(self) -> Tensor:
        mean, std = (torch.from_numpy(part).view(-1, 1, 1) for part in self.scale)
        return (torch.from_numpy(self.x).float() - mean) / std


def drawn(dataset: data.Dataset, seed: int, size: Size, *, halve: bool) -> Task:
    rows = np.random.default_rng(seed).permutation(len(dataset))[: size.members + size.others]
    x, y = np.asarray(dataset.x[rows]), np.asarray(dataset.y[rows])
    if halve:
        count, channels, height, width = x.shape
        x = x.reshape(count, channels, height // 2, 2, width // 2, 2).mean((3, 5)).astype(np.float32)
    return Task(x, y, size.members, data.normalisation(x[: size.members]))


def network(dataset: data.Dataset, size: Size, seed: int) -> ResNet:
    torch.manual_seed(seed)
    return ResNet(size.depth, dataset.classes, dataset.shape[0])


def error(value: Tensor, exact: Tensor) -> float:
    """The norm of the difference over the norm of what is exact."""
    return float((value.double() - exact).norm() / exact.norm())


# --- gradients


@contextmanager
def relus(passed: list[Tensor] | None = None) -> Iterator[list[Tensor]]:
    """Note what each ReLU passes; with ``passed`` it passes that, whatever the sign of its input."""
    noted: list[Tensor] = []

    def relu(x: Tensor, inplace: bool = False) -> Tensor:
        noted.append(x > 0 if passed is None else passed[len(noted)])
        return x * noted[-1]

    with patch.object(F, "relu", relu):
        yield noted


@contextmanager
def norm_in_nchw() -> Iterator[None]:
    usual = F.batch_norm

    def batch_norm(x: Tensor, *others: Any, **named: Any) -> Tensor:
        return usual(x.contiguous(), *others, **named).contiguous(memory_format=torch.channels_last)

    with patch.object(F, "batch_norm", batch_norm):
        yield


def gradient(model: nn.Module, x: Tensor, y: Tensor, form: Form | None) -> Tensor:
    """The gradient over all weights; without a form it is computed in float64."""
    model = copy.deepcopy(model).to(torch.float64 if form is None else torch.float32).train()
    lay_out(model, 4, form is not None and form.channels_last)
    x = x.double() if form is None else x.contiguous(memory_format=form.layout())
    norm = norm_in_nchw() if form is not None and form.norm_in_nchw else nullcontext()
    with norm, torch.autocast("cpu", torch.bfloat16, enabled=form is not None and form.precision == "bf16"):
        logits = model(x)
    F.cross_entropy(logits if form is None else logits.float(), y).backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])


def compared(model: nn.Module, batches: list[tuple[Tensor, Tensor]], forms: tuple[Form, ...]) -> list[list[float]]:
    """Of each form: error, error beside float64 with the same ReLUs, changed signs; last: of another batch's gradient.

    Medians over the batches; signs in a million.
    """
    exact, found = [], [[] for _ in forms]  # type: tuple[list[Tensor], list[list[list[float]]]]
    for x, y in batches:
        with relus() as signs:
            exact.append(gradient(model, x, y, None))
        for form, of in zip(forms, found, strict=True):
            with relus() as own:
                value = gradient(model, x, y, form)
            with relus(own):
                alike = gradient(model, x, y, None)
            changed = sum(int((a != b).sum()) for a, b in zip(own, signs, strict=True))
            of.append([error(value, exact[-1]), error(value, alike), 1e6 * changed / sum(a.numel() for a in own)])
    others = [error(exact[i - 1], exact[i]) for i in range(len(exact))]
    return [*(list(np.median(of, axis=0)) for of in found), [statistics.median(others)]]


def batch_norm(batch: int, channels: int, side: int, form: Form) -> list[float]:
    """Errors of the output and of the gradients of the input and of the weight; its input has mean 1, variance 1."""
    torch.manual_seed(0)
    x, upstream = (1 + torch.randn(batch, channels, side, side)), torch.randn(batch, channels, side, side)

    def values(x: Tensor, upstream: Tensor) -> list[Tensor]:
        x, weight = x.clone().requires_grad_(), torch.ones(channels, dtype=x.dtype, requires_grad=True)
        y = F.batch_norm(x, None, None, weight, torch.zeros_like(weight), True)
        return [y.detach(), *torch.autograd.grad(y, (x, weight), upstream)]

    ours = values(*(part.contiguous(memory_format=form.layout()) for part in (x, upstream)))
    return [error(a, b) for a, b in zip(ours, values(x.double(), upstream.double()), strict=True)]


def _batches(task: Task) -> list[tuple[Tensor, Tensor]]:
    x, y = task.inputs(), torch.from_numpy(task.y)
    return [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, BATCH * BATCHES, BATCH)]


def gradients(dataset: data.Dataset, size: Size, seeds: int) -> None:
    print("batch norm alone, fp32: error of the output, and of the gradients of input and weight")
    for batch, channels, side in ((32, 16, 32), (128, 16, 32), (32, 64, 8)):
        for form in (NCHW, LAST):
            errors = "".join(f"{e:10.1e}" for e in batch_norm(batch, channels, side, form))
            print(f"  {batch:>4} x {channels} x {side} x {side}  {form.name:<16}{errors}")
    forms, rows = (NCHW, LAST, LAST_BUT_NORM, BF16), dict[str, list[list[list[float]]]]()
    for seed in range(seeds):
        tasks = [drawn(dataset, seed, size, halve=halve) for halve in (False, True)]
        first, batches = (_batches(task) for task in tasks)
        model, task = network(dataset, size, seed), tasks[1]
        rows.setdefault("start, images not averaged down", []).append(compared(model, first, forms))
        rows.setdefault("start", []).append(compared(model, batches, forms))
        known, progress = (task.x[: task.members], task.y[: task.members]), None
        for epochs in (min(EARLY, size.config.epochs - 1), size.config.epochs):
            progress = train(
                model, *known, size.config, normalisation=task.scale, seed=seed, progress=progress, stop_after=epochs
            )
            rows.setdefault(f"after epoch {epochs}", []).append(compared(model, batches, forms))
    print(f"\ngradients of ResNet-{size.depth}, {BATCH} images: {seeds} seeds, medians of {BATCHES} batches")
    print(f"  {'':<36}{'error':<28}{'with the same ReLUs':<22}signs changed in a million")
    for state, found in rows.items():
        print(state)
        for place, form in enumerate(forms):
            part = np.array([of[place] for of in found])
            middle, low, high = np.median(part, axis=0), part.min(axis=0), part.max(axis=0)
            spread = f"{middle[0]:.1e} ({low[0]:.1e}..{high[0]:.1e})"
            print(f"  {form.name:<36}{spread:<28}{middle[1]:<22.1e}{middle[2]:.2f}", flush=True)
        print(f"  {'the gradient of another batch':<36}{statistics.median(of[-1][0] for of in found):.1e}")


# --- results

ARMS = {
    "channels-last": LAST,
    "weights moved": NCHW,
    "bf16": BF16,
}


def outcome(dataset: data.Dataset, task: Task, size: Size, seed: int, form: Form, moved: bool = False) -> list[float]:
    """Train a network; its accuracy on members and on others, and the AUC of the loss attack."""
    model = network(dataset, size, seed)
    if moved:
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.nextafter(weight, weight + torch.randn_like(weight)))
    config = size.config.model_copy(update={"channels_last": form.channels_last, "precision": form.precision})
    known = task.x[: task.members], task.y[: task.members]
    train(model, *known, config, normalisation=task.scale, seed=seed)
    with torch.inference_mode():
        logits = torch.cat([model.eval()(part) for part in torch.split(task.inputs(), 250)]).double()
    labels, member = torch.from_numpy(task.y), np.arange(len(task.y)) < task.members
    right = (logits.argmax(1) == labels).numpy()
    loss = F.cross_entropy(logits, labels, reduction="none").numpy()
    return [float(right[member].mean()), float(right[~member].mean()), metrics.auc(-loss, member).value]


def results(dataset: data.Dataset, size: Size, seeds: int) -> None:
    plain, others = [], {arm: [] for arm in ARMS}  # type: tuple[list[list[float]], dict[str, list[list[float]]]]
    for seed in range(seeds):
        task = drawn(dataset, seed, size, halve=True)
        plain.append(outcome(dataset, task, size, seed, NCHW))
        for arm, form in ARMS.items():
            others[arm].append(outcome(dataset, task, size, seed, form, moved=form is NCHW))
    print(f"\nResNet-{size.depth}, {size.members} members, {size.others} others, {seeds} seeds")
    print(f"{'':<28}{'accuracy on members':<28}{'test accuracy':<28}AUC of the loss attack")
    print(f"{'NCHW, fp32: mean':<28}" + "".join(f"{mean:<28.4f}" for mean in np.mean(plain, axis=0)).rstrip())
    for arm, found in others.items():
        apart = [metrics.mean_over_seeds(column) for column in (np.array(found) - np.array(plain)).T]
        print(f"{arm + ' - NCHW':<28}" + "".join(f"{e.text('+.4f') if e else '-':<28}" for e in apart).rstrip())
        spread = np.std(np.array(found) - np.array(plain), axis=0, ddof=1)
        print(f"{'  sd of the differences':<28}" + "".join(f"{sd:<28.4f}" for sd in spread).rstrip(), flush=True)


# --- time


def steps(dataset: data.Dataset, size: Size, seeds: int) -> None:
    forms = (NCHW, LAST, NCHW._replace(name="NCHW, bf16", precision="bf16"), BF16)
    print("\nCPU ms of a step, one thread: medians of rounds in turns (least..greatest)")
    for count in size.batches:
        taken: dict[Form, list[float]] = {form: [] for form in forms}
        made = {}
        for form in forms:
            model = network(dataset, size, 0).train()
            lay_out(model, 4, form.channels_last)
            config = size.config.model_copy(update={"precision": form.precision})
            x = torch.randn(count, *dataset.shape).contiguous(memory_format=form.layout())
            batch = Batch(x, torch.randint(dataset.classes, (count,)))
            made[form] = model, batch, optimizer_of(model.parameters(), config), config
        for _ in range(size.rounds + 2):
            for form, given in made.items():
                start = time.thread_time()
                train_step(*given)
                taken[form].append(1e3 * (time.thread_time() - start))
        middle = {form: statistics.median(times[2:]) for form, times in taken.items()}
        for form, times in taken.items():
            least, most = min(times[2:]), max(times[2:])
            print(f"  batch {count:>4}  {form.name:<28}{middle[form]:8.1f} ({least:.1f}..{most:.1f})", flush=True)
    print(f"ratio: {middle[NCHW] / middle[LAST]:.2f}, a step in fp32, NCHW / channels-last")


PARTS = {"gradients": gradients, "results": results, "time": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="left out: all")
    parser.add_argument("--seeds", type=int, help="left out: 8, and 3 of gradients")
    parser.add_argument("--data-root", type=Path, help="the folder of CIFAR-10")
    parser.add_argument("--quick", action="store_true", help="digits, a smaller network, seconds")
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in WORKER_ENVIRONMENT.items()):
        command = [sys.executable, *sys.orig_argv[1:]]  # what holds memory is read as a process starts
        sys.exit(subprocess.run(command, env={**os.environ, **WORKER_ENVIRONMENT}).returncode)
    torch.set_num_threads(1)
    size = QUICK if given.quick else FULL
    dataset = data.load("digits" if given.quick else "cifar10", given.data_root)
    for name, part in PARTS.items():
        if given.part in (None, name):
            part(dataset, size, given.seeds or min(size.seeds, 3 if name == "gradients" else size.seeds))


if __name__ == "__main__":
    main()
