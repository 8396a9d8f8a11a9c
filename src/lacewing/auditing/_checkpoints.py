"""Earlier states of a training: of the audited model, and of the reference that serves as its shadow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp
from scipy.stats import ttest_ind

from lacewing.attacks import ATTACKS
from lacewing.attacks._types import CLASSES, Attack, Evidence, Observed, Task
from lacewing.auditing._attacks import Attacks, Chosen
from lacewing.auditing._inputs import RawData
from lacewing.auditing._outputs import Outputs
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Floats
from lacewing.models._weights import load_state

if TYPE_CHECKING:
    from lacewing.auditing._call import Array

NEED = "checkpoints"  # as attacks name it
_ATTACK = "trajectory-checkpoints"
MOST = 256
_RISE, _LEAST = 0.25, 1e-3  # of the range of mean losses: a rise that noise of a training does not explain
_CLEAR, _UNCLEAR = 3.5, 1.5  # standard errors of a difference that is there, and of one that may be chance


def with_trajectories(chosen: Chosen, attacks: Attacks, checkpoints: Any, refit: object, task: Task) -> Chosen:
    """The attacks of an audit, with those that read ``checkpoints`` where there are some and "all" is asked for.

    Raises `UsageError`: an attack is asked for that lacks them, or they are there and nothing can read them.
    """
    reading = [attack.name for attack in chosen.attacks if NEED in attack.needs and not attack.about]
    if not isinstance(checkpoints, list | tuple):
        raise UsageError(
            f"checkpoints is a {type(checkpoints).__name__}: give a list of earlier states of the model, the earliest "
            "first."
        )
    if not checkpoints:
        if required := sorted(chosen.required & {*reading}):
            raise UsageError(
                f"attacks: '{required[0]}' cannot run. It needs earlier checkpoints of the model's training: pass "
                "checkpoints=, and a refit that returns (model, checkpoints)."
            )
        return chosen
    if len(checkpoints) > MOST:
        raise UsageError(f"checkpoints holds {len(checkpoints)} states: give at most {MOST}, such as every tenth.")
    if task not in CLASSES:
        raise UsageError(f"checkpoints are read by attacks on classifiers alone: leave them out for task='{task}'.")
    if refit is None:
        raise UsageError(
            "checkpoints needs refit: how log-odds move is learned from a shadow's checkpoints. Pass references=4 and "
            "a refit that returns (model, checkpoints), as many as of model and from the same epochs."
        )
    if "all" in ([attacks] if isinstance(attacks, str) else list(attacks) if isinstance(attacks, Sequence) else []):
        own = ATTACKS[_ATTACK]
        return Chosen(tuple(dict.fromkeys((*chosen.attacks, own))), chosen.required | {own.name})
    if not reading:
        raise UsageError(f"checkpoints: no attack that is asked for reads them; name '{_ATTACK}', or leave them out.")
    return chosen


def refused(chosen: Sequence[Attack], checkpoints: Sequence[Any]) -> dict[str, str]:
    """By attack: why it cannot run beside checkpoints, which are no denser versions of the model."""
    if not checkpoints:
        return {}
    why = "It needs denser versions of the model, and those that are given are checkpoints of its training."
    return {attack.name: why for attack in chosen if not attack.about and attack.needs & {"dense", "levels"}}


def answers(
    states: Sequence[Any],
    model: Any,
    last_NC: Array,
    records: RawData,
    *,
    who: str,
    task: Task,
    outputs: Outputs | None,
    as_model: Callable[[Any], Any] = lambda state: state,
) -> Array:
    """(T, N, C) logits of the T earlier states of ``model``, whose own are ``last_NC``.

    ``who`` names the list of states. A state is a model, or a state_dict of a torch module; ``as_model`` turns what was
    loaded into what can be asked. Raises `UsageError` where one cannot be asked, has other classes than the model, or
    answers as the model or another state does.
    """
    from lacewing.auditing import _ask, _cache

    found: dict[str, Array] = {}
    for place, state in enumerate(states):
        name = f"{who}[{place}]"
        loaded = _loaded(state, model, name)
        sizes = [_cache.size(each) for each in (loaded, model)]
        if all(size.shapes for size in sizes) and sizes[0] != sizes[1]:
            raise UsageError(f"{name} is of another architecture than the model: give states of one network.")
        asked = as_model(loaded)
        found[name] = _ask.ask(
            asked, records, None, queries=1, signals=frozenset(), who=name, task=task, outputs=outputs
        ).answers.logits_NC
        if found[name].shape != last_NC.shape:
            raise UsageError(
                f"{name} answers {found[name].shape[1]} classes and the model {last_NC.shape[1]}: give states of one "
                "network."
            )
    for (one, first), (other, second) in combinations((*found.items(), ("the model", last_NC)), 2):
        if np.array_equal(first, second):
            raise UsageError(
                f"{one} answers all records as {other} does: store a copy of each state as training goes on, such as "
                "copy.deepcopy(model.state_dict()), and leave the last one out."
            )
    return np.stack([*found.values()])


def refuse_shared(target_TNC: Array | None, reference_TNC: Array | None, who: str) -> None:
    """Raises `UsageError` where a reference has a checkpoint of the audited model's.

    The first alone may be one network: that before training, of the same seed.
    """
    if target_TNC is None or reference_TNC is None:
        return
    shared = [
        (place, other)
        for place, one in enumerate(reference_TNC)
        for other, own in enumerate(target_TNC)
        if np.array_equal(one, own)
    ]
    if not shared or (shared == [(0, 0)] and len(target_TNC) > 1):
        return
    place = shared[0][0]
    raise UsageError(
        f"checkpoints of {who}[{place}] answers all records as one of the model's own: refit must return states of the "
        "training that it does. If it is the state before training, leave it out."
    )


def doubts(evidence: Evidence) -> list[str]:
    """Notes where checkpoints seem to be in another order than they were trained in, or of another training.

    In training the mean loss of members falls, and what separates them from non-members in states of the reference
    should separate them in those of the model, where both do so at the end.
    """
    if not evidence.related or evidence.shadow is None:
        return []
    notes = []
    whose = {"checkpoints": (evidence.related, evidence.observed)}
    whose["checkpoints of reference 1"] = (evidence.shadow.related, evidence.shadow.observed)
    gaps = {}
    for who, (states, last) in whose.items():
        losses = [_losses(one) for one in (*states, last)]
        means = [float(loss[last.member_N].mean()) for loss in losses]
        gaps[who] = [_gap(loss, last.member_N) for loss in losses]
        if max(np.diff(means)) > _RISE * (max(means) - min(means)) > _LEAST:
            notes.append(
                f"The mean loss of members rises over {who} ({', '.join(f'{mean:.3g}' for mean in means[:-1])}, and "
                f"{means[-1]:.3g} at the end of training): if they are not in the order of training, the earliest "
                f"first, '{_ATTACK}' finds too little."
            )
    own, theirs = gaps.values()
    if own[-1] > _CLEAR and max(theirs[:-1]) > _CLEAR and max(own[:-1]) < _UNCLEAR:
        notes.append(
            "No checkpoint answers members better than non-members, though the model and the checkpoints of reference "
            f"1 do: if they are not of the model's own training, or of other epochs, '{_ATTACK}' finds too little."
        )
    return notes


def _losses(of: Observed) -> Floats:
    """(N,) cross-entropies."""
    logits = of.logits_NC.astype(np.float64)
    found: Floats = logsumexp(logits, axis=1) - logits[np.arange(len(logits)), of.label_N]
    return found


def _gap(loss_N: Floats, member_N: Bools) -> float:
    """Welch's t of the loss: by how many standard errors it is lower on members."""
    return float(-ttest_ind(loss_N[member_N], loss_N[~member_N], equal_var=False).statistic)


