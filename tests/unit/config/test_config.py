"""Studies: what is refused and with which words, TOML both ways, --set, keys, and what may be added to a folder."""

import copy
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lacewing import metrics
from lacewing.config import FEWEST_SEEDS, Train, canonical_key
from lacewing.errors import UsageError
from lacewing.methods import EarlyStopped
from lacewing.study.declared import Study, builtin_studies, difference, load_study, to_toml
from lacewing.study.plan import make_plan

SMALL = {
    "name": "small",
    "model": {"name": "resnet8"},
    "train": {"epochs": 3},
    "networks": [
        {"method": "dense"},
        {"method": "imp", "levels": 2, "fraction": 0.5},
        {"method": "butterfly", "segments": 2, "train": {"lr": 0.2}},
    ],
}


def _small(**changes):
    return {**copy.deepcopy(SMALL), **changes}


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=3", "unknown field 'train.epoch'; did you mean 'epochs'?"),
        ("trian.epochs=3", "unknown field 'trian'; did you mean 'train'?"),
        ("networks.1.fracton=0.5", "unknown field 'networks.1.fracton'; did you mean 'fraction'?"),
        (
            "networks.2.train.weight_deacy=1e-4",
            "networks.2.train: unknown field 'weight_deacy'; did you mean 'weight_decay'?",
        ),
        ("networks.0.levels=3", "unknown field 'networks.0.levels'"),
        ("networks.1.method=inp", "networks.1.method: unknown name 'inp': did you mean 'imp'?"),
        ("train.epochs=0", "train.epochs = 0: input should be greater than or equal to 1."),
        ("train.epochs=many", "train.epochs = 'many'"),
        ("train.lr=-0.1", "train.lr = -0.1"),
        ("train.lr=nan", "train.lr = nan"),
        ("train.augment=['flop']", "train.augment.0 = 'flop'"),
        ("train.schedule=linear", "train.schedule = 'linear'"),
        ("train.optimizer=adamx", "train.optimizer = 'adamx'"),
        ("train.optimizer_options.beta=0.5", "train.optimizer_options: torch.optim.SGD has no option 'beta' here"),
        ("train.optimizer_options={momentum = 0.5}", "train.optimizer_options: momentum is a field of its own"),
        ("train.optimizer_options.nesterov=1", "train.optimizer_options: nesterov = 1: give true or false"),
        ("train.clip_norm=-1", "train.clip_norm = -1"),
        ("train.clip_norm=1e-31", "train.clip_norm = 1e-31: 0 or at least 1e-30"),
        ("train.warmup=-0.1", "train.warmup = -0.1"),
        ("train.warmup=1", "train.warmup = 1"),
        ("train.warmup=0.1", "train.warmup = 0.1: the one-cycle schedule rises by itself"),
        ("train.gamma=0.5", "train.gamma is of schedule = 'step'; leave it out for 'one-cycle'"),
        ("train.milestones=[0.3]", "train.milestones is of schedule = 'step'; leave it out for 'one-cycle'"),
        ("networks.2.train.lr=0", "networks.2.train: lr = 0"),
        ("networks.1.fraction=1", "networks.1.fraction = 1"),
        ("networks.1.levels=0", "networks.1.levels = 0"),
        ("networks.2.factors=1", "networks.2.factors = 1"),
        ("networks.1.rewind=soon", "networks.1.rewind: 'soon' must be 'init' or 'epoch K'"),
        (
            "networks.1.rewind=epoch 3",
            "networks.1.rewind: 'epoch 3' is not before the end of training (train.epochs = 3)",
        ),
        ("networks=[]", "networks = []"),
        ("networks.1.name=dense", "two are called 'dense'; give one of the entries another name"),
        ("networks.2.name=imp-02", "two are called 'imp-02'; give one of the entries another name"),
        ("networks.0.name=Dense", "networks.0.name: 'Dense' must be lower-case"),
        ("name=../up", "name: '../up' must be lower-case letters"),
        ("run.seeds=[]", "run.seeds = []"),
        ("run.seeds=[1, 1]", "run.seeds: [1, 1] names a seed twice"),
        ("run.seeds=[-1]", "run.seeds.0 = -1"),
        ("data.label_noise=1.5", "data.label_noise = 1.5"),
        ("data.records=0", "data.records = 0"),
        ("model.factory=a:b", "model: give either name (a registry name) or factory"),
        ("schema=2", "schema: 2 is not the schema of this version, which is 1"),
        ("train=3", "train = 3"),
    ],
)
def test_bad_values_are_one_sentence_that_names_the_field(override, said):
    with pytest.raises(UsageError) as caught:
        load_study(_small(), [override])
    sentence = str(caught.value)
    assert said in sentence
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))


