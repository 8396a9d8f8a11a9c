"""Dense against sparse with training: families at equal accuracy, interrupted and continued, and the command."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lacewing as lw
from lacewing import tradeoff
from lacewing.auditing import _pair_equal, _pair_gates
from lacewing.errors import UsageError

K = 8
trained: list[str] = []
stop_at: list[str] = []  # recipes whose training is interrupted


@pytest.fixture(autouse=True)
def _fresh():
    torch.set_num_threads(1)
    trained.clear()
    stop_at.clear()


def data(n, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, 10)) + 0.5 * np.eye(3, 10)[y]).astype(np.float32), y


MEMBERS, NONMEMBERS = data(90, 1), data(90, 2)


def note(name):
    if name in globals()["stop_at"]:
        raise KeyboardInterrupt
    globals()["trained"].append(name)


def network():
    return nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 3))


def fit(x, y, seed, *, steps=40, name="dense"):
    note(name)
    torch.manual_seed(seed)
    model = network()
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    for _ in range(steps):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= gradient
    return model


def sparse(x, y, seed, *, density=0.5, name="sparse"):
    model = fit(x, y, seed, steps=25, name=name)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            bar = layer.weight.abs().flatten().kthvalue(int((1 - density) * layer.weight.numel())).values
            layer.weight.mul_(layer.weight.abs() > bar)
    return model


def family(**options):
    return {
        "refit": {str(d): functools.partial(sparse, density=d, name=f"sparse {d}") for d in (0.3, 0.5, 0.7)},
        "refit_dense": fit,
        "controls": {"steps": {str(s): functools.partial(fit, steps=s, name=f"steps {s}") for s in (5, 10, 20)}},
        "references": K,
        "metric": "loss.auc",
        "attacks": ["loss", "lira-online"],
        "progress": False,
        "processes": 1,
        **options,
    }


def audited(**options):
    dense, own = fit(*MEMBERS, 77), sparse(*MEMBERS, 77, density=0.3)
    trained.clear()
    return lw.audit_pair(dense, own, MEMBERS, NONMEMBERS, **family(**options))


@pytest.mark.slow
def test_families_are_compared_as_in_a_study_and_an_interrupted_call_goes_on(tmp_path):
    plain = audited()
    assert len(trained) == 7 * K
    assert [row.recipe for row in plain.equal.recipes] == [
        *("sparse/0.3", "sparse/0.5", "sparse/0.7", "dense", "steps/5", "steps/10", "steps/20")
    ]
    assert plain.equal.cuts == K // 2
    assert plain.equal.missing == ""
    assert "does 'sparse' leak less than every control at equal test accuracy, by loss.auc?" in plain.equal.sentence
    (found,) = plain.equal.answer.differences
    assert (found.family, found.against, found.unit) == ("sparse", "steps", "cut")

    stop_at.append("steps 10")
    with pytest.raises(KeyboardInterrupt):
        audited(out=tmp_path)
    assert trained.count("sparse 0.3") == trained.count("steps 5") == K
    stop_at.clear()
    continued = audited(out=tmp_path)
    assert {name: trained.count(name) for name in set(trained)} == {"steps 10": K, "steps 20": K}
    assert continued.as_json() | {"folder": None} == plain.as_json()
    assert json.loads((tmp_path / "pair.json").read_text())["equal_accuracy"]["metric"] == "loss.auc"
    assert "At equal accuracy" in (tmp_path / "report.html").read_text(encoding="utf-8")

    cost = audited(out=tmp_path, dry_run=True)
    assert (cost.networks, {each.there for each in cost.recipes}) == (7 * K, {K})
    assert cost.seconds == 0
    late = audited(out=tmp_path, metric="lira-online.auc")
    assert late.equal.answer.verdict == "no verdict"
    assert "declared when results were there already" in late.equal.sentence


@pytest.mark.slow
def test_who_queries_both_networks_is_an_attacker_of_both_and_not_of_the_sparse_one():
    both = "discriminator-dense-and-sparse"
    pair = audited(controls=None, references=4, attacks=["loss", both, "discriminator-unaware"])
    assert [result.attack for result in pair.together.attacks] == [both]
    assert {result.attack for result in pair.sparse.attacks} == {"loss", "discriminator-unaware"}
    assert {result.attack for result in pair.adaptive} == {both, "discriminator-unaware"}
    assert "publishing both gives away" in " ".join(pair.sentences)
    (verdict,) = _pair_gates.judge([_pair_gates.parse(f"together.{both}.auc > 0.9")], pair)
    assert both in verdict.sentence
    with pytest.raises(UsageError, match="did not run"):
        pair.check(f"sparse.{both}.auc > 0.9")


class Memory(nn.Module):
    """Certain of the records that it was trained on, and of no other."""

    def __init__(self, x, y, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.known, self.answer, self.other = torch.as_tensor(x), 30.0 * torch.eye(3)[torch.as_tensor(y)], network()

    def forward(self, x):
        far, nearest = torch.cdist(x, self.known).min(dim=1)
        return self.other(x) + (far < 0.1)[:, None] * self.answer[nearest]


def test_a_recipe_whose_cuts_do_not_differ_says_so_of_itself_alone():
    equal = audited(controls={"memory": Memory}, refit_dense=None, refit=sparse, references=6, attacks=["loss"]).equal
    over = {row.recipe: row.interval for row in equal.recipes}
    assert over == {"sparse": "t over 3 cuts (6 seeds)", "memory": "over records, the cuts do not differ"}
    assert equal.interval == "t over 3 cuts (6 seeds); of memory over records, the cuts do not differ"
    assert [row["interval"] for row in equal.rows()] == list(over.values())


def test_leak_and_accuracy_of_a_recipe_are_those_of_its_networks_on_the_halves():
    pair = audited(controls=None, refit=functools.partial(sparse, density=0.3))
    row = next(row for row in pair.equal.recipes if row.recipe == "dense")
    x, y = (np.concatenate(both) for both in zip(MEMBERS, NONMEMBERS, strict=True))
    rights, areas = [], []
    for j in range(K // 2):
        half = np.zeros(180, bool)
        half[np.random.default_rng([0, 301, j]).permutation(180)[:90]] = True
        for k, inside in ((2 * j, half), (2 * j + 1, ~half)):
            logits = fit(x[inside], y[inside], k)(torch.as_tensor(x)).detach()
            loss = nn.functional.cross_entropy(logits, torch.as_tensor(y), reduction="none").double().numpy()
            rights.append((logits.argmax(1).numpy() == y)[~inside].mean())
            areas.append((loss[inside][:, None] < loss[~inside][None, :]).mean())
    assert row.accuracy == pytest.approx(np.mean(rights))
    assert row.leak.value == pytest.approx(np.mean(areas), abs=1e-3)
    cuts = np.reshape(areas, (-1, 2)).mean(axis=1)
    half_width = 3.182 * cuts.std(ddof=1) / 2  # t of 3 degrees, 4 cuts
    assert row.leak.high - row.leak.low == pytest.approx(2 * half_width, rel=0.02)
    assert "controls= with a family of two ordinary trainings" in pair.equal.missing


def test_a_verdict_comes_where_the_rules_allow_one_and_what_lacks_is_said():
    def recipes(sparse, control):
        return [
            *(_pair_equal.Recipe(f"sparse/{i}", "sparse", "sparse", fit) for i in range(sparse)),
            *(_pair_equal.Recipe(f"steps/{i}", "steps", "control", fit) for i in range(control)),
        ]

    assert _pair_equal.missing(recipes(3, 3), 6) == ""
    assert "references=6" in _pair_equal.missing(recipes(3, 3), 4)
    assert "refit= with two" in _pair_equal.missing(recipes(1, 5), 6)
    assert "6 trainings" in _pair_equal.missing(recipes(2, 3), 6)
    assert "controls=" in _pair_equal.missing(recipes(5, 1), 6)
    units = tradeoff.Units.of(range(6), halves=True)
    assert units.enough
    assert not tradeoff.Units.of(range(5), halves=True).within(range(4)).enough


SOURCE = """
import torch
from torch import nn

