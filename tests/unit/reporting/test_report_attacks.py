"""Many attacks in one report, the page of a single audit, and the model card: right numbers, and nothing private."""

from __future__ import annotations

import dataclasses
import re
from html import unescape
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from lacewing import metrics
from lacewing import reporting as report
from lacewing.errors import UsageError
from lacewing.reporting import (
    MostVulnerable,
    Slice,
    _data,
    _headline,
    _looks,
    _matrix,
    _parts,
    _rocs,
    _slopes_by_attack,
)
from lacewing.reporting._audit_page import answer as audit_answer
from lacewing.results import AttackResult, Estimate
from lacewing.support.text import visible
from lacewing.tradeoff import show_ratio, tradeoff
from lacewing.tradeoff.cautions import failures

NAMES = (
    "discriminator",
    "discriminator-unaware",
    "discriminator-imposed-mask",
    "loss",
    "population",
    "lira-online",
)
HOSTILE = "<script>alert('x')</script> | a\nb `c` *d* \x1b[2J\u202e"
LINKS = HOSTILE + " http://x.example www.x.example"


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> Any:
    few = reports.report_data(names=NAMES, n=200, levels=3, butterflies=("butterfly-s3-l3",))
    refused = {
        ("dense", "new-attack"): "It needs three references, two are here.",
        ("dense", "discriminator-imposed-mask"): "it is about pruned networks.",
    }
    risk = MostVulnerable("dense", "lira-online", 20, 0.97, 0.55, 8, ((4711, 3.25), (4712, 3.125)))
    return dataclasses.replace(few, refused=refused, selfchecks=reports.CHECKED, vulnerable=[risk])


@pytest.fixture(scope="module")
def page(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(tmp_path_factory.mktemp("battery"), data)


def _cells(data: Any, metric: str) -> dict[tuple[str, str], Any]:
    matrix = next(m for m in _matrix.matrices(data) if m.metric == metric)
    names = [name for name, _ in matrix.columns]
    return {(row.label, name): cell for row in matrix.rows for name, cell in zip(names, row.cells, strict=True)}


def _values(data: Any, network: str, attack: str, metric: str) -> list[Any]:
    return [a.metrics[metric] for a in data.attacks if (a.network.network, a.attack) == (network, attack)]


def test_matrix_holds_means_over_seeds_with_their_range_and_every_interval(data: Any) -> None:
    cells = _cells(data, "auc")
    for network in ("dense", "imp-02"):
        for attack in ("discriminator", "lira-online"):
            found = _values(data, network, attack, "auc")
            cell = cells[network, attack]
            assert float(cell.text) == pytest.approx(fmean(e.value for e in found), abs=5e-4)
            ends = [float(end) for end in cell.small.split("–")]
            assert ends == pytest.approx([min(e.value for e in found), max(e.value for e in found)], abs=5e-4)
            for e in found:
                assert f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" in cell.title


@pytest.mark.parametrize("metric", ["auc", "tpr_at_fpr_0.01", "balanced_accuracy"])
def test_each_network_has_one_strongest_attack_and_it_is(data: Any, metric: str) -> None:
    cells = _cells(data, metric)
    for label in {label for label, _ in cells}:
        of_row = {name: cell for (row, name), cell in cells.items() if row == label and cell.text != "–"}
        marked = [name for name, cell in of_row.items() if cell.strongest]
        assert len(marked) == 1
        assert float(of_row[marked[0]].text) == max(float(cell.text) for cell in of_row.values())


def test_an_empty_cell_says_why(data: Any) -> None:
    auc, accuracy, low = (_cells(data, m) for m in ("auc", "balanced_accuracy", "tpr_at_fpr_0.001"))
    assert "it is about pruned networks" in auc["dense", "discriminator-imposed-mask"].title
    assert "three references" in auc["dense", "new-attack"].title
    assert "not run" in auc["imp-01", "new-attack"].title
    assert "no decisions" in accuracy["dense", "population"].title
    assert "1,000 non-members are needed and 200" in low["dense", "loss"].title
    assert {cell.text for cell in low.values()} == {"–"}


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(list(_matrix.MATRIX_METRICS)))
def test_shade_runs_from_guessing_to_perfect_and_never_back(a: float, b: float, metric: str) -> None:
    low, high = sorted((_matrix._shade(a, metric), _matrix._shade(b, metric)))
    assert 0 <= low <= high <= 1
    assert (low, high) == tuple(_matrix._shade(v, metric) for v in sorted((a, b)))
    chance = {"tpr_at_fpr_0.01": 0.01, "tpr_at_fpr_0.001": 0.001}.get(metric, 0.5)
    assert (_matrix._shade(chance, metric), _matrix._shade(1.0, metric)) == (0, 1)


