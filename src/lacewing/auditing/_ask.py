"""Ask the user's model, a torch module or any callable records -> logits, for all that the attacks observe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing import data as datasets
from lacewing.attacks._logits import refuse_probabilities
from lacewing.auditing._inputs import Form, RawData
from lacewing.errors import UsageError
from lacewing.signals import gradient_norms, measuring, observe, probe
from lacewing.support.user_code import user_code

Array = npt.NDArray[Any]
Model = nn.Module | Callable[[Any], Any]
_BATCH, _CALLABLE_BATCH = 250, 1000
SIGNALS = frozenset({"sensitivity", "augmentation", "noise", "gradients"})  # as attacks name their needs
LABEL_QUERIES = 4  # fewest fixed queries that the attacks by answered labels are given


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model answered of N records and Z of a population; None: not measured."""

    logits_NC: Array
    logits_ZC: Array | None = None
    sensitivity_N: Array | None = None
    phi_NQ: Array | None = None
    right_NQ: Array | None = None
    right_NS: Array | None = None
    gradient_N2: Array | None = None


def ask(
    model: Model,
    records: RawData,
    population: RawData | None,
    *,
    queries: int,
    signals: frozenset[str] = SIGNALS,
    who: str = "model",
) -> Answers:
    """Logits, and those of ``signals`` that the model and its records allow.

    Records of floats: "sensitivity", and "augmentation" and "noise" (answers under fixed queries, under noise) if they
    are images (N, C, H, W) or tables (N, D). Torch modules: "gradients", and phi where ``queries`` is above 1. Noise is
    in units of each channel's or feature's standard deviation over the records, the same for every model.

    Raises `UsageError` that names ``who``: it fails, answers another shape, values that are not finite, or
    probabilities.
    """
    check_model(model, who)
    logits = _logits(model, records, who)
    population_logits = None if population is None else _logits(model, population, who)
    classes = logits.shape[1]
    top = int(records.y.max() if population is None else max(records.y.max(), population.y.max()))
    if top >= classes:
        raise UsageError(f"y holds the label {top}, and {who} answers {classes} classes: labels must be below that.")
    found: dict[str, Array] = {}
    if records.x.dtype.kind == "f" and _all_float(records.form):
        found |= _of_copies(model, records, queries, signals, who)
        records = replace(records, x=records.x.astype(np.float32))
    if isinstance(model, nn.Module) and "gradients" in signals:
        found["gradient_N2"] = _gradients(model, records, who)
    return Answers(logits, population_logits, **found)


def _of_copies(model: Model, records: RawData, queries: int, signals: frozenset[str], who: str) -> dict[str, Array]:
    """What the model answers of noisy and shifted copies of records of floats, by field of `Answers`."""
    x = records.x.astype(np.float32)
    white_box = isinstance(model, nn.Module)
    batch_size = None if white_box else _BATCH  # of a function it is not known where it computes
    every = np.ones(len(x), bool)
    scale = datasets.normalisation(x)
    network = _Standardised(model, *scale, ndim=x.ndim, form=records.form, dtype=records.x.dtype, who=who)
    found: dict[str, Array] = {}
    if "sensitivity" in signals:
        found["sensitivity_N"] = observe(network, x, normalisation=scale, sensitivity_of=every, batch_size=batch_size)[
            1
        ]
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


