"""What ``precision = "auto"`` is in a run folder: decided once, when the folder is made, and written down there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lacewing import models
from lacewing.study.declared import Study
from lacewing.study.folder import PlanFile
from lacewing.study.jobs import Workspace

if TYPE_CHECKING:
    from lacewing.training.precision import PrecisionChoice


def decide(
    work: Workspace, before: PlanFile | None, reuse: Sequence[tuple[Path, PlanFile]], *, elsewhere: bool
) -> PrecisionChoice | None:
    """The choice that a folder records or, where there is none yet, the one to make; None if the study leaves none.

    Args:
        work: its study may leave the precision to "auto".
        before: what the run folder records; None where there is none yet.
        reuse: folders that finished networks are to be copied from, which must be of one precision, with what they
            record.
        elsewhere: workers run on other machines than this one.
    """
    import torch

    from lacewing.training.precision import PrecisionChoice, choose

    study = work.study
    asked = study.undecided()
    if before is not None:
        kept = PrecisionChoice(**before.facts["precision"]) if "precision" in before.facts else None
        chosen = _of(before.study, study, kept.chosen if kept else before.study.train.precision)
        if kept is not None and (not asked or kept.chosen == chosen):
            return kept
        return PrecisionChoice(chosen, "the folder was begun with it", {}) if asked else None
    if not asked:
        return None
    if reuse:
        (place, (_, old, _)), *_ = reuse
        return PrecisionChoice(_of(old, study, old.train.precision), f"the networks of --reuse {place} are", {})
    if work.device == "cuda" and not torch.cuda.is_available():
        return PrecisionChoice(
            "fp32", "no GPU is here to be asked: set train.precision if those of the cluster gain", {}
        )
    found = choose(
        lambda: models.build(study.model, work.dataset.shape, work.dataset.classes),
        work.records.x,
        work.records.y,
        next(train for n in study.networks if (train := study.train_of(n)).precision == "auto" and train.stack == 1),
        normalisation=work.normalisation,
        device=work.device,
    )
    return replace(found, why=f"{found.why}; the cluster's machines were not asked") if elsewhere else found


def notes(declared: Study, choice: PrecisionChoice, *, fresh: bool, sliced: bool, planned: bool) -> list[str]:
    """What a person should know of the choice.

    Args:
        declared: the study as it was given.
        choice: what its "auto" became.
        fresh: it was made now.
        sliced: it was made for a part of the study.
        planned: no folder will record it.
    """
    asked = declared.undecided()
    options = " ".join(f"--set {field}={choice.chosen}" for field in asked)
    found = []
    if asked and fresh and planned and choice.step_seconds:
        found.append(
            f"precision: probably {choice}. The run times both again as it makes its folder, which then keeps its "
            f"precision. If the two are close it may choose the other; {options} fixes this one."
        )
    elif asked and fresh:
        found.append(f"precision: {choice}.")
    if asked and sliced:
        found.append(f"precision: every other slice must be run with {options}; slices of two precisions do not merge.")
    return found


def apart(first: Study, second: Study) -> str | None:
    """How the precision of two folders' networks differs, and what mends it; None: it does not."""
    there = {network.entry: second.train_of(network).precision for network in second.networks}
    for index, network in enumerate(first.networks):
        own, other = first.train_of(network).precision, there.get(network.entry, "")
        if other and own != other:
            field = (
                f"networks.{first.place(index)}.train.precision" if "precision" in network.train else "train.precision"
            )
            return (
                f"it trains '{network.entry}' in {other} and not in {own}, and slices are joined only if they "
                f"are of one precision. Run it again in another folder with --set {field}={own}"
            )
    return None


def _of(old: Study, new: Study, default: str) -> Literal["fp32", "bf16"]:
    """The precision in which a folder of ``old`` trains what ``new`` leaves to "auto"; else the default."""
    there = {network.entry: network for network in old.networks}
    ways = [
        old.train_of(there[network.entry]).precision
        for network in new.networks
        if (train := new.train_of(network)).precision == "auto" and train.stack == 1 and network.entry in there
    ]
    return "bf16" if (ways[0] if ways else default) == "bf16" else "fp32"
