"""Ask the user's model for all that the attacks observe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lacewing import data as datasets
from lacewing.attacks._types import CLASSES, Task
from lacewing.auditing import _outputs, _tasks
from lacewing.auditing._call import (
    BATCH,
    Array,
    Function,
    Model,
    Standardised,
    alike,
    answered,
    as_classes,
    as_tensor,
    check_model,
    prepared,
)
from lacewing.auditing._inputs import RawData
from lacewing.auditing._opened import opened
from lacewing.auditing._stream import Streamed, blocks
from lacewing.errors import UsageError
from lacewing.gradients import gradient_norms
from lacewing.probes import boundary, layer_features
from lacewing.reconstruction import first_layer
from lacewing.signals import observe, probe
from lacewing.sparsify.effective import Sparsity
from lacewing.sparsify.effective import sparsity as counted

SIGNALS = frozenset(
    {"sensitivity", "augmentation", "noise", "boundary", "gradients", "layers", "first-layer"}
)  # as attacks name their needs
_OF_COPIES = frozenset({"sensitivity", "augmentation", "noise", "boundary", "first-layer"})  # of records that are held
_NOT_HELD = (
    "The records are too large to be held and are read as a stream: nothing is asked about noisy or shifted copies."
)
LABEL_QUERIES = 4  # fewest fixed queries that the attacks by answered labels are given
_AGAIN = 128  # records that are asked a second time


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model answered of N records and Z of a population; None: not measured."""

    logits_NC: Array  # of a regression: the predicted quantities
    logits_ZC: Array | None = None
    before_TNC: Array | None = None  # logits of T earlier states of its training, the earliest first
    sensitivity_N: Array | None = None
    phi_NQ: Array | None = None
    right_NQ: Array | None = None
    right_NS: Array | None = None
    gradient_N2: Array | None = None
    boundary_N: Array | None = None
    asked_N: Array | None = None
    layer_NF: Array | None = None
    inputs_ND: Array | None = None
    weights_HD: Array | None = None  # of the first layer
    kept_HD: Array | None = None
    initial_HD: Array | None = None  # before training, where the user gives it
    # Numbers of its weights and of its mask, see `lacewing.property`; asked of the networks of `audit_property` alone.
    weights_W: Array | None = None
    fixed_F: Array | None = None
    layers_L: Array | None = None
    hidden_H: Array | None = None
    inputs_I: Array | None = None
    classes_K: Array | None = None


class Asked(NamedTuple):
    """Answers, notes on how they came about, and signals that could not be measured with the reasons."""

    answers: Answers
    notes: tuple[str, ...]
    unmeasured: Mapping[str, str]


def ask(
    model: Model,
    records: RawData,
    population: RawData | None,
    *,
    queries: int,
    signals: frozenset[str] = SIGNALS,
    who: str = "model",
    task: Task = "classification",
    outputs: _outputs.Outputs | None = None,
    varying: bool = False,
) -> Asked:
    """Logits, and those of ``signals`` that the model and its records allow.

    Records of floats: "sensitivity", and "augmentation" and "noise" (answers under fixed queries, under noise) if they
    are images (N, C, H, W) or tables (N, D). Torch modules: "gradients", and phi where ``queries`` is above 1. Noise is
    in units of each channel's or feature's standard deviation over the records, the same for every model. Records are
    asked in a random order, so that batches hold members and non-members alike.

    Unless ``varying``, some records are asked twice, in other batches.

    Raises `UsageError` that names ``who``: it fails, answers another shape or values that are not finite, answers that
    differ from one time to the next, or what ``outputs`` cannot be (see `lacewing.auditing._outputs`).
    """
    check_model(model, who)
    model = prepared(model, records.form, who, task)
    raw = answered(model, records, who, task)
    notes, unmeasured = [], {}
    notes += [model.picker.note] if model.picker.note else []
    if isinstance(model, Function):
        notes += [model.way.note] if model.way.note else []
        outputs = outputs or model.way.outputs
    if not varying and (together := _steady(model, records, raw, who, task)):
        notes.append(together)
        unmeasured = dict.fromkeys(signals, together)
        signals, queries = frozenset(), 1
    name = f"the answers of {who}"
    logits, form, note = _outputs.as_logits(raw, task, outputs, name)
    logits = as_classes(model, logits, records.form, who)
    notes += [note] if note else []
    population_logits = None
    if population is not None:
        others = answered(model, population, who, task)
        population_logits = as_classes(model, form.logits(np, others), records.form, who)
        _tasks.check_fit(population_logits.shape[1], population.y, task, who)
    _tasks.check_fit(logits.shape[1], records.y, task, who)
    found: dict[str, Array] = {}
    if isinstance(records.x, Streamed):
        unmeasured |= dict.fromkeys(signals & _OF_COPIES, _NOT_HELD)
        signals -= _OF_COPIES
    elif records.x.dtype.kind == "f" and records.form.all_float:
        if task in CLASSES:
            found |= _of_copies(model, records, queries, signals, who, form)
        records = replace(records, x=records.x.astype(np.float32))
    ways = {"gradients": ("gradient_N2", gradient_norms), "layers": ("layer_NF", layer_features)}
    for signal in sorted(ways.keys() & signals):
        field, way = ways[signal]
        if not isinstance(model, nn.Module):
            break
        try:
            found[field] = _gradients(model, records, task, form, way)
        except Exception as error:  # of autograd, vmap or the model: whatever it is, the other attacks can run
            unmeasured[signal] = f"The gradients of single records cannot be taken of {who} ({brief(error)})."
    if isinstance(model, nn.Module) and "first-layer" in signals:
        try:
            found |= _first_layer(model, records)
        except Exception as error:  # as above
            unmeasured["first-layer"] = f"Span attacks did not run on {who}: {brief(error)}."
    return Asked(Answers(logits, population_logits, **found), tuple(notes), unmeasured)


