"""The paper's attack: perceptrons that tell members from non-members, trained on a shadow network.

Gonon et al., "Sparsity in neural networks can improve their privacy", arXiv 2304.10553 (2023). A query is described
by its class, the network's outputs and the local sensitivity of the outputs; a discriminator learns membership on a
shadow network, whose members are known, and is then asked about the target network. The paper's text leaves details
open; ours are defaults of this package: the GIVEN class as one-hot, softmax outputs, features standardised on the
shadow, hidden layers (30), (30, 30), (100, 100, 100), Adam at 1e-2, 1e-3, 1e-4 for 80 epochs, and the best of the
nine chosen on a fifth of the shadow's queries that none of them was fitted on.

`learned` is the same attack for any description of a query: blocks of columns side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.attacks._perceptron import fit_and_score
from lacewing.attacks._types import Attack, Evidence, Observed, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Estimate, Floats

THREAT_MODEL = (
    "The attacker queries the network for its class probabilities, also near a record, knows the record's class, "
    "and trains a shadow network of the same recipe on other records of the same source."
)
HIDDEN = ((30,), (30, 30), (100, 100, 100))
LEARNING_RATES = (1e-2, 1e-3, 1e-4)
EPOCHS = 80
HOLDOUT = 0.2
# A spread below this is rounding (of probabilities that are all alike): dividing by it would only magnify noise.
CONSTANT = 1e-12


@dataclass(frozen=True)
class Candidate:
    """One of the discriminators; accuracies are balanced ones."""

    name: str  # e.g. "mlp 30-30, lr 0.001"
    holdout_accuracy: float  # on the held-out part of the shadow's queries: the choice rests on this alone
    target_accuracy: float


@dataclass(frozen=True)
class Discrimination:
    """What the discriminators said about the target's N queries."""

    scores_N: Floats  # P(member) by the chosen candidate
    decision_N: Bools  # score >= 0.5
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    oracle: Candidate  # the best on the TARGET: no attacker can choose it
    oracle_accuracy: Estimate  # its balanced accuracy; interval corrected for having looked at all (Bonferroni)


@dataclass(frozen=True)
class Features:
    """Standardised features: F of the shadow's queries to fit on, H of them held out, N of the target's."""

    fit: Floats
    fit_is: Bools
    ask: Floats  # (H + N, columns): those held out, then the target's
    held_is: Bools
    target_is: Bools


def features(logits_NC: npt.ArrayLike, label_N: npt.ArrayLike, sensitivity_N: npt.ArrayLike, classes: int) -> Floats:
    """What a discriminator sees of N queries, as float64 of shape (N, 2 C + 1).

    Columns: one-hot of the given label (C), softmax of the logits (C), local sensitivity
    (1/e) E||R(x) - R(x + e n)||, n ~ N(0, I) (1). Raises `UsageError` that names a feature which is not finite, a
    label out of range, or shapes that do not fit.
    """
    logits, sensitivity = np.asarray(logits_NC, np.float64), np.asarray(sensitivity_N, np.float64)
    label = np.asarray(label_N)
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise UsageError(f"logits have shape {logits.shape}: with classes = {classes} give {classes} columns.")
    if not label.shape == sensitivity.shape == (len(logits),):
        raise UsageError(
            f"label {label.shape} and sensitivity {sensitivity.shape} must hold one value for each of "
            f"the {len(logits)} rows of logits."
        )
    for name, values in (("logits", logits), ("sensitivity", sensitivity)):
        if not np.isfinite(values).all():
            raise UsageError(f"{name} hold NaN or infinite values: measure the network again in fp32.")
    if not np.issubdtype(label.dtype, np.integer) or ((label < 0) | (label >= classes)).any():
        raise UsageError(f"label holds values that are no class: give whole numbers from 0 to {classes - 1}.")
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = exp / exp.sum(axis=1, keepdims=True)
    return np.concatenate([np.eye(classes)[label], softmax, sensitivity[:, None]], axis=1)


