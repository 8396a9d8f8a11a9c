"""Attacks that rebuild training records from a user's network, each with its gate, beside who knows the prior alone.

Each function checks what its attack needs and raises `UsageError`, the end of a sentence, where it cannot run; what it
returns runs the attack. Axes: N audited records, of which n are judged; D values of what is rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing import reconstruction
from lacewing.auditing import _outputs
from lacewing.auditing._call import as_tensor
from lacewing.auditing._inputs import LEAST, RawData
from lacewing.errors import UsageError
from lacewing.gradients import measuring
from lacewing.metrics import Bools, Floats

SHOWN = 8  # records whose pictures are kept where they are asked for
_FEW = 4  # records that tell what a layer sees
_MOST_RECORDS = 100  # of stationarity, which was seen to work with up to 20
_MOST_CLASSES = 100
_INVERSION_STEPS = 300


@dataclass(frozen=True, eq=False)
class Held:
    """What attacks are run on. Other records, that the network never saw, tell what the prior alone gives."""

    model: nn.Module
    audited: RawData
    member_N: Bools
    prior: RawData
    form: _outputs.Form
    classes: int
    seed: int
    targets: int
    steps: int
    l2: float | None
    retrain: bool
    pictures: bool

    def flat(self, records: RawData) -> Floats:
        """(N, D) values of records."""
        values: Floats = records.x.reshape(len(records), -1).astype(np.float64)
        return values


@dataclass(frozen=True, eq=False)
class Outcome:
    """Similarities of n audited records with what was rebuilt, and with what the prior alone gives."""

    scores_3n: Floats  # rebuilt, the nearest other record, the mean of the class
    row_n: npt.NDArray[np.int64]  # of the audited records
    gate: float  # NaN: the attack has none
    share: float  # of the values that were rebuilt
    of_features: bool  # what was rebuilt: the inputs of the last layer, not of the network
    tries: int  # what was rebuilt: a similarity is that with the most similar of so many
    nearest_tries: int  # the same of other records
    rebuilt_PD: Floats  # pictures, if they were asked for
    true_P: npt.NDArray[np.int64]  # the audited record beside each


def informed(held: Held) -> Callable[[], Outcome]:
    """All training records but one are known; each of some of them is once the missing one."""
    x = as_tensor(held.model, held.audited.x)
    layer = reconstruction.last_layer(held.model, x[:_FEW])
    every = reconstruction.features(held.model, layer.name, x)
    inside, y = np.flatnonzero(held.member_N), held.audited.y
    rows, others = _alike(held)
    mask = None if layer.kept_DC.all() else layer.kept_DC
    if held.retrain:
        assert held.l2 is not None
        solved = reconstruction.softmax_regression(
            every[inside], y[inside], l2=held.l2, kept_DC=mask, classes=held.classes
        )
        found = reconstruction.Stationary(solved, held.l2, 0.0, 0.0)
    else:
        found = reconstruction.stationary(layer, every[inside], y[inside], held.l2)
    if not found.gate <= reconstruction.LAST_GATE:
        raise UsageError(
            f"the gradient of its last layer at the members is {found.gate:.2g} times the share of the median record, "
            f"and at most {reconstruction.LAST_GATE:g} lets a record be told from it: the layer was not trained to a "
            "stationary point of cross-entropy with weight decay, or the members are not all that it was trained on. "
            "retrain=True with l2=0.001 audits the features with a last layer that is"
        )

    def run() -> Outcome:
        flat = held.flat(held.audited)
        scores, shares, tries = np.zeros((3, 2 * len(rows))), [], []
        pictures: list[tuple[Floats, Bools, Floats]] = []  # features, which were rebuilt, mean input of the class
        for place, (i, j) in enumerate(zip(rows, others, strict=True)):
            known = inside[inside != i]
            centre = every[known].mean(axis=0)  # without the missing record, which would lie opposite to it else
            both, same = every[[i, j]] - centre, known[y[known] == y[i]]
            whole, kept = _missing(found, every[known], y[known], mask)
            shares.append(kept.mean())
            tries.append(len(same))
            pair = [place, len(rows) + place]
            scores[0, pair] = reconstruction.similarity((whole - centre)[None], both)
            if len(same):
                scores[1, pair] = reconstruction.similarity(every[same] - centre, both)
                scores[2, pair] = reconstruction.similarity(every[same].mean(axis=0)[None] - centre, both)
            if held.pictures and place < SHOWN:
                pictures.append((whole, kept, flat[same if len(same) else known].mean(axis=0)))
        of_features = every.shape != flat.shape or not np.allclose(every, flat, rtol=1e-4, atol=1e-5)
        wanted = np.array([whole for whole, _, _ in pictures], np.float64).reshape(len(pictures), every.shape[1])
        if pictures and of_features:
            start = np.stack([mean for _, _, mean in pictures]).reshape(-1, *held.audited.x.shape[1:])
            begin = as_tensor(held.model, start.astype(np.float32))
            kept_PD = np.stack([kept for _, kept, _ in pictures])
            inverted = reconstruction.invert_features(held.model, layer.name, wanted, kept_PD, begin)
            wanted = inverted.flatten(1).double().cpu().numpy()
        return Outcome(
            scores, np.r_[rows, others], found.gate, float(np.mean(shares)), of_features,
            1, int(np.median(tries)), wanted, rows[: len(wanted)],
        )  # fmt: skip

    return run


def _missing(
    found: reconstruction.Stationary, known_ND: Floats, label_N: npt.NDArray[np.integer], mask: Bools | None
) -> tuple[Floats, Bools]:
    """(features, which were solved for); others are those of the mean record of its class.

    A record that left no trace in the weights is the mean of all.
    """
    try:
        rebuilt = reconstruction.missing_record(
            found.solved, known_ND, label_N, l2=found.l2, kept_DC=mask, l2_intercept=found.l2_intercept
        )
    except UsageError:
        return known_ND.mean(axis=0), np.zeros(known_ND.shape[1], bool)
    same = known_ND[label_N == rebuilt.label]
    mean = (same if len(same) else known_ND).mean(axis=0)
    return np.where(rebuilt.found_D, rebuilt.x_D, mean), rebuilt.found_D


def _alike(held: Held) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Members that are once missing, and a non-member of its class beside each."""
    rng, y = np.random.default_rng([held.seed, 261]), held.audited.y
    free = {c: rng.permutation(np.flatnonzero(~held.member_N & (y == c))).tolist() for c in np.unique(y)}
    pairs = [(i, free[y[i]].pop()) for i in rng.permutation(np.flatnonzero(held.member_N)) if free[y[i]]]
    if len(pairs) < LEAST:
        raise UsageError(f"{len(pairs)} members have an audited non-member of their class beside them: give {LEAST}")
    rows, others = zip(*pairs[: held.targets], strict=True)
    return np.array(rows), np.array(others)


