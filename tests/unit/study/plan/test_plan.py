"""The plan: which jobs a study has, what they share, and that their keys follow exactly what changes a network."""

import copy
import hashlib

import pytest

from lacewing.attacks import ATTACKS
from lacewing.errors import UsageError
from lacewing.methods import Dense
from lacewing.methods.butterfly import _LARGE, Butterfly
from lacewing.sparsify import _rank_one
from lacewing.study import jobs
from lacewing.study.declared import builtin_studies, load_study
from lacewing.study.plan import fingerprints, make_plan, only

SMALL = {
    "name": "small",
    "model": {"name": "resnet8"},
    "train": {"epochs": 5, "precision": "fp32"},
    "networks": [
        {"method": "dense"},
        {"method": "imp", "levels": 2, "fraction": 0.5},
        {"method": "butterfly", "segments": 2, "train": {"lr": 0.2}},
    ],
    "run": {"seeds": [0, 1]},
}
NOT_HERE = {name for name, attack in ATTACKS.items() if attack.needs & {"in-references", "checkpoints", "first-layer"}}
DIGEST, MODEL = "0" * 64, {"name": "resnet8"}


def _plan(*overrides, digest=DIGEST, model=MODEL, **changes):
    study = load_study({**copy.deepcopy(SMALL), **changes}, overrides)
    return make_plan(study, data_digest=digest, models={"": model})


def _keys(plan):
    return {job.id: job.key for job in (*plan.networks, *plan.attacks)}


def test_every_network_is_planned_for_each_role_and_seed_and_attacked_on_the_target():
    plan = _plan()
    names = ["dense", "imp-01", "imp-02", "butterfly-s2-l2"]
    wanted = {f"{n}/{r}/{s}" for n in names for r in ("target", "shadow") for s in (0, 1)}
    assert {job.id for job in plan.networks} == wanted
    assert len(plan.networks) == len({job.key for job in plan.networks}) == 16
    assert [job.level for job in plan.sequences[0]] == [0, 1, 2]
    assert {a.id for a in plan.attacks} == {f"discriminator on {n}/target/{s}" for n in names for s in (0, 1)}
    for attack in plan.attacks:
        assert (attack.target.role, attack.shadow.network.role) == ("target", "shadow")
        assert (attack.target.network, attack.target.seed) == (
            attack.shadow.network.network,
            attack.shadow.network.seed,
        )


def test_imp_starts_from_the_dense_network_that_is_trained_alike():
    assert [[job.network for job in sequence] for sequence in _plan().sequences[:2]] == [
        ["dense", "imp-01", "imp-02"],
        ["butterfly-s2-l2"],
    ]
    sequences = [
        {"method": "imp", "levels": 1},
        {"method": "imp", "levels": 2, "fraction": 0.5, "name": "fast"},
        {"method": "imp", "levels": 1, "name": "other", "train": {"lr": 0.3}},
    ]
    sequences = [[job.network for job in sequence] for sequence in _plan(networks=sequences).sequences[:2]]
    assert sequences == [["imp-00", "imp-01", "fast-01", "fast-02"], ["other-00", "other-01"]]
    same = _plan(networks=[{"method": "dense", "train": {"lr": 0.1}}, {"method": "imp", "levels": 1}])
    assert [job.network for job in same.sequences[0]] == ["dense", "imp-01"]  # lr 0.1 is what [train] says, too


def test_the_shared_head_has_the_key_of_the_dense_network():
    with_dense, without = _plan(), _plan(networks=SMALL["networks"][1:])
    assert _keys(with_dense)["dense/target/0"] == _keys(without)["imp-00/target/0"]
    assert _keys(with_dense)["imp-02/target/0"] == _keys(without)["imp-02/target/0"]


@pytest.mark.parametrize(
    "override",
    [
        "networks.1.levels=6",
        "run.seeds=[0, 1, 2]",
        "run.seeds=[1, 0]",
        "networks.0.name=plain",
        "name=renamed",
        "data.dataset=the/same/elsewhere.npz",
    ],
)
def test_what_only_adds_or_renames_changes_no_key(override):
    before, after = _keys(_plan()), _keys(_plan(override))
    assert set(before.values()) <= set(after.values())
    if "levels" in override or "seeds" in override:
        assert all(after[name] == key for name, key in before.items())


