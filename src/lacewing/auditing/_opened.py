"""The torch module that an audit asks: out of its wrappers, with its weights at hand, in any batch size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree

from lacewing.errors import UsageError

_INSIDE = {  # by class: the attribute of what it wraps, and computes the same as
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",  # of torch.compile
    "opacus.grad_sample.gsm_base.AbstractGradSampleModule": "_module",
    "opacus.distributed.DifferentiallyPrivateDistributedDataParallel": "module",
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def refuse_state(model: Any, who: str) -> None:
    """Raise `UsageError` where the weights of a network are given in place of the network."""
    if isinstance(model, Mapping) and any(isinstance(value, Tensor) for value in model.values()):
        raise UsageError(
            f"{who} is a state dict, the weights of a network and not the network: load it into the network that it "
            "belongs to, network.load_state_dict(...), and give that."
        )


def opened(model: Any, who: str) -> Any:
    """What is asked and looked into in place of ``model``; anything but a torch module as it is.

    Out of ``DataParallel``, ``torch.compile`` and Opacus' ``GradSampleModule`` comes the module inside, which computes
    the same and whose single parts can be differentiated; a wrapper with hooks of its own stays. Of a program of
    ``torch.export`` its module, asked in the batch size that it was exported for.

    Raises:
        UsageError: that names ``who``: a network whose weights have no values or no shape yet.
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if not isinstance(model, nn.Module):
        return model
    while (within := _within(model)) is not None:
        model = within
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise UsageError(
                f"{who} has a lazy layer that was never called, so that '{name}' has no shape: train it, or load its "
                "weights, before it is audited."
            )
        if parameter.is_meta:
            raise UsageError(
                f"{who} is on the device 'meta', where '{name}' has no values: load its weights, e.g. by "
                "load_state_dict(state, assign=True)."
            )
    return Exported(model) if isinstance(model, torch.fx.GraphModule) and _shapes(model) else model


def _within(model: nn.Module) -> nn.Module | None:
    for kind in type(model).__mro__:
        attribute = _INSIDE.get(f"{kind.__module__}.{kind.__qualname__}")
        inner = getattr(model, attribute, None) if attribute else None
        if isinstance(inner, nn.Module) and not any(getattr(model, hooks) for hooks in _HOOKS):
            return inner
    return None


class Exported(nn.Module):
    """A program of `torch.export`: its mode was fixed as it was exported, and its batch size often too."""

    def __init__(self, program: torch.fx.GraphModule) -> None:
        super().__init__()
        self.program, self.batch = program, _batch(program)

    def train(self, mode: bool = True) -> Exported:
        """Note the mode, which the program does not have."""
        self.training = mode
        return self

    def forward(self, *records: Any, **named: Any) -> Any:
        """What the program answers; where its batch size is fixed, the last record fills up the last batch."""
        given, spec = _pytree.tree_flatten((records, named))
        count = max((len(part) for part in given if isinstance(part, Tensor) and part.ndim), default=0)
        if self.batch is None or count == self.batch:
            return self.program(*records, **named)
        batches = []
        for start in range(0, count, self.batch):
            rows = torch.arange(start, start + self.batch).clamp(max=count - 1)
            part = [one[rows.to(one.device)] if isinstance(one, Tensor) and len(one) == count else one for one in given]
            positional, keywords = _pytree.tree_unflatten(part, spec)
            batches.append(self.program(*positional, **keywords))
        return _pytree.tree_map(lambda *answers: torch.cat(answers)[:count], *batches)


def _shapes(program: torch.fx.GraphModule) -> list[torch.Size]:
    """Of the tensors that a program of `torch.export` takes; none of another graph."""
    values = (node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder")
    return [value.shape for value in values if isinstance(value, Tensor) and value.ndim]


def _batch(program: torch.fx.GraphModule) -> int | None:
    """The batch size that a program was exported for; None: any."""
    sizes = {shape[0] if isinstance(shape[0], int) else None for shape in _shapes(program)}  # a symbol cannot be hashed
    return sizes.pop() if len(sizes) == 1 else None