def test_what_is_missing_is_named():
    with pytest.raises(UsageError, match="study: 'name' is missing"):
        load_study({k: v for k, v in SMALL.items() if k != "name"})
    with pytest.raises(UsageError, match=r"networks\.0\.method is missing; name one of dense, imp"):
        load_study(_small(networks=[{"levels": 2}]))
    with pytest.raises(UsageError, match=r"'networks\.0\.levels' is missing"):
        load_study(_small(networks=[{"method": "imp"}]))


def test_two_entries_that_make_the_same_network_are_refused():
    """Equal jobs have equal keys: one of the two would silently be missing from the results."""
    with pytest.raises(UsageError, match="'dense' and 'again' are made alike"):
        load_study(_small(networks=[{"method": "dense"}, {"method": "dense", "name": "again", "train": {"epochs": 3}}]))
    imp = {"method": "imp", "levels": 2}
    with pytest.raises(UsageError, match="'imp' and 'longer' are made alike"):
        load_study(_small(networks=[imp, {**imp, "levels": 3, "name": "longer"}]))
    load_study(_small(networks=[imp, {**imp, "fraction": 0.3, "name": "slower"}]))


STOPPED = {"method": "early-stopped"}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"epochs": [2, 1]}, "networks.3.epochs: [2, 1] must ascend, no epoch twice."),
        ({"epochs": [1, 1]}, "networks.3.epochs: [1, 1] must ascend, no epoch twice."),
        ({"epochs": []}, "networks.3.epochs = []"),
        ({"epochs": [0, 1]}, "networks.3.epochs.0 = 0"),
        ({"epochs": [1, 1.5]}, "networks.3.epochs.1 = 1.5"),
        ({"epochs": 2}, "networks.3.epochs = 2"),
        ({"epochs": [1, 3]}, "networks.3.epochs: all must be before the last one (train.epochs = 3)"),
        ({"epochs": [1, 9]}, "networks.3.epochs: all must be before the last one (train.epochs = 3)"),
        (
            {"epochs": [1, 2], "train": {"epochs": 2}},
            "networks.3.epochs: all must be before the last one (train.epochs = 2)",
        ),
        (
            {"epochs": [1], "train": {"epochs": 1}},
            "networks.3.epochs: all must be before the last one (train.epochs = 1); stop earlier, train longer, or "
            "give shares of the training instead of epochs.",
        ),
        ({"epochs": [1], "shares": [0.5]}, "networks.3: give either epochs or shares (of the epochs of training)"),
        ({"shares": []}, "networks.3.shares = []"),
        ({"shares": [0.5, 1.0]}, "networks.3.shares.1 = 1.0"),
        ({"shares": [0.0]}, "networks.3.shares.0 = 0.0"),
        ({"shares": [0.5, 0.4]}, "networks.3.shares: [0.5, 0.4] must ascend, no share twice."),
        ({"shares": [0.5, 0.5]}, "networks.3.shares: [0.5, 0.5] must ascend, no share twice."),
        ({"shares": 0.5}, "networks.3.shares = 0.5"),
        ({"share": [0.5]}, "unknown field 'networks.3.share'; did you mean 'shares'?"),
        (
            {"train": {"stack": 2}},
            "networks.3: networks of method 'early-stopped' cannot be trained in stacks",
        ),
        ({"epoch": [1]}, "unknown field 'networks.3.epoch'; did you mean 'epochs'?"),
        ({"levels": 2}, "unknown field 'networks.3.levels'"),
        ({"train": {"lrr": 1}}, "networks.3.train: unknown field 'lrr'; did you mean 'lr'?"),
        ({"train": {"epochs": 0}}, "networks.3.train: epochs = 0"),
        ({"method": "early-stoped"}, "networks.3.method: unknown name 'early-stoped': did you mean 'early-stopped'?"),
    ],
)
def test_what_cannot_be_stopped_early_is_one_sentence_that_names_the_field(entry, said):
    model = {"name": "mlp"} if "stack" in entry.get("train", {}) else SMALL["model"]
    with pytest.raises(UsageError) as caught:
        load_study(_small(model=model, networks=[*SMALL["networks"], {**STOPPED, **entry}]))
    sentence = str(caught.value)
    assert said in sentence
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))


