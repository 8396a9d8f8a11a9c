"""Signals: what an attacker observes of a network: logits, local sensitivity and probes of each record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.gradients import device_of, evaluation, gradient_norms, measuring, no_tf32
from lacewing.inputs import are_tokens, network_inputs
from lacewing.support.mapped import Stored, blocks

NOISE_SIZES = (0.1, 0.2, 0.4, 0.8)
_NOISE_BLOCK = 250  # records whose noise is drawn together, so that it does not depend on the batch size
# Largest batch of inputs on a CPU, in numbers: 50 images of CIFAR-10, whose activations then stay in the cache.
# ResNet-20 answers about 2,400 of them a second on a core in batches of 50, 1,600 in batches of 250.
_CPU_INPUTS = 50 * 3 * 32 * 32
_FEWEST = 8  # smallest batch, however large the records are
_SHIFTS = ((2, 2), (-2, -2), (2, -2), (-2, 2), (2, 0), (-2, 0), (0, 2), (0, -2))  # pixels (down, right)
IMAGE_QUERIES = 2 + 2 * len(_SHIFTS)  # number of fixed queries of an image
_QUERY_NOISE = 0.1  # of tabular queries, in standard deviations of each feature
_FLIPPED = 0.02  # share of the binary features that a tabular query flips


@torch.no_grad()
def observe(
    model: nn.Module,
    x: Stored,
    *,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    sensitivity_of: npt.NDArray[np.bool_],
    noise: float = 1e-3,
    draws: int = 5,
    batch_size: int | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Query ``model`` in evaluation mode and fp32 (no autocast, no TF32) on every record.

    The local sensitivity is (1/e) E ||softmax R(x) - softmax R(x + e N)||_2 with N ~ N(0, I) in normalised inputs,
    averaged over fixed draws that are the same for every network. Token ids have no noisy copies: theirs is 0.

    Args:
        model: on its device.
        x: raw records, (N, C, H, W) or (N, D); token ids (N, L) as int32.
        normalisation: mean and standard deviation per channel or feature, as in training.
        sensitivity_of: (N,) True for records whose sensitivity is measured, with ``draws`` more queries each.
        noise: e.
        draws: number of noise samples per record.
        batch_size: most records in one forward pass, at most 250; None: as many as is fast.

    Returns:
        logits_NC, and sensitivity_N with NaN where it was not measured. The model's mode and buffers do not change.
    """
    device = next(model.parameters()).device
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, std = (torch.from_numpy(a).to(device).view(shape) for a in normalisation)
    generator = torch.Generator(device).manual_seed(0)
    logits, sensitivity = [], torch.full((len(x),), torch.nan)

    def answer(inputs: Tensor) -> Tensor:
        return _answers(model, inputs, batch_size).float()

    with evaluation(model), torch.autocast(device.type, enabled=False), no_tf32():
        for start in range(0, len(x), _NOISE_BLOCK):
            block = slice(start, start + _NOISE_BLOCK)
            raw = torch.from_numpy(np.ascontiguousarray(x[block])).to(device)
            inputs = network_inputs(raw, mean, std)
            outputs = answer(inputs)
            logits.append(outputs)
            wanted = torch.from_numpy(sensitivity_of[block]).to(device)
            moved = torch.zeros(len(inputs), device=device)
            for _ in range(0 if are_tokens(raw) else draws):
                shift = noise * torch.randn(inputs.shape, generator=generator, device=device)
                if wanted.any():
                    change = answer((inputs + shift)[wanted]).softmax(1) - outputs[wanted].softmax(1)
                    moved[wanted] += torch.linalg.vector_norm(change, dim=1)
            sensitivity[block] = torch.where(wanted, moved / (draws * noise), torch.nan).cpu()
    return torch.cat(logits).cpu().numpy(), sensitivity.numpy()


def _answers(model: nn.Module, inputs: Tensor, batch_size: int | None) -> Tensor:
    return torch.cat([model(part) for part in torch.split(inputs, batch_size or _at_once(inputs))])


