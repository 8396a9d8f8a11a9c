"""Networks of a run as ONNX: the outputs of torch, the zeros of the masks, nothing of this machine inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

import lacewing as lw
from lacewing.errors import FolderError, UsageError
from lacewing.models.mlp import mlp
from lacewing.models.resnet import ResNet

STUDY = {
    "name": "onnx",
    "data": {"dataset": "digits", "records": 80},
    "model": {"name": "resnet8", "width": 8},
    "train": {"epochs": 2, "batch_size": 20, "precision": "fp32"},
    "networks": [
        {"method": "dense"},
        {"method": "imp", "levels": 1, "fraction": 0.5},
        {"method": "butterfly", "segments": 3, "factors": 2},
    ],
    "run": {"seeds": [0]},
}
FACTORY = """
from torch import nn


class Own(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, classes)

    def forward(self, image):
        return self.head(self.layers(image))


def network(shape, classes):
    return Own(classes)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    lw.run(STUDY, out=folder / "run", only={"role": "target"}, quiet=True)
    return folder / "run"


@pytest.fixture(scope="module", params=["dense", "imp-01", "butterfly-s3-l2"])
def exported(folder: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """The same network as ONNX and as safetensors."""
    to = folder.parent / request.param
    paths = [lw.export(folder, request.param, to.with_suffix(suffix)) for suffix in (".onnx", ".safetensors")]
    assert {path.name for path in folder.parent.glob(f"*{to.name}*")} == {path.name for path in paths}
    return paths[0], paths[1]


def _outputs(path: Path, x: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"x": x.numpy()})[0]


def _strings(message: object) -> list[str]:
    """Every text in a protobuf message."""
    found: list[str] = []
    for _, value in message.ListFields():  # type: ignore[attr-defined]
        single = isinstance(value, str | bytes | int | float) or hasattr(value, "ListFields")
        for part in [value] if single else value:
            found += _strings(part) if hasattr(part, "ListFields") else [part] if isinstance(part, str) else []
    return found


def test_onnx_answers_as_torch_for_any_batch(exported: tuple[Path, Path]) -> None:
    model = ResNet(depth=8, classes=10, channels=1, width=8)
    model.load_state_dict(load_file(exported[1]))
    for batch in (1, 7):
        x = torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = model.eval()(x).numpy()
        found = _outputs(exported[0], x)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
        assert np.ptp(expected, axis=1).min() > 1e-2  # else closeness would say little


def test_the_file_stands_alone_and_tells_nothing_of_the_machine(exported: tuple[Path, Path]) -> None:
    document = onnx.load(exported[0], load_external_data=False)
    onnx.checker.check_model(document, full_check=True)
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in document.graph.initializer)
    props = {prop.key: prop.value for prop in document.metadata_props}
    assert set(props) == {"network", "study", "inputs"}
    assert props["network"] == f"{exported[0].stem}/target/0"
    assert props["study"] == "onnx"
    assert props["inputs"].startswith("standardised")
    assert not any(node.metadata_props for node in document.graph.node)
    texts = _strings(document)
    assert "logits" in texts
    assert not [text for text in texts if (os.sep in text and text not in props.values()) or ".py" in text]
    content = exported[0].read_bytes()
    for word in (b"stack_trace", b"site-packages", b"lacewing.models", bytes(Path.cwd()), bytes(exported[0].parent)):
        assert word not in content


def test_pruned_weights_are_zeros_of_the_initialisers(folder: Path, exported: tuple[Path, Path]) -> None:
    weights = {name: t for name, t in load_file(exported[1]).items() if t.ndim > 1}
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(exported[0]).graph.initializer}
    assert set(weights) <= set(held)
    for name, weight in weights.items():
        np.testing.assert_array_equal(held[name] == 0, weight.numpy() == 0)
    zeros = sum(int((held[name] == 0).sum()) for name in weights)
    stored = next(n for n in lw.report(folder).networks if n.network == exported[0].stem)
    assert zeros == (stored.parameters - stored.nonzero if stored.method == "imp" else 0)


def test_the_command_prints_only_the_path(small: ModuleType, finished: Path, tmp_path: Path) -> None:
    done = small.lacewing("export", finished, "imp-02", "--to", "net.onnx", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "net.onnx\n", "")
    lw.export(finished, "imp-02", tmp_path / "net.safetensors")
    model = mlp(64, 10, [16])
    model.load_state_dict(load_file(tmp_path / "net.safetensors"))
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        np.testing.assert_allclose(_outputs(tmp_path / "net.onnx", x), model(x).numpy(), atol=1e-4, rtol=1e-4)


def test_a_users_model_must_be_the_one_that_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "lacewing_onnx_factory.py"
    source.write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    study = STUDY | {"model": {"factory": f"{source.stem}:network"}, "networks": [{"method": "dense"}]}
    study["train"] = {"epochs": 2, "batch_size": 20, "precision": "fp32"}
    folder = lw.run(study, out=tmp_path / "run", only={"role": "target"}, quiet=True).folder
    before = torch.get_rng_state()
    path = lw.export(folder, "dense", tmp_path / "own.onnx")
    assert torch.equal(torch.get_rng_state(), before)
    own = sys.modules[source.stem].network((1, 8, 8), 10).eval()
    own.load_state_dict(load_file(lw.export(folder, "dense", tmp_path / "own.safetensors")))
    x = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # dropout is off in the file
        np.testing.assert_allclose(_outputs(path, x), own(x).numpy(), atol=1e-4, rtol=1e-4)
    source.write_text(FACTORY.replace("nn.ReLU()", "nn.Tanh()"))  # the same weights would load
    with pytest.raises(FolderError, match=r"model\.factory has changed"):
        lw.export(folder, "dense", tmp_path / "changed.onnx")
    assert not (tmp_path / "changed.onnx").exists()


@pytest.mark.parametrize("forward", ["x.reshape(2, 4)", "x if x.sum() > 0 else -x"])
def test_what_torch_cannot_translate_is_an_error_of_one_line(forward: str, capfd: pytest.CaptureFixture[str]) -> None:
    from lacewing.study.onnx import to_onnx

    class Model(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(eval(forward))

    with pytest.raises(UsageError, match="cannot translate") as caught:
        to_onnx(Model(4, 3).eval(), (4,), {})
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("absent", ["onnx", "onnxscript"])
def test_without_the_extra_the_error_says_how_to_get_it(
    absent: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(UsageError, match=rf"package {absent}\. .* -c constraints.txt '\.\[onnx\]'"):
        lw.export(finished, "dense", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_write_that_failed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.onnx").write_text("older")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lacewing.study.onnx.to_onnx", lambda *_, **__: b"document")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        lw.export(finished, "dense", tmp_path / "x.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert (tmp_path / "x.onnx").read_text() == "older"


def test_other_endings_are_refused_naming_both(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.safetensors or \.onnx"):
        lw.export(finished, "dense", tmp_path / "x.pt")
