"""The transformer of token ids: padding, its size, what is refused, and a study of it."""

import numpy as np
import pytest
import torch

import lacewing as lw
from lacewing import models
from lacewing.config import Model
from lacewing.errors import UsageError
from lacewing.models.transformer import TokenTransformer

SMALL = {"vocabulary": 20, "padding": 0, "width": 12, "depth": 2, "heads": 3}


def test_padding_changes_no_answer_and_a_record_of_padding_alone_has_one():
    torch.manual_seed(0)
    long = TokenTransformer(6, classes=3, **SMALL).eval()
    short = TokenTransformer(3, classes=3, **SMALL).eval()
    state = long.state_dict()
    short.load_state_dict({**state, "pos_embed": state["pos_embed"][:, :3]})
    ids = torch.tensor([[4, 7, 19, 0, 0, 0], [0] * 6])
    torch.testing.assert_close(long(ids)[0], short(ids[:, :3])[0])
    assert long(ids).isfinite().all()
    assert torch.equal(long(ids.float() + 1e-3), long(ids))  # the noise of the sensitivity makes no other token
    without = TokenTransformer(6, classes=3, **{**SMALL, "padding": None}).eval()
    without.load_state_dict(state)
    assert (without(ids)[0] - long(ids)[0]).abs().max() > 1e-5


def test_weights_are_counted_before_it_is_built(monkeypatch):
    model = Model(name="transformer", options=SMALL)
    with torch.device("meta"):
        count = sum(p.numel() for p in models.build(model, (6,), 3).parameters() if p.ndim > 1)
    monkeypatch.setattr(models, "MOST_WEIGHTS", count)
    models.check(model, (6,), 3)
    monkeypatch.setattr(models, "MOST_WEIGHTS", count - 1)
    with pytest.raises(UsageError, match=f"would have {count:,} weights here"):
        models.check(model, (6,), 3)


@pytest.mark.parametrize(
    ("options", "shape", "said"),
    [
        ({}, (6,), r"model.options.vocabulary: 'transformer' needs it; give a whole number from 2"),
        (SMALL | {"padding": 20}, (6,), r"padding = 20 is no id of a vocabulary of 20"),
        (SMALL | {"heads": 5}, (6,), r"heads = 5 does not divide the width, 12"),
        (SMALL, (3, 8, 8), r"'transformer' needs rows of token ids, and records here have shape \(3, 8, 8\)"),
        (SMALL, (5000,), r"records of 5,000 tokens: 'transformer' takes at most 4,096"),
    ],
)
def test_impossible_options_are_one_sentence(options, shape, said):
    with pytest.raises(UsageError, match=said):
        models.check(Model(name="transformer", options=options), shape, 3)


def test_ids_beyond_the_vocabulary_are_refused():
    model = Model(name="transformer", options=SMALL)
    models.check_tokens(model, np.array([[0, 19]]))
    with pytest.raises(UsageError, match=r"options.vocabulary = 20: the data set holds the id 20, .* set it to 21"):
        models.check_tokens(model, np.array([[1, 20]]))


def _study(tmp_path, **fields):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "tokens.npz", x=rng.integers(0, 20, (80, 6)), y=np.arange(80) % 2)
    return {
        "name": "tokens",
        "data": {"dataset": str(tmp_path / "tokens.npz")},
        "model": {"name": "transformer", "options": SMALL},
        "train": {"precision": "fp32", "epochs": 1},
        "networks": [{"method": "dense"}, {"method": "imp", "levels": 1, "fraction": 0.5}],
        "run": {"seeds": [0]},
        "attacks": {"names": ["discriminator", "loss"]},
        **fields,
    }


@pytest.mark.slow
def test_a_study_of_tokens_has_results_and_refuses_what_changes_ids(tmp_path):
    for fields, said in (
        ({"attacks": {"names": ["label-noise"]}}, "it asks about changed copies of records .* and token ids have none"),
    ):
        with pytest.raises(UsageError, match=said):
            lw.run(_study(tmp_path, **fields), out=tmp_path / "refused", quiet=True)
    found = lw.run(_study(tmp_path), out=tmp_path / "run", quiet=True)
    assert {(a.attack, a.network.network) for a in found.attacks} >= {("loss", "dense"), ("discriminator", "imp-01")}
