"""SAMIA: the network against PyTorch's own layer, leaks found, nulls, determinism, nothing global changed."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.attacks import _samia
from lacewing.attacks._discriminator import features
from lacewing.attacks._measure import perform
from lacewing.attacks._samia import ENTRIES, attend
from lacewing.attacks._types import Evidence, Observed
from lacewing.errors import UsageError
from lacewing.results import NetworkResult

NETWORK = NetworkResult("imp-02", "imp", "target", 0, 0.1, 0.1, 100, 10, 1.0, 0.5)
(SAMIA,) = ENTRIES


@pytest.fixture(autouse=True, scope="module")
def short():
    """Fits of eight epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_samia, "EPOCHS", (2, 8))
        yield


def observed(seed, n=200, classes=3, leak=3.0, sign=(1, 1, 1)):
    """A network that is surer of its members by ``leak`` (less sure, in classes of sign -1)."""
    rng = np.random.default_rng(seed)
    member, label = rng.permutation(np.arange(n) < n // 2), rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), label] += 1 + leak * np.array(sign)[label] * np.where(member, 0.5, -0.5)
    return Observed(logits, label, member, np.exp(rng.normal(size=n)), rng.permutation(10 * n)[:n])


def evidence(target, shadow):
    return Evidence(target, shadow=Evidence(shadow))


def shown(seen):
    return features(seen.logits_NC, seen.label_N, seen.sensitivity_N, seen.classes)


@pytest.fixture(scope="module")
def leaking():
    return evidence(observed(2), observed(1))


@pytest.fixture(scope="module")
def result(leaking):
    return perform(SAMIA, leaking, NETWORK, seed=0)


def test_tokens_are_output_sensitivity_and_label_of_each_class():
    seen = observed(0, n=20)
    x = shown(seen)
    tokens = _samia._tokens(x).numpy()
    assert tokens.shape == (20, 3, 3)
    np.testing.assert_allclose(tokens[:, :, 0], x[:, 3:6], rtol=1e-6)
    np.testing.assert_allclose(tokens[:, :, 1], np.repeat(seen.sensitivity_N[:, None], 3, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(tokens[:, :, 2].argmax(axis=1), seen.label_N)


def test_the_network_is_a_transformer_encoder_layer_between_two_perceptrons():
    weights = _samia._initial(5, torch.Generator().manual_seed(3))
    tokens = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(4))
    weights = {name: (weight + 0.1 * name.endswith("bias")).detach() for name, weight in weights.items()}
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, activation="gelu", batch_first=True)
    names = {
        "attend": (layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias),
        "mix": (layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias),
        "widen": (layer.linear1.weight, layer.linear1.bias),
        "narrow": (layer.linear2.weight, layer.linear2.bias),
    }
    with torch.no_grad():
        for name, (weight, bias) in names.items():
            weight.copy_(weights[name])
            bias.copy_(weights[f"{name} bias"])
        x = layer(nn.functional.gelu(tokens @ weights["embed"].T + weights["embed bias"]))
        x = (x.flatten(1) @ weights["hidden"].T + weights["hidden bias"]).relu()
        expected = (x @ weights["answer"].T + weights["answer bias"])[:, 0]
        torch.testing.assert_close(_samia._forward(weights, tokens), expected, rtol=1e-4, atol=1e-5)


def test_a_leak_is_found_and_the_choice_rests_on_the_holdout(leaking, result):
    assert result.metrics["auc"].value > 0.85
    candidates = {c["name"]: c for c in result.notes["candidates"]}
    assert len(candidates) == 4
    assert candidates[result.variant]["holdout_accuracy"] == max(c["holdout_accuracy"] for c in candidates.values())
    oracle = max(c["target_accuracy"] for c in candidates.values())
    assert result.metrics["oracle_balanced_accuracy"].value == oracle
    np.testing.assert_array_equal(result.score_N >= 0.5, result.hit_N == leaking.observed.member_N)


def test_a_leak_of_opposite_sense_in_one_class_is_found():
    found = evidence(observed(2, leak=5, sign=(1, -1, 1)), observed(1, leak=5, sign=(1, -1, 1)))
    result = perform(SAMIA, found, NETWORK, seed=0)
    in_class = found.observed.label_N == 1
    assert result.metrics["auc"].value > 0.85
    assert result.hit_N[in_class].mean() > 0.75


def test_half_is_inside_the_intervals_where_nothing_leaks(monkeypatch):
    monkeypatch.setattr(_samia, "EPOCHS", (2, 4))
    held = []
    for seed in range(10):
        found = perform(SAMIA, evidence(observed(10 + seed, leak=0), observed(20 + seed, leak=0)), NETWORK, seed=seed)
        held += [found.metrics[m].low <= 0.5 <= found.metrics[m].high for m in ("auc", "balanced_accuracy")]
    assert np.mean(held) >= 0.9


def test_equal_calls_give_equal_bytes_whatever_is_set_and_leave_it_set(leaking, result):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        torch.set_num_threads(2)
        torch.manual_seed(9)
        before = torch.get_rng_state()
        with torch.no_grad():
            again = SAMIA.function(leaking, seed=0).scores_N
            assert not torch.is_grad_enabled()
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
    assert again.tobytes() == result.score_N.tobytes()
    assert SAMIA.function(leaking, seed=1).scores_N.tobytes() != result.score_N.tobytes()


def test_neither_the_target_membership_nor_its_order_changes_the_scores(leaking, result):
    target, shadow, order = leaking.observed, leaking.shadow.observed, np.random.default_rng(0).permutation(200)
    flipped = attend(shown(shadow), shadow.member_N, shown(target)[order], ~target.member_N[order], seed=0)
    assert flipped.chosen.name == result.variant
    np.testing.assert_allclose(flipped.scores_N, result.score_N[order], atol=1e-5)


def test_wild_features_give_finite_scores(leaking):
    wild = dataclasses.replace(
        leaking.observed, logits_NC=1e4 * leaking.observed.logits_NC, sensitivity_N=np.full(200, 1e30)
    )
    assert np.isfinite(SAMIA.function(dataclasses.replace(leaking, observed=wild), seed=0).scores_N).all()


def test_bad_input_is_named(leaking):
    target, shadow = leaking.observed, leaking.shadow.observed
    with pytest.raises(UsageError, match="6 features: give 2 C"):
        attend(shown(shadow)[:, 1:], shadow.member_N, shown(target)[:, 1:], target.member_N, seed=0)
    with pytest.raises(UsageError, match="target has no sensitivity"):
        SAMIA.function(dataclasses.replace(leaking, observed=dataclasses.replace(target, sensitivity_N=None)), seed=0)
    with pytest.raises(UsageError, match="no shadow"):
        SAMIA.function(Evidence(target), seed=0)