def _steady(model: Model, records: RawData, answers: Array, who: str, task: Task) -> str | None:
    """Ask some records again, in another order and company; a note if answers depend on the other records of a batch.

    Raises `UsageError` where they differ by chance, and where those of a function depend on the batch.
    """
    fewer = min(_AGAIN, -(-len(records) // 2))  # than all, which would be the same batch again
    rows = np.random.default_rng(303).permutation(len(records))[:fewer]
    some = records.at(rows)
    again = answered(model, some, who, task)
    if alike(answers[rows], again, model):
        return None
    if not alike(again, answered(model, some, who, task), model):
        mend = (
            "it draws at random in evaluation mode"
            if isinstance(model, nn.Module)
            else "is a network in it in training mode (dropout)? Call .eval() on it first"
        )
        raise UsageError(
            f"{who} answers the same records differently when asked twice: {mend}. If its answers are meant to be "
            "drawn at random, the audit of records takes augmented=True, and audits the mean of 8."
        )
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{who} answers a record differently in another batch: is a network in it in training mode (batch norm), "
            "or does it scale by the batch (dynamic quantisation)? Call .eval() on it first, or ask it one record at a "
            "time."
        )
    return (
        f"The answers of {who} depend on the other records of a batch (batch statistics, dynamic quantisation), so "
        "that only its outputs are looked at; records were asked in a random order, members and non-members together."
    )


def _of_copies(
    model: Model, records: RawData, queries: int, signals: frozenset[str], who: str, form: _outputs.Form
) -> dict[str, Array]:
    """What the model answers of noisy and shifted copies of records of floats, by field of `Answers`."""
    x = records.x.astype(np.float32)
    white_box = isinstance(model, nn.Module)
    batch_size = None if white_box else BATCH  # of a function it is not known where it computes
    every = np.ones(len(x), bool)
    scale = datasets.normalisation(x)
    network = Standardised(model, *scale, ndim=x.ndim, form=records.form, dtype=records.x.dtype, who=who, answers=form)
    found: dict[str, Array] = {}
    if "sensitivity" in signals:
        found["sensitivity_N"] = observe(network, x, normalisation=scale, sensitivity_of=every, batch_size=batch_size)[
            1
        ]
    if "boundary" in signals:
        measured = boundary(network, x, records.y, normalisation=scale, of=every)
        found |= {"boundary_N": measured.boundary_N, "asked_N": measured.asked_N}
    augmentation, noise = "augmentation" in signals, "noise" in signals
    wanted = queries if white_box and queries > 1 else 0
    if x.ndim not in (2, 4) or not (augmentation or noise or wanted):
        return found
    probes = probe(
        network,
        x,
        records.y,
        normalisation=scale,
        of=every & noise,
        queries=max(queries, LABEL_QUERIES) if augmentation else wanted,
        gradients=False,
        batch_size=batch_size,
    )
    if wanted:
        found["phi_NQ"] = probes.phi_NQ[:, :wanted]
    if augmentation:
        found["right_NQ"] = probes.right_NQ
    if noise:
        found["right_NS"] = probes.right_NS
    return found


def _gradients(model: nn.Module, records: RawData, task: Task, form: _outputs.Form, way: Callable[..., Array]) -> Array:
    """(N, F) of the loss gradients, by `gradient_norms` or `layer_features`; the loss is that of the task."""
    masks = _masks(model)
    labels = torch.from_numpy(records.y if task in CLASSES else records.y.astype(np.float32))

    def loss(answer: Tensor, label: Tensor) -> Tensor:
        logits = form.logits(torch, answer.reshape(len(answer), -1))
        if task == "regression":
            return nn.functional.mse_loss(logits, label)
        if task == "multi-label":
            return nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="sum")
        return nn.functional.cross_entropy(logits, label)

    say = records.x.say if isinstance(records.x, Streamed) else None
    return np.concatenate(
        [
            way(model, as_tensor(model, records.x[rows]), labels[rows], masks=masks, loss=loss)
            for rows in blocks(len(records), BATCH, "gradients of single records", say)
        ]
    )


