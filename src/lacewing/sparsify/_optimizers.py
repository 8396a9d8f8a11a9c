"""The optimisers that a guard watches: torch's own, also where accelerate, Opacus or another one wraps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from lacewing.errors import UsageError

_INSIDE = ("original_optimizer", "optimizer", "base_optimizer")  # Opacus; accelerate, Lightning; SAM, Lookahead
_HOOKS = "_optimizer_step_post_hooks"  # what torch's constructor makes, and a wrapper lacks that does not call it


def unwrapped(given: object) -> list[torch.optim.Optimizer]:
    """The torch optimisers of an optimiser and its wrappers that call hooks after a step; the innermost is last.

    Wrappers are known by their attributes, so that no package is imported.

    Raises:
        UsageError: not an optimiser, or a wrapper that hides its optimiser.
    """
    found: list[torch.optim.Optimizer] = []
    seen: list[object] = []
    at = given
    while at is not None and not any(at is other for other in seen):
        seen.append(at)
        if isinstance(at, torch.optim.Optimizer) and hasattr(at, _HOOKS):
            found.append(at)
        steps = callable(getattr(at, "step", None)) and callable(getattr(at, "zero_grad", None))
        inner = (getattr(at, name, None) for name in _INSIDE) if steps else ()
        at = next((other for other in inner if isinstance(other, torch.optim.Optimizer)), None)
    if found:
        return found
    if isinstance(given, Iterable):
        raise UsageError(f"attach takes optimisers, not a {type(given).__name__} of them: guard.attach(*optimizers).")
    raise UsageError(
        f"attach needs a torch optimiser, and this is a {type(given).__name__}; pass the torch.optim.Optimizer that is "
        "inside, or that it works on."
    )


def check_held(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], names: Iterable[str]) -> None:
    """Check that optimisers train this model.

    Args:
        model: of the guard.
        optimizers: as from ``unwrapped``.
        names: parameters that are pruned, or will be.

    Raises:
        UsageError: the optimisers hold no parameter of the model, or not a pruned one that is trainable; a pruned one
            is sharded.
    """
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if all(id(parameter) not in held for parameter in parameters.values()):
        raise UsageError(
            "the optimiser holds no parameter of the guard's model: it was made from a copy, or the parameters were "
            "replaced afterwards (FSDP, load_state_dict(assign=True)); make it from the parameters of this model."
        )
    for name in names:
        if hasattr(parameters[name], "to_local"):
            raise UsageError(
                f"'{name}' is sharded (FSDP, tensor parallelism), and a guard prunes whole parameters only; train with "
                "DistributedDataParallel."
            )
        if parameters[name].requires_grad and id(parameters[name]) not in held:
            raise UsageError(
                f"the optimiser does not hold '{name}', which is pruned: attach all optimisers that train it, or "
                "freeze it (requires_grad = False); if the parameter was replaced (FSDP, "
                "load_state_dict(assign=True)), make the optimiser afterwards."
            )