def split(returned: Any, count: int, who: str) -> tuple[Any, Sequence[Any]]:
    """What refit returned, as the model and its checkpoints. Raises `UsageError`: it is no such pair."""
    if not count:
        return returned, ()
    model, states = returned if isinstance(returned, tuple) and len(returned) == 2 else (None, None)
    if not isinstance(states, list | tuple):
        raise UsageError(
            f"refit returned a {type(returned).__name__} for {who}: beside checkpoints= it must return "
            "(model, checkpoints), with a list of earlier states."
        )
    if len(states) != count:
        raise UsageError(
            f"refit returned {len(states)} checkpoints for {who} and checkpoints= holds {count}: give as many, from "
            "the same epochs."
        )
    return model, states


def _loaded(state: Any, model: Any, who: str) -> Any:
    """A state as a model: a state_dict is loaded into a copy of ``model``."""
    from torch import nn

    if not isinstance(state, Mapping):
        return state
    if not isinstance(model, nn.Module):
        raise UsageError(f"{who} is a state_dict and model is no torch module to load it into: give a function.")
    try:
        network = copy.deepcopy(model)
        load_state(network, state)
    except (UsageError, RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{who} cannot be loaded into a copy of the model ({' '.join(str(error).split())[:300]}): give its own "
            "state_dict, or the network itself."
        ) from error
    return network