def stationarity(held: Held) -> Callable[[], Outcome]:
    """Candidates whose gradients add up to the weights of a perceptron of two layers."""
    inside = np.flatnonzero(held.member_N)
    x, y = held.flat(held.audited), held.audited.y
    if len(inside) > _MOST_RECORDS:
        raise UsageError(f"stationarity is for at most {_MOST_RECORDS} training records, and there are {len(inside)}")
    if set(np.unique(y[inside])) != {0, 1}:
        raise UsageError("stationarity needs members of two classes, labelled 0 and 1")
    network = reconstruction.two_layers(held.model, as_tensor(held.model, held.audited.x[:_FEW]))
    inputs = torch.from_numpy(x[inside]).float()
    gate, _ = reconstruction.residual(network, inputs, torch.from_numpy(2.0 * y[inside] - 1).float())
    if not gate <= reconstruction.GATE:
        raise UsageError(
            f"the relative squared residual of stationarity at the members is {gate:.2g}, and the attack was seen to "
            f"work up to {reconstruction.GATE:g}: a usual initialisation, a short training or further training records "
            "leave more"
        )

    def run() -> Outcome:
        prior, count = held.flat(held.prior), 2 * len(inside)
        centre = prior.mean(axis=0)
        spread = float(np.sqrt(((prior - centre) ** 2).mean())) or 1.0
        rows = reconstruction.row_space(network, len(inside)) if network.kept is None else None
        with torch.enable_grad():
            rebuilt, _ = reconstruction.reconstruct(
                network, candidates=count, dimension=x.shape[1], steps=held.steps, seed=held.seed, rows_RD=rows,
                spread=spread,
            )  # fmt: skip
        found, records = rebuilt.double().numpy() - centre, x - centre
        drawn = np.random.default_rng([held.seed, 262]).permutation(len(prior))[:count]
        scores = np.stack(
            [
                reconstruction.similarity(found, records),
                reconstruction.similarity(prior[drawn] - centre, records),
                reconstruction.similarity(_means(held, prior) - centre, records),
            ]
        )
        shown = inside[np.argsort(-scores[0, inside], kind="stable")][: SHOWN * held.pictures]
        nearest = [int(np.argmax(reconstruction.similarity(records[[i]], found))) for i in shown]
        return Outcome(scores, np.arange(len(x)), gate, 1.0, False, count, len(drawn), (found + centre)[nearest], shown)

    return run


