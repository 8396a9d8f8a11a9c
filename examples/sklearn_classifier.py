"""Audit a scikit-learn classifier: does the forest reveal which patients it was trained on?

    python examples/sklearn_classifier.py            # 32 references
    python examples/sklearn_classifier.py --small    # seconds: 4 references, 4 attacks

Breast cancer Wisconsin (569 patients, 30 measurements each, inside scikit-learn). Lacewing needs only a
callable that returns logits or probabilities for records. Two forests face the same attacks on the same
patients: one that trained on half of them, and one that trained on other patients.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier

import lacewing as lw

TREES = 100
SMALL = {"references": 4, "attacks": ("loss", "quantile", "lira-online", "rmia-online")}


def refit(x: np.ndarray, y: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Your own training code: a new forest, grown on these records alone. Everything random follows ``seed``."""
    return RandomForestClassifier(TREES, random_state=seed).fit(x, y).predict_proba


def main(
    records: int = 150,
    references: int = 32,
    attacks: str | tuple[str, ...] = "all",
    out: Path = Path("runs/sklearn_classifier"),
) -> tuple[lw.Audit, lw.Audit]:
    """Audit both forests with ``records`` members and as many non-members and print what was found; report in ``out``.

    Returns:
        The audits of the forest that trained on the members, and of the one that trained on other patients.
    """
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    cuts = [records, 2 * records, 3 * records]  # what is left is the population: nobody trains on it, nobody audits it
    members, nonmembers, others, population = zip(np.split(x[order], cuts), np.split(y[order], cuts), strict=True)
    audits = []
    for title, trained_on in (("trained on other patients", others), ("trained on these patients", members)):
        model = refit(*trained_on, seed=1)
        print(f"\n== A random forest {title} ==")
        audits.append(
            lw.audit(
                model,
                members,
                nonmembers,
                outputs="probabilities",  # said, since votes of 100 trees look like rounded probabilities
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
