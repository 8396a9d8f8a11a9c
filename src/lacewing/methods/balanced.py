"""Pruning with pair-based posterior balancing (Yuan & Zhang, USENIX Security 2022), a defence by a KL term."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from lacewing.config import Train, at_most
from lacewing.methods._base import Step
from lacewing.methods.imp import Imp
from lacewing.results import Look

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lacewing.sparsify.masks import Masks
    from lacewing.training.batches import Batches
    from lacewing.training.stack import Stack


class Balanced(Imp):
    """IMP whose pruned networks are trained with pair-based posterior balancing (PPB): confidences become alike.

    The loss is that of the authors' code (mia_prune, `train_defend_ppb`): the cross-entropy plus ``balance`` times the
    KL divergence of the sorted class probabilities of paired records; the i-th record of a batch's first half is paired
    with the i-th of its second. The rest is our variant: they prune a trained network once, layer by layer, and train
    it on with Adam for half as many epochs; here it is the global pruning, the rewinding and the SGD of `Imp`.
    """

    look: ClassVar[Look] = Look("IMP with PPB", "#882255", "p", sequence=True)

    method: str = "imp-balanced"
    balance: Annotated[float, Field(gt=0), at_most(1e6, "nothing is left of the labels under more")] = 4.0

    def default_name(self) -> str:
        """``balanced``."""
        return "balanced"

    def steps(self, train: Train) -> tuple[Step, ...]:
        """As of `Imp`; the pruned networks depend on ``balance``."""
        head, *levels = super().steps(train)
        return head, *(dataclasses.replace(s, key={**s.key, "balance": self.balance}) for s in levels)

    def trainer(self, train: Train, records: int) -> _Trainer:
        """With the divergence in the loss."""
        return _Trainer(self.balance)


class _Trainer:
    """See `lacewing.training.loop.Trainer` and `lacewing.training.stack.StackTrainer`."""

    def __init__(self, balance: float) -> None:
        self.balance = balance

    def epoch(
        self,
        model: nn.Module,
        batches: Batches,
        optimizer: torch.optim.Optimizer,
        seed: int,
        rates: Sequence[float],
        masks: Masks,
    ) -> Tensor:
        import torch

        from lacewing.training.loop import one_by_one

        sums = one_by_one(model, batches, optimizer, batches.config, seed, rates, self.penalty)
        return torch.stack(sums) / len(batches.y)

    def stack_epoch(
        self,
        stack: Stack,
        optimizer: torch.optim.Optimizer,
        records: Tensor,
        labels: Tensor,
        members: Tensor,
        config: Train,
        seeds: Sequence[int],
        rates: Sequence[float],
    ) -> Tensor:
        return stack.train_epoch(optimizer, records, labels, members, config, seeds, rates, self.penalty)

    def penalty(self, logits: Tensor) -> Tensor:
        """``balance`` times the mean divergence over the pairs of a batch: (..., B, C) to (...); 0 of one record."""
        pairs = logits.shape[-2] // 2
        if not pairs:
            return logits.sum((-2, -1)) * 0
        ranked = logits.sort(-1, descending=True).values.log_softmax(-1)
        first, second = ranked[..., :pairs, :], ranked[..., pairs : 2 * pairs, :]
        return self.balance * (second.exp() * (second - first)).sum(-1).mean(-1)
