"""The examples, in their small form: the overfitted model's leak is found, and none in the other model.

Each audits two models on the same records with the same attacks: one that trained on half of the records, and one that
trained on other records of the same source.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from lacewing.auditing import Audit
from lacewing.metrics import Estimate

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {
    "frame_pipeline": ("pandas",),
    "onnx_file": ("onnxscript", "onnxruntime"),
    "text_classifier": ("transformers", "datasets"),
}
SLOW = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of the libraries themselves


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A script as a module that worker processes can import, too."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]))
    for package in NEEDS.get(request.param, ()):
        pytest.importorskip(package)
    yield import_module(request.param)
    sys.modules.pop(request.param)


@pytest.mark.parametrize(
    "example",
    [
        "sklearn_classifier",
        "torch_cnn",
        "transformer",
        *(pytest.param(n, marks=SLOW) for n in ("frame_pipeline", "onnx_file", "regression", "text_classifier")),
    ],
    indirect=True,
)
def test_the_leak_of_the_trained_model_is_found_and_none_in_the_other(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, other = example.main(**example.SMALL, out=tmp_path / "run")
    printed = capsys.readouterr().out
    assert printed.index(other.sentence) < printed.index(trained.sentence)
    assert trained.sentence.startswith("Leakage found")
    assert other.sentence.startswith("No leakage found")
    assert not trained.refused
    for name in {"loss", "lira-online", "rmia-online"} & set(example.SMALL["attacks"]):
        assert auc(trained, name).low > 0.5, name
        assert auc(other, name).low <= 0.5 <= auc(other, name).high, name
    report = (tmp_path / "run" / "report.html").read_text()
    assert f"{trained.strongest.metrics['auc'].value:.3f}" in report
    trained_once = len(list((tmp_path / "run" / "references").iterdir()))
    assert trained_once == example.SMALL["references"]  # both audits share them


@pytest.mark.parametrize("example", ["lottery_ticket"], indirect=True)
def test_the_pruned_network_of_the_example_stays_as_good_as_the_dense_one(example: ModuleType) -> None:
    rows = list(example.main(**example.SMALL))
    names = ["level 0", "level 1", "random mask", "level 2", "random mask", "butterfly"]
    assert [name for name, _, _ in rows] == names
    accuracy = {(name, round(density, 2)): found for name, density, found in rows}
    assert accuracy["level 2", 0.31] > accuracy["level 0", 1.0] - 0.05 > 0.85
    assert accuracy["butterfly", 0.15] > 0.8
    assert rows[1][1] == rows[2][1]  # the control is as dense


def test_every_example_is_explained() -> None:
    about = (EXAMPLES / "README.md").read_text()
    scripts = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(scripts) == 9
    assert [name for name in scripts if about.count(f"]({name})") != 1] == []


def auc(audit: Audit, name: str) -> Estimate:
    found = next(result for result in audit.attacks if result.attack == name).metrics["auc"]
    assert found is not None
    return found


@pytest.mark.parametrize("example", ["pair"], indirect=True)
def test_the_pair_of_the_example_is_compared_on_the_same_records(example: ModuleType, tmp_path: Path) -> None:
    pair = example.main(**example.SMALL, out=tmp_path)
    assert {d.attack for d in pair.differences} == set(example.SMALL["attacks"])
    assert 0.05 < pair.density_sparse < 0.15
    assert pair.accuracies[1].dense > 0.6
    assert (tmp_path / "report.html").is_file()
