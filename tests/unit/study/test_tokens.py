"""A study of token ids: what it refuses before training, its keys, its notes, and a factory of one's own."""

import numpy as np
import pytest

import lacewing as lw
from lacewing import attacks, data
from lacewing.errors import UsageError
from lacewing.study import jobs
from lacewing.study.declared import load_study
from lacewing.study.plan import make_plan, token_notes
from lacewing.study.store import Store

SMALL = {"vocabulary": 20, "padding": 0, "width": 12, "depth": 1, "heads": 3}


@pytest.fixture
def study(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "tokens.npz", x=rng.integers(0, 20, (80, 6)), y=np.arange(80) % 2)
    (tmp_path / "my_bag.py").write_text(
        "from torch import nn\n"
        "class Bag(nn.Module):\n"
        "    def __init__(self, ids, classes):\n"
        "        super().__init__()\n"
        "        self.embed, self.out = nn.Embedding(ids, 8), nn.Linear(8, classes)\n"
        "    def forward(self, ids):\n"
        "        return self.out(self.embed(ids).mean(1))\n"  # an embedding takes no floats
        "def bag(shape, classes, ids=20):\n"
        "    return Bag(ids, classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return {
        "name": "tokens",
        "data": {"dataset": str(tmp_path / "tokens.npz")},
        "model": {"name": "transformer", "options": SMALL},
        "train": {"precision": "fp32", "epochs": 1},
        "networks": [{"method": "dense"}, {"method": "imp", "levels": 1, "fraction": 0.5}],
        "run": {"seeds": [0]},
        "attacks": {"names": ["discriminator", "loss"]},
    }


def _open(study, tmp_path, **fields):
    asked = load_study({**study, **fields})
    return jobs.Workspace.open(asked, Store(tmp_path / "run"), None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"train": {"mixup": 0.2}}, "train.mixup: it changes or orders numbers of records, and token ids are names"),
        ({"train": {"augment": ["flip"]}}, "train.augment: it mirrors and shifts images, .* are token ids"),
        ({"signals": {"noise": 0.002}}, "signals.noise: it changes"),
        ({"signals": {"queries": 2}}, "signals.queries: it changes"),
        ({"attribute": {"columns": [1]}}, "attribute: it changes"),
        ({"model": {"name": "transformer", "options": SMALL | {"vocabulary": 19}}}, "vocabulary = 19: .* the id 19"),
        ({"model": {"name": "transformer", "options": SMALL | {"padding": 20}}}, "padding = 20 is no id of a vocab"),
        ({"networks": [{"method": "dense", "model": {"name": "mlp"}}]}, "model.name: 'mlp' takes numbers, and records"),
    ],
)
def test_what_changes_ids_or_does_not_read_them_is_refused(study, tmp_path, fields, said):
    with pytest.raises(UsageError, match=said):
        _open(study, tmp_path, **fields)


def test_data_tokens_is_for_other_models_and_refuses_those_that_read_numbers(study, tmp_path):
    named = {**study["data"], "tokens": True}
    with pytest.raises(UsageError, match="'mlp' takes numbers"):
        _open(study, tmp_path, data=named, model={"name": "mlp"})
    own = _open(study, tmp_path, data=named, model={"factory": "my_bag:bag"})
    implied = _open(study, tmp_path)
    assert own.records.x.dtype == implied.records.x.dtype == np.int32
    assert _open(study, tmp_path, model={"factory": "my_bag:bag"}).records.x.dtype == np.uint8
    assert own.digest == implied.digest


def test_augmentation_of_a_table_is_refused(study, tmp_path):
    with pytest.raises(UsageError, match=r"train.augment: .* rows of a table"):
        _open(study, tmp_path, model={"name": "mlp"}, train={"augment": ["crop"]})


def _keys(study, data):
    asked = load_study({**study, "data": data, "model": {"factory": "my_bag:bag"}})
    return {job.key for job in make_plan(asked, data_digest="0" * 64, models={"": {}}).networks}


def test_a_key_holds_tokens_only_where_the_study_says_so(study):
    plain, told = study["data"], {**study["data"], "tokens": True}
    assert _keys(study, plain) == _keys(study, {**plain, "tokens": False})
    assert _keys(study, plain).isdisjoint(_keys(study, told))


def test_the_plan_says_what_attacks_on_ids_do_without(study):
    asked = load_study(study)
    (one,) = token_notes(asked, attacks.ATTACKS, left_out=False)
    assert "sensitivity is 0 for every record, and discriminator reads the other quantities alone" in one
    first, _ = token_notes(asked, attacks.ATTACKS, left_out=True)
    assert {"label-noise", "label-augmentation"} <= {*first.rstrip(".").partition("leaves out ")[2].split(", ")}
    table = load_study({**study, "model": {"name": "mlp"}})
    assert token_notes(table, attacks.ATTACKS, left_out=True) == []
    for name in ("label-noise", "label-boundary"):
        refused = load_study({**study, "attacks": {"names": [name]}})
        with pytest.raises(UsageError, match=r"changed copies of records .* and token ids have none"):
            make_plan(refused, data_digest="0" * 64, models={"": {}})


@pytest.mark.slow
def test_a_factory_of_ones_own_is_given_ids_and_one_that_lacks_an_id_is_refused_before_training(study, tmp_path):
    study |= {
        "data": {**study["data"], "tokens": True},
        "attacks": {"names": ["discriminator", "loss", "lira-offline"]},
    }
    study |= {"run": {"seeds": [0, 1]}}
    found = lw.run({**study, "model": {"factory": "my_bag:bag"}}, out=tmp_path / "run", quiet=True)
    assert {(a.attack, a.network.network) for a in found.attacks} >= {("loss", "dense"), ("lira-offline", "imp-01")}
    short = {"factory": "my_bag:bag", "options": {"ids": 19}}
    with pytest.raises(UsageError, match=r"my_bag:bag, in training mode .*index out of range"):
        lw.run({**study, "model": short}, out=tmp_path / "refused", quiet=True)


def test_records_that_are_ids_are_no_table_of_numbers(study, tmp_path):
    ids = data.make_dataset("mine", np.arange(240, dtype=np.int32).reshape(80, 3) % 20, np.arange(80) % 2, 2)
    asked = load_study({**study, "model": {"name": "mlp"}})
    with pytest.raises(UsageError, match=r"data.tokens: records of mine are token ids"):
        jobs.Workspace.open(asked, Store(tmp_path / "run"), ids)


def test_padding_is_the_models_too_and_of_tokens_alone(study, tmp_path):
    named = {**study["data"], "padding": 0}
    assert _open(study, tmp_path, data=named).records.x.dtype == np.int32
    for options, said in (({"padding": 1}, "0 instead of 1"), ({}, "0")):
        bare = {name: value for name, value in SMALL.items() if name != "padding"}
        with pytest.raises(UsageError, match=rf"data.padding = 0 .* set model.options.padding = {said}\."):
            _open(study, tmp_path, data=named, model={"name": "transformer", "options": bare | options})
    with pytest.raises(UsageError, match=r"data.padding is the id that fills up short records of token ids"):
        _open(study, tmp_path, data=named, model={"name": "mlp"})