@pytest.mark.parametrize(
    ("entries", "twice"),
    [
        ([{**STOPPED, "name": "imp", "epochs": [2]}, {"method": "imp", "levels": 2}], "imp"),
        ([{**STOPPED, "epochs": [2]}, {"method": "dense", "name": "early-002"}], "early-002"),
        ([STOPPED, {"method": "dense", "name": "early-003"}], "early-003"),  # of the network that they are stops of
        ([{**STOPPED, "name": "imp", "epochs": [2]}, {"method": "butterfly", "name": "imp-002"}], "imp-002"),
    ],
)
def test_names_of_early_stops_are_their_own(entries, twice):
    with pytest.raises(UsageError, match=f"two are called '{twice}'"):
        load_study(_small(networks=entries))


def test_early_stops_of_one_dense_network_are_one_entry():
    """Equal stops of two entries have equal keys: one of the two would silently be missing from the results."""
    first, second = {**STOPPED, "epochs": [1, 2]}, {**STOPPED, "epochs": [2], "name": "again"}
    with pytest.raises(UsageError, match="'early' and 'again' are made alike"):
        load_study(_small(networks=[first, second]))
    load_study(_small(networks=[first, {**second, "train": {"lr": 0.3}}]))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({}, "give either name"),
        ({"factory": "pkg.mod"}, "not of the form 'package.module:function'"),
        ({"factory": "pkg.mod:f", "width": 3}, "a factory sets its own sizes"),
    ],
)
def test_a_model_has_one_source(model, said):
    with pytest.raises(UsageError, match=said):
        load_study(_small(model=model))


