"""Audit a plain torch CNN, trained by its own loop: how much does it reveal about its training images?

    python examples/torch_cnn.py            # 12 references
    python examples/torch_cnn.py --small    # seconds: 4 references, 4 attacks

Handwritten digits (real scans in scikit-learn), one label in ten redrawn. Two networks face the same attacks on the
same records: one that trained on half of them, whose leak must be found, and one that trained on other images, which
cannot leak them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import lacewing as lw

EPOCHS, BATCH = 30, 50
SMALL = {"records": 200, "references": 4, "attacks": ("loss", "quantile", "lira-online", "rmia-online")}


def refit(x: np.ndarray, y: np.ndarray, seed: int) -> nn.Module:
    """Your own training code: a new network, trained on these records alone. Everything random follows ``seed``."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    images, labels = torch.as_tensor(x), torch.as_tensor(y)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
    return model.eval()


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images in a random order, (N, 1, 8, 8) in 0..1, and their labels, one in ten drawn anew."""
    x, y = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(x))
    y = np.where(random.random(len(y)) < 0.1, random.integers(10, size=len(y)), y)
    return x[order].reshape(-1, 1, 8, 8).astype(np.float32) / 16, y[order]


def main(
    records: int = 400,
    references: int = 12,
    attacks: str | tuple[str, ...] = "all",
    out: Path = Path("runs/torch_cnn"),
) -> tuple[lw.Audit, lw.Audit]:
    """Audit both networks with ``records`` members and as many non-members and print what was found; report in ``out``.

    Returns:
        The audits of the network that trained on the members, and of the one that trained on other images.
    """
    x, y = digits()
    cuts = [records, 2 * records, 3 * records]  # what is left is the population: nobody trains on it, nobody audits it
    members, nonmembers, others, population = zip(np.split(x, cuts), np.split(y, cuts), strict=True)
    audits = []
    for title, trained_on in (("trained on other images", others), ("trained on these images", members)):
        model = refit(*trained_on, seed=1)
        print(f"\n== A CNN {title} ==")
        audits.append(
            lw.audit(
                model,
                members,
                nonmembers,
                population=population,
                refit=refit,
                references=references,
                attacks=attacks,
                out=out,  # one folder: the references, trained once, serve both audits
            )
        )
        print(audits[-1])
    print(f"\nreport of the last one: {out}/report.html")
    other, trained = audits
    return trained, other


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="the form that takes seconds")
    main(**SMALL if parser.parse_args().small else {})
