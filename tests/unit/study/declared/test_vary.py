"""`vary` and `model` of a [[networks]] entry: which networks they make, and what is refused."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacewing.config import Model
from lacewing.errors import UsageError
from lacewing.study.declared import difference, load_study, to_toml
from lacewing.study.plan import fingerprints, make_plan, unavailable


def study(*networks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "name": "varied",
        "model": {"name": "mlp", "hidden": [16]},
        "train": {"epochs": 10},
        "networks": [{"method": "dense"}, *networks],
        "run": {"seeds": [0]},
        **fields,
    }


SHORT: dict[str, Any] = {"method": "dense", "name": "short"}


PRODUCT = {"train.epochs": [2, 40], "train.lr": [0.05, 5e-4]}


def test_a_product_is_named_in_the_order_of_its_fields():
    found = load_study(study({**SHORT, "vary": PRODUCT}))
    assert [n.entry for n in found.networks[1:]] == [
        "short-002-0.05",
        "short-002-0.0005",
        "short-040-0.05",
        "short-040-0.0005",
    ]
    assert [(found.train_of(n).epochs, found.train_of(n).lr) for n in found.networks[1:]] == [
        *product((2, 40), (0.05, 5e-4))
    ]


@pytest.mark.parametrize(
    ("own", "families"),
    [
        ({}, ["short-0.05", "short-0.0005", "short-0.05", "short-0.0005"]),
        ({"along": "train.lr"}, ["short-002", "short-002", "short-040", "short-040"]),
        ({"family": "brief"}, ["brief"] * 4),
        ({"family": "brief", "along": "train.lr"}, ["brief-002", "brief-002", "brief-040", "brief-040"]),
    ],
)
def test_a_family_varies_one_field_and_there_is_one_for_each_value_of_the_other(own: dict[str, Any], families: Any):
    found = load_study(study({**SHORT, "vary": PRODUCT, **own}))
    assert [n.of_family for n in found.networks[1:]] == families


@pytest.mark.parametrize(
    ("own", "families"),
    [
        ({}, {"cut-004-01": "cut-004", "cut-004-02": "cut-004", "cut-010-01": "cut-010", "cut-010-02": "cut-010"}),
        (
            {"along": "train.epochs"},
            {
                **{"cut-004-00": "cut-00", "cut-004-01": "cut-01", "cut-004-02": "cut-02"},
                **{"cut-010-01": "cut-01", "cut-010-02": "cut-02"},
            },
        ),
        ({"family": "all"}, {f"cut-{epochs}-{level}": "all" for epochs in ("004", "010") for level in ("01", "02")}),
    ],
)
def test_levels_of_several_epochs_are_a_family_for_each_value_of_either(own: dict[str, Any], families: Any):
    """The dense network of 10 epochs is the study's; that of 4 begins an entry of its own."""
    found = load_study(study({"method": "imp", "levels": 2, "name": "cut", "vary": {"train.epochs": [4, 10]}, **own}))
    planned = make_plan(found, data_digest="0" * 64, models=fingerprints(found)).networks
    there = {job.network: job.family for job in planned}
    assert there["dense"] == "dense"
    assert families.items() <= there.items()
    assert {job.network for job in planned if job.kind == "sparse"} == {n for n in families if n[-2:] != "00"}
    again = load_study(found.as_dict())  # as a run folder holds it
    assert {
        job.network: job.family for job in make_plan(again, data_digest="0" * 64, models=fingerprints(again)).networks
    } == there


def test_how_networks_are_grouped_changes_no_key():
    def keys(**own: Any) -> dict[str, str]:
        entry = {"method": "imp", "levels": 2, "name": "cut", "vary": {"train.epochs": [4, 10]}, **own}
        found = load_study(study(entry))
        return {j.id: j.key for j in make_plan(found, data_digest="0" * 64, models=fingerprints(found)).networks}

    assert keys() == keys(along="train.epochs") == keys(family="all")