def _gradients(model: nn.Module, records: RawData, who: str) -> Array:
    """(N, 2), see `lacewing.signals.gradient_norms`."""
    masks = _masks(model)
    blocks = np.array_split(np.arange(len(records)), -(-len(records) // _BATCH))
    with user_code(f"{who}, asked for the gradients of single records,", own_frames=True):
        parts = [
            gradient_norms(model, _tensor(model, records.x[rows]), torch.from_numpy(records.y[rows]), masks=masks)
            for rows in blocks
        ]
    return np.concatenate(parts)


def check_model(model: object, who: str) -> None:
    """Raises `UsageError` unless ``model`` can be called."""
    if callable(model):
        return
    mend = ""
    if hasattr(model, "predict_proba"):
        mend = f", e.g. lambda x: numpy.log({who}.predict_proba(x).clip(1e-6))" if who == "model" else ", e.g. a lambda"
    raise UsageError(
        f"{who} is a {type(model).__name__}, which cannot be called: give a torch module or a function from records to "
        f"logits{mend}."
    )


def is_module(model: Model) -> bool:
    """Whether the model's weights are there to look into."""
    return isinstance(model, nn.Module)


def on_gpu(model: Model) -> bool:
    """Whether the model's weights are on an accelerator."""
    return isinstance(model, nn.Module) and any(p.device.type != "cpu" for p in model.parameters())


def unmeasured(records: RawData) -> str | None:
    """A note on what the records do not allow to measure; None where they allow all."""
    if records.x.dtype.kind != "f" or not _all_float(records.form):
        return (
            "The records are whole numbers, so nothing is asked about noisy or shifted copies: attacks by sensitivity, "
            "augmentation and noise did not run (give x as floats if its values are quantities)."
        )
    if records.x.ndim not in (2, 4):
        return (
            "Fixed queries exist for images (N, C, H, W) and tables (N, D) alone: attacks that need them did not run."
        )
    return None


def nonzero(model: Model) -> tuple[int, int, float]:
    """(parameters, non-zero parameters, share of non-zero among the prunable weights); (0, 0, 1.0) of a callable."""
    if not isinstance(model, nn.Module):
        return 0, 0, 1.0
    from lacewing.sparsify.masks import prunable

    counts = {name: (p.numel(), int(torch.count_nonzero(p.detach()))) for name, p in model.named_parameters()}
    total, kept = (sum(count[i] for count in counts.values()) for i in (0, 1))
    weights = [counts[name] for name in prunable(model) if name in counts]
    whole = sum(count[0] for count in weights)
    return total, kept, sum(count[1] for count in weights) / whole if whole else 1.0


def _logits(model: Model, records: RawData, who: str) -> Array:
    x = records.x
    step = _BATCH if isinstance(model, nn.Module) else _CALLABLE_BATCH
    batches = [x[start : start + step] for start in range(0, len(x), step)]
    mend = "; give x as float32 if its values are quantities" if x.dtype.kind in "iu" else ""
    with user_code(f"{who}, asked about records of shape {x.shape[1:]} and dtype {x.dtype},", mend):
        if isinstance(model, nn.Module):
            with torch.no_grad(), measuring(model):
                parts = [_numpy(model(_tensor(model, batch))) for batch in batches]
        else:
            parts = [_numpy(model(records.form.records(batch))) for batch in batches]
    for part, batch in zip(parts, batches, strict=True):
        if part.dtype.kind not in "iuf" or part.ndim != 2 or len(part) != len(batch) or part.shape[1] < 2:
            raise UsageError(
                f"{who} answered {part.dtype} of shape {part.shape} to {len(batch)} records: it must answer their "
                "logits, (records, classes) with at least two classes; of one logit z make two columns, 0 and z."
            )
    logits = np.concatenate(parts)
    if logits.dtype.kind != "f" or logits.dtype.itemsize < 4:
        logits = logits.astype(np.float32)
    if not np.isfinite(logits).all():
        raise UsageError(
            f"{who} answered NaN or infinite values: give finite logits; floor log-probabilities, e.g. "
            "numpy.log(p.clip(1e-6))."
        )
    refuse_probabilities(logits, f"the answers of {who}")
    return logits


def _numpy(answer: Any) -> Array:
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu()
        return np.asarray(answer.float() if answer.dtype in (torch.bfloat16, torch.float16) else answer)
    if hasattr(answer, "to_numpy"):
        return np.asarray(answer.to_numpy())
    return np.asarray(answer)


def _tensor(model: nn.Module, x: Array) -> Tensor:
    """What a module takes: floats in its own precision; pixels (uint8 images) as floats; token ids as int64."""
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(parameter.device)
    if x.dtype.kind == "f" or x.dtype.kind == "b" or (x.dtype == np.uint8 and x.ndim == 4):
        return tensor.to(parameter.dtype)
    return tensor.to(torch.int64)


def _masks(model: Model) -> dict[str, Tensor]:
    """The support of the weights that hold zeros."""
    if not isinstance(model, nn.Module):
        return {}
    weights = {name: p.detach() for name, p in model.named_parameters() if p.ndim > 1 and p.is_floating_point()}
    return {name: weight != 0 for name, weight in weights.items() if bool((weight == 0).any())}


def _all_float(form: Form) -> bool:
    return all(dtype.startswith("float") for dtype in form.dtypes)


class _Standardised(nn.Module):
    """The user's model behind standardised inputs, so that noise is in units of their standard deviation."""

    def __init__(
        self, model: Model, mean: Array, std: Array, *, ndim: int, form: Form, dtype: np.dtype[Any], who: str
    ) -> None:
        super().__init__()
        self.who = who
        shape = (1, -1) + (1,) * (ndim - 2)
        parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        device = torch.device("cpu") if parameter is None else parameter.device
        self.mean, self.std = (torch.from_numpy(a).to(device).view(shape) for a in (mean, std))
        self.form, self.dtype = form, dtype
        if isinstance(model, nn.Module):
            self.inner = model
            self.precision = torch.float32 if parameter is None else parameter.dtype
        else:
            self.call = model
        if parameter is None:  # a place for who asks on which device the model is
            self.place = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of standardised inputs."""
        raw = inputs * self.std + self.mean
        with user_code(f"{self.who}, asked about noisy or shifted records,"):
            if hasattr(self, "inner"):
                answer: Tensor = self.inner(raw.to(self.precision))
                return answer
            return torch.from_numpy(_numpy(self.call(self.form.records(raw.numpy().astype(self.dtype)))))
