"""A study's result as figure and data frames: the same numbers as its table and its text."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from types import ModuleType

import pytest

from lacewing.errors import UsageError
from lacewing.study.result import Result, _matrix


@pytest.fixture(scope="module")
def found(reports: ModuleType) -> Result:
    data = reports.report_data(names=("discriminator", "loss"), n=60)
    notes = tuple(data.failures)
    return Result(
        Path("run"), tuple(data.networks), tuple(data.attacks), data.tradeoff, notes, ("a job failed",), (), 0
    )


def test_frames_hold_what_is_printed(found: Result) -> None:
    text = str(found)
    attacks = found.to_frame()
    assert attacks.to_dict("records") == found.table()
    means = found.to_frame("means").set_index(["attack", "network"])
    of_dense = [row["auc"] for row in found.table() if (row["attack"], row["network"]) == ("loss", "dense")]
    assert len(of_dense) == 2
    assert means.loc[("loss", "dense"), "auc"] == pytest.approx(fmean(of_dense))
    assert means.loc[("loss", "dense"), "seeds"] == 2
    (line,) = (line for line in text.splitlines() if line.startswith("loss ") and " 0." in line.split("–")[0][:60])
    assert f"{fmean(of_dense):.3f}" in line
    assert len(found.to_frame("networks")) == len(found.networks)
    for table, column in (("answers", "sentence"), ("notes", "note")):
        shown = found.to_frame(table)[column]
        assert len(shown)
        assert all(sentence in text for sentence in shown)


def test_what_is_printed_of_columns_and_properties_has_its_interval() -> None:
    rows = [
        {"attack": attack, "network": network, "surplus": 0.0312, "low": low, "high": high}
        for attack in ("answers", "gradients")
        for network, low, high in (("dense", 0.0101, 0.0523), ("imp-01", None, None))
    ]
    title, *lines = _matrix(rows, "surplus on columns", "surplus", ends=True)[1:]
    assert lines[0].split()[1:] == ["0.031", "[0.010,", "0.052]", "0.031", "[no", "interval]"]
    assert {len(line) for line in lines} == {len(title)}


def test_a_frame_that_cannot_be_is_one_sentence(found: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="did you mean 'attacks'"):
        found.to_frame("attack")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        found.to_frame()


def test_the_figure_has_a_curve_and_a_mean_for_each_network(found: Result) -> None:
    roc, plane = found.plot("loss").axes
    names = list(dict.fromkeys(a.network.network for a in found.attacks))
    assert [text.get_text() for text in plane.get_legend().get_texts()] == [*names[:8], "chance"]
    for name in names[:8]:
        results = [a for a in found.attacks if (a.attack, a.network.network) == ("loss", name)]
        (mean,) = (line for line in plane.lines if line.get_label() == name)
        assert mean.get_xdata()[0] == pytest.approx(fmean(a.network.test_accuracy for a in results))
        assert mean.get_ydata()[0] == pytest.approx(fmean(a.metrics["auc"].value for a in results))  # type: ignore[union-attr]
        (curve,) = (line for line in roc.lines if line.get_label() == name)
        assert min(curve.get_xdata()) >= 1 / 60 - 1e-12
        assert max(curve.get_ydata()) == 1.0
    assert "discriminator" in found.plot().axes[0].get_title()
    assert len(list(found.plot(most=2).axes[0].lines)) == 3
    with pytest.raises(UsageError, match="did you mean 'loss'"):
        found.plot("los")
    with pytest.raises(UsageError, match="No attack has run"):
        Result(found.folder, found.networks, (), None, (), (), (), 0).plot()


def test_a_pick_takes_the_metric_that_is_asked_for(found: Result) -> None:
    by_default, by_name = found.pick(0.1), found.pick(0.1, "discriminator.balanced_accuracy")
    assert by_default == by_name
    area = found.pick(0.1, "loss.auc")
    assert area is not None
    assert area.metric == "AUC of loss"
    means = found.to_frame("means").set_index(["attack", "network"])
    assert area.recipe.leak.mean == pytest.approx(means.loc["loss"].auc.min())
    assert found.pick(1.0) is None
    with pytest.raises(UsageError, match=r"metric = 'los\.auc': that attack has no result here; did you mean 'loss'"):
        found.pick(0.5, "los.auc")
    with pytest.raises(UsageError, match=r"^metric = 'loss\.defence': write ATTACK\.auc"):
        found.pick(0.5, "loss.defence")


def test_many_networks_take_a_line_a_recipe(found: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lacewing.study.result.MOST_ROWS", 3)
    lines = str(found).splitlines()
    rows = [row for row in found.table() if row["attack"] == "discriminator" and not row["network"].startswith("early")]
    end = next(i for i, line in enumerate(lines) if line.startswith(f"{len(rows)} networks: means over seeds"))
    assert [line.split()[0] for line in lines[1:end]] == list(dict.fromkeys(row["network"] for row in rows))
    of = [row for row in rows if row["network"] == "imp-02"]
    (line,) = (line for line in lines[1:end] if line.startswith("imp-02 "))
    assert line.split()[1] == str(len(of)) == "2"
    for name in ("test_accuracy", "balanced_accuracy"):
        values = [row[name] for row in of]
        assert f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})" in line
