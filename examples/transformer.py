"""Audit a small transformer for text: how much does it reveal about its training passages?

    python examples/transformer.py            # 8 references
    python examples/transformer.py --small    # seconds: 4 references, 4 attacks

The text is the source of eight modules of Python's standard library, cut into passages of 16 words; the network names
the module that a passage comes from. Records are whole numbers (word ids), so attacks that move a record a little, as
one can move a pixel, do not apply, and the audit says so. Two networks face the same attacks on the same passages: one
that trained on half of them, and one that trained on other passages.
"""

from __future__ import annotations

import argparse
import re
import sysconfig
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import lacewing as lw

MODULES = ("argparse", "difflib", "doctest", "inspect", "pydoc", "subprocess", "tarfile", "typing")
WORDS, VOCABULARY, WIDTH = 16, 1024, 32
EPOCHS, BATCH = 12, 32
SMALL = {"records": 200, "references": 4, "attacks": ("loss", "quantile", "lira-online", "rmia-online")}


class Transformer(nn.Module):
    """Words (N, 16) -> logits (N, 8): embeddings with learned positions, two encoder layers, the mean over words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(WORDS, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.answer = nn.Linear(WIDTH, len(MODULES))

    def forward(self, words: Tensor) -> Tensor:
        """Logits of a batch of passages."""
        return self.answer(self.encoder(self.words(words) + self.positions).mean(dim=1))


def refit(x: np.ndarray, y: np.ndarray, seed: int) -> nn.Module:
    """Your own training code: a new network, trained on these records alone. Everything random follows ``seed``."""
    torch.manual_seed(seed)
    model = Transformer()
    passages, labels = torch.as_tensor(x), torch.as_tensor(y)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(passages)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(passages[batch]), labels[batch]).backward()
            optimiser.step()
    return model.eval()


def passages() -> tuple[np.ndarray, np.ndarray]:
    """Different passages in a random order, (N, 16) word ids, and the module that each comes from."""
    folder = Path(sysconfig.get_path("stdlib"))
    rows, labels = [], []
    for label, module in enumerate(MODULES):
        words = re.findall(r"\w+|[^\w\s]", (folder / f"{module}.py").read_text(encoding="utf-8"))
        ids = [zlib.crc32(word.encode()) % VOCABULARY for word in words]
        rows += [ids[i : i + WORDS] for i in range(0, len(ids) - WORDS + 1, WORDS)]
        labels += [label] * (len(rows) - len(labels))
    x, first = np.unique(np.array(rows), axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order], np.array(labels)[first][order]


def main(
    records: int = 600,
    references: int = 8,
    attacks: str | tuple[str, ...] = "all",
    out: Path = Path("runs/transformer"),
) -> tuple[lw.Audit, lw.Audit]:
    """Audit both networks with ``records`` members and as many non-members and print what was found; report in ``out``.

    Returns:
        The audits of the network that trained on the members, and of the one that trained on other passages.
    """
    x, y = passages()
    cuts = [records, 2 * records, 3 * records, 4 * records]
    members, nonmembers, others, population, _ = zip(np.split(x, cuts), np.split(y, cuts), strict=True)
    audits = []
    for title, trained_on in (("trained on other passages", others), ("trained on these passages", members)):
        model = refit(*trained_on, seed=1)
        print(f"\n== A transformer {title} ==")
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