def test_added_networks_and_attacks_change_no_key():
    more = [{"method": "butterfly", "segments": 1}, *SMALL["networks"]]
    before, after = _keys(_plan()), _keys(_plan(networks=more, attacks={"names": ["loss", "discriminator"]}))
    assert before.items() < after.items()


@pytest.mark.parametrize(
    ("override", "methods"),
    [
        *((f"train.{field}", {"dense", "imp", "butterfly"}) for field in (
            "epochs=6", "batch_size=32", "momentum=0.8", "weight_decay=1e-3", "schedule=step",
            "augment=['flip']", "precision=bf16", "channels_last=false", "holdout=0.1",
        )),
        ("train.lr=0.4", {"dense", "imp"}),  # the butterfly has its own
        ("networks.2.train.lr=0.4", {"butterfly"}),
        ("networks.2.columns=kernel-first", {"butterfly"}),
        ("networks.1.fraction=0.4", {"imp"}),
        ("networks.1.rewind=init", {"imp"}),
        ("networks.1.train.lr=0.4", {"imp"}),
        ("data.records=100", {"dense", "imp", "butterfly"}),
        ("data.label_noise=0.1", {"dense", "imp", "butterfly"}),
        ("data.seed=1", {"dense", "imp", "butterfly"}),
        ("signals.noise=0.1", {"dense", "imp", "butterfly"}),
        ("signals.draws=9", {"dense", "imp", "butterfly"}),
    ],
)  # fmt: skip
def test_keys_follow_every_field_that_changes_a_network(override, methods):
    before, after = _plan(), _plan(override)
    old = {job.id: job.key for job in before.networks}
    changed = {job.method for job in after.networks if old.get(job.id) != job.key and not job.network.endswith("-00")}
    assert changed == methods
    attacks = _keys(after)
    for attack in before.attacks:
        assert (attacks[attack.id] != attack.key) == (attack.target.method in methods)


@pytest.mark.parametrize("override", ["train.milestones=[0.4]", "train.gamma=0.2"])
def test_keys_follow_the_steps_of_a_schedule(override):
    before, after = _plan("train.schedule=step"), _plan("train.schedule=step", override)
    assert not set(_keys(before).values()) & set(_keys(after).values())
    assert _stop_key("train.schedule=step", override) != _stop_key("train.schedule=step")


def test_keys_follow_the_data_and_the_model():
    keys = [set(_keys(p).values()) for p in (_plan(), _plan(digest="1" * 64), _plan(model={"name": "mlp"}))]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]


@pytest.mark.parametrize(
    ("model", "changed"),
    [
        ({"name": "resnet20"}, False),
        ({"name": "resnet8", "width": 30}, False),
        ({"name": "resnet8", "width": 31}, True),
        ({"name": "resnet50"}, True),
        ({"name": "efficientnet-b0"}, True),
        ({"name": "mlp"}, False),
        ({"name": "vit", "options": {"patch": 8, "width": 96}}, False),
        ({"name": "vit", "options": {"patch": 16, "width": 96}}, True),
        ({"factory": "mine:build"}, True),
    ],
)
def test_keys_of_butterfly_networks_follow_the_arithmetic_of_large_kernels(monkeypatch, model, changed):
    """That of small ones, which all published networks have, is as it was."""
    entries = [{"method": "dense"}, {"method": "butterfly"}]

    def keys():
        study = load_study({**copy.deepcopy(SMALL), "networks": entries, "model": model})
        return _keys(make_plan(study, data_digest=DIGEST, models={"": MODEL}))

    found = keys()
    monkeypatch.setattr(Butterfly, "arithmetic", lambda *_: 1)
    before = keys()
    assert {found[f"dense/{role}/1"] == before[f"dense/{role}/1"] for role in ("target", "shadow")} == {True}
    assert (found["butterfly-s3-l2/target/0"] != before["butterfly-s3-l2/target/0"]) == changed
    assert _LARGE == _rank_one.LARGE


