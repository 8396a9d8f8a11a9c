"""Audit a regression: does the forest reveal which patients' disease progression it was trained on?

    python examples/regression.py            # 16 references
    python examples/regression.py --small    # seconds: 4 references, 3 attacks

Diabetes (442 patients, 10 measurements each, inside scikit-learn). What an attacker reads of a patient is the squared
error of the prediction. Two forests face the same attacks on the same patients: one that trained on half of them, and
one that trained on other patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor

import lacewing as lw

TREES = 100
SMALL = {"references": 4, "attacks": ("loss", "population", "lira-online")}


def refit(x: np.ndarray, y: np.ndarray, seed: int) -> RandomForestRegressor:
    """Your own training code: a new forest, grown on these records alone. Everything random follows ``seed``."""
    return RandomForestRegressor(TREES, min_samples_leaf=2, random_state=seed).fit(x, y)


def main(
    records: int = 110,
    references: int = 16,
    attacks: str | tuple[str, ...] = "all",
    out: Path = Path("runs/regression"),
) -> tuple[lw.Audit, lw.Audit]:
    """Audit both forests with ``records`` members and as many non-members and print what was found; report in ``out``.

    Returns:
        The audits of the forest that trained on the members, and of the one that trained on other patients.
    """
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    cuts = [records, 2 * records, 3 * records]  # what is left is the population: nobody trains on it, nobody audits it
    members, nonmembers, others, population = zip(np.split(x[order], cuts), np.split(y[order], cuts), strict=True)
    audits = []
    for title, trained_on in (("trained on other patients", others), ("trained on these patients", members)):
        model = refit(*trained_on, seed=1000)
        print(f"\n== A regression {title} ==")
        audits.append(
            lw.audit(
                model,
                members,
                nonmembers,
                task="regression",
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
