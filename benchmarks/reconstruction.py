"""How much of a record can be rebuilt? By whoever knows all others, and from the stationarity of small networks.

    python benchmarks/reconstruction.py --data-root DATA [--out records.csv] [--seeds 5] [--part stationarity-20]
    python benchmarks/reconstruction.py --quick

Prints a table a part in Markdown: means over seeds with 95 % intervals (t; of fewer than five seeds the range), always
beside the adversary who knows the prior alone. A file that is given holds a row a network; what it has is not measured
again, so that a measurement that was stopped continues. Fashion-MNIST; ``--quick`` takes the first part of digits.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor, nn

from lacewing import data, reconstruction
from lacewing.errors import UsageError
from lacewing.metrics import auc

UNITS = 64
KNOWN, MISSING, L2, DENSITIES = 300, 60, 1e-3, (1.0, 0.5, 0.1, 0.02)
HIDDEN, SCALE, DECAY, STEPS = 100, 1e-2, 1e-3, 1000
RECORDS = {"stationarity": 10, "stationarity-20": 20}  # that each network of the part is trained on
Row = dict[str, float | str]


def informed(x: np.ndarray, y: np.ndarray, others: np.ndarray, density: float) -> Row:
    """Softmax regression on x; each of 60 records is once the missing one. ``others``, of its class, are not in x."""
    l2, count = L2, MISSING
    solved, kept = reconstruction.softmax_regression(x, y, l2=l2, classes=10), None
    if density < 1:
        kept = reconstruction.magnitude_mask(solved.weights_DC, density)
        solved = reconstruction.softmax_regression(x, y, l2=l2, kept_DC=kept, classes=10)
    errors, found, right, own, foreign, near = [], [], [], [], [], []
    prior_own, prior_foreign, nearest_error = [], [], []
    for i in range(count):
        known = np.arange(len(x)) != i
        try:
            rebuilt = reconstruction.missing_record(solved, x[known], y[known], l2=l2, kept_DC=kept)
        except UsageError:  # the record is fitted so well that it left no trace
            rebuilt = reconstruction.Rebuilt(-1, np.full(x.shape[1], np.nan), np.zeros(x.shape[1], bool))
        same = x[known][y[known] == y[i]]
        mean, center = same.mean(axis=0), x[known].mean(axis=0)
        whole = np.where(rebuilt.found_D, rebuilt.x_D, mean)  # what is hidden is filled with what the prior says
        if rebuilt.found_D.any():
            errors.append(np.abs(rebuilt.x_D - x[i])[rebuilt.found_D].mean())
        distances = np.abs(x[known] - x[i]).mean(axis=1)
        nearest_error.append(distances.min())
        found.append(rebuilt.found_D.mean())
        right.append(rebuilt.label == y[i])
        own.append(cosine(whole - center, x[i] - center))
        foreign.append(cosine(whole - center, others[i] - center))
        near.append(cosine(x[known][distances.argmin()] - center, x[i] - center))
        prior_own.append(cosine(mean - center, x[i] - center))
        prior_foreign.append(cosine(mean - center, others[i] - center))
    member = np.arange(2 * count) < count
    return {
        "pixels": float(np.mean(found)),
        "error": float(np.median(errors)),
        "nearest_error": float(np.median(nearest_error)),
        "label": float(np.mean(right)),
        "similarity": float(np.mean(own)),
        "nearest": float(np.mean(near)),
        "class_mean": float(np.mean(prior_own)),
        "auc": auc(np.r_[own, foreign], member).value,
        "prior_auc": auc(np.r_[prior_own, prior_foreign], member).value,
    }


def alike(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each missing record another one of its class that nobody trained on."""
    outside = [KNOWN + np.flatnonzero(y[KNOWN:] == label) for label in range(10)]
    return np.stack([x[outside[label][i]] for i, label in enumerate(y[:MISSING])])


