"""DP-SGD (Abadi et al. 2016): Poisson batches, each record's gradient clipped, Gaussian noise added to their sum.

The norms of the gradients of a perceptron have a closed form, which needs no gradient of a single record. For other
networks Opacus computes these.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from lacewing.config import Train
from lacewing.errors import UsageError, needs_extra
from lacewing.sparsify.masks import Masks
from lacewing.training import objective
from lacewing.training.batches import Batch, Batches, Normalised
from lacewing.training.loop import stream
from lacewing.training.stack import Stack

_FLOOR = 1e-6  # added to norms, as in Opacus
_HELD = 2**26  # numbers in the gradients of single records that are held at once
_ROOM = 3.0  # standard deviations of the size of a batch for which a step of a stack has room at once
# Of a batch: the sum of clipped gradients by parameter name, and of each record the loss and whether it is right.
Sums = tuple[dict[str, Tensor], Tensor, Tensor]


def sampling(records: int, batch_size: int) -> tuple[float, int, int]:
    """The probability with which a step takes a record, the mean size of a batch, and the steps of an epoch."""
    expected = min(batch_size, records)
    return expected / records, expected, math.ceil(records / batch_size)


@dataclass(frozen=True)
class PrivateSgd:
    """Trains epochs by DP-SGD: a `lacewing.training.loop.Trainer`, and one of stacks.

    Masks are applied to gradients before these are clipped: pruned weights count in no norm and get no noise.

    Attributes:
        noise: standard deviation of the noise over ``clip``; 0: clipping alone, which guarantees nothing.
        clip: the largest norm of a record's gradient.
    """

    noise: float
    clip: float

    def epoch(
        self,
        model: nn.Module,
        batches: Batches,
        optimizer: torch.optim.Optimizer,
        seed: int,
        rates: Sequence[float],
        masks: Masks,
    ) -> Tensor:
        """See `lacewing.training.loop.Trainer`; as many steps as a plain epoch has."""
        device = batches.y.device
        rate, expected, _ = sampling(len(batches.y), batches.config.batch_size)
        noise = torch.Generator().manual_seed(stream(seed, "noise"))
        pruned = {name: ~mask.to(device) for name, mask in masks.items()}
        totals = torch.zeros(3, device=device)
        with _clipping(model, pruned, self.clip, batches.config.label_smoothing) as clipped:
            for lr, batch in zip(rates, _poisson_batches(batches, seed, rate, len(rates)), strict=True):
                sums, losses, right = clipped(batch.inputs, batch.labels)
                for name, parameter in model.named_parameters():
                    if parameter.requires_grad:
                        total = sums[name]
                        if self.noise:
                            # Matrices in the layout of stacks, so that a network gets the same noise in a stack.
                            shape = parameter.shape[::-1] if parameter.ndim == 2 else parameter.shape
                            drawn = torch.randn(shape, generator=noise).to(device)
                            total = total + self.noise * self.clip * (drawn.t() if parameter.ndim == 2 else drawn)
                        if name in pruned:
                            total = total.masked_fill(pruned[name], 0)
                        parameter.grad = total / expected
                _step(optimizer, lr)
                totals += torch.stack([losses.sum(), right.sum(), losses.new_tensor(len(losses))])
        return totals[:2] / totals[2].clamp_min(1)

    def stack_epoch(
        self,
        stack: Stack,
        optimizer: torch.optim.Optimizer,
        records: Tensor | Normalised,
        labels: Tensor,
        members: Tensor,
        config: Train,
        seeds: Sequence[int],
        rates: Sequence[float],
    ) -> Tensor:
        """See `lacewing.training.stack.StackTrainer`; each network gets the batches and the noise of `epoch`.

        Batches differ in size. A step has room for nearly every batch, and what does not fit follows in a second pass,
        so that the shapes of products, on which last bits depend, do not depend on the other networks. For the same
        reason dropout, which `epoch` draws otherwise, is seeded anew in each pass.
        """
        count, device = members.shape[1], records.device
        rate, expected, _ = sampling(count, config.batch_size)
        room = min(count, math.ceil(expected + _ROOM * math.sqrt(expected * (1 - rate))))
        picks = [torch.Generator().manual_seed(seed) for seed in seeds]
        noises = [torch.Generator().manual_seed(stream(seed, "noise")) for seed in seeds]
        drawn = [torch.empty(parameter.shape) for parameter in stack.parameters]
        totals = torch.zeros(3, len(seeds), device=device)
        for step, lr in enumerate(rates):
            chosen = [_poisson(generator, count, rate) for generator in picks]
            sums = [torch.zeros_like(parameter, requires_grad=False) for parameter in stack.parameters]
            for begin in range(0, max(1, *map(len, chosen)), room):
                place, taken = (t.to(device) for t in _filled_up([c[begin : begin + room] for c in chosen], room))
                index = members.gather(1, place)
                stack.reseed([stream(seed, "dropout", step, begin) for seed in seeds])
                parts, losses, right = _stack_sums(
                    stack, records[index], labels[index], taken, self.clip, config.label_smoothing
                )
                for total, part in zip(sums, parts, strict=True):
                    total += part
                totals += torch.stack([losses, right, taken.sum(1)])
            for parameter, total, buffer in zip(stack.parameters, sums, drawn, strict=True):
                if self.noise:
                    for own, generator in zip(buffer, noises, strict=True):
                        own.normal_(generator=generator)
                    total.add_(buffer.to(device), alpha=self.noise * self.clip)
                parameter.grad = total / expected
            stack.mask_gradients()
            _step(optimizer, lr)
        return totals[:2] / totals[2].clamp_min(1)


def check_private(model: nn.Module) -> None:
    """Refuse a network that DP-SGD cannot train.

    Raises:
        UsageError: it mixes records (batch norm), keeps statistics of records, changes activations in place, or needs
            Opacus, which is missing.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UsageError(
                f"DP-SGD needs a gradient of each record, and {type(module).__name__} ('{name}') mixes the records of "
                'a batch; use group norm, for our ResNets model = { norm = "group" }.'
            )
    for name, module in model.named_modules():
        if getattr(module, "inplace", False) is True:
            raise UsageError(
                f"DP-SGD reads what each layer gets and gives, which {type(module).__name__} ('{name}') overwrites; "
                "set its inplace to False."
            )
    if is_perceptron(model):
        return
    for name, module in model.named_modules():
        trained = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        if (trained or getattr(module, "track_running_stats", False)) and any(True for _ in module.buffers()):
            raise UsageError(
                f"DP-SGD protects parameters alone, and {type(module).__name__} ('{name}') keeps buffers beside them, "
                "such as statistics of the records; use a layer without buffers."
            )
    if find_spec("opacus") is None:
        network = "DP-SGD of other networks than Flatten and then Linear layers with ReLU or Dropout between them"
        raise needs_extra(network, "opacus", "dp")