def test_the_sentence_names_the_strongest_and_its_lead_over_the_paper(data: Any) -> None:
    said = " ".join(_matrix.sentences(data))
    assert said.startswith("“lira-online” finds most: it has the highest AUC on 5 of 5 networks")
    gaps = [
        fmean(
            ours.value - theirs.value
            for ours, theirs in zip(
                *(_values(data, name, attack, "auc") for attack in ("lira-online", "discriminator")), strict=True
            )
        )
        for name in ("dense", "imp-01", "imp-02", "imp-03", "butterfly-s3-l3")
    ]
    assert f"differs by +{fmean(gaps):.3f}" in said


def test_at_chance_no_attack_is_said_to_find_anything(reports: ModuleType) -> None:
    chance = reports.report_data(names=("discriminator", "loss"), seeds=(0,), levels=1, butterflies=(), n=40, leak=0.0)
    quiet = [a for a in chance.attacks if a.metrics["auc"].low <= 0.5]
    assert _matrix.sentences(dataclasses.replace(chance, attacks=quiet)) == [
        "No attack's AUC lies above 0.5 beyond its 95\u202f% interval on any network."
    ]


def test_adaptive_attackers_are_compared_seed_by_seed_with_the_unaware_one(data: Any) -> None:
    table = _matrix.adaptive(data)
    assert table is not None
    assert [name for name, _ in table.columns] == ["discriminator", "discriminator-imposed-mask"]
    rows = {row.label: row.cells for row in table.rows}
    assert "dense" not in rows  # the unaware attacker is about sparse networks
    ours, theirs = (_values(data, "imp-03", a, "auc") for a in ("discriminator-imposed-mask", "discriminator-unaware"))
    gaps = [o.value - t.value for o, t in zip(ours, theirs, strict=True)]
    cell = rows["imp-03"][1]
    assert float(cell.text.replace("\u2212", "-")) == pytest.approx(fmean(gaps), abs=5e-4)
    assert f"higher in {sum(g > 0 for g in gaps)} of 2 seeds" in cell.title
    assert rows["butterfly-s3-l3"][1].text == "–"


def test_curves_reach_the_largest_tpr_within_each_rate(reports: ModuleType) -> None:
    rng = np.random.default_rng(5)
    results = []
    for n in (60, 40):
        member = np.repeat([True, False], (50, n))
        score = np.round(rng.normal(0, 1, 50 + n) + member, 1)  # ties
        results.append(AttackResult(reports.networks()[0], "loss", "", "", 50, n, {}, member_N=member, score_N=score))
    found = _rocs.curve(results)
    assert found is not None
    assert found.fpr_G[0] == pytest.approx(1 / 40)  # nothing left of one record of the smaller network
    for i, rate in enumerate(found.fpr_G):
        reached = [max(t for f, t in zip(*r.roc(), strict=True) if f <= rate + 1e-9) for r in results]
        assert (found.tpr_G[i], found.low_G[i], found.high_G[i]) == pytest.approx(
            (fmean(reached), min(reached), max(reached))
        )
    single = _rocs.curve(results[:1])
    assert single is not None
    k = np.round(single.tpr_G * 50)
    inner = (k > 0) & (k < 50)
    assert single.low_G[inner] == pytest.approx(beta.ppf(0.025, k, 51 - k)[inner])
    assert single.high_G[inner] == pytest.approx(beta.ppf(0.975, k + 1, 50 - k)[inner])


def test_the_same_attacks_have_a_colour_in_every_figure_the_papers_first(data: Any) -> None:
    results = {}
    for a in data.attacks:
        results.setdefault(a.network.network, {}).setdefault(a.attack, {})[a.network.seed] = a
    chosen = _rocs.highlighted(list(results.values()))
    assert chosen[0] == "discriminator"
    assert chosen[1] == "lira-online"
    assert set(chosen) == set(NAMES)


