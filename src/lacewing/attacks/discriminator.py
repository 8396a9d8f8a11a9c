"""The paper's attack: perceptrons that tell members from non-members, trained on a shadow network.

Gonon et al., "Sparsity in neural networks can improve their privacy", arXiv 2304.10553 (2023). A query is described
by its class, the network's outputs and the local sensitivity of the outputs; a discriminator learns membership on a
shadow network, whose members are known, and is then asked about the target network. The paper's text leaves details
open; ours are defaults of this package: the GIVEN class as one-hot, softmax outputs, features standardised on the
shadow, hidden layers (30), (30, 30), (100, 100, 100), Adam at 1e-2, 1e-3, 1e-4 for 80 epochs, and the best of the
nine chosen on a fifth of the shadow's queries that none of them was fitted on.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.attacks._types import Observed
from lacewing.errors import UsageError
from lacewing.metrics import Bools, Estimate, Floats
from lacewing.results import AttackResult, NetworkResult

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
    """One of the nine discriminators; accuracies are balanced ones."""

    hidden: tuple[int, ...]
    lr: float
    holdout_accuracy: float  # on the held-out part of the shadow's queries: the choice rests on this alone
    target_accuracy: float

    @property
    def name(self) -> str:
        """E.g. ``mlp 30-30, lr 0.001``."""
        return f"mlp {'-'.join(map(str, self.hidden))}, lr {self.lr:g}"


@dataclass(frozen=True)
class Discrimination:
    """What the discriminators said about the target's N queries."""

    scores_N: Floats  # P(member) by the chosen candidate
    decision_N: Bools  # score >= 0.5
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    oracle: Candidate  # the best on the TARGET: no attacker can choose it
    oracle_accuracy: Estimate  # its balanced accuracy; interval corrected for having looked at nine (Bonferroni)


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
    that do not fit, and fewer than five members or non-members of the shadow.
    """
    shadow, shadow_is = _checked(shadow_features, shadow_member, "shadow")
    target, target_is = _checked(target_features, target_member, "target")
    if shadow.shape[1] != target.shape[1]:
        raise UsageError(f"The shadow has {shadow.shape[1]} features and the target {target.shape[1]}: give the same.")
    for kind, count in (("members", int(shadow_is.sum())), ("non-members", int((~shadow_is).sum()))):
        if count < 5:
            raise UsageError(f"The shadow has {count} {kind}: the discriminator needs at least 5 to hold some out.")

    held = _holdout(shadow_is, seed)
    mean, std = shadow[~held].mean(axis=0), shadow[~held].std(axis=0)
    std = np.where(std > CONSTANT, std, 1.0)
    shadow, target = (shadow - mean) / std, (target - mean) / std

    candidates, scores = [], []
    for index, (hidden, lr) in enumerate(itertools.product(HIDDEN, LEARNING_RATES)):
        score = _fit_and_score(
            shadow[~held],
            shadow_is[~held],
            np.concatenate([shadow[held], target]),
            hidden,
            lr,
            seed=int(np.random.SeedSequence([seed, index]).generate_state(1)[0]),
        )
        on_held, on_target = np.split(score, [int(held.sum())])
        accuracies = (
            metrics.balanced_accuracy(on_held >= 0.5, shadow_is[held]).value,
            metrics.balanced_accuracy(on_target >= 0.5, target_is).value,
        )
        candidates.append(Candidate(hidden, lr, *accuracies))
        scores.append(on_target)

    chosen = int(np.argmax([c.holdout_accuracy for c in candidates]))  # the first of equals
    oracle = int(np.argmax([c.target_accuracy for c in candidates]))
    corrected = 1.0 - 0.05 / len(candidates)
    return Discrimination(
        scores_N=scores[chosen],
        decision_N=scores[chosen] >= 0.5,
        chosen=candidates[chosen],
        candidates=tuple(candidates),
        oracle=candidates[oracle],
        oracle_accuracy=metrics.balanced_accuracy(scores[oracle] >= 0.5, target_is, corrected),
    )


def attack(network: NetworkResult, shadow: Observed, target: Observed, *, classes: int, seed: int) -> AttackResult:
    """Attack the target network that ``network`` describes and measure the success in every way of `METRICS`.

    ``oracle_balanced_accuracy`` is the best of the nine on the target itself. A TPR at an FPR that the number of
    non-members does not allow is None. Raises `UsageError` as `features` and `discriminate` do, and where the
    sensitivity was not measured.
    """
    described = []
    for role, seen in (("shadow", shadow), ("target", target)):
        if seen.sensitivity_N is None:
            raise UsageError(f"The {role} has no sensitivity: the attack 'discriminator' needs it measured.")
        described.append(features(seen.logits_NC, seen.label_N, seen.sensitivity_N, classes))
    result = discriminate(described[0], shadow.member_N, described[1], target.member_N, seed=seed)

    member = target.member_N
    n_members, n_nonmembers = int(member.sum()), int((~member).sum())
    accuracy = metrics.balanced_accuracy(result.decision_N, member)
    fpr, tpr = metrics.roc(result.scores_N, member)
    at = {
        f"tpr_at_fpr_{rate:g}": metrics.tpr_at_fpr(result.scores_N, member, rate)
        if rate * n_nonmembers > 1 - 1e-9
        else None
        for rate in (0.01, 0.001)
    }
    return AttackResult(
        network=network,
        attack="discriminator",
        variant=result.chosen.name,
        threat_model=THREAT_MODEL,
        n_members=n_members,
        n_nonmembers=n_nonmembers,
        metrics={
            "balanced_accuracy": accuracy,
            "auc": metrics.auc(result.scores_N, member),
            **at,
            "defence": metrics.defence(accuracy),
            "advantage": metrics.advantage(accuracy),
            "oracle_balanced_accuracy": result.oracle_accuracy,
        },
        notes={
            "classes": classes,
            "features": "one-hot of the given label, softmax outputs, local sensitivity",
            "chosen": result.chosen.name,
            "oracle": result.oracle.name,
            "candidates": [
                {"name": c.name, "holdout_accuracy": c.holdout_accuracy, "target_accuracy": c.target_accuracy}
                for c in result.candidates
            ],
        },
        fpr=fpr,
        tpr=tpr,
        record_N=target.record_N.astype(np.int64),
        member_N=member,
        hit_N=result.decision_N == member,
        correct_N=np.argmax(target.logits_NC, axis=1) == target.label_N,
    )


def _fit_and_score(x: Floats, member: Bools, ask: Floats, hidden: tuple[int, ...], lr: float, *, seed: int) -> Floats:
    """P(member) of the rows of ``ask`` by one perceptron fitted to (x, member) for all its epochs."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    perceptron = MLPClassifier(
        hidden_layer_sizes=hidden,
        activation="relu",
        solver="adam",
        learning_rate_init=lr,
        batch_size=min(len(x), max(200, -(-len(x) // 40))),
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS + 1,  # never stops early
        tol=0.0,
        random_state=seed,
    )
    with threadpool_limits(1), warnings.catch_warnings():  # one thread: sums in one order on any number of cores
        warnings.simplefilter("ignore", ConvergenceWarning)
        perceptron.fit(x, member.astype(np.int64))
        score: Floats = perceptron.predict_proba(ask)[:, 1]
    return score


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