def test_files_and_names_that_are_no_study(tmp_path):
    path = tmp_path / "typo.toml"
    path.write_text('name = "x"\n[train\n')
    with pytest.raises(UsageError, match=r"typo\.toml is not valid TOML: .*line 2"):
        load_study(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not a text file"):
        load_study(path)
    with pytest.raises(UsageError, match=r"no study file .*missing\.toml; check the path"):
        load_study(tmp_path / "missing.toml")
    with pytest.raises(UsageError, match=r"unknown study 'digit': did you mean 'digits'\?"):
        load_study("digit")


# -------------------------------------------------------------------------------------------------------------- reading


def test_a_network_lays_its_own_fields_over_those_of_all():
    study = load_study(_small())
    assert study.train_of(study.networks[2]) == Train(epochs=3, lr=0.2)
    assert study.train_of(study.networks[0]) == Train(epochs=3)
    assert [n.entry for n in study.networks] == ["dense", "imp", "butterfly-s2-l2"]


def test_by_default_stops_are_about_twenty_evenly_spaced_on_a_log_scale():
    for epochs in range(2, 1001):
        stops = EarlyStopped(**STOPPED).stops(Train(epochs=epochs))
        assert list(stops) == sorted(set(stops))
        assert stops[0] == 1
        assert stops[-1] < epochs
        assert min(epochs - 1, 10 if epochs < 100 else 17) <= len(stops) <= 20
        step = epochs ** (1 / 20)  # from each stop to the next, but that epochs are whole
        for before, after in zip(stops, (*stops[1:], epochs), strict=True):
            assert after <= max(before + 1, (before + 0.5) * step + 0.5)


@pytest.mark.parametrize("epochs", [1, 2, 3, 100])
def test_studies_of_any_length_may_stop_early(epochs):
    study = load_study(_small(train={"epochs": epochs}, networks=[{"method": "dense"}, STOPPED]))
    assert study.networks[1].stops(study.train)[-1:] == {1: (), 2: (1,), 3: (2,), 100: (79,)}[epochs]


@pytest.mark.parametrize(
    ("shares", "epochs", "stops"),
    [
        ([0.3, 0.6, 0.9], 20, (6, 12, 18)),
        ([0.3, 0.6, 0.9], 10, (3, 6, 9)),
        ([0.05, 0.3, 0.31, 0.99], 10, (1, 3, 9)),  # at least 1, before the last, none twice
        ([0.001, 0.999], 2, (1,)),
        ([0.001, 0.999], 1, ()),
    ],
)
def test_shares_are_of_the_epochs_of_the_training(shares, epochs, stops):
    networks = [{"method": "dense"}, {**STOPPED, "shares": shares}]
    study = load_study(_small(networks=networks), [f"train.epochs={epochs}"])
    assert study.networks[1].stops(study.train) == stops
    own = {**STOPPED, "shares": shares, "train": {"epochs": epochs}}
    study = load_study(_small(networks=[{"method": "dense"}, own]))
    assert study.networks[1].stops(study.train_of(study.networks[1])) == stops


@given(st.integers(2, 10_000), st.lists(st.floats(0, 1, exclude_min=True, exclude_max=True), min_size=1, unique=True))
def test_stops_by_shares_ascend_and_lie_within_the_training(epochs, shares):
    stops = EarlyStopped(**STOPPED, shares=tuple(sorted(shares))).stops(Train(epochs=epochs))
    assert list(stops) == sorted(set(stops))
    assert 1 <= stops[0] <= stops[-1] < epochs


def test_the_shipped_studies_stop_where_their_published_results_did():
    stops = {
        "digits": (20, (6, 8, 10, 12, 14, 16, 18)),
        "fashion": (30, (8, 11, 14, 17, 20, 23, 26)),
        "paper-short": (100, (5, 10, 20, 30, 40, 50, 60, 65, 70, 75, 80, 85, 90, 95)),
        "paper": (300, (1, 2, 3, 4, 6, 7, 10, 13, 17, 23, 31, 41, 54, 72, 96, 128, 170, 226)),
    }
    for name, (epochs, expected) in stops.items():
        study = load_study(name)
        [entry] = [n for n in study.networks if isinstance(n, EarlyStopped)]
        assert (study.train.epochs, entry.stops(study.train)) == (epochs, expected)


@pytest.mark.parametrize("epochs", [1, 2, 5, 10, 1000])
@pytest.mark.parametrize("name", sorted(builtin_studies()))
def test_shipped_studies_can_be_made_shorter_and_longer(name, epochs):
    # epochs of other trainings
    taken = {"attackers": (5,), "controls": (2, 5), "controls-tuned": (5,), "location-imp": (5,)}
    if epochs in taken.get(name, ()):
        with pytest.raises(UsageError, match="are made alike"):
            load_study(name, [f"train.epochs={epochs}"])
        return
    study = load_study(name, [f"train.epochs={epochs}"])
    assert study.train.epochs == epochs
    assert load_study(tomllib.loads(to_toml(study))).as_dict() == study.as_dict()


def test_imp_returns_to_the_end_of_epoch_1_or_of_a_single_epoch_to_the_initialisation():
    def rewind(*overrides):
        return load_study(_small(), overrides).networks[1].rewind

    assert rewind() == rewind("train.epochs=2") == "epoch 1"
    assert rewind("train.epochs=1") == rewind("networks.1.train.epochs=1") == "init"
    assert rewind("train.epochs=1", "networks.1.train.epochs=4") == "epoch 1"
    with pytest.raises(UsageError, match=r"networks\.1\.rewind: 'epoch 1' is not before the end of training"):
        rewind("train.epochs=1", "networks.1.rewind=epoch 1")


def test_the_stops_of_300_epochs():
    stops = EarlyStopped(**STOPPED).stops(Train(epochs=300))
    assert stops == (1, 2, 3, 4, 6, 7, 10, 13, 17, 23, 31, 41, 54, 72, 96, 128, 170, 226)


def test_own_epochs_and_their_names():
    study = load_study(
        _small(train={"epochs": 2000}, networks=[STOPPED, {"method": "dense"}]), ["networks.0.epochs=[5, 50, 1200]"]
    )
    (entry, _) = study.networks
    assert entry.entry == "early"
    assert [step.network for step in entry.steps(study.train)[1:]] == ["early-005", "early-050", "early-1200"]
    named = load_study(_small(networks=[{**STOPPED, "name": "short", "epochs": [2]}])).networks[0]
    assert named.steps(study.train)[1].network == "short-002"


@pytest.mark.parametrize("name", sorted(builtin_studies()))
def test_shipped_studies_load_and_are_called_as_their_file(name):
    study = load_study(name)
    assert study.name == name
    assert any(network.entry == "dense" for network in study.networks)


def test_a_mapping_may_hold_paths_and_numpy_numbers():
    study = load_study(_small(data={"dataset": Path("own.npz")}, run={"seeds": [np.int64(3)]}))
    assert study.data.dataset == "own.npz"
    assert study.run.seeds == (3,)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.lr=0.25", ("train", "lr"), 0.25),
        ("train.augment=['flip', 'crop']", ("train", "augment"), ("flip", "crop")),
        ("networks.1.levels=7", ("networks", 1, "levels"), 7),
        ("networks.2.train.lr = 0.4", ("networks", 2, "train"), {"lr": 0.4}),
        ("networks.0.train.momentum=0.5", ("networks", 0, "train"), {"momentum": 0.5}),
        ("run.seeds=[5,6]", ("run", "seeds"), (5, 6)),
        ("model.name=mlp", ("model", "name"), "mlp"),
        ("data.dataset=a=b.npz", ("data", "dataset"), "a=b.npz"),
        ("networks.1.rewind=epoch 2", ("networks", 1, "rewind"), "epoch 2"),
    ],
)
def test_set_reaches_every_field(override, path, value):
    found = load_study(_small(), [override])
    for step in path:
        found = found[step] if isinstance(step, int) else getattr(found, step)
    assert found == value


