"""Kinds of networks that the package does not know: their colour, row and label in a report, and their role."""

import dataclasses
import re
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lacewing import reporting as report
from lacewing.reporting import _afford, _choices, _figures, _headline, _looks, _matrix, _plane, _slopes, _table
from lacewing.results import Look
from lacewing.tradeoff import afford, tradeoff
from lacewing.tradeoff.cautions import failures

HALVED, RANDOM, PRIVATE = "my_pkg.mine:Halved", "my_pkg.mine:Random", "my_pkg.mine:Private"
LOOKS = {
    HALVED: Look("halved channels", "#cc79a7", "v", sequence=True),
    RANDOM: Look("Random", "#009e73", "D"),  # what a study records of a method that chooses no look
    PRIVATE: Look("private training", "#8a6d00", "P"),
}
NETWORKS = {  # name: method, kind, density, loss of accuracy
    "halved-01": (HALVED, "sparse", 0.15, 0.02),
    "halved-02": (HALVED, "sparse", 0.08, 0.05),
    "random": (RANDOM, "sparse", 0.1, 0.04),
    "plain": ("other_pkg:Plain", "sparse", 0.12, 0.03),
    "private": (PRIVATE, "control", 1.0, 0.06),
    "narrow": ("dense", "control", 0.1, 0.07),
}


@pytest.fixture(scope="module")
def data(reports: ModuleType) -> Any:
    """A study of three seeds with the dense network, one level of IMP, and networks of users' methods."""
    base = reports.report_data(seeds=(0, 1, 2), n=300, levels=1, butterflies=(), names=("discriminator", "loss"))
    users = [
        dataclasses.replace(
            n,
            network=name,
            method=method,
            kind=kind,
            family=name,
            density=density,
            nonzero=round(density * n.parameters),
            test_accuracy=n.test_accuracy - loss,
            train_accuracy=n.train_accuracy - 2 * loss,
        )
        for name, (method, kind, density, loss) in NETWORKS.items()
        for n in base.networks
        if n.network == "dense"
    ]
    networks = [*base.networks, *users]
    attacks = [
        *base.attacks,
        *(reports.attack(n, 300, name=a) for n in users if n.role == "target" for a in ("discriminator", "loss")),
    ]
    found = tradeoff(attacks, networks=networks)
    entries = [
        *base.study["networks"],
        {"method": HALVED, "levels": 2, "name": None, "family": None, "train": {}, "model": {}},
        {"method": "dense", "name": "narrow", "train": {"lr": 0.05}, "model": {"width": 8}},
    ]
    return dataclasses.replace(
        base,
        networks=networks,
        attacks=attacks,
        tradeoff=found,
        study={**base.study, "networks": entries},
        failures=failures(networks, attacks, found, classes=10),
        looks=LOOKS,
    )