def test_many_networks_are_drawn_by_their_ends() -> None:
    grid = [("dense", "dense", 1.0), *((f"imp-{i}", "imp", 0.8**i) for i in range(1, 20))]
    grid += [(f"butterfly-{i}", "butterfly", 0.3 / i) for i in range(1, 6)]
    shown = [_data.Series(n, m, d, {}, {}) for n, m, d in grid]
    found = {(n, "x"): 1 for n, _, _ in grid}
    chosen = [s.network for s in _rocs.choice(shown, found, _looks.OWN.__getitem__)]
    assert len(chosen) == _rocs.NETWORKS
    assert {"dense", "imp-19", "imp-15", "butterfly-5"} <= set(chosen)
    assert chosen == [n for n, _, _ in grid if n in chosen]


def test_slopes_are_those_of_each_attacks_own_trade_off(data: Any) -> None:
    rows = {row.attack: row for row in _slopes_by_attack.slopes_by_attack(data)}
    assert set(rows) == set(NAMES) - {"population"}
    slope = tradeoff(data.attacks, attack="loss", resamples=1000).slope
    assert slope.ratio is not None
    assert rows["loss"].row.slope == show_ratio(slope.ratio)
    assert (rows["loss"].row.verdict, rows["loss"].row.interval) == (slope.verdict, slope.interval)
    strengths = [row.strength for row in _slopes_by_attack.slopes_by_attack(data)]
    assert strengths == sorted(strengths, reverse=True)


def test_an_attack_on_sparse_networks_alone_gains_against_the_papers_on_the_dense_one(data: Any) -> None:
    row = next(r for r in _slopes_by_attack.slopes_by_attack(data) if r.attack == "discriminator-imposed-mask")
    assert row.borrowed
    assert row.strength == pytest.approx(
        fmean(e.value for e in _values(data, "dense", "discriminator", "balanced_accuracy"))
    )
    kept = [a for a in data.attacks if a.attack != "discriminator" or a.network.method != "dense"]
    alone = dataclasses.replace(data, attacks=kept, tradeoff=None)
    row = next(r for r in _slopes_by_attack.slopes_by_attack(alone) if r.attack == "discriminator-imposed-mask")
    assert row.reason == "No relative gain: the attack has no result on a dense network."


def test_a_trade_off_that_is_refused_is_said_and_the_others_stand(data: Any) -> None:
    odd = [
        dataclasses.replace(a, record_N=a.record_N + 1) if (a.attack, a.network.method) == ("loss", "imp") else a
        for a in data.attacks
    ]
    rows = {row.attack: row for row in _slopes_by_attack.slopes_by_attack(dataclasses.replace(data, attacks=odd))}
    assert "not attacked on the same records" in rows["loss"].reason
    assert rows["loss"].row is None
    assert rows["lira-online"].row.slope != "–"


def test_slopes_under_many_attacks_are_counted_without_a_verdict_on_the_paper(data: Any) -> None:
    few = _slopes_by_attack.in_words(_slopes_by_attack.slopes_by_attack(data))  # two seeds
    assert few.startswith("No slope of these 5 attacks is tested against the paper's 3.6: that takes three seeds, ")
    assert "resolved" not in few
    base = _slopes_by_attack.slopes_by_attack(data)[0]

    def row(verdict: str, p: float) -> Any:
        return base._replace(verdict=verdict, p=p)

    said = _slopes_by_attack.in_words(
        [
            row("slope resolved", 0.04),
            row("slope resolved", 0.3),
            row("slope not resolved", 0.01),
            row("no trade-off measurable", 0.001),  # at chance
            base._replace(verdict="no loss measured", p=None),  # 3.6 times the loss is more than can be gained
        ]
    )
    assert said.startswith(
        "Of 5 attacks that make decisions 2 have a slope whose set leaves out 0. 3 are tested against the paper's 3.6, "
        "and 2 of them differ at p < 0.05, each by itself and not corrected for their number."
    )


