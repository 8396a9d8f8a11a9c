"""What span attacks look at: a network's first layer after and before training, and the records as it sees them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lacewing import models
from lacewing.attacks import spans_everything
from lacewing.errors import UsageError
from lacewing.study.jobs._networks import NetworksOfEntry, build
from lacewing.study.jobs._observe import members
from lacewing.study.jobs._workspace import Workspace
from lacewing.study.plan import AttackJob, NetworkJob

if TYPE_CHECKING:
    from torch import Tensor, nn

_FEW = 4  # records that tell what the first layer sees


def observe_first_layer(
    work: Workspace,
    job: NetworkJob,
    model: nn.Module,
    masks: Mapping[str, Tensor],
    audited_N: npt.NDArray[np.bool_],
) -> dict[str, npt.NDArray[Any]]:
    """Weights, mask and initialisation of a trained network's first layer, and the audited records that it sees.

    Records that are not audited are zeros.
    """
    import torch

    from lacewing.reconstruction import first_layer

    name = first_layer(model, _standardised(work, np.flatnonzero(audited_N)[:_FEW]).to(work.device))
    weights = _weights(model, name)
    inputs = np.zeros((len(work.records), weights.shape[1]), np.float32)
    inputs[audited_N] = _standardised(work, np.flatnonzero(audited_N)).flatten(1).numpy()
    with torch.random.fork_rng(["cuda"] if work.device == "cuda" else []):
        # Rewinding starts again from a state of the same kind: a multiple of the initialisation and a part in the span.
        start = build(work, job.origin) if job.origin else job.spec.begin(NetworksOfEntry(work, [job]))[0]
    kept = masks.get(f"{name}.weight")
    return {
        "inputs_ND": inputs,
        "weights_HD": weights,
        "initial_HD": _weights(start, name),
        "kept_HD": np.ones(weights.shape, bool) if kept is None else kept.cpu().numpy().astype(bool),
    }


def check_first_layers(work: Workspace, attacks: Iterable[AttackJob]) -> None:
    """Refuse an attack on the first layer of a network that has none, or too many training records for it.

    Raises:
        UsageError: names the attack.
    """
    import torch

    from lacewing.reconstruction import first_layer

    seen = set[str]()
    for attack in attacks:
        job = attack.target
        kind = repr((job.seed, job.train.holdout, job.model, job.spec.settings() if job.spec.reshapes else None))
        if "first-layer" not in attack.entry.needs or kind in seen:
            continue
        seen.add(kind)
        why = spans_everything(len(members(work, job)[0]), math.prod(work.dataset.shape))
        if why is None and models.is_own(job.model):
            try:
                with torch.random.fork_rng(["cuda"] if work.device == "cuda" else []):
                    first_layer(build(work, job), _standardised(work, np.arange(_FEW)).to(work.device))
            except UsageError as error:
                why = str(error).rstrip(".")
        if why is not None:
            raise UsageError(f"attacks.names: '{attack.attack}' cannot run in this study: {why}.")


def _standardised(work: Workspace, rows: npt.NDArray[np.integer]) -> Tensor:
    """Records as networks see them."""
    import torch

    x = work.records.x[rows]
    mean, std = (values.reshape((1, -1) + (1,) * (x.ndim - 2)) for values in work.normalisation)
    return torch.from_numpy((x.astype(np.float32) - mean) / std)


def _weights(model: nn.Module, name: str) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = model.get_parameter(f"{name}.weight").detach().float().cpu().numpy().copy()
    return found