def _first_layer(model: nn.Module, records: RawData) -> dict[str, Array]:
    """The first layer and the records that it sees. Raises `UsageError`: there is no such layer."""
    inputs = as_tensor(model, records.x)
    if not inputs.is_floating_point():
        raise UsageError("its records are whole numbers, which no linear layer takes.")
    name = first_layer(model, inputs[:4])
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    kept = counted(model).masks.get(f"{name}.weight")  # of the weight that it computes with
    return {
        "inputs_ND": inputs.flatten(1).float().cpu().numpy(),
        "weights_HD": weight.detach().float().cpu().numpy(),
        "kept_HD": np.ones(tuple(weight.shape), bool) if kept is None else kept.cpu().numpy(),
    }


def is_module(model: Model) -> bool:
    """Whether the model's weights are there to look into."""
    return isinstance(model, nn.Module)


def on_gpu(model: Model) -> bool:
    """Whether the model's weights are on an accelerator."""
    return isinstance(model, nn.Module) and any(p.device.type != "cpu" for p in model.parameters())


def unmeasured(records: RawData) -> str | None:
    """A note on what the records do not allow to measure; None where they allow all."""
    if isinstance(records.x, Streamed):
        return _NOT_HELD
    if records.x.dtype.kind != "f" or not records.form.all_float:
        return (
            "The records are whole numbers, so nothing is asked about noisy or shifted copies: attacks by sensitivity, "
            "augmentation and noise did not run (give x as floats if its values are quantities)."
        )
    if records.x.ndim not in (2, 4):
        return (
            "Fixed queries exist for images (N, C, H, W) and tables (N, D) alone: attacks that need them did not run."
        )
    return None


def sparsity(model: Model) -> tuple[Sparsity | None, str | None]:
    """How sparse a module is, and a note where it is sparse or cannot be counted; (None, None) of a function."""
    model = opened(model, "model")
    if not isinstance(model, nn.Module):
        return None, None
    try:
        found = counted(model)
    except Exception as error:  # of a parametrisation, or a tensor that cannot be counted: nothing else needs it
        return None, f"The density of the model is not known, since its weights could not be counted ({brief(error)})."
    if not found.sparse:
        return found, None
    return found, (
        f"The model is sparse: {found.nonzero:,} of {found.parameters:,} parameters are not zero "
        f"({found.density:.2%}; of the weights that pruning touches {found.density_prunable:.2%})."
    )


def brief(error: Exception) -> str:
    """An error in one line: its kind, unless it is one of ours, and the beginning of its message."""
    text = " ".join(str(error).split())[:200]
    return text.rstrip(".") if isinstance(error, UsageError) else f"{type(error).__name__}: {text}"


def _masks(model: Model) -> dict[str, Tensor]:
    """The support of the weights that hold zeros."""
    if not isinstance(model, nn.Module):
        return {}
    weights = {name: p.detach() for name, p in model.named_parameters() if p.ndim > 1 and p.is_floating_point()}
    return {name: weight != 0 for name, weight in weights.items() if bool((weight == 0).any())}