def inversion(held: Held) -> Callable[[], Outcome]:
    """The input that the network takes for each class with the largest confidence."""
    if held.classes > _MOST_CLASSES:
        raise UsageError(f"class inversion is for at most {_MOST_CLASSES} classes, and there are {held.classes}")

    def logits(x: Tensor) -> Tensor:
        answer = held.model(x)
        found: Tensor = held.form.logits(torch, answer.reshape(len(answer), -1))
        return found

    def run() -> Outcome:
        x, y, prior = held.flat(held.audited), held.audited.y, held.flat(held.prior)
        shape, centre = held.audited.x.shape[1:], prior.mean(axis=0)
        start = torch.zeros_like(as_tensor(held.model, held.audited.x[:1]))
        with measuring(held.model), torch.enable_grad():
            inverted = [
                reconstruction.invert_class(logits, c, shape, steps=_INVERSION_STEPS, start=start)
                for c in range(held.classes)
            ]
        pictures_CD = np.stack([picture.flatten().double().cpu().numpy() for picture in inverted])
        rng = np.random.default_rng([held.seed, 263])
        others = {c: np.flatnonzero(held.prior.y == c) for c in range(held.classes)}
        other = np.stack([prior[rng.choice(rows)] if len(rows) else centre for rows in others.values()])
        scores = np.zeros((3, len(x)))
        for place, pictures in enumerate((pictures_CD, other, _means(held, prior))):
            for c in range(held.classes):
                scores[place, y == c] = reconstruction.similarity(pictures[[c]] - centre, x[y == c] - centre)
        best = [_most_alike(scores[0], held.member_N & (y == c)) for c in range(held.classes)]
        shown = np.array([i for i in best if i is not None][: SHOWN * held.pictures], np.int64)
        return Outcome(scores, np.arange(len(x)), np.nan, 1.0, False, 1, 1, pictures_CD[y[shown]], shown)

    return run


def _most_alike(score_N: Floats, of_N: Bools) -> int | None:
    rows = np.flatnonzero(of_N)
    return int(rows[np.argmax(score_N[rows])]) if len(rows) else None


def _means(held: Held, prior_ND: Floats) -> Floats:
    """(C, D) the mean prior record of each class; of a class that has none, the mean of all."""
    every = prior_ND.mean(axis=0)
    of_class = [held.prior.y == c for c in range(held.classes)]
    return np.stack([prior_ND[rows].mean(axis=0) if rows.any() else every for rows in of_class])


ATTACKS: Mapping[str, Callable[[Held], Callable[[], Outcome]]] = {
    "informed": informed,
    "inversion": inversion,
    "stationarity": stationarity,  # last, since it takes longest
}
