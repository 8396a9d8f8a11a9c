"""One study, many surfaces: all of them say the same number with the same interval."""

from __future__ import annotations

import csv
import html
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

import lacewing as lw
from lacewing import tradeoff
from lacewing.errors import FolderError
from lacewing.results import read_results_csv
from lacewing.study.compare import compare

ATTACK = "loss"
CONTROLS = """
[[networks]]
method = "dense"
name = "short-{0}"
family = "short"
train = {{ epochs = {0} }}
"""


@pytest.fixture(scope="module")
def run(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> lw.Result:
    """The small study with three seeds, controls of five recipes, and a declared question."""
    study = tomllib.loads(small.STUDY + "".join(CONTROLS.format(epochs) for epochs in (9, 12, 15, 20, 22)))
    study["networks"][1] |= {"levels": 6, "fraction": 0.15}  # of the controls' accuracy
    study["networks"].append(
        {"method": "imp", "name": "deep", "levels": 2, "fraction": 0.75}
    )  # one in the paper's band
    study["networks"].append(
        {"method": "dense", "name": "smooth", "train": {"label_smoothing": 0.05}}
    )  # a fifth family
    study["model"]["hidden"], study["data"]["label_noise"], study["data"]["records"] = [64], 0.2, 480
    study["train"] |= {"epochs": 25, "stack": 3}
    study["tradeoff"] = {"primary": {"family": "imp", "against": "controls", "metric": f"{ATTACK}.auc"}}
    study |= {"attacks": {"names": [ATTACK]}, "run": {"seeds": [0, 1, 2]}}
    return lw.run(study, out=tmp_path_factory.mktemp("agree") / "run", processes=1, quiet=True)


@pytest.fixture(scope="module")
def document(run: lw.Result) -> Any:
    return json.loads((run.folder / "tradeoff.json").read_text())


@pytest.fixture(scope="module")
def texts(run: lw.Result) -> dict[str, str]:
    """What a reader sees on each surface, blanks and signs written alike."""
    page = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", run.report.read_text(), flags=re.DOTALL)
    card = re.sub(r"\\([\\`*_\[\]|~#!])", r"\1", (run.folder / "model_card.md").read_text())
    found = {"page": html.unescape(page), "card": html.unescape(card), "terminal": str(run)}
    return {name: plain(text) for name, text in found.items()}


def plain(text: str) -> str:
    text = text.replace("\u2212", "-").replace("\u202f", " ").replace("\u00a0", " ")
    return re.sub(r"\s+", " ", text)


def test_result_and_tradeoff_json_hold_the_same(run: lw.Result, document: Any) -> None:
    assert run.tradeoff is not None
    assert document == json.loads(json.dumps(tradeoff.as_json(run.tradeoff, run.answers)))


def test_results_csv_alone_gives_tradeoff_json_again(run: lw.Result, document: Any) -> None:
    networks, attacks = read_results_csv(run.folder / "results.csv")
    again = json.loads(json.dumps(tradeoff.as_json(tradeoff.tradeoff(attacks, attack=ATTACK, networks=networks))))
    for name in ("dense_balanced_accuracy", "slope", "slopes", "points", "differences", "power", "explained"):
        assert again[name] == document[name], name


def test_results_csv_holds_the_rows_of_the_result(run: lw.Result) -> None:
    with (run.folder / "results.csv").open(newline="") as stream:
        rows = {(r["network"], int(r["seed"])): r for r in csv.DictReader(stream) if r["attack"]}
    assert len(rows) == len(run.attacks)
    for found in run.attacks:
        row = rows[found.network.network, found.network.seed]
        for name, estimate in found.metrics.items():
            cells = tuple(row[name + end] for end in ("", "_low", "_high"))
            assert cells == ("", "", "") if estimate is None else tuple(map(float, cells)) == pytest.approx(estimate)
        assert (row["family"], row["kind"]) == (found.network.family, found.network.kind)


def test_the_dense_networks_mean_is_that_of_results_csv_over_seeds(run: lw.Result, document: Any) -> None:
    values = [a.metrics["balanced_accuracy"].value for a in run.attacks if a.network.kind == "dense"]  # type: ignore[union-attr]
    found = document["dense_balanced_accuracy"]
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert found["value"] == pytest.approx(np.mean(values))
    assert (found["low"], found["high"]) == pytest.approx(expected)


@pytest.mark.parametrize("surface", ["page", "card", "terminal"])
def test_every_surface_says_the_sentences_of_tradeoff_json(surface: str, texts: dict[str, str], document: Any) -> None:
    (answer,) = document["declared"]
    for sentence in (document["slope"]["sentence"], document["power_sentence"], answer["sentence"]):
        assert plain(sentence).lower() in texts[surface].lower(), sentence


def test_the_answers_sentence_holds_its_own_numbers(document: Any) -> None:
    (answer,) = document["declared"]
    (found,) = answer["differences"]
    value, low, high = (found["estimate"][end] for end in ("value", "low", "high"))
    assert f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" in answer["sentence"]
    assert f"p = {answer['p']:.2g}" in answer["sentence"]
    same = [d for d in document["differences"] if (d["metric"], d["at"]) == ("auc", "test accuracy")]
    assert found in same


def test_the_page_shows_each_slope_with_its_set(run: lw.Result, texts: dict[str, str]) -> None:
    assert run.tradeoff is not None
    for slope in (run.tradeoff.slope, *run.tradeoff.slopes):
        assert plain(tradeoff.show_slope(slope)) in texts["page"]


def test_compare_has_the_difference_and_interval_over_seeds_of_results_csv(run: lw.Result) -> None:
    found = {row.measure: row for row in compare(run.folder, "imp-01", "dense", attack=ATTACK).rows}
    _, attacks = read_results_csv(run.folder / "results.csv")

    def values(network: str, metric: str) -> Any:
        chosen = sorted((a for a in attacks if a.network.network == network), key=lambda a: a.network.seed)
        return np.array([a.metrics[metric].value for a in chosen])  # type: ignore[union-attr]

    for metric in ("balanced_accuracy", "auc"):
        each = values("imp-01", metric) - values("dense", metric)
        row = found[metric]
        assert row.difference == pytest.approx(each.mean())
        assert (row.low, row.high) == pytest.approx(stats.t.interval(0.95, 2, each.mean(), stats.sem(each)), abs=1e-12)
    a0 = run.tradeoff.dense_balanced_accuracy if run.tradeoff else None
    assert a0 is not None
    assert found["balanced_accuracy"].second == pytest.approx(a0.value)


def test_a_question_that_is_declared_over_results_has_no_verdict(run: lw.Result, tmp_path: Path) -> None:
    study = tomllib.loads((run.folder / "study.toml").read_text())
    same = lw.run(study, out=tmp_path / "same", reuse=run.folder, processes=1, quiet=True)
    assert same.answers == run.answers  # the question is that of the folder whose results are taken over
    study["tradeoff"]["primary"]["metric"] = f"{ATTACK}.balanced_accuracy"
    with pytest.raises(FolderError, match=r"tradeoff\.primary\.metric is 'loss\.balanced_accuracy' now"):
        lw.run(study, out=run.folder, processes=1, quiet=True)
    for options in ({"reuse": run.folder}, {}):  # and it stays so when the folder is continued
        late = lw.run(study, out=tmp_path / "late", processes=1, quiet=True, **options)
        (answer,) = late.answers
        assert answer.verdict == "no verdict"
        assert "declared when results were there already" in answer.sentence
        assert answer.differences[0].estimate is None


def test_a_study_that_is_extended_after_its_answer_says_so(run: lw.Result, tmp_path: Path) -> None:
    study = tomllib.loads((run.folder / "study.toml").read_text())
    lw.run(study, out=tmp_path / "run", reuse=run.folder, processes=1, quiet=True)
    study["run"]["seeds"] = [0, 1, 2, 3]
    grown = lw.run(study, out=tmp_path / "run", processes=1, quiet=True)
    assert "begun with 3 seeds" in grown.answers[0].sentence
    assert "begun with" not in run.answers[0].sentence


def test_a_dry_run_refuses_what_the_run_would_refuse(run: lw.Result) -> None:
    study = tomllib.loads((run.folder / "study.toml").read_text())
    for change in ("train.epochs=26", f"tradeoff.primary.metric={ATTACK}.balanced_accuracy"):
        with pytest.raises(FolderError, match="holds another study"):
            lw.plan_table(study, out=run.folder, set=[change])
    assert all(network["done"] for network in lw.plan_table(study, out=run.folder))


def test_the_mechanism_is_that_of_the_stored_signals(run: lw.Result) -> None:
    """Frame and file agree; gap, confidence and the fit of redrawn labels follow from what the networks answered."""
    frame = run.to_frame("mechanism")
    with (run.folder / "mechanism.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == frame["id"].tolist()
    assert [float(row["gap"]) for row in rows] == frame["gap"].tolist()
    predicted = json.loads((run.folder / "mechanism.json").read_text())["predictors"]
    assert len(predicted) == len(run.to_frame("predictors"))
    assert {each["units"] for each in predicted} == {3}

    seen = {}
    for path in run.folder.glob("jobs/*/job.json"):
        name = json.loads(path.read_text())["job"]
        if name.startswith("imp-06/"):
            with np.load(path.with_name("signals.npz")) as read:
                seen[name] = dict(read)
    mine = seen.pop("imp-06/target/1")
    (row,) = (row for row in rows if row["id"] == "imp-06/target/1")
    member, audited, label = mine["member_N"], mine["audited_N"], mine["label_N"]
    log_odds = {name: _log_odds(each["logits_NC"], label) for name, each in {**seen, "mine": mine}.items()}
    sides = []
    for side, sign in ((True, 1), (False, -1)):
        differences = []
        for n in np.flatnonzero(audited & (member == side)):
            opposite = [log_odds[name][n] for name, each in seen.items() if each["member_N"][n] != side]
            if opposite:
                differences.append(sign * (log_odds["mine"][n] - np.mean(opposite)))
        sides.append(np.mean(differences))
    assert float(row["gap"]) == pytest.approx(np.mean(sides), rel=1e-6)
    p = np.exp(mine["logits_NC"].astype(float))
    top = (p / p.sum(axis=1, keepdims=True)).max(axis=1)
    assert float(row["other_confidence"]) == pytest.approx(top[audited & ~member].mean(), rel=1e-6)
    wrong = member & (label != load_digits().target[mine["record_N"]])
    assert int(row["redrawn"]) == wrong.sum() > 0
    right = mine["logits_NC"].argmax(axis=1) == label
    assert float(row["redrawn_fit"]) == pytest.approx(right[wrong].mean())


def _log_odds(logits_NC: Any, label_N: Any) -> Any:
    p = np.exp(logits_NC.astype(float))
    p /= p.sum(axis=1, keepdims=True)
    own = p[np.arange(len(p)), label_N]
    others = p.copy()
    others[np.arange(len(p)), label_N] = 0
    return np.log(own) - np.log(others.sum(axis=1))


def test_the_page_says_which_quantity_predicts_most(run: lw.Result, texts: dict[str, str]) -> None:
    best = max(
        (max(row["r2"], row["r2_line"]), row["quantity"])
        for row in run.to_frame("predictors").to_dict("records")
        if row["attack"] == ATTACK and row["metric"] == "auc" and row["part_of_attack"] and row["quantity"] != "recipe"
    )
    (said,) = re.findall(
        r"Of what the attack itself is computed from, “([^”]*)” predicts most, R² (-?[\d.]+)", texts["page"]
    )
    assert said[1] == f"{best[0]:.2f}"