def test_later_sets_win_and_the_mapping_stays_as_it_was():
    study = _small()
    assert load_study(study, ["train.epochs=4", "train.epochs=5"]).train.epochs == 5
    assert study == SMALL


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs", "must read field=value"),
        ("=3", "must read field=value"),
        ("networks.9.levels=3", "'9' is not a position from 0 to 2"),
        ("networks.imp.levels=3", "'imp' is not a position"),
        ("networks.²=3", "'²' is not a position"),
        ("name.first=3", "'first' is inside a plain value"),
        ("train.epochs.first.second=3", "is inside a plain value"),
    ],
)
def test_sets_that_lead_nowhere_are_an_error(override, said):
    with pytest.raises(UsageError, match=said):
        load_study(_small(), [override])


# -------------------------------------------------------------------------------------------------------------- writing

words = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), min_size=1, max_size=6)
trains = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(3, 400),
        "lr": st.floats(1e-12, 1e12),
        "weight_decay": st.floats(0, 1e-3),
        "milestones": st.lists(st.floats(0.01, 0.99), max_size=3, unique=True).map(sorted),
        "augment": st.lists(st.sampled_from(["flip", "crop"]), max_size=2, unique=True),
        "channels_last": st.booleans(),
        "precision": st.sampled_from(["auto", "fp32", "bf16"]),
    },
).map(lambda fields: {**fields, "schedule": "step"} if "milestones" in fields else fields)
networks = st.one_of(
    st.fixed_dictionaries({"method": st.just("dense"), "train": trains}),
    st.fixed_dictionaries(
        {"method": st.just("imp"), "levels": st.integers(1, 30), "fraction": st.floats(0.01, 0.5), "train": trains},
        optional={"rewind": st.sampled_from(["init", "epoch 2"])},
    ),
    st.fixed_dictionaries(
        {"method": st.just("early-stopped"), "train": trains},
        optional={"epochs": st.sampled_from([[1], [1, 2]]) | st.none()},
    ),
    st.fixed_dictionaries(
        {"method": st.just("early-stopped"), "train": trains, "shares": st.sampled_from([[0.5], [0.1, 1 / 3]])},
    ),
    st.fixed_dictionaries(
        {"method": st.just("butterfly"), "columns": st.sampled_from(["channel-first", "kernel-first"])},
        optional={"factors": st.integers(2, 5)},
    ),
)


def _told_apart(entries):
    return [{**n, "name": f"n{i}", "train": {**n.get("train", {}), "batch_size": i + 1}} for i, n in enumerate(entries)]


studies = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"s[a-z0-9.-]{0,8}[a-z0-9-]", fullmatch=True),
        "data": st.fixed_dictionaries({"dataset": words}, optional={"records": st.integers(1, 10**6)}),
        "model": st.one_of(
            st.fixed_dictionaries({"name": words}, optional={"hidden": st.lists(st.integers(1, 99), max_size=3)}),
            st.fixed_dictionaries({"factory": st.just("pkg.mod:build"), "version": words}),
        ),
        "train": trains,
        "networks": st.lists(networks, min_size=1, max_size=3).map(_told_apart),
        "run": st.fixed_dictionaries({"seeds": st.lists(st.integers(0, 2**40), min_size=1, max_size=3, unique=True)}),
    }
)


@settings(max_examples=30, deadline=None)
@given(studies)
def test_to_toml_is_read_back_to_the_same_study(fields):
    study = load_study(fields)
    text = to_toml(study)
    again = load_study(tomllib.loads(text))
    assert again == study
    assert to_toml(again) == text
    assert difference(study, again) is None


def test_to_toml_survives_a_file(tmp_path):
    study = load_study(_small(data={"dataset": 'Größe \U0001f98b "quoted" \\ = #.npz'}))
    path = tmp_path / "study.toml"
    path.write_bytes(to_toml(study).encode())
    assert load_study(path) == study


# ----------------------------------------------------------------------------------------------------------------- keys


def test_canonical_keys_are_stable():
    """Golden: a change makes every run folder in the world start anew."""
    config = {"b": [1, 2.5, "é", None, True], "a": {"lr": 0.1, "c": 1e-05}}
    assert canonical_key(config) == "3002aa41207c03623d4014560b3a8dbe8c307aa7803333ac0860af269b162949"