def is_perceptron(model: nn.Module) -> bool:
    """Whether the closed form holds: Flatten, then linear layers in a row, with only ReLU and dropout between them.

    Without the first Flatten a linear layer may get several rows of each record, and its gradient sums over them. No
    parameter may stand in two layers.
    """
    if type(model) is not nn.Sequential or len(model) == 0:
        return False
    plain = all(type(layer) in (nn.Flatten, nn.Linear, nn.ReLU, nn.Dropout) for layer in model)
    flat = [(layer.start_dim, layer.end_dim) == (1, -1) for layer in model if isinstance(layer, nn.Flatten)]
    parameters = [parameter for layer in model for parameter in layer.parameters()]
    return (
        (plain and isinstance(model[0], nn.Flatten) and all(flat))
        and len({id(parameter) for parameter in parameters}) == len(parameters)
        and all(parameter.requires_grad for parameter in parameters)
    )


def squared_norms(
    inputs: Sequence[Tensor], deltas: Sequence[Tensor], kept: Sequence[Tensor | None], biased: Sequence[bool]
) -> Tensor:
    """The squared norm of each record's gradient over all parameters of a row of linear layers.

    A record's gradient of a weight is the outer product of what the layer gets, a, and the gradient at what it gives,
    delta. Its squared norm under a mask M is sum_j delta_j^2 (a^2 M)_j, and |a|^2 |delta|^2 without one (Goodfellow
    2015, arXiv 1510.01799).

    Args:
        inputs: of each layer a, (..., B, in).
        deltas: of each layer delta, that of each record's own loss, (..., B, out).
        kept: of each layer M, (..., in, out), 1 where a weight is kept and 0 elsewhere; None: all are kept.
        biased: of each layer whether it has a bias.

    Returns:
        (..., B)
    """
    total = torch.zeros(inputs[0].shape[:-1], device=inputs[0].device)
    for a, delta, mask, has_bias in zip(inputs, deltas, kept, biased, strict=True):
        squares = delta.square()
        if mask is None:
            total += a.square().sum(-1) * squares.sum(-1)
        else:
            total += ((a.square() @ mask) * squares).sum(-1)
        if has_bias:
            total += squares.sum(-1)
    return total


