"""The paper's network in its versions: a training step, a forward pass, what it takes on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.prune import custom_from_mask

from lacewing.bench._machine import Machine
from lacewing.bench._measure import Function, interleaved, peak_bytes, sgd, training_step
from lacewing.models.resnet import ResNet
from lacewing.sparsify import butterfly, prune, summary
from lacewing.sparsify.guard import Guard
from lacewing.sparsify.masks import pack
from lacewing.tradeoff import BUTTERFLY

SEGMENTS_FACTORS = ((3, 2), (3, 3))  # the paper's two smallest butterfly networks of all three segments


@dataclass(frozen=True)
class NetworkRow:
    """A line of the table. Times in seconds, ``ratio`` to dense; ``disk_bytes`` of its parameters and masks."""

    network: str
    family: str  # dense, butterfly or pruned
    density: float
    dtype: str
    what: str
    median: float
    low: float
    high: float
    ratio: float
    peak_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class _Version:
    """A network to be built anew for each measurement; ``masks`` are those that a guard shall hold."""

    family: str
    build: Callable[[], nn.Module]
    density: float
    disk: int
    masks: Mapping[str, Tensor] | None = None


def measure(
    machine: Machine, dtypes: tuple[str, ...], seconds: float, *, batch: int = 256
) -> Iterator[list[NetworkRow]]:
    """The rows of one dtype and pass at a time. Images are random, in channels-last layout."""
    training = f"training step, {batch} images"
    versions = _versions()
    for dtype in dtypes:
        for what, count in ((training, batch), (f"forward, {batch} images", batch), ("forward, 1 image", 1)):
            functions = {}
            for name, version in versions.items():
                model = version.build().to(machine.device)
                images = torch.randn(count, 3, 32, 32, device=machine.device)
                images = images.contiguous(memory_format=torch.channels_last)
                model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                if what == training:
                    functions[name] = _step(model, version.masks, images, dtype)
                else:
                    functions[name] = _forward(model, images, dtype)
            times = interleaved(functions, machine.device, seconds)
            yield [
                NetworkRow(
                    name,
                    versions[name].family,
                    versions[name].density,
                    dtype,
                    what,
                    **asdict(time),
                    ratio=time.median / times["dense"].median,
                    peak_bytes=peak_bytes(functions[name], machine.device),
                    disk_bytes=versions[name].disk,
                )
                for name, time in times.items()
            ]


def _versions() -> dict[str, _Version]:
    found = {"dense": _Version("dense", _dense, 1.0, _size(_dense().state_dict()))}
    for segments, factors in SEGMENTS_FACTORS:
        build = partial(_butterfly, segments, factors)
        model = build()
        found[f"butterfly S = {segments}, L = {factors}"] = _Version(
            BUTTERFLY, build, summary(model).density, _size(model.state_dict())
        )
    pruned = _dense()
    masks = prune(pruned, density=min(version.density for version in found.values()))
    density = summary(pruned, masks).density
    kept = {name: tensor[masks[name]] if name in masks else tensor for name, tensor in pruned.state_dict().items()}
    found["pruned, masks held by a guard"] = _Version("pruned", _dense, density, _size({**kept, **pack(masks)}), masks)
    build = partial(_reparametrised, masks)
    found["pruned, torch.nn.utils.prune"] = _Version("pruned", build, density, _size(build().state_dict()))
    return found


def _size(tensors: Mapping[str, Tensor]) -> int:
    return len(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _dense() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ResNet(depth=20, classes=10)


def _butterfly(segments: int, factors: int) -> nn.Module:
    model = _dense()
    butterfly(model, segments=segments, factors=factors)
    return model


def _reparametrised(masks: Mapping[str, Tensor]) -> nn.Module:
    """torch's own way: every forward pass multiplies the weights by masks, which are buffers."""
    model = _dense()
    for name, mask in masks.items():
        layer, _, parameter = name.rpartition(".")
        custom_from_mask(  # type: ignore[no-untyped-call]
            model.get_submodule(layer), parameter, mask
        )
    return model


def _step(model: nn.Module, masks: Mapping[str, Tensor] | None, images: Tensor, dtype: str) -> Function:
    optimizer = sgd(model)
    if masks:
        Guard(model, "none", masks=masks).attach(optimizer)
    return training_step(model, optimizer, images, torch.arange(len(images), device=images.device) % 10, dtype)


def _forward(model: nn.Module, images: Tensor, dtype: str) -> Function:
    model.eval()

    def forward() -> None:
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == "bf16"):
            model(images)

    return forward