def _at_once(inputs: Tensor) -> int:
    """How many of these inputs fit one forward pass."""
    if inputs.device.type != "cpu":
        return _NOISE_BLOCK
    return min(_NOISE_BLOCK, max(_FEWEST, _CPU_INPUTS // max(1, inputs.shape[1:].numel())))


@dataclass(frozen=True)
class Probes:
    """What ``probe`` measured: N records, Q fixed queries, S noise sizes."""

    phi_NQ: npt.NDArray[np.float32]  # log-odds of the given label; column 0: the record as it is
    right_NQ: npt.NDArray[np.bool_]  # whether the given label was answered
    right_NS: npt.NDArray[np.float32]  # share of noisy copies answered with the given label; NaN where not measured
    gradient_N2: npt.NDArray[
        np.float32
    ]  # L2 norm of the loss gradient, kept and pruned weights; NaN where not measured


@torch.no_grad()
def probe(
    model: nn.Module,
    x: Stored,
    y: npt.NDArray[np.integer],
    *,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    of: npt.NDArray[np.bool_],
    queries: int = 4,
    noise_sizes: tuple[float, ...] = NOISE_SIZES,
    noise_draws: int = 2,
    gradients: bool = True,
    masks: Mapping[str, Tensor] | None = None,
    batch_size: int | None = None,
) -> Probes:
    """Query ``model`` on fixed variants of every record, the same for every network, in evaluation mode and fp32.

    Queries of an image: the record; its mirror image (left-right); shifts by (down, right) = (2, 2), (-2, -2),
    (2, -2), (-2, 2), (2, 0), (-2, 0), (0, 2), (0, -2) pixels; the same shifts of the mirror image: at most 18. New
    pixels are zero in normalised inputs. Queries of a tabular record: the record; then, for each further query,
    the record plus a fixed Gaussian vector of 0.1 standard deviations; of features that are always 0 or 1, 2 % (at
    least one) are flipped instead. Queries do not depend on the other records.

    Noise of size s is s N(0, I) in normalised inputs; a tabular feature that is always 0 or 1 is then rounded to 0 or
    1, so that it flips with probability Phi(-1/(2 s)). It is drawn for blocks of 250 records in their order.

    The gradient is that of the cross-entropy at the given label, for each record alone, over all parameters.

    Args:
        model: on its device.
        x: raw records, (N, C, H, W) or (N, D); token ids (N, L) as int32, which have no query but the record itself.
        y: (N,) the given labels, 0..C-1.
        normalisation: mean and standard deviation per channel or feature, as in training.
        of: (N,) True for records whose ``right_NS`` and ``gradient_N2`` are measured.
        queries: number Q of fixed queries, from 0.
        noise_sizes: S sizes, in normalised inputs.
        noise_draws: noisy copies of a record at each size.
        gradients: whether to measure gradients; False leaves NaN.
        masks: by parameter name, True for a kept weight; parameters without a mask are kept.
        batch_size: most records in one forward pass, at most 250; None: as many as is fast.

    Returns:
        The probes. The model's mode, gradients and buffers do not change.

    Raises:
        UsageError: records of another shape, labels that are not classes, more queries than exist, a mask that
            belongs to another model.
    """
    _check_probe(x, queries, noise_sizes)
    device = device_of(model)
    mean, std = (torch.from_numpy(a).to(device).view((1, -1) + (1,) * (x.ndim - 2)) for a in normalisation)
    binary = torch.from_numpy(_binary(x)).to(device)
    variants = _queries(x, queries, binary)
    phi, right = np.empty((len(x), queries), np.float32), np.empty((len(x), queries), bool)
    noisy = np.full((len(x), len(noise_sizes)), np.nan, np.float32)
    norms = np.full((len(x), 2), np.nan, np.float32)

    def answer(inputs: Tensor) -> Tensor:
        return _answers(model, inputs, batch_size).double().cpu()

    with measuring(model):
        for number, start in enumerate(range(0, len(x), _NOISE_BLOCK)):
            block = slice(start, start + _NOISE_BLOCK)
            raw = torch.from_numpy(np.ascontiguousarray(x[block])).to(device)
            label = torch.from_numpy(np.ascontiguousarray(y[block], np.int64))
            inputs, opposite = (network_inputs(one, mean, std) for one in (raw, 1 - raw.float()))  # of binary features
            for query, variant in enumerate(variants):
                logits = answer(variant(inputs, opposite))
                _check_labels(label, logits.shape[1])
                phi[block, query] = _phi(logits, label).numpy()
                right[block, query] = (logits.argmax(1) == label).numpy()
            rows = torch.from_numpy(np.flatnonzero(of[block]))
            if not len(rows):
                continue
            chosen = start + rows.numpy()
            generator = torch.Generator().manual_seed(number)  # on the CPU: the same noise on every device
            for size, strength in enumerate(noise_sizes):
                share = torch.zeros(len(rows))
                for _ in range(noise_draws):
                    noise = strength * torch.randn(inputs.shape, generator=generator)[rows].to(device)
                    copies = _noisy(inputs[rows], noise, opposite[rows], raw[rows], binary)
                    share += answer(copies).argmax(1) == label[rows]
                noisy[chosen, size] = (share / noise_draws).numpy()
            if gradients:
                norms[chosen] = gradient_norms(model, inputs[rows], label[rows], masks=masks, batch_size=batch_size)
    return Probes(phi, right, noisy, norms)


def _check_probe(x: Stored, queries: int, noise_sizes: tuple[float, ...]) -> None:
    if x.ndim not in (2, 4):
        raise UsageError(f"x has shape {x.shape}: fixed queries exist for images (N, C, H, W) and tables (N, D).")
    if x.dtype == np.int32 and (queries > 1 or noise_sizes):
        raise UsageError("token ids have no changed copies: ask about the records themselves, queries = 1.")
    if queries < 0 or (x.ndim == 4 and queries > IMAGE_QUERIES):
        raise UsageError(f"queries = {queries} is out of range: images have 0 to {IMAGE_QUERIES} of them.")


def _check_labels(label: Tensor, classes: int) -> None:
    if label.min() < 0 or label.max() >= classes:
        raise UsageError(f"y holds labels that are not classes: give whole numbers 0 to {classes - 1}.")


def _noisy(inputs: Tensor, noise: Tensor, opposite: Tensor, raw: Tensor, binary: Tensor) -> Tensor:
    """Inputs with noise; binary features are rounded, which flips those whose noise crosses the middle."""
    copies = inputs + noise
    if not binary.any():
        return copies
    crossed = torch.where(raw > 0.5, -noise, noise) > 0.5
    return torch.where(binary, torch.where(crossed, opposite, inputs), copies)


Variant = Callable[[Tensor, Tensor], Tensor]


def _queries(x: Stored, queries: int, binary: Tensor) -> list[Variant]:
    """The fixed queries: each maps (inputs, the opposite values of binary features) to the query inputs.

    The plan's `trained_queries` names them by their position.
    """
    variants: list[Variant] = [lambda inputs, _: inputs]
    if x.ndim == 4:
        variants.append(lambda inputs, _: inputs.flip(3))
        for mirrored in (False, True):
            for shift in _SHIFTS:
                variants.append(
                    lambda inputs, _, m=mirrored, s=shift: _shifted(inputs.flip(3) if m else inputs, *s)  # type: ignore[misc]
                )
        return variants[:queries]
    generator = torch.Generator().manual_seed(0)
    flippable = binary.cpu().nonzero().squeeze(1)
    count = max(1, round(_FLIPPED * len(flippable)))
    for _ in range(1, queries):
        noise = (_QUERY_NOISE * torch.randn(x.shape[1], generator=generator)).to(binary.device)
        flipped = torch.zeros(x.shape[1], dtype=torch.bool)
        flipped[flippable[torch.randperm(len(flippable), generator=generator)[:count]]] = True
        flipped = flipped.to(binary.device)

        def variant(inputs: Tensor, opposite: Tensor, noise: Tensor = noise, flipped: Tensor = flipped) -> Tensor:
            return torch.where(flipped, opposite, torch.where(binary, inputs, inputs + noise))

        variants.append(variant)
    return variants[:queries]


def _shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Images shifted by whole pixels, padded with zeros."""
    height, width = images.shape[2:]
    padded = nn.functional.pad(images, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, :, top : top + height, left : left + width]


def _binary(x: Stored) -> npt.NDArray[np.bool_]:
    """Whether each feature of a table is always 0 or 1; False for images."""
    if x.ndim != 2:
        return np.zeros(1, bool)
    found = np.ones(x.shape[1], bool)
    for block in blocks(x):
        found &= ((block == 0) | (block == 1)).all(axis=0)
    return found


def _phi(logits: Tensor, label: Tensor) -> Tensor:
    """log p_y - log sum_{k != y} p_k, from float64 logits (Carlini et al., S&P 2022, section V-C)."""
    own = logits.gather(1, label[:, None])
    others = logits.scatter(1, label[:, None], -torch.inf).logsumexp(1)
    return own.squeeze(1) - others


def compact(logits_NC: npt.NDArray[np.floating]) -> npt.NDArray[np.float16]:
    """Logits as they are stored: float16 after subtracting each row's maximum, which does not change the softmax."""
    shifted = logits_NC - logits_NC.max(axis=1, keepdims=True)
    stored: npt.NDArray[np.float16] = np.maximum(shifted, np.finfo(np.float16).min).astype(np.float16)
    return stored