def features(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """The hidden layer of a perceptron that is trained on the known records until it is right about them, at all x."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(x.shape[1], UNITS), nn.ReLU(), nn.Linear(UNITS, 10))
    inputs, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[:KNOWN]), labels[:KNOWN]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return np.asarray(network[:2](inputs).double())


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """0 where one is zero."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms else 0.0


def stationarity(x: np.ndarray, sign: np.ndarray, others: np.ndarray, prior: np.ndarray, kind: str, seed: int) -> Row:
    """A two-layer network on x, centred records; ``others`` and ``prior`` were not trained on."""
    torch.manual_seed(seed)
    inputs, labels = torch.from_numpy(x).float(), torch.from_numpy(sign).float()
    first: nn.Module = nn.Linear(x.shape[1], HIDDEN)
    options: dict[str, Any] = {"scale": 1.0 if kind == "usual start" else SCALE}
    if kind == "butterfly":
        first = Butterfly()
        options["scale"] = SCALE**0.5  # of each of two factors
    if kind == "decay":
        options |= {"decay": DECAY, "steps": 300}
    if kind == "pruned":
        trained = reconstruction.train(first, inputs, labels, seed=seed, **options)
        kept = reconstruction.magnitude_mask(trained.first.get_parameter("weight").detach().numpy(), 0.3)
        torch.manual_seed(seed)
        first, options["kept"] = nn.Linear(x.shape[1], HIDDEN), torch.from_numpy(kept).float()
    network = reconstruction.train(first, inputs, labels, seed=seed, **options)
    gate, _ = reconstruction.residual(network, inputs, labels)

    def margin(records: np.ndarray, signs: np.ndarray | float) -> np.ndarray:
        with torch.no_grad():
            answers = reconstruction.answer(network, network.parameters(), torch.from_numpy(records).float())
        return answers.numpy() * signs

    member = np.arange(len(x) + len(others)) < len(x)
    every = np.concatenate([x, others])
    found: Row = {"residual": gate, "margin_auc": auc(np.abs(margin(every, 1.0)), member).value}
    found["prior_auc"] = auc(reconstruction.similarity(prior[: 2 * len(x)], every), member).value
    both = TwoClasses(network)
    inverted = np.stack([reconstruction.invert_class(both, c, (x.shape[1],), steps=300).numpy() for c in (0, 1)])
    found["inversion_auc"] = auc(reconstruction.similarity(inverted.astype(float), every), member).value
    if gate > reconstruction.GATE:
        return found
    dense = isinstance(network.first, nn.Linear) and network.kept is None
    rows = reconstruction.row_space(network, len(x)) if dense else None
    rebuilt, left = reconstruction.reconstruct(
        network, candidates=2 * len(x), dimension=x.shape[1], steps=STEPS, seed=seed, rows_RD=rows
    )
    scores = reconstruction.similarity(rebuilt.double().numpy(), every)
    own = scores[: len(x)]
    return found | {
        "explained": left,
        "auc": auc(scores, member).value,
        "similarity": float(own.mean()),
        "others": float(scores[len(x) :].mean()),
        "above": float((own > 0.8).sum()),
    }


class Butterfly(nn.Module):
    """784 inputs, 100 outputs: the chain (1, 25, 28, 4) (28, 4, 28, 1), whose layers have no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.empty(28, 4, 28).uniform_(-1, 1) / 28**0.5)
        self.outer = nn.Parameter(torch.empty(25, 28, 4).uniform_(-1, 1) / 28**0.5)
        self.bias = nn.Parameter(torch.zeros(HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 100)."""
        inner = torch.einsum("nac,abc->nab", x.reshape(-1, 28, 28), self.inner).reshape(-1, 28, 4)
        return torch.einsum("ncd,bcd->nbd", inner, self.outer).reshape(-1, HIDDEN) + self.bias


class TwoClasses(nn.Module):
    """The network with an output a class."""

    def __init__(self, network: reconstruction.Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2)."""
        output = reconstruction.answer(self.network, self.network.parameters(), x)
        return torch.stack([-output, output], dim=1) / 2


KINDS = ("dense", "decay", "pruned", "butterfly", "usual start")


def measured(
    root: Path | None, seeds: int, part: str | None, dataset: str = "fashion-mnist"
) -> Iterator[tuple[str, str, int, Callable[[], Row]]]:
    """(part, network, seed, function that measures it)."""
    pictures = data.load(dataset, root)
    for seed in range(seeds):
        order = np.random.default_rng([seed, 26]).permutation(len(pictures.x))
        some = order[:6000]
        x = pictures.x[some].reshape(len(some), -1) / 255.0
        y = np.asarray(pictures.y[order[:6000]], np.int64)
        n = KNOWN
        for density in DENSITIES if part in (None, "informed") else ():
            yield "informed", f"{density:g}", seed, partial(informed, x[:n], y[:n], alike(x, y), density)
        if part in (None, "last-layer"):
            hidden = features(x, y, seed)
            for density in DENSITIES:
                yield (
                    "last-layer",
                    f"{density:g}",
                    seed,
                    partial(informed, hidden[:n], y[:n], alike(hidden, y), density),
                )
        centred, sign = x - x[1000:].mean(axis=0), y % 2 * 2.0 - 1.0
        for name, records in RECORDS.items():
            few = np.concatenate([np.flatnonzero(sign[:300] == s)[: records // 2] for s in (1.0, -1.0)])
            for kind in KINDS if part in (None, name) else ():
                yield (
                    name,
                    kind,
                    seed,
                    partial(stationarity, centred[few], sign[few], centred[300:400], centred[400:500], kind, seed),
                )


UNBOUNDED = ("above", "error", "nearest_error")
FIELDS = {
    **dict.fromkeys(
        ("informed", "last-layer"), "pixels error nearest_error label similarity nearest class_mean auc prior_auc"
    ),
    **dict.fromkeys(RECORDS, "residual explained auc similarity others above prior_auc margin_auc inversion_auc"),
}


def table(part: str, rows: Mapping[tuple[str, str, int], Row]) -> str:
    """Means over seeds with t intervals; "-" where nothing was measured."""
    fields = FIELDS[part].split()
    lines = [["network", "seeds", *fields], ["---"] * (len(fields) + 2)]
    for name in dict.fromkeys(network for of, network, _ in rows if of == part):
        of = [row for (p, network, _), row in rows.items() if (p, network) == (part, name)]
        cells = []
        for field in fields:
            values = np.array([float(row[field]) for row in of if row.get(field) not in (None, "")])
            some = f" (n = {len(values)})" if len(values) < len(of) else ""
            cells.append(shown(values, np.inf if field in UNBOUNDED else 1.0) + some if len(values) else "-")
        lines.append([name, str(len(of)), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(values: np.ndarray, most: float) -> str:
    """The mean with its interval over seeds, cut at 0 and ``most``; of fewer than five seeds with their range."""
    if len(values) < 5:
        return f"{values.mean():.3g} ({values.min():.3g} to {values.max():.3g})"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    low, high = max(values.mean() - half, 0.0), min(values.mean() + half, most)
    return f"{values.mean():.3g} [{low:.3g}, {high:.3g}]"


def read(path: Path) -> dict[tuple[str, str, int], Row]:
    """The rows of a file by part, network and seed."""
    with path.open(newline="", encoding="utf-8") as file:
        return {(row.pop("part"), row.pop("network"), int(row.pop("seed"))): row for row in csv.DictReader(file)}


def main() -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--part", choices=FIELDS)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    dataset = "fashion-mnist"
    if asked.quick:
        asked.seeds, asked.part, dataset = 1, "informed", "digits"
    torch.set_num_threads(1)
    rows = read(asked.out) if asked.out is not None and asked.out.exists() else {}
    columns = ["part", "network", "seed", *dict.fromkeys(" ".join(FIELDS.values()).split())]
    for part, network, seed, measure in measured(asked.data_root, asked.seeds, asked.part, dataset):
        if (part, network, seed) in rows:
            continue
        rows[part, network, seed] = measure()
        if asked.out is not None:
            new = not asked.out.exists()
            with asked.out.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, columns, restval="")
                if new:
                    writer.writeheader()
                writer.writerow({"part": part, "network": network, "seed": seed} | rows[part, network, seed])
    for part in FIELDS:
        if any(of == part for of, _, _ in rows):
            print(f"\n{part}\n\n{table(part, rows)}")


if __name__ == "__main__":
    main()
