"""Audit a scikit-learn pipeline on a pandas frame: words, categories and missing values stay as they are.

    python examples/frame_pipeline.py            # 16 references
    python examples/frame_pipeline.py --small    # seconds: 4 references, 4 attacks

The table is made up: customers with a town, a tariff, an age and an income (some of these missing), and whether they
stay, which the tariff decides in part. Two pipelines with a random forest face the same attacks on the same customers:
one that trained on half of them, and one that trained on others. Needs pandas.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

import lacewing as lw

TREES = 100
SMALL = {"records": 150, "references": 4, "attacks": ("loss", "quantile", "lira-online", "rmia-online")}


def refit(x: pd.DataFrame, y: pd.Series, seed: int) -> Pipeline:
    """Your own training code: a new pipeline, fitted on these records alone. Everything random follows ``seed``."""
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["town", "tariff"]), (SimpleImputer(), ["age", "income"])
    )
    return make_pipeline(columns, RandomForestClassifier(TREES, random_state=seed)).fit(x, y)


def customers(count: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Customers, and whether each stays or leaves."""
    rng = np.random.default_rng(0)
    town = rng.choice(["Bath", "Hull", "York", "Deal"], count).astype(object)
    town[rng.random(count) < 0.1] = None
    income = rng.lognormal(10, 0.5, count)
    income[rng.random(count) < 0.1] = np.nan
    table = pd.DataFrame(
        {
            "town": town,
            "tariff": pd.Categorical(rng.choice(["small", "large"], count), categories=["small", "large"]),
            "age": rng.integers(18, 90, count),
            "income": income,
        }
    )
    stays = rng.random(count) < 0.2 + 0.5 * (table["tariff"] == "large")
    return table, np.where(stays, "stays", "leaves")


def main(
    records: int = 200,
    references: int = 16,
    attacks: str | tuple[str, ...] = "all",
    out: Path = Path("runs/frame_pipeline"),
) -> tuple[lw.Audit, lw.Audit]:
    """Audit both pipelines with ``records`` members and as many non-members, print what was found; report in ``out``.

    Returns:
        The audits of the pipeline that trained on the members, and of the one that trained on other customers.
    """
    table, y = customers(4 * records)
    parts = [slice(k * records, (k + 1) * records) for k in range(4)]
    members, nonmembers, others, population = ((table[part], y[part]) for part in parts)
    audits = []
    for title, trained_on in (("trained on other customers", others), ("trained on these customers", members)):
        model = refit(*trained_on, seed=1000)
        print(f"\n== A pipeline {title} ==")
        audits.append(
            lw.audit(
                model,  # the estimator itself: its classes_ say which column is "leaves"
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
