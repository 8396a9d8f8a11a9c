"""Audit a model that is an ONNX file: only the file is asked, wherever it was trained.

    python examples/onnx_file.py            # 8 references
    python examples/onnx_file.py --small    # seconds: 4 references, 4 attacks

Handwritten digits (real scans in scikit-learn), one label in ten redrawn. Two networks are trained, written as ONNX and
asked through onnxruntime: one that trained on half of the audited images, and one that trained on others. References
are trained by the same function and need not be ONNX files. Needs the extra `onnx`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import lacewing as lw

EPOCHS, BATCH = 40, 50
SMALL = {"records": 200, "references": 4, "attacks": ("loss", "quantile", "lira-online", "rmia-online")}


def refit(x: np.ndarray, y: np.ndarray, seed: int) -> nn.Module:
    """Your own training code: a new network, trained on these records alone. Everything random follows ``seed``."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    images, labels = torch.as_tensor(x), torch.as_tensor(y)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
    return model.eval()


def export(model: nn.Module, path: Path) -> Path:
    """Write the network as ONNX with a free batch size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model,
        (torch.zeros(2, 64),),
        path,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def main(
    records: int = 400,
    references: int = 8,
    attacks: str | tuple[str, ...] = "all",
    out: Path = Path("runs/onnx_file"),
) -> tuple[lw.Audit, lw.Audit]:
    """Audit both files with ``records`` members and as many non-members and print what was found; report in ``out``.

    Returns:
        The audits of the network that trained on the members, and of the one that trained on other images.
    """
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    x, y = x[order].astype(np.float32) / 16, y[order]
    y = np.where(rng.random(len(y)) < 0.1, rng.integers(10, size=len(y)), y)
    cuts = [records, 2 * records, 3 * records]  # what is left is the population: nobody trains on it, nobody audits it
    members, nonmembers, others, population = zip(np.split(x, cuts), np.split(y, cuts), strict=True)
    audits = []
    for name, trained_on in (("other", others), ("trained", members)):
        path = export(refit(*trained_on, seed=1), out / f"{name}.onnx")
        print(f"\n== {path.name}, trained on {'these' if name == 'trained' else 'other'} images ==")
        audits.append(
            lw.audit(
                path,
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