def clip_factors(squares: Tensor, clip: float) -> Tensor:
    """What gradients of these squared norms are multiplied with, so that none is longer than ``clip``."""
    return (clip / (squares.sqrt() + _FLOOR)).clamp_max(1.0)


@contextmanager
def _clipping(
    model: nn.Module, pruned: Mapping[str, Tensor], clip: float, smoothing: float
) -> Iterator[Callable[[Tensor, Tensor], Sums]]:
    """The function that sums clipped gradients of a batch; within, the model may have Opacus' hooks."""
    if is_perceptron(model):
        # Not `named_children`, which leaves out repetitions: an activation may stand in several places.
        layers = [(name, layer) for name, layer in model._modules.items() if layer is not None]
        yield lambda inputs, labels: _perceptron_sums(layers, inputs, labels, pruned, clip, smoothing)
        return
    from opacus import GradSampleModule

    hooked = GradSampleModule(model, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing")  # as records have no gradient
            yield lambda inputs, labels: _opacus_sums(hooked, model, inputs, labels, pruned, clip, smoothing)
    finally:
        hooked.to_standard_module()


def _closed_form(
    seen: Sequence[tuple[Tensor, Tensor]],
    losses: Tensor,
    kept: Sequence[Tensor | None],
    biased: Sequence[bool],
    clip: float,
) -> list[Tensor]:
    """Sums over records of clipped gradients: of each layer its weight's, (..., in, out), and its bias', if any.

    ``seen`` holds what each layer gets and gives. Entries of pruned weights are not zero, though they count in no norm.
    """
    deltas = torch.autograd.grad(losses.sum(), [given for _, given in seen])
    inputs = [got.detach() for got, _ in seen]
    factors = clip_factors(squared_norms(inputs, deltas, kept, biased), clip)
    sums = []
    for a, delta, has_bias in zip(inputs, deltas, biased, strict=True):
        scaled = delta * factors[..., None]
        sums += [a.mT @ scaled, scaled.sum(-2)] if has_bias else [a.mT @ scaled]
    return sums


def _perceptron_sums(
    layers: Sequence[tuple[str, nn.Module]],
    x: Tensor,
    labels: Tensor,
    pruned: Mapping[str, Tensor],
    clip: float,
    smoothing: float,
) -> Sums:
    seen, names = list[tuple[Tensor, Tensor]](), list[str]()
    kept, biased = list[Tensor | None](), list[bool]()
    for name, layer in layers:
        got, x = x, layer(x)
        if isinstance(layer, nn.Linear):
            mask = pruned.get(f"{name}.weight")
            seen.append((got, x))
            kept.append(None if mask is None else (~mask).float().t())
            biased.append(layer.bias is not None)
            names += [f"{name}.weight", f"{name}.bias"] if biased[-1] else [f"{name}.weight"]
    losses, recorded = objective.losses(x, labels, smoothing=smoothing, reduction="none")
    sums = _closed_form(seen, losses, kept, biased, clip)
    by_name = {name: total.t() if total.ndim == 2 else total for name, total in zip(names, sums, strict=True)}
    return by_name, recorded, objective.right(x, labels)


def _stack_sums(
    stack: Stack, x: Tensor, labels: Tensor, taken: Tensor, clip: float, smoothing: float
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Of each network the sums of clipped gradients, of losses and of right answers over the records ``taken``."""
    seen = list[tuple[Tensor, Tensor]]()
    logits = stack.forward(x, seen)
    losses, recorded = (
        taken * each.view(labels.shape)
        for each in objective.losses(logits.flatten(0, 1), labels.flatten(), smoothing=smoothing, reduction="none")
    )
    biased = [layer.bias is not None for layer in stack.linear]
    weights = [place for place, parameter in enumerate(stack.parameters) if parameter.ndim == 3]
    masks = [stack.pruned.get(place) for place in weights]
    sums = _closed_form(seen, losses, [None if m is None else (~m).float() for m in masks], biased, clip)
    return sums, recorded.sum(1), (taken * objective.right(logits, labels)).sum(1)


def _opacus_sums(
    hooked: nn.Module,
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    pruned: Mapping[str, Tensor],
    clip: float,
    smoothing: float,
) -> Sums:
    """In parts, since the gradient of each record is held. A Poisson batch may be empty.

    Raises:
        UsageError: gradients of single records do not add up to that of all.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(p, requires_grad=False) for name, p in trained.items()}
    model.zero_grad()
    size = max(1, _HELD // sum(p.numel() for p in trained.values()))
    found, right = [x.new_zeros(0)], [x.new_zeros(0)]
    for start in range(0, len(x), size):
        inputs, wanted = x[start : start + size], labels[start : start + size]
        answer = hooked(inputs)
        losses, recorded = objective.losses(answer, wanted, smoothing=smoothing, reduction="none")
        losses.sum().backward()  # type: ignore[no-untyped-call]
        gradients = dict[str, Tensor]()
        for name, parameter in trained.items():
            each = _single(name, parameter, len(inputs))
            gradients[name] = each.masked_fill(pruned[name], 0) if name in pruned else each
            parameter.grad_sample = parameter.grad = None  # type: ignore[attr-defined]
        squares = torch.stack([each.flatten(1).square().sum(1) for each in gradients.values()]).sum(0)
        factors = clip_factors(squares, clip)
        for name, each in gradients.items():
            sums[name] += torch.einsum("i,i...->...", factors, each)
        found.append(recorded)
        right.append(objective.right(answer, wanted).float())
    return sums, torch.cat(found), torch.cat(right)


def _single(name: str, parameter: nn.Parameter, count: int) -> Tensor:
    """The gradient of each record as Opacus found it. It sees a parameter only where its own layer is called."""
    each, whole = getattr(parameter, "grad_sample", None), parameter.grad
    if each is None and whole is None:  # the answers do not depend on it
        return parameter.new_zeros((count, *parameter.shape))
    if isinstance(each, Tensor) and whole is not None and each.shape == (count, *parameter.shape):
        apart, size = (each.sum(0) - whole).norm(), each.flatten(1).norm(dim=1).sum()
        if not apart > 0.01 * size + _FLOOR:  # NaN is told by the loss
            return each
    raise UsageError(
        f"DP-SGD: the gradients of single records of '{name}' do not add up to that of the batch; have the model use "
        "it in its own layer alone, called on records along the first dimension."
    )


def _step(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()


def _poisson(generator: torch.Generator, count: int, rate: float) -> Tensor:
    """Indices of the records of a batch that takes each with probability ``rate``."""
    return (torch.rand(count, generator=generator, dtype=torch.float64) < rate).nonzero()[:, 0]


def _poisson_batches(batches: Batches, seed: int, rate: float, steps: int) -> Iterator[Batch]:
    generator, device = torch.Generator().manual_seed(seed), batches.y.device
    for step in range(steps):
        index = _poisson(generator, len(batches.y), rate)
        _, top, left, flip = batches.draw(stream(seed, step))
        yield batches.batch(*(each.to(device) for each in (index, top[index], left[index], flip[index])))


def _filled_up(chosen: Sequence[Tensor], room: int) -> tuple[Tensor, Tensor]:
    """Lists of indices as (K, room), filled up with 0, and 1.0 where an index counts, 0.0 elsewhere."""
    place, taken = torch.zeros(len(chosen), room, dtype=torch.int64), torch.zeros(len(chosen), room)
    for k, each in enumerate(chosen):
        place[k, : len(each)] = each
        taken[k, : len(each)] = 1.0
    return place, taken
