"""What attacks that rebuild records run on: a torch module as it is asked, its records, and the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lacewing.attacks._deciding import SelfCheck, fits_members, members_answered_better
from lacewing.attacks._types import CLASSES, Task
from lacewing.auditing import _ask, _call, _evidence, _outputs, _records
from lacewing.auditing._inputs import LEAST
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._rebuild import Held
from lacewing.data import row_hashes
from lacewing.errors import UsageError
from lacewing.metrics import Floats


class Given(NamedTuple):
    """What attacks run on, the logits of the audited records, and whether this is the model that learned them."""

    held: Held
    logits_NC: Floats
    selfchecks: tuple[SelfCheck, ...]


def held(
    model: Any, members: Any, nonmembers: Any, population: Any, task: Task, outputs: Outputs | None,
    form: Mapping[str, Any], notes: list[str], settings: Mapping[str, Any], pictures: bool,
) -> Given:  # fmt: skip
    """Arguments and errors as for `lacewing.reconstruct`; ``settings`` are fields of `Held`, ``notes`` are added to.

    ``form`` has ``classes`` and ``collate``.
    """
    from torch import nn

    _outputs.check(task, outputs)
    if task not in CLASSES:
        raise UsageError(f"task='{task}': reconstruction is of classifiers.")
    if not isinstance(model, nn.Module):
        raise UsageError(f"model is a {type(model).__name__}: reconstruction reads weights, so give a torch module.")
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise UsageError("model was made under torch.inference_mode(), so that it has no gradients: make it outside.")
    reading = _call.reading(model, **form, task=task, stream=None, notes=notes)
    seed = settings["seed"]
    records = _records.read(members, nonmembers, population, task=task, seed=seed, reading=reading, notes=notes)
    every, member, prior = records.audited, records.member_N, records.population
    if every.x.dtype.kind != "f":
        raise UsageError(f"x has dtype {every.x.dtype}, and whole numbers cannot be rebuilt: give floats.")
    if every.form.is_dict and not every.form.all_float:
        raise UsageError(
            f"the fields {', '.join(every.form.columns)} hold words or whole numbers, which cannot be rebuilt: give "
            "floats."
        )
    network = _call.prepared(model, every.form, "model", task)  # which takes one tensor and answers one
    assert isinstance(network, nn.Module)
    asked = _ask.ask(network, every, None, queries=1, signals=frozenset(), task=task, outputs=outputs)
    notes += asked.notes
    seen = _evidence.of_target(asked.answers, records, task).observed
    raw = _call.answered(network, every, "model", task)
    logits, answers, _ = _outputs.as_logits(raw, task, outputs, "the answers")
    if len(every.form.classes) > logits.shape[1]:
        raise UsageError("some records have labels of classes that the network has not: leave these records out.")
    inside = set(row_hashes(every.x[member]))
    unseen = np.array([row not in inside for row in row_hashes(every.x)])
    outside = np.flatnonzero(~member & unseen)
    if prior is None:
        drawn = np.random.default_rng([settings["seed"], 260]).permutation(outside)
        prior, outside = every.at(np.sort(drawn[: len(drawn) // 2])), np.sort(drawn[len(drawn) // 2 :])
        notes.append(f"No population was given: {len(prior)} of the non-members, drawn at random, are the prior.")
    else:
        prior = prior.at(np.array([row not in inside for row in row_hashes(prior.x)]))
    if left_out := int((~member & ~unseen).sum()):
        notes.append(f"The {left_out} non-members that are equal to a member were left out.")
    if len(outside) < LEAST or len(prior) < LEAST:
        raise UsageError(
            f"{len(outside)} non-members are left to be told from members and {len(prior)} as prior: at least {LEAST} "
            "of each are needed, none of them equal to a member."
        )
    chosen = np.concatenate([np.flatnonzero(member), outside])
    found = Held(
        model=network, audited=every.at(chosen), member_N=member[chosen], prior=prior, form=answers,
        classes=logits.shape[1], pictures=pictures, **settings,
    )  # fmt: skip
    return Given(found, logits[chosen], (fits_members(seen), members_answered_better(seen)))