def test_canonical_keys_do_not_depend_on_order_and_refuse_nan():
    assert canonical_key({"a": 1, "b": {"c": 2, "d": 3}}) == canonical_key({"b": {"d": 3, "c": 2}, "a": 1})
    assert canonical_key({"a": 1}) != canonical_key({"a": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_key({"a": float("nan")})


CHANGES = [  # one for every field of a study that may change no network once it is trained
    "name=other",
    "data.dataset=cifar10",
    "data.labels=coarse",
    "data.records=100",
    "data.label_noise=0.1",
    "data.seed=1",
    "model.name=resnet14",
    "model.width=8",
    "model.norm=group",
    "train.epochs=4",
    "train.batch_size=32",
    "train.lr=0.2",
    "train.momentum=0.8",
    "train.weight_decay=1e-3",
    "train.optimizer=adamw",
    "train.optimizer_options.nesterov=true",
    "train.clip_norm=1",
    "train.schedule=step",
    "train.milestones=[0.4]",
    "train.gamma=0.2",
    "train.augment=['flip']",
    "train.precision=bf16",
    "train.channels_last=false",
    "train.holdout=0.1",
    "train.label_smoothing=0.1",
    "train.mixup=0.2",
    "train.dropout=0.1",
    "networks.1.fraction=0.4",
    "networks.1.rewind=init",
    "networks.2.factors=3",
    "networks.2.columns=kernel-first",
    "networks.2.train.lr=0.3",
    "signals.noise=0.01",
    "signals.draws=6",
    "signals.queries=2",
    "signals.noise_sizes=[0.5]",
    "signals.noise_draws=3",
    "signals.boundary_queries=200",
    "data.canaries=5",
    "data.tokens=true",
    "data.padding=0",
    "data.target=income",
    "data.ignore=['id']",
    "data.categories=['zip']",
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_field_changes_the_key_and_is_a_difference(change):
    steps = ["train.schedule=step"] if change.startswith(("train.milestones", "train.gamma")) else []
    old, new = load_study(_small(), steps), load_study(_small(), [*steps, change])
    assert canonical_key(old.as_dict()) != canonical_key(new.as_dict())
    found = difference(old, new)
    assert found is not None
    last = change.partition("=")[0].split(".")[-1]
    last = {"optimizer": "lr"}.get(last, last)  # another optimiser has another default rate, which is told first
    assert last in found or "missing, which the folder has" in found


def _fields(part, path=""):
    for key, value in part.items():
        yield from _fields(value, f"{path}{key}.") if isinstance(value, dict) else [f"{path}{key}"]


def test_no_field_is_forgotten_above():
    study = load_study(_small()).as_dict()
    fields = set(_fields({k: v for k, v in study.items() if k != "networks"}))
    changed = {change.partition("=")[0] for change in CHANGES}
    assert fields - changed == {
        "schema", "data.split", "data.population", "model.version", "attacks.names", "run.seeds", "run.inits",
        "train.stack", "train.warmup", "tradeoff.comparisons",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ additions


def test_initialisations_may_be_added_and_not_taken_away_and_not_to_stacks():
    old = load_study(_small())
    more = load_study(_small(), ["run.inits=3"])
    assert difference(old, more) is None
    assert difference(more, old) == "run.inits is 1 now and 3 in the folder"
    stacked = _small(model={"name": "mlp"}, networks=[{"method": "dense"}], train={"stack": 4})
    found = difference(load_study(stacked), load_study(stacked, ["run.inits=2"]))
    assert found == "run.inits is 2 now and 1 in the folder, whose networks are stacked"


@pytest.mark.parametrize(
    "override",
    [
        "run.seeds=[0, 1, 2, 3]",
        "run.seeds=[7, 2, 1, 0]",
        "networks.1.levels=9",
        "attacks.names=['discriminator', 'another']",
    ],
)
def test_more_seeds_levels_and_attacks_continue_a_folder(override):
    old, new = load_study(_small()), load_study(_small(), [override])
    assert difference(old, new) is None
    assert difference(new, old) is not None


def test_more_networks_in_any_order_continue_a_folder():
    old = load_study(_small())
    more = [{"method": "butterfly", "segments": 1}, *reversed(SMALL["networks"])]
    new = load_study(_small(networks=more))
    assert difference(old, new) is None
    assert difference(new, old) == "network 'butterfly-s1-l2' is missing, which the folder has"


def _stopped(epochs=None, **changes):
    entry = STOPPED if epochs is None else {**STOPPED, "epochs": epochs}
    return load_study(_small(train={"epochs": 100}, networks=[*SMALL["networks"], {**entry, **changes}]))


def test_early_stops_may_be_added_to_a_folder_and_none_be_taken_away():
    none = load_study(_small(train={"epochs": 100}))
    few, more = _stopped([1, 10]), _stopped([1, 2, 10, 99])
    for old, new in ((none, few), (none, _stopped()), (few, more), (few, few), (_stopped(), _stopped())):
        assert difference(old, new) is None
    assert difference(few, none) == "network 'early' is missing, which the folder has"
    assert difference(more, few) == "network 'early' lacks 'early-002', which the folder has"
    assert "network 'early': train.lr" in difference(few, _stopped([1, 2, 10], train={"lr": 0.2}))
    for old in (few, _stopped()):
        assert "network 'early': " in difference(old, _stopped(method="dense", name="early", train={"lr": 0.2}))


@pytest.mark.parametrize("taken", [True, False])
def test_the_default_stops_count_as_those_that_they_are(taken):
    default, few = _stopped(), _stopped([1, 10])
    assert {1, 10} < set(default.networks[3].stops(default.train))
    found = difference(default, few) if taken else difference(few, default)
    assert (found is not None) == taken


def test_a_folder_is_continued_whichever_way_its_stops_are_named():
    epochs, shares = _stopped([10, 50]), _stopped(shares=[0.1, 0.5])
    more, fewer = _stopped(shares=[0.1, 0.2, 0.5]), _stopped(shares=[0.1])
    assert difference(epochs, shares) is None
    assert difference(shares, epochs) is None
    assert difference(epochs, more) is None
    for old, lost in ((epochs, "early-050"), (shares, "early-050"), (more, "early-020")):
        assert difference(old, fewer) == f"network 'early' lacks '{lost}', which the folder has"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("run.seeds=[0, 1, 2]", "run.seeds=[0, 1]", "run.seeds lacks 2, which the folder has"),
        ("networks.1.levels=3", "networks.1.levels=2", "network 'imp' lacks 'imp-03', which the folder has"),
        ("train.lr=0.1", "train.lr=0.2", "train.lr is 0.2 now and 0.1 in the folder"),
        (
            "networks.1.fraction=0.5",
            "networks.1.fraction=0.4",
            "network 'imp': fraction is 0.4 now and 0.5 in the folder",
        ),
    ],
)
def test_other_changes_are_named(old, new, said):
    assert difference(load_study(_small(), [old]), load_study(_small(), [new])) == said


def test_resolving_settles_automatic_precision_everywhere():
    study = load_study(_small(), ["networks.0.train.precision=auto", "networks.2.train.precision=fp32"])
    resolved = study.resolved("bf16")
    assert [resolved.train_of(n).precision for n in resolved.networks] == ["bf16", "bf16", "fp32"]
    assert resolved.resolved("fp32") == resolved
    assert study.train.precision == "auto"
    assert json.loads(json.dumps(resolved.as_dict())) == resolved.as_dict()


def test_studies_are_immutable():
    study = load_study(_small())
    with pytest.raises(ValueError, match="frozen"):
        study.name = "other"
    assert isinstance(study, Study)


# ------------------------------------------------------------------------------------------------ the declared question


def _declared(primary, **more):
    controls = [
        {"method": "dense", "name": f"short-{epochs}", "family": "short", "train": {"epochs": epochs}}
        for epochs in (1, 2, 4, 5)
    ]
    attacks = {"names": ["discriminator", "lira-offline"]}
    networks = [*SMALL["networks"], *controls]
    return _small(**{"networks": networks, "attacks": attacks, "tradeoff": {"primary": primary}} | more)


QUESTION = {"family": "imp", "against": "controls", "at": "test accuracy", "metric": "lira-offline.tpr@0.01"}


def test_a_declared_question_is_read_back_and_names_attack_and_column():
    study = load_study(_declared(QUESTION))
    assert (study.tradeoff.primary.attack, study.tradeoff.primary.column) == ("lira-offline", "tpr_at_fpr_0.01")
    assert load_study(study.as_dict()) == study
    assert [where for where, _ in study.tradeoff.declared()] == ["tradeoff.primary"]
    plain = load_study(_declared({**QUESTION, "metric": "discriminator.balanced_accuracy"})).tradeoff.primary
    assert plain.column == "balanced_accuracy"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"family": "impp"}, "tradeoff.primary.family: there is no family 'impp': did you mean 'imp'?"),
        ({"against": "shorts"}, "tradeoff.primary.against: there is no family 'shorts': did you mean 'short'"),
        ({"against": "imp"}, "is the family itself"),
        ({"against": "dense"}, "family 'dense' has one recipe"),
        ({"metric": "lira-offline.tpr@0.05"}, "0.01 and 0.001"),
        ({"metric": "lira-offline.tpr"}, "ATTACK.tpr@0.01"),
        ({"famly": "imp"}, "unknown field 'tradeoff.primary.famly'; did you mean 'family'?"),
        ({"metric": "lira-offlin.auc"}, "'lira-offlin' is not in attacks.names: did you mean 'lira-offline'"),
        ({"family": "short"}, "tradeoff.primary.against: the study declares no control of two recipes"),
        ({"at": "train accuracy"}, "only 'test accuracy' can be declared"),
        ({"at": "population accuracy"}, "whose error no seed averages out"),
    ],
)
def test_a_question_that_the_study_can_never_answer_is_refused(change, said):
    asked = {**QUESTION, **change}
    if "famly" in change:
        del asked["family"]
    study = _declared(asked)
    with pytest.raises(UsageError, match=re.escape(said)) as refusal:
        load_study(study)
    assert not str(refusal.value).endswith(("..", "?."))


