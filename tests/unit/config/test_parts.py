"""What of a study's training enters the keys of networks."""

import pytest

from lacewing.config import Train, validated
from lacewing.errors import UsageError


def test_the_size_of_a_stack_enters_a_key_only_where_it_is_not_one():
    """Keys are older than stacks: networks trained one by one keep theirs, stacked networks have other bits."""
    alone, stacked = Train().identity(), Train(stack=4).identity()
    assert "stack" not in alone
    assert stacked == {**alone, "stack": 4}


@pytest.mark.parametrize("field", ["label_smoothing", "mixup", "dropout"])
def test_a_field_that_came_later_enters_a_key_only_where_it_is_not_its_default(field):
    assert field not in Train(**{field: 0.0}).identity()
    assert Train(**{field: 0.25}).identity() == {**Train().identity(), field: 0.25}


def test_keys_of_networks_that_sgd_trains_are_as_they_were():
    """Golden: what keys of finished networks were made from before there were other optimisers."""
    assert Train().identity() == {
        "epochs": 30, "batch_size": 64, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "one-cycle",
        "milestones": [0.5, 0.75], "gamma": 0.1, "augment": [], "precision": "auto", "channels_last": True,
        "holdout": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "added"),
    [
        ({"optimizer": "adamw"}, {"optimizer": "adamw", "lr": 1e-3, "momentum": None}),
        ({"optimizer": "adam", "lr": 0.1}, {"optimizer": "adam", "momentum": None}),
        ({"optimizer_options": {"nesterov": True}}, {"optimizer_options": {"nesterov": True}}),
        ({"optimizer_options": {"nesterov": False}}, {}),
        ({"clip_norm": 1.0}, {"clip_norm": 1.0}),
        ({"schedule": "cosine", "warmup": 0.1}, {"schedule": "cosine", "warmup": 0.1}),
    ],
)
def test_an_optimiser_enters_a_key_with_its_options_that_are_not_torchs_defaults(fields, added):
    assert Train(**fields).identity() == {**Train().identity(), **added}


def test_a_default_that_is_written_down_is_the_same_training():
    said = Train(optimizer="adamw", lr=1e-3, optimizer_options={"betas": [0.9, 0.999], "eps": 1e-8, "amsgrad": False})
    assert said == Train(optimizer="adamw")
    other = Train(optimizer="adamw", optimizer_options={"betas": [0, 0.99]})
    assert other.optimizer_options == {"betas": [0.0, 0.99]}
    assert Train(**other.model_dump()) == other


def test_a_network_of_another_optimiser_takes_neither_rate_nor_momentum_nor_options_of_the_study():
    sgd = Train(lr=0.3, momentum=0.8, weight_decay=0.01, optimizer_options={"nesterov": True})
    found = Train(**sgd.overlaid({"optimizer": "adamw"}))
    assert found == Train(optimizer="adamw", weight_decay=0.01)
    assert Train(**found.overlaid({"optimizer": "sgd"})) == Train(weight_decay=0.01)
    assert Train(**sgd.overlaid({"optimizer": "sgd", "lr": 0.1})) == sgd.model_copy(update={"lr": 0.1})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"momentum": 0.9}, "train.momentum is of optimizer = 'sgd'; leave it out"),
        ({"optimizer_options": {"beta": [0.9, 0.99]}}, "AdamW has no option 'beta' here; did you mean 'betas'?"),
        ({"optimizer_options": {"lr": 0.1}}, "train.optimizer_options: lr is a field of its own, train.lr"),
        ({"optimizer_options": {"betas": [0.9, 1.0]}}, "betas = [0.9, 1.0]: give two numbers from 0 to below 1"),
        ({"optimizer_options": {"betas": [0.9]}}, "betas = [0.9]: give two numbers"),
        ({"optimizer_options": {"betas": 0.9}}, "betas = 0.9: give two numbers"),
        ({"optimizer_options": {"eps": 0}}, "eps = 0: give a number from 1e-30 to 1"),
        ({"optimizer_options": {"eps": True}}, "eps = True: give a number"),
        ({"optimizer_options": {"amsgrad": 1}}, "amsgrad = 1: give true or false"),
        ({"optimizer_options": {"nesterov": True}}, "AdamW has no option 'nesterov' here"),
        ({"optimizer": "sgd", "momentum": 0.0, "optimizer_options": {"nesterov": True}}, "needs a train.momentum"),
    ],
)
def test_bad_options_are_one_sentence_that_names_the_option_and_the_mend(fields, said):
    with pytest.raises(UsageError) as caught:
        validated(Train, {"optimizer": "adamw", **fields}, field="train")
    assert said in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_an_entry_with_another_schedule_leaves_the_studys_steps_behind():
    study = Train(schedule="step", milestones=[0.4], gamma=0.2)
    assert Train(**study.overlaid({"schedule": "cosine"})).identity() == Train(schedule="cosine").identity()
    kept = Train(**study.overlaid({"gamma": 0.3}))
    assert (kept.milestones, kept.gamma) == ((0.4,), 0.3)
    with pytest.raises(ValueError, match="gamma is of schedule = 'step'; leave it out for 'cosine'"):
        Train(**study.overlaid({"schedule": "cosine", "gamma": 0.3}))
