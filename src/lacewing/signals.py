"""Signals: what an attacker observes of a network, as (network, records) -> logits and local sensitivity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

_NOISE_BLOCK = 250  # records whose noise is drawn together, so that it does not depend on the batch size


@torch.no_grad()
def observe(
    model: nn.Module,
    x: npt.NDArray[np.generic],
    *,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    sensitivity_of: npt.NDArray[np.bool_],
    noise: float = 1e-3,
    draws: int = 5,
    batch_size: int = 250,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Query ``model`` in evaluation mode and fp32 (no autocast, no TF32) on every record.

    The local sensitivity is (1/e) E ||softmax R(x) - softmax R(x + e N)||_2 with N ~ N(0, I) in normalised inputs,
    averaged over fixed draws that are the same for every network.

    Args:
        model: on its device.
        x: raw records, (N, C, H, W) or (N, D).
        normalisation: mean and standard deviation per channel or feature, as in training.
        sensitivity_of: (N,) the records whose sensitivity is wanted; it costs ``draws`` more queries each.
        noise: e.
        draws: number of noise samples a record.
        batch_size: most records that the network sees at once (at most 250 in any case).

    Returns:
        logits_NC, and sensitivity_N with NaN where it was not wanted. The model's mode and buffers stay as they were.
    """
    device = next(model.parameters()).device
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, std = (torch.from_numpy(a).to(device).view(shape) for a in normalisation)
    generator = torch.Generator(device).manual_seed(0)
    logits, sensitivity = [], torch.full((len(x),), torch.nan)

    def answer(inputs: Tensor) -> Tensor:
        return torch.cat([model(part).float() for part in torch.split(inputs, batch_size)])

    with _evaluation(model), torch.autocast(device.type, enabled=False), _no_tf32():
        for start in range(0, len(x), _NOISE_BLOCK):
            block = slice(start, start + _NOISE_BLOCK)
            inputs = (torch.from_numpy(np.ascontiguousarray(x[block])).to(device).float() - mean) / std
            outputs = answer(inputs)
            logits.append(outputs)
            wanted = torch.from_numpy(sensitivity_of[block]).to(device)
            moved = torch.zeros(len(inputs), device=device)
            for _ in range(draws):
                shift = noise * torch.randn(inputs.shape, generator=generator, device=device)
                if wanted.any():
                    change = answer((inputs + shift)[wanted]).softmax(1) - outputs[wanted].softmax(1)
                    moved[wanted] += torch.linalg.vector_norm(change, dim=1)
            sensitivity[block] = torch.where(wanted, moved / (draws * noise), torch.nan).cpu()
    return torch.cat(logits).cpu().numpy(), sensitivity.numpy()


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _no_tf32() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def compact(logits_NC: npt.NDArray[np.floating]) -> npt.NDArray[np.float16]:
    """Logits as they are stored: float16 after subtracting each row's maximum, which leaves the softmax as it is."""
    shifted = logits_NC - logits_NC.max(axis=1, keepdims=True)
    stored: npt.NDArray[np.float16] = np.maximum(shifted, np.finfo(np.float16).min).astype(np.float16)
    return stored