def test_controls_need_a_family_of_two_recipes_and_snapshots_are_none():
    alone = [*SMALL["networks"], {"method": "dense", "name": "short", "train": {"epochs": 1}}]
    with pytest.raises(UsageError, match="no control of two recipes"):
        load_study(_declared(QUESTION, networks=alone))
    stopped = [*SMALL["networks"], {"method": "early-stopped", "epochs": [1, 2]}]
    with pytest.raises(UsageError, match="observed in mid-schedule"):
        load_study(_declared({**QUESTION, "against": "early"}, networks=stopped))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"run": {"seeds": [0, 1]}}, "tradeoff.primary: run.seeds names 2, and a verdict needs 3"),
        (
            {"run": {"seeds": [0, 1, 2, 3]}, "data": {"split": "random-halves"}},
            "tradeoff.primary: run.seeds makes 2 cuts of the records",
        ),
    ],
)
def test_a_question_needs_three_seeds_or_cuts(more, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        load_study(_declared(QUESTION, **more))


def test_a_question_needs_six_recipes_and_is_asked_once():
    few = _declared(QUESTION)
    few["networks"] = few["networks"][:-1]
    with pytest.raises(UsageError, match="both families have 5 recipes together"):
        load_study(few)
    both = {"primary": QUESTION, "comparisons": [QUESTION]}
    with pytest.raises(UsageError, match="comparisons holds the primary question"):
        load_study(_declared(None, tradeoff=both))
    twice = {"primary": None, "comparisons": [QUESTION, {**QUESTION, "metric": "lira-offline.tpr@1e-2"}]}
    with pytest.raises(UsageError, match="names a comparison twice"):
        load_study(_declared(None, tradeoff=twice))


def test_the_fewest_seeds_are_those_of_the_metrics():
    assert FEWEST_SEEDS == metrics.FEWEST_SEEDS


def test_a_family_is_of_one_kind():
    mixed = [{**network, "family": "one"} for network in SMALL["networks"]]
    with pytest.raises(UsageError, match="family 'one' holds 'dense' \\(dense\\), 'imp' \\(sparse\\)"):
        load_study(_small(networks=mixed))
    for name in ({"name": "x", "family": "controls"}, {"name": "controls"}):
        named = [*SMALL["networks"], {"method": "dense", **name, "train": {"epochs": 1}}]
        with pytest.raises(UsageError, match="means all controls"):
            load_study(_small(networks=named))


def test_a_family_changes_no_key_of_a_network_and_a_question_no_key_at_all():
    plain = make_plan(load_study(_declared(None)), data_digest="0" * 64, models={"": {}})
    asked = make_plan(load_study(_declared(QUESTION)), data_digest="0" * 64, models={"": {}})
    assert [job.key for job in plain.networks] == [job.key for job in asked.networks]
    bare = [{k: v for k, v in n.items() if k != "family"} for n in _declared(None)["networks"]]
    unnamed = make_plan(load_study(_declared(None, networks=bare)), data_digest="0" * 64, models={"": {}})
    assert [job.key for job in unnamed.networks] == [job.key for job in plain.networks]
    assert {(j.family, j.kind) for j in plain.networks} == {
        ("dense", "dense"), ("imp", "sparse"), ("butterfly-s2-l2", "sparse"), ("short", "control"),
    }  # fmt: skip


def test_a_question_is_declared_before_the_study_runs():
    old, new = load_study(_declared(None)), load_study(_declared(QUESTION))
    assert "tradeoff.primary" in difference(old, new)
    assert "tradeoff.primary" in difference(new, old)
    assert difference(new, new) is None