def discriminate(
    shadow_features: npt.ArrayLike,
    shadow_member: npt.ArrayLike,
    target_features: npt.ArrayLike,
    target_member: npt.ArrayLike,
    *,
    seed: int,
) -> Discrimination:
    """Fit the nine discriminators on the shadow's queries, choose one there, and apply all to the target's.

    Features have shape (records, F), equal F for both. Fits see 80 % of the shadow's queries (stratified by
    membership, drawn from ``seed``), standardised by the mean and standard deviation of these; the balanced accuracy
    on the other 20 % makes the choice, ties going to the smaller network, then to the larger learning rate. The
    target's membership enters the reported accuracies only. Batches hold min(200, n) of n fitted queries
    (scikit-learn's default), or n/40 where that is larger: at most 40 steps an epoch. Equal arguments give equal bytes
    on one kind of machine, whatever the number of cores. Raises `UsageError` for features that are not finite, shapes
    that do not fit, fewer than five members or non-members of the shadow, and a fit that diverges.
    """
    data = prepare(shadow_features, shadow_member, target_features, target_member, seed=seed)
    scores = {}
    for index, (hidden, lr) in enumerate(itertools.product(HIDDEN, LEARNING_RATES)):
        drawn = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        name = f"mlp {'-'.join(map(str, hidden))}, lr {lr:g}"
        scores[name] = fit_and_score(
            data.fit, data.fit_is, data.ask, hidden, lr, seed=drawn, epochs=EPOCHS, batch=_batch(len(data.fit))
        )
    return choose(scores, data)


def prepare(
    shadow_features: npt.ArrayLike,
    shadow_member: npt.ArrayLike,
    target_features: npt.ArrayLike,
    target_member: npt.ArrayLike,
    *,
    seed: int,
) -> Features:
    """Hold out a fifth of the shadow's queries; standardise all features by those that are left to fit on.

    Raises `UsageError` as `discriminate` does.
    """
    shadow, shadow_is = _checked(shadow_features, shadow_member, "shadow")
    target, target_is = _checked(target_features, target_member, "target")
    if shadow.shape[1] != target.shape[1]:
        raise UsageError(f"The shadow has {shadow.shape[1]} features and the target {target.shape[1]}: give the same.")
    for kind, count in (("members", int(shadow_is.sum())), ("non-members", int((~shadow_is).sum()))):
        if count < 5:
            raise UsageError(f"The shadow has {count} {kind}: the discriminator needs at least 5 to hold some out.")
    held = _holdout(shadow_is, seed)
    fit, ask = shadow[~held], np.concatenate([shadow[held], target])
    mean, std = fit.mean(axis=0), fit.std(axis=0)
    std = np.where(std > CONSTANT, std, 1.0)
    for values in (fit, ask):  # in place: of many records each copy takes much memory
        values -= mean
        values /= std
    return Features(fit, shadow_is[~held], ask, shadow_is[held], target_is)


def choose(scores: dict[str, Floats], data: Features) -> Discrimination:
    """Choose by the balanced accuracy on the held-out queries, the first of equals.

    ``scores`` maps each candidate's name to its P(member) of the held-out queries, then the target's.
    """
    candidates, on_target = [], []
    for name, score in scores.items():
        asked_held, asked_target = np.split(score, [len(data.held_is)])
        accuracies = (
            metrics.balanced_accuracy(asked_held >= 0.5, data.held_is).value,
            metrics.balanced_accuracy(asked_target >= 0.5, data.target_is).value,
        )
        candidates.append(Candidate(name, *accuracies))
        on_target.append(asked_target)
    chosen = int(np.argmax([c.holdout_accuracy for c in candidates]))  # the first of equals
    oracle = int(np.argmax([c.target_accuracy for c in candidates]))
    corrected = 1.0 - 0.05 / len(candidates)
    return Discrimination(
        scores_N=on_target[chosen],
        decision_N=on_target[chosen] >= 0.5,
        chosen=candidates[chosen],
        candidates=tuple(candidates),
        oracle=candidates[oracle],
        oracle_accuracy=metrics.balanced_accuracy(on_target[oracle] >= 0.5, data.target_is, corrected),
    )


def learned(
    describe: Callable[[Evidence, str], Sequence[Floats]],
    evidence: Evidence,
    shadow: Evidence | None,
    *,
    seed: int,
    shown: str,
    learner: Callable[..., Discrimination] = discriminate,
) -> Scored:
    """Learn membership on ``shadow`` and apply it to ``evidence``.

    Args:
        describe: (evidence, role) -> blocks of columns, (N, F_i) each, put side by side; the role, "shadow" or
            "target", is for error messages.
        evidence: about the target.
        shadow: about the network that the attacker learns on.
        seed: of hold-out, initialisation and order.
        shown: the features in words, for the notes.
        learner: `discriminate` or a function of its signature.

    Raises:
        UsageError: there is no shadow, its classes differ from the target's, or as ``describe`` and ``learner`` do.
    """
    if shadow is None:
        raise UsageError("evidence has no shadow: this attack learns on a network whose members are known.")
    known, asked = shadow.observed, evidence.observed
    if known.classes != asked.classes:
        raise UsageError(f"The shadow has {known.classes} classes and the target {asked.classes}: give the same.")
    described = [np.concatenate(describe(*seen), axis=1) for seen in ((shadow, "shadow"), (evidence, "target"))]
    result = learner(described[0], known.member_N, described[1], asked.member_N, seed=seed)
    return Scored(
        scores_N=result.scores_N,
        decision_N=result.decision_N,
        variant=result.chosen.name,
        notes={
            "features": shown,
            "chosen": result.chosen.name,
            "oracle": result.oracle.name,
            "candidates": [
                {"name": c.name, "holdout_accuracy": c.holdout_accuracy, "target_accuracy": c.target_accuracy}
                for c in result.candidates
            ],
        },
        oracle=result.oracle_accuracy,
    )