def test_the_page_names_every_attack_in_every_figure_and_its_self_checks(data: Any, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in NAMES:
        assert f">{name}</span></th>" in text
    assert len(list((page.parent / "figures").glob("roc-attacks-*.svg"))) == 5
    assert (page.parent / "figures" / "defence-attacks.svg").is_file()
    for check in data.selfchecks:
        assert check.sentence in text
    assert "It needs three references" in text
    assert text.count('name="matrix"') == 4


def test_attacks_that_only_rank_are_answered_by_auc(reports: ModuleType, tmp_path: Path) -> None:
    ranked = reports.report_data(names=("population", "rmia-offline"), n=150, seeds=(0,), levels=1, butterflies=())
    assert ranked.tradeoff is None
    first, more = _headline.headline(ranked)
    value = _values(ranked, "dense", "population", "auc")[0]
    assert first.startswith("The dense network gives away")
    assert f"{100 * value.value:.1f}" in first
    assert f"{value.low:.3f} to {value.high:.3f}" in more[0]
    text = report.write(tmp_path, ranked).read_text(encoding="utf-8")
    assert "no defence and no slope can be given" in text
    assert failures(ranked.networks, ranked.attacks, None, classes=10) == ()


def test_sixteen_networks_of_one_population_stay_readable(reports: ModuleType, tmp_path: Path) -> None:
    halves = reports.report_data(
        names=("loss", "lira-online"), halves=True, seeds=range(16), n=60, levels=1, butterflies=(), epochs=3
    )
    text = report.write(tmp_path, halves).read_text(encoding="utf-8")
    assert "seeds 0 to 15" in text
    assert "0, 1, 2, 3, 4, 5" not in re.sub(r"<dd>[^<]*</dd>", "", text)  # the settings list them once
    svg = (tmp_path / "figures" / "roc-attacks-0.svg").read_text(encoding="utf-8")
    assert len(set(re.findall(r'id="(curve-\d+)"', svg))) == 2
    assert "random half" in text
    assert "mean of 16 seeds" in text


def test_single_records_show_only_where_asked_for(data: Any, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "97.0\u202f%" in text
    assert "4711" not in text + report.model_card(data)
    assert _parts.vulnerable(data)[0].listed == []
    assert _parts.vulnerable(dataclasses.replace(data, show_records=True))[0].listed[0] == ("4711", "3.250")


def test_parts_of_the_records_stand_by_network_and_canaries_apart(data: Any) -> None:
    e = metrics.Estimate(0.7, 0.6, 0.8)
    parts = [
        Slice("class", "3", 50, 40, e, "imp-01", "loss"),
        Slice("class", "3", 50, 40, None, "dense", "loss"),
        Slice("canaries", "wrong label", 9, 8, None, "dense", "loss", e, 2),
        Slice("canaries", "wrong label", 9, 8, None, "imp-01", "loss"),
    ]
    cut = dataclasses.replace(data, slices=parts)
    (table,) = _parts.slices(cut, canaries=False)
    assert table.columns == ["dense", "imp-01"]
    assert [cell.text for cell in table.rows[0][1]] == ["–", "0.700"]
    assert "0.600–0.800; n 50 + 40" in table.rows[0][1][1].small
    (canaries,) = _parts.slices(cut, canaries=True)
    assert "mislabelled" in canaries.title
    shown, none = canaries.rows[0][1]
    assert shown.text == "70.0\u202f%"
    assert "n 9 + 8" in shown.small
    assert "2 of 8" in shown.title
    assert none.text == "–"


def test_canaries_are_told_at_the_top_by_an_attack_that_was_fixed_before(reports: ModuleType) -> None:
    data = reports.report_data(names=("discriminator", "lira-online"), halves=True, seeds=range(4), n=400, levels=1)
    assert not [s for s in _headline.headline(data)[1] if "canaries" in s]
    plain = data.attacks
    marked = []
    for one in plain:
        of = np.arange(len(one.member_N)) % 10 == 0
        sure = np.where(of & one.member_N, 99.0, one.score_N) if one.attack == "lira-online" else one.score_N
        marked.append(dataclasses.replace(one, canary_N=of, score_N=sure))
    data = dataclasses.replace(data, attacks=marked)
    found, bound = (s for s in _headline.headline(data)[1] if "canaries" in s)
    assert "Of 40 canaries among its members" in found
    assert "“lira-online” on the dense network of seed 0 finds 100.0\u202f%" in found
    epsilon = metrics.one_run_epsilon(40, 40, 80)
    assert f"at least {epsilon:.2f}; 0 is no leak" in bound
    assert "(40 of 40 guesses about 80 canaries right" in bound
    (tile,) = (t for t in _headline.tiles(data) if "epsilon" in t.title)
    assert tile.value == f"at least {epsilon:.2f}"


def test_twenty_attacks_on_twelve_networks_stay_below_three_megabytes(reports: ModuleType, tmp_path: Path) -> None:
    full = reports.report_data(names=tuple(reports.BATTERY), butterflies=tuple(reports.BUTTERFLY), n=60, epochs=30)
    assert len({n.network for n in full.networks}) == 12
    path = report.write(tmp_path, full)
    assert path.stat().st_size < 3_000_000
    assert path.read_text(encoding="utf-8").count('class="turned"') == 4 * 20 + 4


def test_audit_page_answers_first_and_says_what_did_not_run(reports: ModuleType, tmp_path: Path) -> None:
    audit = reports.audit(names=("discriminator", "loss", "population"), n=150, notes=(HOSTILE,), sentence=HOSTILE)
    text = report.write_audit(tmp_path / "new", audit).read_text(encoding="utf-8")
    assert "<script" not in text
    shown = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))
    assert visible(re.sub(r"\s+", " ", HOSTILE)) in shown
    assert shown.index("alert(") < shown.index("Every attack that ran")
    for a in audit.attacks:
        e = a.metrics["auc"]
        assert f"{e.value:.3f} {e.low:.3f}–{e.high:.3f}" in shown
        assert a.variant in shown
    for name, why in audit.refused.items():
        assert f"{name} {why}" in shown
    assert "Self-check failed: planted leak" in shown
    assert "≥ 0.25" in shown  # of an estimate the lower end
    assert "ε, as above Bonferroni over hull thresholds Only if Gaussian-DP" in shown
    for a in audit.attacks[:3]:
        assert f"{a.attack} ≥ 0.25 ≥ 0.12 ≥ 3.50" in shown
    assert "Only if Gaussian-DP. It is valid only if the training is Gaussian-DP" in shown
    assert "Not tested:" in shown
    assert "lira-offline" in shown[shown.index("Not tested:") :]
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert not re.search(r"https?:|@import|\bsrc=", text)


