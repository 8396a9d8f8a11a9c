"""How far a record is from the decision boundary, found by asking for predicted classes alone: HopSkipJump.

Chen, Jordan and Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack" (IEEE S&P 2020, arXiv
1904.02144), algorithms 1 and 2, untargeted, L2: batches of 100 sqrt(t) queries for the direction, with the mean answer
as a baseline (equation 16), at a radius of distance / d; steps of distance / sqrt(t), halved until the class changes;
bisection to d^(-3/2) of the way. Ours: the search starts at the nearest of up to 200 records that the network answers
with another class (theirs: at random noise), values stay between the least and the largest of each feature (theirs: 0
and 1), it ends when the next round might exceed the number of queries, and the smallest distance that was met counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lacewing.errors import UsageError
from lacewing.gradients import device_of, measuring
from lacewing.support.mapped import Stored

QUERIES = 1000  # of a record, at most
_FIRST = 100  # queries for the first direction
_POOL = 200  # records among which the search starts
_HALVINGS = 10  # of a step
_FLOATS = 16_000_000  # numbers that are asked about at once: 64 MB
_AT_ONCE, _CPU_INPUTS = 2000, 50 * 3 * 32 * 32  # queries in one forward pass; numbers of them on a CPU

Ask = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Distances:
    """How far N records are from the boundary, and what it cost."""

    boundary_N: npt.NDArray[np.float32]  # L2, of normalised inputs; 0: answered wrong; NaN where not measured
    asked_N: npt.NDArray[np.int32]  # queries of each record; 0 where not measured
    shared: int  # further queries, about where to start, for all records together


@dataclass(frozen=True)
class _Around:
    """What the searches of all records share: the answers to some records, and the range of each feature."""

    pool: Tensor  # (P, d) normalised inputs
    answered: Tensor  # (P,) their classes
    low: Tensor  # (d,)
    high: Tensor


@torch.no_grad()
def boundary(
    model: nn.Module,
    x: Stored,
    y: npt.NDArray[np.integer],
    *,
    normalisation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    of: npt.NDArray[np.bool_],
    queries: int = QUERIES,
    seed: int = 0,
) -> Distances:
    """The L2 distance of records to where the predicted class changes, by HopSkipJump.

    Only predicted classes are used. The network is asked in evaluation mode and fp32. The directions that are tried
    depend on ``seed`` and the record's place in ``x`` alone, so that they are the same for every network.

    Args:
        model: on its device.
        x: raw records, (N, C, H, W) or (N, D).
        y: (N,) the given labels.
        normalisation: mean and standard deviation per channel or feature, as in training.
        of: (N,) True for records whose distance is measured.
        queries: most queries of a record, at least 130: the record itself, one bisection and one step.
        seed: of the directions and of the records at which searches start.

    Raises:
        UsageError: too few queries for one step.
    """
    steps = _bisections(math.prod(x.shape[1:]))
    if queries < (least := 1 + steps + _FIRST + _HALVINGS + steps):
        raise UsageError(f"boundary_queries = {queries} is too few for one step of HopSkipJump: give at least {least}.")
    device, shape = device_of(model), x.shape[1:]
    at_once = _AT_ONCE if device.type != "cpu" else min(_AT_ONCE, max(8, _CPU_INPUTS // math.prod(shape)))
    mean, std = (torch.from_numpy(a).to(device).view((1, -1) + (1,) * (x.ndim - 2)) for a in normalisation)

    def inputs(rows: npt.NDArray[np.integer]) -> Tensor:
        raw = torch.from_numpy(np.ascontiguousarray(x[rows])).to(device).float()
        return ((raw - mean) / std).flatten(1)

    def ask(points: Tensor) -> Tensor:
        parts = torch.split(points, at_once)
        return torch.cat([model(part.view(len(part), *shape)).argmax(1) for part in parts])

    distance = np.full(len(x), np.nan, np.float32)
    asked = np.zeros(len(x), np.int32)
    with measuring(model):
        pool = inputs(np.sort(np.random.default_rng([seed, 501]).permutation(len(x))[:_POOL]))
        span = []
        for start in range(0, len(x), 1000):
            some = inputs(np.arange(start, min(start + 1000, len(x))))
            span.append((some.amin(0), some.amax(0)))
        low = torch.stack([each[0] for each in span]).amin(0)
        high = torch.stack([each[1] for each in span]).amax(0)
        around = _Around(pool, ask(pool), low, high)
        rows = np.flatnonzero(of)
        most = _FIRST * math.sqrt(max(1.0, queries / _FIRST)) * pool.shape[1]  # numbers of one record's last batch
        for part in np.array_split(rows, max(1, math.ceil(len(rows) * most / _FLOATS))):
            label = torch.from_numpy(np.ascontiguousarray(y[part], np.int64)).to(device)
            found, spent = _search(ask, inputs(part), label, around, part, queries, seed)
            distance[part], asked[part] = found.cpu().numpy(), spent.cpu().numpy()
    return Distances(distance, asked, len(pool))


def _bisections(d: int) -> int:
    """How often a line is halved until d^(-3/2) of it is left (section III-D of the paper)."""
    return math.ceil(1.5 * math.log2(max(d, 2)))


def _search(
    ask: Ask, x: Tensor, label: Tensor, around: _Around, rows: npt.NDArray[np.integer], queries: int, seed: int
) -> tuple[Tensor, Tensor]:
    """(R,) distances and (R,) queries of R records (R, d); ``rows`` are their places, which seed their directions."""
    d = x.shape[1]
    spent = torch.ones(len(x), dtype=torch.int32, device=x.device)
    right = ask(x) == label
    apart = torch.cdist(x, around.pool).masked_fill(around.answered[None] == label[:, None], torch.inf)
    near, start = apart.min(1)
    going = right & near.isfinite()
    best = torch.where(right, torch.linalg.vector_norm(around.high - around.low), torch.zeros(len(x), device=x.device))
    point = torch.where(going[:, None], around.pool[start], x)

    def far(points: Tensor, of: Tensor) -> Tensor:
        found: Tensor = torch.linalg.vector_norm(points - x[of], dim=1)
        return found

    def other(points: Tensor, of: Tensor) -> Tensor:
        """Whether (.., d) points of the records ``of`` are answered with another class."""
        wanted = label[of].repeat_interleave(points[0].numel() // d)
        return (ask(points.reshape(-1, d)) != wanted).view(points.shape[:-1])

    def nearer(points: Tensor, of: Tensor) -> Tensor:
        """The points, moved towards their records until just before the class changes (Bin-Search)."""
        low, high = torch.zeros(len(of), device=x.device), torch.ones(len(of), device=x.device)
        for _ in range(_bisections(d)):
            middle = (low + high) / 2
            there = other(x[of] + middle[:, None] * (points - x[of]), of)
            low, high = torch.where(there, low, middle), torch.where(there, middle, high)
        spent[of] += _bisections(d)
        return x[of] + high[:, None] * (points - x[of])

    of = going.nonzero().squeeze(1)
    if len(of):
        point[of] = nearer(point[of], of)
        best[of] = far(point[of], of)
    step = 0
    while True:
        step += 1
        batch = int(_FIRST * math.sqrt(step))
        of = (going & (spent + batch + _HALVINGS + _bisections(d) <= queries) & (best > 0)).nonzero().squeeze(1)
        if not len(of):
            return best, spent
        distance = far(point[of], of)
        along = _direction(other, point[of], of, distance / d, around, _noise(rows, of, batch, d, seed, step))
        spent[of] += batch
        length, moved, looking = distance / math.sqrt(step), point[of].clone(), torch.ones_like(distance).bool()
        for _ in range(_HALVINGS):
            left = looking.nonzero().squeeze(1)
            if not len(left):
                break
            tried = point[of[left]] + length[left, None] * along[left]
            tried = torch.minimum(torch.maximum(tried, around.low), around.high)
            there = other(tried, of[left])
            spent[of[left]] += 1
            moved[left[there]] = tried[there]
            looking[left[there]] = False
            length[left] /= 2
        point[of] = nearer(moved, of)
        best[of] = torch.minimum(best[of], far(point[of], of))


def _noise(rows: npt.NDArray[np.integer], of: Tensor, batch: int, d: int, seed: int, step: int) -> Tensor:
    """(R, batch, d) unit vectors, drawn for each record alone on the CPU: the same on every device and in any batch."""
    drawn = []
    for row in rows[of.cpu().numpy()]:
        key = np.random.SeedSequence([seed, 502, int(row), step]).generate_state(1)[0]
        drawn.append(torch.randn((batch, d), generator=torch.Generator().manual_seed(int(key))))
    noise = torch.stack(drawn)
    unit: Tensor = noise / torch.linalg.vector_norm(noise, dim=2, keepdim=True)
    return unit.to(of.device)


def _direction(
    other: Callable[[Tensor, Tensor], Tensor], point: Tensor, of: Tensor, radius: Tensor, around: _Around, noise: Tensor
) -> Tensor:
    """(R, d) unit vectors away from the records' class, by the answers around the points (equation 16)."""
    asked = point[:, None] + radius[:, None, None] * noise
    asked = torch.minimum(torch.maximum(asked, around.low), around.high)
    noise = (asked - point[:, None]) / radius[:, None, None].clamp_min(1e-30)
    sign = 2.0 * other(asked, of) - 1.0
    mean = sign.mean(1, keepdim=True)
    weight = torch.where(mean.abs() == 1, mean, sign - mean)  # all alike: there is nothing to subtract
    along = (weight[:, :, None] * noise).mean(1)
    unit: Tensor = along / torch.linalg.vector_norm(along, dim=1, keepdim=True).clamp_min(1e-30)
    return unit
