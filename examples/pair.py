"""Does the sparse version of a network give away less than the dense one, at equal accuracy?

    python examples/pair.py            # eight networks of each of eight trainings
    python examples/pair.py --small    # seconds: two networks of the pair alone, three attacks

Handwritten digits (real scans in scikit-learn), one label in ten redrawn. A dense network and a pruned one face the
same attacks on the same records. Then networks of three densities are compared, at equal accuracy, with dense networks
that were trained for fewer epochs: those may hide as much.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import lacewing as lw
from lacewing.sparsify import apply_masks, prune

ATTACKS = ("loss", "gradient-norm", "lira-online", "rmia-online", "gradient-norm-support")
SMALL = {"records": 200, "references": 0, "attacks": ("loss", "gap", "gradient-norm")}


def train(model: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int, masks: dict | None = None) -> nn.Module:
    """A plain loop; with ``masks`` pruned weights stay at zero."""
    images, labels = torch.as_tensor(x), torch.as_tensor(y)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
            if masks is not None:
                apply_masks(model, masks)
    return model.eval()


def dense(x: np.ndarray, y: np.ndarray, seed: int, epochs: int = 20) -> nn.Module:
    """The ordinary training."""
    torch.manual_seed(seed)
    return train(nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)), x, y, epochs)


def sparse(x: np.ndarray, y: np.ndarray, seed: int, density: float = 0.1) -> nn.Module:
    """The dense training, the smallest weights set to zero, and training of the others for as long again."""
    model = dense(x, y, seed)
    masks = prune(model, density=density)
    apply_masks(model, masks)
    return train(model, x, y, 20, masks)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images in a random order, (N, 64) in 0..1, and their labels, one in ten drawn anew."""
    x, y = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(x))
    y = np.where(random.random(len(y)) < 0.1, random.integers(10, size=len(y)), y)
    return x[order].astype(np.float32) / 16, y[order]


def main(
    records: int = 500,
    references: int = 8,
    attacks: tuple[str, ...] = ATTACKS,
    out: Path = Path("runs/pair"),
) -> lw.PairAudit:
    """Audit the pair with ``records`` members and as many non-members and print what was found; report in ``out``."""
    x, y = digits()
    cuts = [records, 2 * records]  # what is left is the population: nobody trains on it, nobody audits it
    members, nonmembers, population = zip(np.split(x, cuts), np.split(y, cuts), strict=True)
    trainings = {
        "refit": {"10 %": sparse, "20 %": partial(sparse, density=0.2), "5 %": partial(sparse, density=0.05)},
        "refit_dense": dense,
        "controls": {"epochs": {str(epochs): partial(dense, epochs=epochs) for epochs in (4, 5, 6, 8)}},
        "references": references,
    }
    pair = lw.audit_pair(
        dense(*members, seed=1),
        sparse(*members, seed=1),
        members,
        nonmembers,
        population=population,
        attacks=attacks,
        out=out,
        **(trainings if references else {}),
    )
    print(pair)
    print(f"\nreport: {out}/report.html")
    return pair


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="the form that takes seconds")
    main(**SMALL if parser.parse_args().small else {})