def test_audit_page_shows_the_realised_fpr_beside_the_rate_asked_for(reports: ModuleType, tmp_path: Path) -> None:
    audit = reports.audit(names=("discriminator", "loss", "population"), n=150)
    low, high = (100 * end for end in metrics.clopper_pearson(1, 150))
    here = f"0.67\u202f% ({low:.2f} to {high:.2f}\u202f%)"
    text = unescape(report.write_audit(tmp_path, audit).read_text(encoding="utf-8"))
    assert f"Realised FPR at 1\u202f%: {here}." in text
    assert f"accused wrongly (here 0.67\u202f%, 95\u202f% interval {low:.2f} to {high:.2f}\u202f%)" in text
    saturated = dataclasses.replace(
        audit.attacks[0], metrics={**audit.attacks[0].metrics, "realised_fpr_0.01": Estimate(0.0, 0.0, 0.024)}
    )
    audit.attacks = (saturated, *audit.attacks[1:])
    text = unescape(report.write_audit(tmp_path, audit).read_text(encoding="utf-8"))
    assert (
        f"Realised FPR at 1\u202f%: {here} for loss, population; 0.00\u202f% (0.00 to 2.40\u202f%) for discrim" in text
    )


def test_audit_without_an_attack_still_makes_a_page(reports: ModuleType, tmp_path: Path) -> None:
    nothing = reports.audit(names=(), epsilon={}, epsilon_other={}, selfchecks=(), notes=())
    assert audit_answer(nothing)[0] == "No answer: no attack has run."
    assert "Other lower bounds" not in report.write_audit(tmp_path, nothing).read_text(encoding="utf-8")
    assert "no attack has run yet" in report.write_audit(tmp_path, nothing).read_text(encoding="utf-8")


def test_the_bound_of_a_single_attack_is_no_largest_of_several(reports: ModuleType) -> None:
    (said,) = (s for s in audit_answer(reports.audit(names=("loss",), n=60))[1] if "ε" in s)
    assert said.endswith("gives ε ≥ 0.25 at δ = 1e-05, at 95\u202f%.")
    (said,) = (s for s in audit_answer(reports.audit(names=("loss", "population"), n=60))[1] if "ε" in s)
    assert said.endswith("the largest of 2 at less.")