def test_a_users_extension_of_butterfly_has_its_arithmetic_in_its_keys(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    body = "from lacewing.methods.butterfly import Butterfly\nclass Mine(Butterfly):\n    pass\n"
    (tmp_path / "extends_butterfly.py").write_text(body)
    networks = [{"method": "dense"}, {"method": "extends_butterfly:Mine", "name": "mine"}]
    found = _keys(_plan("model.name=resnet50", networks=networks))
    monkeypatch.setattr(Butterfly, "arithmetic", lambda *_: 1)
    assert found["mine/target/0"] != _keys(_plan("model.name=resnet50", networks=networks))["mine/target/0"]


def test_keys_are_stable():
    """Golden: a change makes every run folder in the world start anew."""
    keys = _keys(_plan())
    assert keys["dense/target/0"] == "1fb641fbe2a0cfd1099b41a7931ed06f5aba806e02ebaa654e2f6a6c18d8bfc0"
    assert keys["imp-02/shadow/1"] == "44c17cdad7b6dd976058bf6a89a90397075eaf89e137227497970434d33b99ac"
    assert keys["butterfly-s2-l2/target/0"] == "93bdbe7b408892f4d70680e088f4fc320cf657f1e47718df40d2ae6fd1288ac3"
    attack = keys["discriminator on imp-01/target/1"]
    assert attack == "7c20f808deff342131778fefafd4367081c46be37cbdbe7ae6d3d3348081841c"


# -------------------------------------------------------------------------------------------------------- stopped early

STOPPED = {"method": "early-stopped", "epochs": [1, 3]}
WITH_STOPS = [*SMALL["networks"], STOPPED]


def test_early_stops_are_states_of_the_dense_network_of_their_role_and_seed():
    plan = _plan(networks=WITH_STOPS)
    assert [job.network for job in plan.sequences[0]] == ["dense", "imp-01", "imp-02", "early-001", "early-003"]
    head, *_, first, third = plan.sequences[0]
    assert (head.stop, head.last_epoch, head.train.epochs) == (None, 5, 5)
    assert [(job.method, job.stop, job.last_epoch, job.train.epochs) for job in (first, third)] == [
        ("early-stopped", 1, 1, 5),
        ("early-stopped", 3, 3, 5),
    ]
    stops = [job for job in plan.networks if job.method == "early-stopped"]
    wanted = {f"early-00{k}/{r}/{s}" for k in (1, 3) for r in ("target", "shadow") for s in (0, 1)}
    assert {job.id for job in stops} == wanted
    assert len({job.key for job in plan.networks}) == len(plan.networks) == 24
    for sequence in plan.sequences:
        assert len({(job.role, job.seed) for job in sequence}) == 1


def test_early_stops_change_no_other_key():
    attacks = {"names": [name for name in ATTACKS if name not in NOT_HERE]}
    changes = {"data": {"population": 0.1}, "attacks": attacks}
    before = _plan(**changes)
    for networks in (WITH_STOPS, WITH_STOPS[::-1], [*SMALL["networks"], {"method": "early-stopped"}]):
        after = _plan(networks=networks, **changes)
        assert _keys(before).items() < _keys(after).items()
        added = {job.method for job in after.networks if job.id not in _keys(before)}
        assert added == {"early-stopped"}
        assert {a.target.method for a in after.attacks if a.id not in _keys(before)} == {"early-stopped"}


def _stop_key(*overrides, networks=WITH_STOPS, name="early-003/target/0", **options):
    return _keys(_plan(*overrides, networks=networks, **options))[name]


@pytest.mark.parametrize(
    ("overrides", "networks", "name"),
    [
        ((), [STOPPED], "early-003/target/0"),
        ((), WITH_STOPS[::-1], "early-003/target/0"),
        (("networks.3.epochs=[3]",), WITH_STOPS, "early-003/target/0"),
        (("networks.3.epochs=[1, 2, 3, 4]",), WITH_STOPS, "early-003/target/0"),
        (("networks.3.name=short",), WITH_STOPS, "short-003/target/0"),
        (("networks.0.train.lr=0.3",), WITH_STOPS, "early-003/target/0"),
        (("networks.1.fraction=0.3", "networks.2.factors=3"), WITH_STOPS, "early-003/target/0"),
        (("run.seeds=[5, 0]",), WITH_STOPS, "early-003/target/0"),
        (("name=other", "attacks.names=['loss']"), WITH_STOPS, "early-003/target/0"),
        (("train.lr=0.3", "networks.3.train.lr=0.1"), WITH_STOPS, "early-003/target/0"),
    ],
)
def test_the_key_of_an_early_stop_follows_nothing_but_its_recipe_and_epoch(overrides, networks, name):
    assert _stop_key(*overrides, networks=networks, name=name) == _stop_key()


@pytest.mark.parametrize(
    "override",
    [
        *(f"train.{field}" for field in (
            "epochs=6", "batch_size=32", "lr=0.4", "momentum=0.8", "weight_decay=1e-3", "schedule=step",
            "augment=['flip']", "precision=bf16", "channels_last=false", "holdout=0.1",
        )),
        "networks.3.train.lr=0.4",
        "data.records=100",
        "data.label_noise=0.1",
        "data.seed=1",
        "signals.noise=0.1",
        "signals.draws=9",
    ],
)  # fmt: skip
def test_the_key_of_an_early_stop_follows_all_of_its_recipe(override):
    assert _stop_key(override) != _stop_key()


def test_keys_of_early_stops_differ_by_epoch_role_seed_data_and_model():
    keys = [_stop_key(name=f"early-00{k}/{r}/{s}") for k in (1, 3) for r in ("target", "shadow") for s in (0, 1)]
    keys += [_stop_key(digest="1" * 64), _stop_key(model={"name": "mlp"}), _keys(_plan())["dense/target/0"]]
    assert len(set(keys)) == len(keys) == 11


def test_keys_of_early_stops_are_stable():
    """Golden: a change makes the early stops of every run folder in the world be trained anew."""
    assert _stop_key() == "d01beb66772c2f2bdef3ca8279286f70c2d6607fa75f486598d0abf88281acef"


@pytest.mark.parametrize(
    ("trained", "epochs"),
    [
        ([], [5, 5, 5, 0, 0]),  # stops are met on the way of the dense network
        (["early-001"], [5, 5, 5, 0, 0]),
        (["dense"], [5, 5, 5, 0, 3]),  # asked for later: it is trained again, up to the last one
        (["dense", "early-003"], [5, 5, 5, 1, 0]),
        (["dense", "early-001", "early-003"], [5, 5, 5, 0, 0]),
    ],
)
def test_epochs_are_counted_where_they_are_trained(trained, epochs):
    sequence = _plan(networks=WITH_STOPS).sequences[0]
    done = {job.key for job in sequence if job.network in trained}
    assert list(jobs.own_epochs(sequence, done).values()) == epochs
    saved = {sequence[1].key: {"epoch": 2}, sequence[3].key: {"epoch": 4}}
    found = jobs.reached([sequence], done, saved)
    assert [epochs for _, epochs in found.values()] == epochs
    assert found[sequence[0].key][0] == (5 if "dense" in trained else 0)
    assert found[sequence[1].key][0] == 2
    assert found[sequence[3].key][0] == epochs[3]  # no more than are trained for it


def test_a_study_without_the_dense_network_trains_it_for_its_early_stops():
    plan = _plan(networks=[STOPPED])
    assert [job.network for job in plan.sequences[0]] == ["early-005", "early-001", "early-003"]
    head = plan.sequences[0][0]
    assert (head.method, head.stop, head.last_epoch, head.level) == ("dense", None, 5, 0)
    assert isinstance(head.spec, Dense)
    assert head.key == _keys(_plan())["dense/target/0"]
    own = _plan(networks=[*SMALL["networks"], {**STOPPED, "train": {"epochs": 4}}])
    assert ["early-004", "early-001", "early-003"] in [[job.network for job in sequence] for sequence in own.sequences]
    assert [job.network for job in own.sequences[0]] == ["dense", "imp-01", "imp-02"]
    same = _plan(networks=[{"method": "imp", "levels": 1}, STOPPED])
    assert [job.network for job in same.sequences[0]] == ["imp-00", "imp-01", "early-001", "early-003"]


def test_the_shadow_of_an_early_stop_was_stopped_at_the_same_epoch():
    for changes in ({}, {"data": {"split": "random-halves"}, "run": {"seeds": [0, 1, 2, 3]}}):
        attacks = [a for a in _plan(networks=WITH_STOPS, **changes).attacks if a.target.method == "early-stopped"]
        assert {a.target.stop for a in attacks} == {1, 3}
        for attack in attacks:
            assert attack.shadow.network.stop == attack.target.stop
            assert attack.shadow.network.key != attack.target.key


def test_attacks_about_sparse_networks_pass_over_early_stops():
    about_sparse = {name for name, attack in ATTACKS.items() if attack.about}
    assert about_sparse
    attacks = {"names": [name for name in ATTACKS if name not in NOT_HERE]}
    changes = {"networks": WITH_STOPS, "data": {"population": 0.1}, "attacks": attacks}
    on = {(a.target.network, a.attack) for a in _plan(**changes).attacks}
    for name in attacks["names"]:
        assert (("early-001", name) in on) == (("early-003", name) in on) == (name not in about_sparse)
    told = _plan(**changes).refused
    assert {name for network, name in told if network == "early-003"} == about_sparse


# ----------------------------------------------------------------------------------------------------------------- only


def _slice(terms, **changes):
    plan = only(_plan(**changes), terms)
    return [job.id for job in plan.networks], [attack.id for attack in plan.attacks]


def test_a_role_and_seed_is_a_slice_without_attacks():
    networks, attacks = _slice({"role": "target", "seed": "1"})
    assert networks == [f"{n}/target/1" for n in ("dense", "imp-01", "imp-02", "butterfly-s2-l2")]
    assert attacks == []  # the shadows are elsewhere


def test_both_roles_bring_the_attacks():
    networks, attacks = _slice({"seed": "0", "method": "butterfly"})
    assert networks == ["butterfly-s2-l2/target/0", "butterfly-s2-l2/shadow/0"]
    assert attacks == ["discriminator on butterfly-s2-l2/target/0"]


def test_a_pruned_network_brings_what_its_sequence_needs_and_no_more():
    networks, _ = _slice({"network": "imp-01", "role": "shadow", "seed": "0"})
    assert networks == ["dense/shadow/0", "imp-01/shadow/0"]
    two = [*SMALL["networks"][:2], {"method": "imp", "levels": 3, "fraction": 0.3, "name": "slow"}]
    networks, _ = _slice({"network": "slow-02", "role": "target", "seed": "0"}, networks=two)
    assert networks == ["dense/target/0", "slow-01/target/0", "slow-02/target/0"]
    assert _slice({"network": "dense", "role": "target", "seed": "0"})[0] == ["dense/target/0"]


def test_early_stops_in_slices():
    def of(**terms):
        networks, attacks = _slice({"seed": "0", **terms}, networks=WITH_STOPS)
        return [name.removesuffix("/0") for name in networks], attacks

    networks, attacks = of(method="early-stopped")
    assert networks == [f"{n}/{r}" for r in ("target", "shadow") for n in ("dense", "early-001", "early-003")]
    assert attacks == [f"discriminator on {n}/target/0" for n in ("dense", "early-001", "early-003")]
    assert of(network="early-001", role="target") == (["dense/target", "early-001/target"], [])
    networks, _ = of(network="early-003", role="shadow")
    assert (
        {"dense/shadow", "early-003/shadow"}
        <= set(networks)
        <= {f"{n}/shadow" for n in ("dense", "early-001", "early-003")}
    )
    assert of(method="dense", role="target") == (["dense/target"], [])
    assert of(network="dense")[0] == ["dense/target", "dense/shadow"]
    assert of(method="imp", role="target")[0] == ["dense/target", "imp-01/target", "imp-02/target"]
    assert of(network="imp-01", role="target")[0] == ["dense/target", "imp-01/target"]
    with pytest.raises(UsageError, match="--only network=early-002: no network"):
        only(_plan(networks=WITH_STOPS), {"network": "early-002"})


def test_slices_with_early_stops_are_together_the_whole():
    whole = _plan(networks=WITH_STOPS)
    for terms in (
        [{"role": r} for r in ("target", "shadow")],
        [{"method": m} for m in ("imp", "butterfly", "early-stopped")],
    ):
        slices = [only(whole, each) for each in terms]
        assert {job.key for part in slices for job in part.networks} == {job.key for job in whole.networks}


def test_slices_together_are_the_whole_with_the_same_keys():
    whole = _plan()
    slices = [only(whole, {"role": role, "seed": seed}) for role in ("target", "shadow") for seed in "01"]
    assert {job.key for part in slices for job in part.networks} == {job.key for job in whole.networks}
    assert only(whole, {}) == whole


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"rol": "target"}, "--only: unknown field 'rol'; did you mean 'role'?"),
        ({"role": "targt"}, "--only role=targt: no network of the study fits"),
        ({"seed": "7", "role": "target"}, "--only seed=7,role=target: no network"),
        ({"network": "imp"}, "--only network=imp: no network"),
    ],
)
def test_slices_of_nothing_are_an_error(terms, said):
    with pytest.raises(UsageError) as caught:
        only(_plan(), terms)
    assert said in str(caught.value)