USUAL = "one-hot of the given label, softmax outputs, local sensitivity"


def usual(seen: Observed, role: str) -> Floats:
    """`features` of what was observed, (N, 2 C + 1). Raises `UsageError` where the sensitivity was not measured."""
    if seen.sensitivity_N is None:
        raise UsageError(f"The {role} has no sensitivity: this attack needs it measured.")
    return features(seen.logits_NC, seen.label_N, seen.sensitivity_N, seen.classes)


def attack(evidence: Evidence, *, seed: int) -> Scored:
    """The paper's discriminators, trained on the shadow. The oracle is the best of the nine on the target itself.

    Raises `UsageError` as `features` and `discriminate` do, and where shadow or sensitivity is missing.
    """
    return learned(lambda seen, role: [usual(seen.observed, role)], evidence, evidence.shadow, seed=seed, shown=USUAL)


def attack_queries(evidence: Evidence, *, seed: int) -> Scored:
    """The same discriminators with the log-odds phi under Q fixed queries of the record as further features.

    phi of the record as it is has a column of its own; the other Q-1 stand in rising order, since what tells members
    is how high and how even they are, not which crop gave which (ours; the paper has one query a record).
    Raises `UsageError` as `attack` does, where phi is missing, and where shadow and target saw other numbers of
    queries.
    """

    def described(seen: Evidence, role: str) -> list[Floats]:
        phi = seen.observed.phi_NQ
        if phi is None:
            raise UsageError(f"The {role} has no phi: this attack needs the outputs under fixed queries.")
        phi = np.asarray(phi, np.float64)
        counts.append(phi.shape[1])
        if len(set(counts)) > 1:
            raise UsageError(f"The shadow saw {counts[0]} queries a record and the target {counts[1]}: give the same.")
        return [usual(seen.observed, role), phi[:, :1], np.sort(phi[:, 1:], axis=1)]

    counts: list[int] = []
    return learned(described, evidence, evidence.shadow, seed=seed, shown=f"{USUAL}, phi under fixed queries")


def _batch(n: int) -> int:
    return min(n, max(200, -(-n // 40)))


def _holdout(member: Bools, seed: int) -> Bools:
    """A fifth of the members and a fifth of the non-members, drawn at random (at least one of each)."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(member), dtype=np.bool_)
    for kind in (member, ~member):
        records = rng.permutation(np.flatnonzero(kind))
        held[records[: max(1, round(HOLDOUT * len(records)))]] = True
    return held


def _checked(features_NF: npt.ArrayLike, member_N: npt.ArrayLike, role: str) -> tuple[Floats, Bools]:
    x, member = np.asarray(features_NF, np.float64), np.asarray(member_N, np.bool_)
    if x.ndim != 2 or member.shape != (len(x),):
        raise UsageError(f"The {role}'s features {x.shape} and member {member.shape} must have one row a record.")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=0))
    if len(bad):
        raise UsageError(f"Feature {bad[0]} of the {role} holds NaN or infinite values: give finite features.")
    if member.all() or not member.any():
        raise UsageError(f"The {role} needs members and non-members: {int(member.sum())} of {len(member)} are members.")
    return x, member


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="discriminator",
        family="discriminator",
        threat_model=THREAT_MODEL,
        function=attack,
        needs=frozenset({"sensitivity", "shadow"}),
        adaptive="same recipe and density",
    ),
    Attack(
        name="discriminator-queries",
        family="discriminator",
        threat_model=(
            "The attacker queries the network for its class probabilities of a record, near it, and of several fixed "
            "augmentations of it, knows the record's class, and trains a shadow network of the same recipe on other "
            "records of the same source."
        ),
        function=attack_queries,
        needs=frozenset({"queries", "sensitivity", "shadow"}),
    ),
)