def test_two_results_of_one_attack_are_no_audit(reports: ModuleType, tmp_path: Path) -> None:
    audit = reports.audit(names=("loss",), n=60)
    audit.attacks *= 2
    with pytest.raises(UsageError, match="two results"):
        report.write_audit(tmp_path, audit)


def _tables(card: str) -> list[list[str]]:
    """The cells of every table row, split as Markdown does."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in card.splitlines() if line.startswith("|")]


def test_model_card_of_a_study_has_dense_and_best_sparse_with_n_intervals_and_variants(data: Any, page: Path) -> None:
    card = (page.parent / "model_card.md").read_text(encoding="utf-8")
    assert card == report.model_card(data)
    best = _headline.best_sparse(data.tradeoff)
    titles = re.findall(r"^### (.+)$", card, flags=re.MULTILINE)
    assert titles[0].startswith("Dense network")
    assert titles[1].startswith("Best sparse network" if best else "Sparsest network")
    found = _values(data, "dense", "lira-online", "auc")
    mean, low, high = map(fmean, zip(*found, strict=True))
    assert f"| lira-online | {mean:.3f} ({low:.3f} to {high:.3f}) |" in card
    for said in ("n = 200 members", "seeds 0, 1", "lira-online, K = 3", "DeLong", "Not tested: "):
        assert said in card
    for attack in data.attacks:
        assert attack.threat_model in card


def test_model_cards_escape_markdown_and_html(reports: ModuleType, data: Any) -> None:
    attacks = [dataclasses.replace(a, variant=LINKS, threat_model=LINKS) for a in data.attacks]
    named = dataclasses.replace(data, study=reports.study(LINKS), attacks=attacks, failures=[LINKS])
    audit = reports.audit(names=("loss",), n=60, notes=(LINKS,), refused={"x": LINKS})
    audit.attacks = tuple(dataclasses.replace(a, variant=LINKS) for a in audit.attacks)
    for card in (report.model_card(named), report.model_card(audit)):
        assert "<script" not in card
        assert "&lt;script&gt;" in card
        widths = [len(row) for row in _tables(card)]
        assert widths
        assert all(width in (3, 5, 8, 9) for width in widths)
        assert not re.search(r"(?<!\\)\*d", card)
        assert not re.search(r"(?i)https?://|\bwww\.", card)
        assert r"http\://x.example www\.x.example" in card
        assert r"\\x1b\[2J\\u202e" in card
        assert not {"\x1b", "\u202e"} & set(card)


def test_model_card_of_an_audit_names_refused_attacks_and_self_checks(reports: ModuleType) -> None:
    card = report.model_card(reports.audit(names=("loss", "lira-offline"), n=150))
    assert "- lira-online: It needs reference networks trained on every record." in card
    assert "| planted leak | FAILED |" in card
    assert "| 150 + 150 |" in card
    assert "Not tested: " in card


def test_a_last_batch_of_one_record_is_a_caution(reports: ModuleType) -> None:
    some = reports.report_data(n=129, seeds=(0,), levels=1)
    study = reports.study()  # batches of 64: 129 = 2 * 64 + 1
    study["networks"][1]["train"] = {"batch_size": 40}
    (said,) = [s for s in failures(some.networks, some.attacks, some.tradeoff, study=study) if "single record" in s]
    assert "dense: 129 records in batches of 64" in said
    assert "imp:" not in said
    perceptron = {**study, "model": {"name": "mlp"}}  # which has no batch normalisation
    assert not any("single record" in s for s in failures(some.networks, some.attacks, some.tradeoff, study=perceptron))
    study["train"]["batch_size"] = 1  # every batch is one record, as the study asked
    assert not any("single record" in s for s in failures(some.networks, some.attacks, some.tradeoff, study=study))


def test_a_leading_attack_at_chance_does_not_hide_what_another_finds(reports: ModuleType) -> None:
    nets = [n for n in reports.networks(seeds=(0,), levels=1, butterflies=()) if n.role == "target"]
    attacks = [reports.attack(n, 300, leak, name) for n in nets for name, leak in (("loss", 0.0), ("lira-online", 1.0))]
    found = failures(nets, attacks, tradeoff(attacks, attack="loss", resamples=100))
    assert "1 other has an AUC above 0.5 there (lira-online)" in next(s for s in found if "near chance" in s)
