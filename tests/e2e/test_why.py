"""Why networks leak, from a run: other temperatures, canaries, and studies without other networks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import lacewing as lw
from lacewing.study.folder import recorded

STUDY: dict[str, Any] = {
    "schema": 1,
    "name": "why",
    "data": {"dataset": "digits", "records": 300, "split": "random-halves", "canaries": 40},
    "model": {"name": "mlp", "hidden": [32]},
    "train": {"epochs": 20, "batch_size": 20, "precision": "fp32", "stack": 6},
    "networks": [
        {"method": "dense"},
        {"method": "dense", "name": "smooth", "train": {"label_smoothing": 0.05}},
        {"method": "dense", "name": "short", "train": {"epochs": 2}},
    ],
    "attacks": {"names": ["lira-online", "loss"]},
    "run": {"seeds": [0, 1, 2, 3, 4, 5]},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> lw.Result:
    return lw.run(STUDY, out=tmp_path_factory.mktemp("why") / "run", processes=1, quiet=True)


def test_temperatures_change_confidence_and_at_one_give_the_attacks_own_areas(found: lw.Result) -> None:
    table = found.to_frame("temperature")
    attacks = found.to_frame()
    for attack in ("lira-online", "loss"):
        rows = table[table.attack == attack].set_index("temperature")
        own = attacks[(attacks.attack == attack) & (attacks.network == "dense")].auc.mean()
        assert rows.loc[1.0, "auc"] == pytest.approx(
            own, abs=2e-3
        )  # fixed queries are stored in 16 bits, as logits are
        assert (
            rows.loc[0.5, "member_confidence"] > rows.loc[1.0, "member_confidence"] > rows.loc[2.0, "member_confidence"]
        )
    # The least sure of the recipes that fit their records as well: label smoothing, not the short training.
    rows = found.to_frame("mechanism").groupby("network").mean(numeric_only=True)
    assert rows.loc["short", "train_accuracy"] < rows.loc["dense", "train_accuracy"] - 0.05
    fitted = table[(table.as_sure_as == "smooth") & (table.attack == "lira-online")].iloc[0]
    assert fitted.member_confidence == pytest.approx(rows.loc["smooth", "member_confidence"], abs=0.01)
    assert set(table.as_sure_as) == {"", "smooth"}


def test_a_report_of_fewer_networks_leaves_no_table_of_an_earlier_one(found: lw.Result, tmp_path: Path) -> None:
    folder = tmp_path / "fewer"
    shutil.copytree(found.folder, folder)
    assert {"mechanism.csv", "mechanism.json"} <= {path.name for path in folder.iterdir()}
    _, plan, _ = recorded(folder)
    for job in [*plan.attacks, *(job for job in plan.networks if job.seed)]:
        shutil.rmtree(folder / "jobs" / job.key)
    assert lw.report(folder).mechanism is None
    assert not {"mechanism.csv", "mechanism.json", "tradeoff.json"} & {path.name for path in folder.iterdir()}


def test_canaries_are_redrawn_labels(found: lw.Result) -> None:
    rows = found.to_frame("mechanism")
    counted = rows[rows.network == "dense"].set_index("seed").redrawn
    audited = {a.network.seed: int(a.canary_N.sum()) for a in found.attacks if a.network.network == "dense"}
    for seed in (0, 2, 4):  # complements share the canaries that no part of the population has
        assert counted[seed] + counted[seed + 1] == audited[seed]
    fit = rows.groupby("network").redrawn_fit.mean()
    assert fit["dense"] > 0.9 > 0.5 > fit["short"]
    assert "fit of redrawn labels" in found.report.read_text()


def test_one_seed_has_no_section_and_says_why(tmp_path: Path) -> None:
    data = {"dataset": "digits", "records": 200}
    study = STUDY | {"data": data, "networks": STUDY["networks"][:1], "attacks": {"names": ["loss"]}}
    study |= {"run": {"seeds": [0]}, "train": {"epochs": 1, "precision": "fp32"}}
    found = lw.run(study, out=tmp_path / "run", processes=1, quiet=True)
    assert found.mechanism is None
    assert not (found.folder / "mechanism.csv").exists()
    assert len(found.to_frame("mechanism")) == 0
    page = found.report.read_text()
    assert '<section id="why"' not in page
    assert "There is no section on why networks leak: it compares a network with others of its recipe" in page