def test_a_question_may_name_the_family_of_a_level():
    imp = {"method": "imp", "levels": 2, "name": "cut", "vary": {"train.epochs": [4, 6, 8]}, "along": "train.epochs"}
    short = {**SHORT, "vary": {"train.epochs": [4, 6, 8]}}

    def asked(family: str) -> dict[str, Any]:
        primary = {"family": family, "against": "short", "metric": "discriminator.auc"}
        return study(imp, short, tradeoff={"primary": primary}, run={"seeds": [0, 1, 2]})

    assert load_study(asked("cut-02")).tradeoff.primary is not None
    with pytest.raises(UsageError, match=r"there is no family 'cut'"):
        load_study(asked("cut"))


@given(st.sets(st.integers(1, 2000), min_size=1, max_size=6), st.integers(1, 2000))
def test_an_added_value_renames_nothing(values: set[int], more: int):
    def named(values: set[int]) -> dict[str, int]:
        found = load_study(study({**SHORT, "vary": {"train.epochs": sorted(values)}}, train={"epochs": 2001}))
        return {n.entry: found.train_of(n).epochs for n in found.networks[1:]}

    before, after = named(values), named(values | {more})
    assert before.items() <= after.items()
    assert len(before) == len(values)


def test_settings_of_a_method_and_of_the_model_vary():
    found = load_study(
        study(
            {"method": "imp", "levels": 2, "name": "cut", "vary": {"fraction": [0.3, 0.5]}},
            {**SHORT, "name": "narrow", "family": "small", "vary": {"model.hidden": [[4], [8, 8], []]}},
        )
    )
    assert [n.entry for n in found.networks[1:]] == ["cut-0.3", "cut-0.5", "narrow-4", "narrow-8x8", "narrow-none"]
    assert [found.model_of(n).hidden for n in found.networks] == [(16,), (16,), (16,), (4,), (8, 8), ()]
    assert [n.of_family for n in found.networks[1:]] == ["cut-0.3", "cut-0.5", "small", "small", "small"]
    networks = [step.network for step in found.networks[1].steps(found.train)]
    assert networks == ["cut-0.3-00", "cut-0.3-01", "cut-0.3-02"]


def test_the_folder_holds_the_networks_one_by_one_and_a_value_may_be_added():
    few, more = (load_study(study({**SHORT, "vary": {"train.epochs": [2, 4][:n]}})) for n in (1, 2))
    assert "vary" not in to_toml(more)
    assert difference(few, more) is None
    assert difference(more, few) == "network 'short-004' is missing, which the folder has"


def test_a_model_of_its_own_changes_the_key_of_that_entry_alone():
    plain, wide = (
        load_study(study({**SHORT, "train": {"epochs": 4}, **own})) for own in ({}, {"model": {"hidden": [9]}})
    )
    keys = [
        {job.id: job.key for job in make_plan(each, data_digest="0" * 64, models=fingerprints(each)).networks}
        for each in (plain, wide)
    ]
    changed = {name for name in keys[0] if keys[0][name] != keys[1][name]}
    assert changed == {"short/target/0", "short/shadow/0"}


def test_options_of_a_model_are_laid_over_those_of_the_study_and_vary_one_by_one():
    vit = {"name": "vit", "options": {"patch": 4, "depth": 3}}
    found = load_study(study({**SHORT, "vary": {"model.options.depth": [1, 2]}}, model=vit))
    assert [n.entry for n in found.networks[1:]] == ["short-001", "short-002"]
    assert [found.model_of(n).options for n in found.networks] == [{"patch": 4, "depth": d} for d in (3, 1, 2)]
    assert len({repr(each) for each in fingerprints(found).values()}) == 3
    assert "loss" not in unavailable(found)  # which plans networks that are alike but for their options
    other = load_study(study({**SHORT, "model": {"name": "resnet50"}}, model=vit))
    assert other.model_of(other.networks[1]).options == {}