def factory(shape, outputs):
    return nn.Sequential(nn.Linear(shape[0], 24), nn.ReLU(), nn.Linear(24, outputs))
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "net.py").write_text(textwrap.dedent(SOURCE))
    x, y = (np.concatenate(both) for both in zip(MEMBERS, NONMEMBERS, strict=True))
    np.savez(tmp_path / "own.npz", x=x, y=y, member=(np.arange(180) < 90).astype(int))
    save_file(fit(*MEMBERS, 1, steps=400).state_dict(), tmp_path / "dense.safetensors")
    save_file(sparse(*MEMBERS, 1, density=0.2).state_dict(), tmp_path / "sparse.safetensors")
    return tmp_path


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = ["audit", "--model", "net:factory", "--data", "own.npz", "--weights", "sparse.safetensors", *words]
    return subprocess.run(
        [sys.executable, "-m", "lacewing", *line, "--attack", "loss"],
        cwd=folder, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_judges_gates_and_refuses_in_one_sentence(own):
    done = command(own, "--against", "dense.safetensors", "--fail-if", "difference.auc > 0", "--out", "found", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["sentence"].startswith("The sparse network gives away less")
    assert document["gates"][0]["failed"] is False
    assert (own / "found" / "report.html").is_file()
    done = command(own, "--against", "dense.safetensors", "--fail-if", "dense.auc > 0.6", "--junit", "gates.xml")
    assert done.returncode == 1
    assert 'failures="1"' in (own / "gates.xml").read_text()
    for words, sentence in (
        (("--against", "sparse.safetensors"), "is the file of the sparse network too"),
        (("--against", "none.safetensors"), "against: there is no file none.safetensors"),
        (("--control", "steps=net:factory"), "give the dense one as --against"),
        (("--against", "dense.safetensors", "--control", "steps"), "must be written NAME="),
        (("--against", "dense.safetensors", "--dry-run"), "says what training takes"),
        (("--against", "dense.safetensors", "--fail-if", "difference.epsilon > 1"), "a difference is known of auc"),
    ):
        done = command(own, *words)
        assert done.returncode == 2, (words, done.stderr)
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