@pytest.fixture(scope="module")
def page(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(tmp_path_factory.mktemp("users"), data)


def test_each_method_has_its_own_colour_row_and_label(data: Any, page: Path) -> None:
    text = unescape(page.read_text(encoding="utf-8"))
    rows = {row.name for row in _slopes.rows(data)}
    assert rows == {"all methods", "IMP", "halved channels", "Random", "Plain"}
    figure = (page.parent / "figures" / "tradeoff.svg").read_text(encoding="utf-8")
    for label in ("halved channels", "Random", "Plain", "private training (control)"):
        assert f">{label}</text>" in figure
    assert {"halved-01", "halved-02", "random", "plain", "private", "narrow"} <= set(
        re.findall(r'aria-hidden="true"></i>([^<]+)<', text)
    )
    looks = [data.look(method) for method in (HALVED, RANDOM, "other_pkg:Plain", PRIVATE)]
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == 4
    assert all(look.colour in figure for look in looks)


def test_methods_without_a_look_are_told_apart_and_keep_theirs_when_others_come_after_them() -> None:
    methods = [f"pkg:M{i}" for i in range(6)]
    few, many = _looks.appearance(methods[:2], {}), _looks.appearance(methods, {})
    assert [few[m] for m in methods[:2]] == [many[m] for m in methods[:2]]
    assert len({(look.colour, look.marker) for look in many.values()}) == 6
    assert not {look.colour for look in many.values()} & {look.colour for look in _looks.OWN.values()}
    assert [many[m].label for m in methods] == [f"M{i}" for i in range(6)]


@pytest.mark.parametrize(
    ("field", "value"),
    [("colour", "red"), ("colour", "#12345"), ("colour", "#123456;}"), ("marker", "$x$"), ("marker", "")],
)
def test_a_look_that_no_figure_can_show_is_refused_with_its_field(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        dataclasses.replace(Look("mine", "#123456", "o"), **{field: value})


def test_a_control_is_no_sparse_network_and_no_dense_one(data: Any) -> None:
    found = data.tradeoff
    named = {"private", "narrow"}
    assert not named & set(found.slope.networks)
    assert {"halved-01", "halved-02", "random", "plain"} <= set(found.slope.networks)  # "narrow" is in the band, too
    assert {p.network for p in found.points if p.kind == "dense"} == {"dense"}
    assert {p.network for p in found.points if p.sparse} & named == set()
    assert {p.network for p in found.points} >= named  # they are points of the trade-off
    best = _headline.best_sparse(found)
    assert best is not None
    assert best.network not in named
    assert f"It was chosen as the best of {sum(p.sparse for p in found.points)} sparse" in " ".join(
        _headline.headline(data)[1]
    )
    assert {m.network for m in found.matches} & named == set()


def test_a_control_of_most_defence_is_named_as_a_control(data: Any) -> None:
    points = tuple(p for p in data.tradeoff.points if not p.sparse)
    alone = dataclasses.replace(data, tradeoff=dataclasses.replace(data.tradeoff, points=points))
    choice = afford(alone.tradeoff, 20)
    assert choice is not None
    assert choice.point.control
    assert "No sparse network loses as little." in choice.sentence
    row = _afford.affordable(alone, [20])[0]
    assert row.sentence.startswith("This control loses")
    assert "dense network itself" not in row.sentence


def test_tables_and_figures_mark_controls(data: Any) -> None:
    cells = {row.cells[0].sort: (row.key.shape, row.cells[0].interval) for row in _table.networks(data).rows}
    assert cells["private"] == cells["narrow"] == ("control", "control")
    assert cells["random"] == ("diamond", "")
    assert cells["dense"] == ("square", "")
    keys = {row.label: row.key for row in _matrix.matrices(data)[0].rows}
    assert keys["private"] == _looks.Key("control", LOOKS[PRIVATE].colour)
    assert keys["halved-01"] == _looks.Key("down", LOOKS[HALVED].colour)
    density = _figures.against_density(data, "accuracy")
    assert "narrow at 10.0" in density.label  # less dense than the dense network: it has its place in the figure
    assert "private at" not in density.label
    assert "private loses" in _plane.plane(data).label


def test_settings_of_a_users_method_and_what_differs_by_network_are_choices_as_ours(data: Any) -> None:
    here = {c.choice: c for c in _choices.choices(data)}
    assert here["halved channels: settings"].here == "halved channels: levels 2"
    assert here["Model that differs by network"].here == "narrow: width 8"
    assert "narrow: lr 0.05" in here["Training that differs by network"].here
    assert "butterfly: lr 0.2, weight decay 0.0001" in here["Training that differs by network"].here
    assert {c.whose for name, c in here.items() if "differs" in name or "settings" in name} == {"ours"}


def test_smoothing_mixup_and_dropout_of_the_study_are_told_where_they_are_used(data: Any) -> None:
    def told(**train: Any) -> str:
        study = {**data.study, "train": {**data.study["train"], **train}}
        return next(c.here for c in _choices.choices(dataclasses.replace(data, study=study)) if c.choice == "Training")

    assert "smoothing" not in told(label_smoothing=0.0, mixup=0.0, dropout=0.0)
    assert told(clip_norm=0.0, warmup=0.0, optimizer="sgd", optimizer_options={}) == told()
    adamw = {"optimizer": "adamw", "optimizer_options": {"betas": [0.9, 0.99]}, "warmup": 0.1, "clip_norm": 1.0}
    assert told(**adamw).startswith("adamw (betas 0.9, 0.99), ")
    assert "warm-up 10" in told(**adamw)
    assert told(**adamw).endswith(", gradients clipped at norm 1")
    assert told(label_smoothing=0.1, mixup=0.2, dropout=0.0).endswith(", label smoothing 0.1, mixup 0.2")
