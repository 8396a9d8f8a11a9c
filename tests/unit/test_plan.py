"""The plan: which jobs a study has, what they share, and that their keys follow exactly what changes a network."""

import copy

import pytest

from lacewing.config import load_study
from lacewing.errors import UsageError
from lacewing.plan import make_plan, only

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
DIGEST, MODEL = "0" * 64, {"name": "resnet8"}


def _plan(*overrides, digest=DIGEST, model=MODEL, **changes):
    study = load_study({**copy.deepcopy(SMALL), **changes}, overrides)
    return make_plan(study, data_digest=digest, model=model)


def _keys(plan):
    return {job.id: job.key for job in (*plan.networks, *plan.attacks)}


def test_every_network_is_planned_for_each_role_and_seed_and_attacked_on_the_target():
    plan = _plan()
    names = ["dense", "imp-01", "imp-02", "butterfly-s2-l2"]
    wanted = {f"{n}/{r}/{s}" for n in names for r in ("target", "shadow") for s in (0, 1)}
    assert {job.id for job in plan.networks} == wanted
    assert len(plan.networks) == len({job.key for job in plan.networks}) == 16
    assert [job.level for job in plan.chains[0]] == [0, 1, 2]
    assert {a.id for a in plan.attacks} == {f"discriminator on {n}/target/{s}" for n in names for s in (0, 1)}
    for attack in plan.attacks:
        assert (attack.target.role, attack.shadow.network.role) == ("target", "shadow")
        assert (attack.target.network, attack.target.seed) == (
            attack.shadow.network.network,
            attack.shadow.network.seed,
        )


def test_imp_starts_from_the_dense_network_that_is_trained_alike():
    assert [[job.network for job in chain] for chain in _plan().chains[:2]] == [
        ["dense", "imp-01", "imp-02"],
        ["butterfly-s2-l2"],
    ]
    sequences = [
        {"method": "imp", "levels": 1},
        {"method": "imp", "levels": 2, "fraction": 0.5, "name": "fast"},
        {"method": "imp", "levels": 1, "name": "other", "train": {"lr": 0.3}},
    ]
    chains = [[job.network for job in chain] for chain in _plan(networks=sequences).chains[:2]]
    assert chains == [["imp-00", "imp-01", "fast-01", "fast-02"], ["other-00", "other-01"]]
    same = _plan(networks=[{"method": "dense", "train": {"lr": 0.1}}, {"method": "imp", "levels": 1}])
    assert [job.network for job in same.chains[0]] == ["dense", "imp-01"]  # lr 0.1 is what [train] says, too


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
            "epochs=6", "batch_size=32", "momentum=0.8", "weight_decay=1e-3", "schedule=step", "milestones=[0.4]",
            "gamma=0.2", "augment=['flip']", "precision=bf16", "channels_last=false", "holdout=0.1",
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


def test_keys_follow_the_data_and_the_model():
    keys = [set(_keys(p).values()) for p in (_plan(), _plan(digest="1" * 64), _plan(model={"name": "mlp"}))]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]


def test_keys_are_stable():
    """Golden: a change makes every run folder in the world start anew."""
    keys = _keys(_plan())
    assert keys["dense/target/0"] == "1fb641fbe2a0cfd1099b41a7931ed06f5aba806e02ebaa654e2f6a6c18d8bfc0"
    assert keys["imp-02/shadow/1"] == "44c17cdad7b6dd976058bf6a89a90397075eaf89e137227497970434d33b99ac"
    assert keys["butterfly-s2-l2/target/0"] == "93bdbe7b408892f4d70680e088f4fc320cf657f1e47718df40d2ae6fd1288ac3"
    attack = keys["discriminator on imp-01/target/1"]
    assert attack == "769a97b3f436e10ebb2684968505e304a55c096a15e1ba5758db364b6d659939"


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


def test_a_pruned_network_brings_what_its_chain_needs_and_no_more():
    networks, _ = _slice({"network": "imp-01", "role": "shadow", "seed": "0"})
    assert networks == ["dense/shadow/0", "imp-01/shadow/0"]
    two = [*SMALL["networks"][:2], {"method": "imp", "levels": 3, "fraction": 0.3, "name": "slow"}]
    networks, _ = _slice({"network": "slow-02", "role": "target", "seed": "0"}, networks=two)
    assert networks == ["dense/target/0", "slow-01/target/0", "slow-02/target/0"]
    assert _slice({"network": "dense", "role": "target", "seed": "0"})[0] == ["dense/target/0"]


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
