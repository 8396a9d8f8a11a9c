"""What is measured on trained networks, or asked about sets of records and columns: planted cases and nulls.

The worlds of ``test_attacks.py`` draw what an attacker observes; here networks are trained and asked. Each row of
`ROWS` says whether something is found: an AUC whose 95 % interval lies above 0.5, of usage an interval that leaves out
none, of a column a surplus. In a null both signs count, so that at most 18 of 200 may find something.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing import sets
from lacewing.attackers import gathered
from lacewing.attacks import _discriminator
from lacewing.attribute import ATTACKS, AttributeFindings, SeedRow, _guess, compare, summarised
from lacewing.config import Attribute
from lacewing.data import Records, four_way
from lacewing.metrics import Estimate
from lacewing.results import NetworkResult
from lacewing.study.jobs._columns import guess_columns

REPEATS, MOST = 200, 18
FEATURES, SIDE = 8, 50

Found = Callable[[int, bool], bool]


def small() -> None:
    """Learned attacks in a size that hundreds of fits allow."""
    torch.set_num_threads(1)
    _discriminator.EPOCHS, _discriminator.HIDDEN, _discriminator.LEARNING_RATES = 15, ((8,),), (1e-2,)
    _guess.TREES = 20


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in ((_discriminator, ("EPOCHS", "HIDDEN", "LEARNING_RATES")), (_guess, ("TREES",))):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
    small()


def outside(found: Estimate, leak: bool) -> bool:
    """Whether 0.5 is outside of the interval; of a planted leak, below it."""
    return found.low > 0.5 or (not leak and found.high < 0.5)


def records(rng: np.random.Generator, n: int = SIDE) -> tuple[Any, Any]:
    """Labels are coins: a network can know them of the records that it was trained on alone."""
    return rng.normal(size=(n, FEATURES)).astype(np.float32), rng.integers(2, size=n)


def trained(x: Any, y: Any, seed: int, steps: int = 60) -> tuple[nn.Module, list[nn.Module]]:
    """A network, and two earlier states of it."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(FEATURES, 48), nn.ReLU(), nn.Linear(48, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    before = []
    for step in range(steps):
        if step in (steps // 4, steps // 2):
            before.append(copy.deepcopy(network))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    return network, before


def on_a_network(name: str, seed: int, leak: bool) -> bool:
    """An attack of the registry through `lacewing.audit`; without a leak the network was trained on other records."""
    rng = np.random.default_rng([seed, 701, len(name)])
    members, nonmembers, others = records(rng), records(rng), records(rng)
    network, before = trained(*(members if leak else others), seed)
    options: dict[str, Any] = {}
    if name == "trajectory-checkpoints":
        options = {"refit": trained, "references": 2, "checkpoints": before}
    elif name != "label-boundary":
        options = {"refit": lambda *given: trained(*given)[0], "references": 2}
    audit = lw.audit(network, members, nonmembers, attacks=name, seed=seed, processes=1, progress=False, **options)
    auc = audit.attacks[0].metrics["auc"]
    assert auc is not None
    return outside(auc, leak)


def groups(how: Any, seed: int, leak: bool) -> bool:
    """Eight records of each of 60 people; of half of them one was used, by "mean" all were."""
    rng = np.random.default_rng([seed, 702])
    person = np.repeat(np.arange(60), 8)
    used = 1 if how == "any" else 8
    member = (person < 30) & (np.tile(np.arange(8), 60) < used)
    score = rng.normal(size=480) + (3.0 if used == 1 else 1.0) * leak * member
    auc = sets.group_level(score, member, person, how=how, mixed="member").metrics["auc"]
    assert auc is not None
    return outside(auc, leak)


def ranges(seed: int, leak: bool) -> bool:
    """Boxes around the records of both sides."""
    rng = np.random.default_rng([seed, 703])
    members, nonmembers, others = records(rng), records(rng), records(rng)
    network, _ = trained(*(members if leak else others), seed)
    x, y = (np.concatenate(pair) for pair in zip(members, nonmembers, strict=True))
    found = lw.audit_ranges(network, members, nonmembers, low=x - 0.3, high=x + 0.3, label=y, points=8, seed=seed)
    auc = found.metrics["auc"]
    assert auc is not None
    return outside(auc, leak)


def usage(seed: int, leak: bool) -> bool:
    """Of two hundred records half were used, or none."""
    rng = np.random.default_rng([seed, 704])
    used, unused, others = (records(rng, 100) for _ in range(3))
    network, _ = trained(*(used if leak else others), seed, steps=150)
    owned = tuple(np.concatenate(pair) for pair in zip(used, unused, strict=True))
    options: dict[str, Any] = {"references": 6, "seed": seed, "processes": 1, "progress": False}
    share = lw.audit_usage(network, owned, refit=lambda *given: trained(*given, steps=150)[0], **options).share
    assert not leak or share.low <= 0.5 <= share.high
    return share.low > 0


def labelled(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    """Records whose last column is a coin that goes into the label."""
    x, y = records(rng, n)
    x[:, -1] = 3 * rng.integers(2, size=n)
    return x, np.where(rng.random(n) < 0.3, x[:, -1] > 0, y).astype(np.int64)


def attribute(seed: int, leak: bool) -> bool:
    """A column of coins that goes into the label; without a leak, members were not trained on."""
    rng = np.random.default_rng([seed, 705])

    members, nonmembers, others, population = (labelled(rng, 200) for _ in range(4))
    network, _ = trained(*(members if leak else others), seed, steps=300)
    column = FEATURES - 1
    return bool(lw.audit_attribute(network, members, nonmembers, column=column, population=population, seed=seed).found)


def columns_of_a_study(seed: int, leak: bool) -> bool:
    """The same column as [attribute] asks it in a run: splits of one table, and the cell of the table of attackers."""
    rng = np.random.default_rng([seed, 706])
    side, repeats = (200, 8) if leak else (60, 3)
    n, column = 4 * side, FEATURES - 1
    x, y = labelled(rng, n)
    table = Records(x, y, y, np.arange(n), 2, "table", np.zeros(n, bool))
    still = np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32)
    about: Any = ("dense", "dense", "dense", "dense", 1.0)
    networks, rows = [], []
    for repeat in range(repeats):
        split = four_way(n, 8 * seed + repeat)
        part = split.part_N(n)
        member, audited = part == 0, part < 2
        network, _ = trained(*((x[member], y[member]) if leak else labelled(rng, side)), 8 * seed + repeat, steps=150)
        declared = SimpleNamespace(attribute=Attribute(columns=(column,)), data=SimpleNamespace(split="four-way"))
        unnamed = SimpleNamespace(columns={})  # the data set: its columns have no names
        work: Any = SimpleNamespace(
            study=declared, dataset=unnamed, records=table, split={repeat: split}.get, normalisation=still
        )
        job: Any = SimpleNamespace(seed=repeat, id="dense")
        hits = guess_columns(work, job, network, audited)
        for attack in ATTACKS:
            imputed, hit = (hits[f"{name}_NJ"][audited, 0] for name in ("imputed", attack))
            of, alone = (compare(each, imputed, member[audited]) for each in (hit, imputed))
            shares = [each.value for each in (of.members, of.nonmembers, alone.members, alone.nonmembers)]
            rows.append(SeedRow(*about, repeat, 0, str(column), 2, attack, side, side, *shares, *of.surplus, 0.5))
        networks.append(NetworkResult("dense", "dense", "target", repeat, 1.0, 1.0, 9, 9, 1.0, 0.5, kind="dense"))
    told = AttributeFindings((str(column),), tuple(summarised(rows, halves=False)), tuple(rows))
    cell = gathered(networks, [], columns=told, registry={}).rows[0].cells["attribute"]
    assert cell.tried == len(ATTACKS)
    return cell.standing in (("above",) if leak else ("above", "below"))


ROWS: dict[str, Found] = {
    "label-boundary, HopSkipJump on networks": partial(on_a_network, "label-boundary"),
    "white-box-learned, on networks": partial(on_a_network, "white-box-learned"),
    "trajectory-checkpoints, on networks": partial(on_a_network, "trajectory-checkpoints"),
    "groups, any of a person's records": partial(groups, "any"),
    "groups, mean of a person's records": partial(groups, "mean"),
    "ranges, on networks": ranges,
    "usage, on networks": usage,
    "attribute, on networks": attribute,
    "attribute, over seeds of a study": columns_of_a_study,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_planted_leak_is_found(name: str) -> None:
    assert ROWS[name](0, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_at_most_18_of_200_nulls_find_something(name: str) -> None:
    assert sum(ROWS[name](seed, False) for seed in range(REPEATS)) <= MOST
