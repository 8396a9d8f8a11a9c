"""Audit a text classifier of Hugging Face's transformers on a tokenised Dataset.

    python examples/text_classifier.py            # 8 references
    python examples/text_classifier.py --small    # a minute: 4 references, 4 attacks

A tiny BERT with random initial weights (nothing is downloaded) learns which module of Python's standard library a
passage of 12 to 16 words is from. Passages have several lengths, and a collate function pads them. Two networks face
the same attacks on the same passages: one that trained on half of them, and one that trained on others. Needs
transformers and datasets.
"""

from __future__ import annotations

import argparse
import re
import sysconfig
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

import lacewing as lw

MODULES = ("argparse", "difflib", "inspect", "tarfile")
WORDS, VOCABULARY = 16, 1024
EPOCHS, BATCH = 20, 32
SMALL = {"records": 200, "references": 4, "attacks": ("loss", "quantile", "lira-online", "rmia-online")}


def refit(x: dict[str, Tensor], y: Tensor, seed: int) -> BertForSequenceClassification:
    """Your own training code (or a Trainer on ``Dataset.from_dict({**x, "labels": y})``): a new network, trained on
    these records alone. Everything random follows ``seed``.
    """
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=WORDS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=len(MODULES),
    )
    model = BertForSequenceClassification(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(y)).split(BATCH):
            optimiser.zero_grad()
            model(**{name: field[batch] for name, field in x.items()}, labels=y[batch]).loss.backward()
            optimiser.step()
    return model.eval()


def pad(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch of passages, padded to the longest; a DataCollatorWithPadding of your tokenizer does the same."""
    ids = [torch.as_tensor(item["input_ids"]) for item in items]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    return {
        "input_ids": padded,
        "attention_mask": (padded != 0).long(),
        "labels": torch.tensor([int(item["labels"]) for item in items]),
    }


def passages() -> Dataset:
    """Different passages in a random order, as word ids from 1, and the module that each is from."""
    folder = Path(sysconfig.get_path("stdlib"))
    rng = np.random.default_rng(0)
    rows: dict[tuple[int, ...], int] = {}
    for label, module in enumerate(MODULES):
        words = re.findall(r"\w+|[^\w\s]", (folder / f"{module}.py").read_text(encoding="utf-8"))
        ids = [1 + zlib.crc32(word.encode()) % (VOCABULARY - 1) for word in words]
        start = 0
        while start < len(ids) - WORDS:
            length = int(rng.integers(12, WORDS + 1))
            rows.setdefault(tuple(ids[start : start + length]), label)
            start += length
    order = rng.permutation(len(rows))
    texts, labels = list(rows), list(rows.values())
    return Dataset.from_dict({"input_ids": [texts[i] for i in order], "labels": [labels[i] for i in order]})


def main(
    records: int = 400,
    references: int = 8,
    attacks: str | tuple[str, ...] = "all",
    out: Path = Path("runs/text_classifier"),
) -> tuple[lw.Audit, lw.Audit]:
    """Audit both networks with ``records`` members and as many non-members and print what was found; report in ``out``.

    Returns:
        The audits of the network that trained on the members, and of the one that trained on other passages.
    """
    every = passages()
    members, nonmembers, others, population = (every.select(range(k * records, (k + 1) * records)) for k in range(4))
    audits = []
    for title, trained_on in (("trained on other passages", others), ("trained on these passages", members)):
        batch = pad(list(trained_on))
        labels = batch.pop("labels")
        model = refit(batch, labels, seed=1)
        print(f"\n== A classifier {title} ==")
        audits.append(
            lw.audit(
                model,
                members,
                nonmembers,
                collate=pad,
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
