"""Trajectories and the learned white-box attack: what they alone see, and what they refuse."""

import dataclasses

import numpy as np
import pytest

from lacewing.attacks import Evidence, Observed, _discriminator, perform
from lacewing.attacks._trajectory import ENTRIES
from lacewing.attacks._white_box import ENTRIES as WHITE_BOX
from lacewing.errors import UsageError
from lacewing.results import NetworkResult

NETWORK = NetworkResult("imp-02", "imp", "target", 0, 0.1, 0.1, 100, 10, 1.0, 0.5)
LEARNED = next(entry for entry in WHITE_BOX if entry.name == "white-box-learned")
N = 240


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(_discriminator, "EPOCHS", 60)
    monkeypatch.setattr(_discriminator, "HIDDEN", ((8,),))
    monkeypatch.setattr(_discriminator, "LEARNING_RATES", (1e-2,))


def _seen(rng, member, leak=0.0, layer_leak=0.0):
    logits = rng.normal(size=(N, 3))
    logits[:, 0] += leak * member
    layer = rng.normal(size=(N, 4)) - np.array([0, 0, layer_leak, 0]) * member[:, None]
    return Observed(logits, np.zeros(N, int), member, np.ones(N), np.arange(N), layer_NF=layer)


def _held(seed, leaks=(0.0, 0.0), own=0.0, layer_leak=0.0):
    made = []
    for part in range(2):
        rng = np.random.default_rng([seed, part])
        member = rng.permutation(np.arange(N) < N // 2)
        related = tuple(_seen(rng, member, leak) for leak in leaks)
        made.append(Evidence(_seen(rng, member, own, layer_leak), related=related))
    return dataclasses.replace(made[0], shadow=made[1])


def _auc(entry, held):
    return perform(entry, held, NETWORK, seed=0).metrics["auc"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_leak_of_an_earlier_network_alone_is_found(entry):
    assert _auc(entry, _held(0, leaks=(4.0, 0.0))).value > 0.9
    found = _auc(entry, _held(0))
    assert found.low < 0.5 < found.high


def test_a_leak_in_one_layer_alone_is_found_by_the_learned_white_box_attack():
    assert _auc(LEARNED, _held(0, layer_leak=3.0)).value > 0.9
    found = _auc(LEARNED, _held(0))
    assert found.low < 0.5 < found.high


def test_sequences_and_layers_that_do_not_fit_are_refused():
    held = _held(1)
    attack = ENTRIES[0].function
    with pytest.raises(UsageError, match="shadow's sequence has 2 networks and the target's 1"):
        attack(dataclasses.replace(held, related=held.related[:1]), seed=0)
    with pytest.raises(UsageError, match="no sequence of networks"):
        attack(dataclasses.replace(held, shadow=Evidence(held.shadow.observed)), seed=0)
    other = dataclasses.replace(held.related[0], record_N=np.arange(N)[::-1].copy())
    with pytest.raises(UsageError, match="asked about other records"):
        attack(dataclasses.replace(held, related=(other, held.related[1])), seed=0)
    narrow = dataclasses.replace(held.observed, layer_NF=held.observed.layer_NF[:, :3])
    with pytest.raises(UsageError, match="shadow has 4 numbers about its layers and the target 3"):
        LEARNED.function(dataclasses.replace(held, observed=narrow), seed=0)
    for entry in (*ENTRIES, LEARNED):
        with pytest.raises(UsageError, match=f"'{entry.name}' needs"):
            perform(entry, dataclasses.replace(held, shadow=None), NETWORK, seed=0)