def test_the_keys_of_the_shipped_studies_are_stable():
    """Golden: a change makes every run folder in the world start anew."""
    golden = {  # networks, and attacks
        "attackers": (
            "2be5d7007593bd585b493c894d4f083091e6005f375ca56b9efb23c9fde44c7a",
            "6096a1d05c1be060da26c1562afcc0c0d286ff14c725c22410967772c0fb37e3",
        ),
        "cifar10-small": (
            "ea952f5a2c31f22ee9d83851a46d1b8f17210f711ea4627e6578c35a134866e3",
            "673d2883bef69e2cd936da2fb14fe6156e663500563c07a0df5e2e8cbd3590c4",
        ),
        "cifar100-short": (
            "5ffb052b6830f6ba628c885f3ffb55bf9fed5acd1043dbc430fde83424dba444",
            "58e54833d83f5b77f51f5597f45055f39c14c5af36c9f28a580b2f971e8f4084",
        ),
        "controls": (
            "924c87727716bbd2a116eebc090e4f43daed5a509b9be51e86a1926919cba179",
            "d33eb7a26d9483fa131a0d37788425e40c948e2105d914f26d033141a899d55c",
        ),
        "controls-tuned": (
            "8c2e38e52e561fb2b4c33c7f92591dc23d66e3f7f92ddfe437c381bcd609dbb1",
            "e7b42a246a18fc61f0366771e8272e70ebdc01c7ec68dbfe12b6d1444a3f9225",
        ),
        "digits": (
            "f23c9de167ce28f2c2c1e3ae251186c040fbf7d7f0b234dd9cd74f2b3dc526d6",
            "fbe78033c03f683da0f6559205b31d2c92b061965cf0e1edd9a643a90e9a0236",
        ),
        "digits-halves": (
            "b3898550d910976e4059e6dfa6246a5fd8932860f75ec26e2da7994f9778f60a",
            "9281c022de1bbaeaff252e25c0f5a864b9b3030518e945dc633d49fcf09f7834",
        ),
        "fashion": (
            "8f5e3264f3121674ac35add54386b5637fa21e74dd6810d6744a91bb8f4cd732",
            "19b3492693f328df3c7324654693ae0a2e875553c4936f50b34c2e099c3d8f2a",
        ),
        "location-imp": (
            "3e64dd0f73e5ab5b1ecc271132d9cb188a7312f0ade16d3c5b38bc82318ea77d",
            "2371f5acd12040c3d56d270b6e83e5392d87a0a359c8af34219022c034863bbb",
        ),
        "mechanism": (
            "40b290f8f966cc21db5493e48cef7cbe92a6604892f847cfc5e25faf28786f0e",
            "4aa69e8129d3492f59bd980babe93d1db0f97cb5e15d06410c1a78d3acfdb8ba",
        ),
        "mechanism-digits": (
            "bd04b469329edc9af73bdcc0338554f15856432271c6684ba5f0041408d69866",
            "1b3bd7767f5c1dc4a069ef94461d2dda9548dc24f46a76ba280e2cb2f2a94cd9",
        ),
        "paper": (
            "9be17946351882d97fbd499999cc70751cacd98a74aca2a5d108666389c1c54f",
            "2784cd35ac388d30f0eff3952639304e71230416f6739b3c21a91aed3dae7169",
        ),
        "paper-short": (
            "8e2901a274fa439abdd3a31e8b7bc7b4ed5c7ccef1ad77649b5f8dc74bf4cd87",
            "de668dc0bc73829988fd6df70e5d46725b866f428e0a7a53251dc68f31ab572c",
        ),
        "property": (
            "95545c525e0c7c3db7eb1719529ee4772d65324730c2e53e1c22f70c9ee5f857",
            "1a7bff9151267503feb517e3a664f679c9f4cb5363f0c1e23f676eb8de47f2d7",
        ),
        "property-digits": (
            "4ea65a85c53a04307593c45c01523f41ce55533eca4b2f5aa6e1b8c7b2683d2b",
            "d6e98b18ba97463f981684052bd510e600f958c0fc3155299dd5955b86d38a02",
        ),
        "reconstruction": (
            "0ad0bd9568821320b63302709c38c33157a788964ecfc7fb47c709d2f71b168b",
            "97402a402b4e88490d2adecb097c3a7b6efe334fc7f7d889f4f7967673932347",
        ),
        "stability": (
            "b0c74f4ab4d731380575f7ee78f0a2d8cea4bd6ce87315d886147389a53d293c",
            "6cba68781c0e375241993c012a00897cb939bf9d352ed7a6bce7657b4e945626",
        ),
        "text-short": (
            "a9d1feeaee5e004ca6a256d490972df1982b3739949b12fe573201ae125514a6",
            "f084e1c65a13db3be29f43d79c298ee26112cb2f89cd42bf0e5c382f2e876492",
        ),
        "vit-short": (
            "31d438b5db482a192aef9f52a73a77776232513330dfb030519f45e6b1dc866d",
            "91ad0d1a814c3000a9a583eb9c40192097f6cb744d3ba6476e34c36ac67083a0",
        ),
    }
    found = {}
    for name in builtin_studies():
        asked = [] if load_study(name).tradeoff.declared() else ["attacks.names=['discriminator']"]
        study = load_study(name, [*asked, "train.precision=fp32"]).resolved("fp32")
        plan = make_plan(study, data_digest=DIGEST, models=fingerprints(study))
        keys = (sorted(f"{job.id} {job.key}" for job in jobs) for jobs in (plan.networks, plan.attacks))
        found[name] = tuple(hashlib.sha256("\n".join(of).encode()).hexdigest() for of in keys)
    assert found == golden


def test_what_a_training_takes_counts_those_that_it_starts_from():
    entries = [*SMALL["networks"], {"method": "early-stopped", "epochs": [2]}]
    own = {"dense": 10.0, "imp-01": 7.0, "imp-02": 5.0, "butterfly-s2-l2": 30.0, "early-002": 0.0}
    assert _plan(networks=entries).in_all(own) == {
        "dense": 10.0, "imp-01": 17.0, "imp-02": 22.0, "butterfly-s2-l2": 30.0, "early-002": 10.0 * 2 / 5,
    }  # fmt: skip


def test_the_epochs_until_a_network_is_there_count_those_that_it_starts_from():
    entries = [
        *SMALL["networks"],
        {"method": "early-stopped", "epochs": [2]},
        {"method": "imp", "name": "long", "levels": 2, "fraction": 0.5, "train": {"epochs": 9}},
        {"method": "random-mask", "of": "imp-02", "train": {"epochs": 3}},
    ]
    assert _plan(networks=entries).epochs == {
        "dense": 5, "imp-01": 10, "imp-02": 15, "butterfly-s2-l2": 5, "early-002": 2,
        "long-00": 9, "long-01": 18, "long-02": 27, "random-mask-imp-02": 15 + 3,
    }  # fmt: skip
