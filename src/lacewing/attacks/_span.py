"""Span attacks: is a record one of those whose span the first layer's update lies in?

The gradient of a fully connected layer is a sum of its inputs, so that training moves the first layer's weights within
the span of the training records alone. With fewer records than inputs that span is not the whole space, and a member
lies in it entirely. That gradients of a fully connected layer give its input away: Phong et al., "Privacy-preserving
deep learning via additively homomorphic encryption" (IEEE TIFS 2018), section III; Geiping et al., "Inverting
gradients" (NeurIPS 2020), proposition 3.1. The test of candidate records against a trained network's update, the
treatment of weight decay and masks, and the regression on all candidates are ours; `_subspace` cites the parts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from lacewing.attacks import _subspace
from lacewing.attacks._measure import calibrated
from lacewing.attacks._types import EVERY_TASK, Attack, Evidence, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Floats


def span_scores(evidence: Evidence, *, initialisation: bool, candidates: bool) -> Floats:
    """(N,) higher for members, from 0 to 1.

    Args:
        evidence: with first layer and inputs.
        initialisation: use the weights at initialisation; else they count as noise.
        candidates: regress the update on all N records at once, and score a record by its share of the squared
            coefficients; else score it by the share of its squared norm inside the span.

    Raises:
        UsageError: first layer, inputs or the initialisation asked for are missing.
    """
    layer, inputs = evidence.observed.first_layer, evidence.observed.inputs_ND
    if layer is None or inputs is None or (initialisation and layer.initial_HD is None):
        raise UsageError("A span attack needs the first layer's weights, its inputs and, known, its initialisation.")
    weights, x = np.asarray(layer.weights_HD, np.float64), np.asarray(inputs, np.float64)
    kept, rank = layer.kept_HD, layer.records
    initial = None if not initialisation else np.asarray(layer.initial_HD, np.float64)
    if candidates:
        return _subspace.energies(weights, initial, kept, x)
    if initial is None:
        return _subspace.shares(x, _subspace.unknown(weights, kept, rank))
    return _subspace.shares(x, _subspace.known(weights, initial, kept, rank))


def _attack(initialisation: bool, candidates: bool, evidence: Evidence, *, seed: int) -> Scored:
    """A threshold from the shadow. ``seed`` is not used: nothing is drawn."""
    from threadpoolctl import threadpool_limits

    if evidence.shadow is not None:
        of_shadow = evidence.shadow.observed.first_layer  # None: it has too many records
        if of_shadow is None or (initialisation and of_shadow.initial_HD is None):
            evidence = replace(evidence, shadow=None)
    with threadpool_limits(1):  # sums in one order on any number of cores
        score = partial(span_scores, initialisation=initialisation, candidates=candidates)
        scores, decision = calibrated(score, evidence)
    how = "coefficient in a regression on all candidates" if candidates else "share of the norm in the span"
    layer = evidence.observed.first_layer
    assert layer is not None
    notes = {"training_records": layer.records, "inputs": layer.weights_HD.shape[1], "units": layer.weights_HD.shape[0]}
    return Scored(scores, decision, f"{how}, initialisation {'known' if initialisation else 'unknown'}", notes)


def _entry(name: str, initialisation: bool, candidates: bool) -> Attack:
    holds = (
        "The attacker holds the weights and the mask of the network's first layer"
        + (", its weights at initialisation" if initialisation else "")
        + " and the number of training records, and tests "
        + ("all candidate records together" if candidates else "a candidate record")
        + ", members among them" * candidates
    )
    return Attack(
        name=name,
        family="span",
        threat_model=f"{holds}; one threshold is taken from a shadow network of the same recipe whose members are "
        "known.",
        alone=f"{holds}.",
        function=partial(_attack, initialisation, candidates),
        needs=frozenset({"first-layer", "initialisation"} if initialisation else {"first-layer"}),
        tasks=EVERY_TASK,
        in_all=False,
    )


ENTRIES: tuple[Attack, ...] = (
    _entry("span", initialisation=True, candidates=False),
    _entry("span-blind", initialisation=False, candidates=False),
    _entry("span-candidates", initialisation=True, candidates=True),
    _entry("span-candidates-blind", initialisation=False, candidates=True),
)
