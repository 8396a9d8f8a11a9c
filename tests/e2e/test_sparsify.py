"""``lacewing sparsify``: one shot from files to files, and a sentence for everything that cannot be done."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lacewing.sparsify import butterfly, load_masks

MODULE = """
from torch import nn

def factory():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.Flatten(),
        nn.Linear(512, 64), nn.Linear(64, 10),
    )

def of_records(shape, classes):
    return nn.Linear(*shape, classes)

def nothing():
    return None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A factory and trained weights of it."""
    path = tmp_path_factory.mktemp("sparsify")
    (path / "of_the_user.py").write_text(MODULE)
    torch.manual_seed(3)
    save_file({k: v.contiguous() for k, v in _network().state_dict().items()}, path / "w.safetensors")
    return path


def _network() -> nn.Module:
    names: dict[str, object] = {}
    exec(MODULE, names)
    return names["factory"]()  # type: ignore[operator, no-any-return]


def _sparsify(small: ModuleType, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    given = ("--model", "of_the_user:factory", "--weights", "w.safetensors", *options)
    return small.lacewing("sparsify", *given, cwd=folder)  # type: ignore[no-any-return]


def test_pruned_weights_load_into_the_same_factory(small: ModuleType, folder: Path) -> None:
    done = _sparsify(
        small, folder, "--density", "0.1", "--to", "p.safetensors", "--parts-to", "m.safetensors", "--json"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    network = _network()
    network.load_state_dict(load_file(folder / "p.safetensors"))
    before = load_file(folder / "w.safetensors")
    masks = load_masks(folder / "m.safetensors", network)
    parameters = sum(p.numel() for p in network.parameters())
    pruned = sum(int((~mask).sum()) for mask in masks.values())
    assert said["nonzero"] == parameters - pruned == round(0.1 * parameters)
    for name, mask in masks.items():
        assert torch.equal(network.get_parameter(name), torch.where(mask, before[name], 0))
    table = {layer["name"]: layer["nonzero"] for layer in said["layers"]}
    assert table == {name: int(mask.sum()) for name, mask in masks.items()}


def test_butterfly_factors_compose_to_what_was_written(small: ModuleType, folder: Path) -> None:
    options = ("--method", "butterfly", "--density", "0.3", "--factors", "2")
    done = _sparsify(small, folder, *options, "--to", "b.safetensors", "--parts-to", "f.safetensors")
    assert done.returncode == 0, done.stderr
    assert "of its norm" in done.stdout
    network, sparse = _network(), _network()
    network.load_state_dict(load_file(folder / "b.safetensors"))
    butterfly(sparse, density=0.3, factors=2)
    sparse.load_state_dict(load_file(folder / "f.safetensors"))
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(network.eval()(x), sparse.eval()(x), atol=1e-5, rtol=1e-5)


def test_a_pattern_keeps_two_of_four(small: ModuleType, folder: Path) -> None:
    done = _sparsify(small, folder, "--pattern", "2:4", "--ignore", "0", "--to", "n.safetensors")
    assert done.returncode == 0, done.stderr
    state = load_file(folder / "n.safetensors")
    assert torch.equal(state["5.weight"].view(64, -1, 4).ne(0).sum(2), torch.full((64, 128), 2))
    assert state["0.weight"].ne(0).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--density", "0.001"], "density = 0.001 cannot be reached: .* choose a density between"),
        (["--density", "2"], "--density 2 must lie between 0 and 1"),
        (["--density", "0.1", "--pattern", "2:4"], "either --density 0.1 or --pattern 2:4"),
        (["--pattern", "2/4"], "--pattern '2/4' must have the form N:M"),
        (["--pattern", "2:4"], "weight '0.weight' has 3 inputs, .* leave it out"),
        (["--method", "butterly", "--density", "0.1"], "did you mean 'butterfly'"),
        (["--method", "butterfly", "--pattern", "2:4"], "--pattern does not apply"),
        (["--method", "butterfly", "--density", "0.001"], r"density = 0.001 is below 0\.\d+, .* prune the factors"),
        (["--density", "0.1", "--factors", "2"], "--factors does not apply"),
        (["--density", "0.1", "--layers", "conv"], "--layers does not apply"),
        (
            ["--method", "butterfly", "--density", "0.5", "--layers", "convs"],
            "unknown kind 'convs'; did you mean 'conv'",
        ),
        (
            ["--method", "butterfly", "--density", "0.5", "--layers", "linear", "--ignore", "[56]"],
            "no linear layer is left",
        ),
        (["--density", "0.1", "--scope", "all"], "unknown scope 'all'"),
        (["--density", "0.1", "--ignore", "conv"], "'conv' matches no prunable weight"),
        (["--density", "0.1", "--shape", "3,32,32"], "--shape and --classes go together"),
        (["--density", "0.1", "--shape", "3x32", "--classes", "2"], "--shape '3x32' must be whole numbers"),
        (["--density", "0.1", "--to", "x.pt"], "--to x.pt: the file must end in .safetensors"),
        (["--density", "0.1", "--parts-to", "x.safetensors"], "both name x.safetensors"),
        (["--density", "0.1", "--weights", "none.safetensors"], "there is no file none.safetensors"),
        (["--density", "0.1", "--model", "of_the_user:none"], "does not define 'none'"),
        (["--density", "0.1", "--model", "of_the_user:nothing"], "returned a NoneType"),
        (
            ["--density", "0.1", "--model", "of_the_user:of_records"],
            "failed with TypeError: .*give --shape and --classes",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_nothing_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    """In this process: nineteen starts of Python would take a minute."""
    from lacewing import cli

    before = sorted(folder.iterdir())
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    given = ["--model", "of_the_user:factory", "--weights", "w.safetensors", "--to", "x.safetensors", *options]
    monkeypatch.setattr(sys, "argv", ["lacewing", "sparsify", *given])
    with pytest.raises(SystemExit) as end:
        cli.main()
    error = capsys.readouterr().err
    assert end.value.code == 2, error
    assert re.search(said, error), error
    assert error.count("\n") == 1
    assert sorted(p for p in folder.iterdir() if p.name != "__pycache__") == [
        p for p in before if p.name != "__pycache__"
    ]