def test_another_model_takes_no_option_of_the_study_s():
    found = load_study(study({**SHORT, "model": {"name": "resnet8"}}))
    assert found.model_of(found.networks[1]) == Model(name="resnet8")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"vary": 3}, "networks.1.vary = 3: give a table of lists"),
        ({"vary": {}}, "networks.1.vary = {}: give a table of lists"),
        ({"vary": {"train.epochs": 4}}, "networks.1.vary.train.epochs = 4: give a list of values."),
        ({"vary": {"train.epochs": []}}, "networks.1.vary.train.epochs = []: give a list of values."),
        ({"vary": {"train.epocs": [4]}}, "networks.1.train: unknown field 'epocs'; did you mean 'epochs'?"),
        ({"vary": {"data.records": [4]}}, "networks.1.vary: 'data.records' cannot be varied"),
        ({"vary": {"name": ["a"]}}, "networks.1.vary: 'name' cannot be varied"),
        ({"vary": {"levels": [1]}}, "unknown field 'networks.1.levels'"),
        ({"vary": {"train.epochs": [4, 4]}}, "networks.1.vary: two networks would be called 'short-004'"),
        ({"vary": {"train.lr": [0.1], "train.epochs": [3]}, "train": {"lr": 0.2}}, "'train.lr' is set beside vary"),
        ({"vary": {"train.epochs": [*range(1, 202)]}}, "networks.1.vary makes 201 networks: at most 200"),
        ({"vary": {"model.hidden": [[[4]]]}}, "cannot be a part of a network's name"),
        ({"vary": {"model.hidden": [{}]}}, "cannot be a part of a network's name"),
        (
            {"vary": {"train.epochs": [4]}, "along": "train.lr"},
            "networks.1.along = 'train.lr': name a field of vary, al",
        ),
        (
            {"vary": {"train.epochs": [4]}, "along": "levels"},
            "networks.1.along = 'levels': name a field of vary, along",
        ),
        ({"vary": {"train.epochs": [4]}, "along": 3}, "networks.1.along = 3: name a field of vary, along"),
        ({"vary": {"train.epochs": [4]}, "name": 3}, "networks.1.name = 3: give text, in quotes."),
        ({"vary": {"train.epochs": [4]}, "name": ""}, "networks.1.name = '': give text, in quotes."),
        ({"vary": {"train.epochs": [4]}, "name": []}, "networks.1.name = []: give text, in quotes."),
        (
            {"vary": {"train.epochs": [4]}, "family": 3, "along": "train.epochs"},
            "networks.1.family = 3: give text, in quotes.",
        ),
        ({"along": "train.lr"}, "networks.1.along is of an entry with vary; leave it out."),
        (
            {"level_families": True},
            "networks.1.level_families: networks of method 'dense' have no levels; leave it out",
        ),
        ({"model": {"widht": 3}}, "networks.1.model: unknown field 'widht'; did you mean 'width'?"),
        ({"model": {"width": 8}, "train": 3}, "networks.1.train = 3: give a table of fields."),
        ({"model": 8}, "networks.1.model = 8: give a table of fields."),
    ],
)
def test_what_no_entry_means_is_one_sentence(entry: dict[str, Any], said: str):
    with pytest.raises(UsageError) as refused:
        load_study(study({**SHORT, **entry}))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_error_behind_a_family_names_the_entry_as_the_user_counts():
    with pytest.raises(UsageError, match=r"networks\.2\.levels = 0"):
        load_study(study({**SHORT, "vary": {"train.epochs": [2, 3, 4]}}, {"method": "imp", "levels": 0}))
    with pytest.raises(UsageError, match=r"networks\.2\.rewind: 'epoch 10'"):
        load_study(
            study({**SHORT, "vary": {"train.epochs": [2, 3]}}, {"method": "imp", "levels": 1, "rewind": "epoch 10"})
        )
