"""DP-SGD as a [[networks]] entry: what it trains with, what it guarantees, and what it refuses before training."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lacewing import data, methods, models
from lacewing.config import Model, Train
from lacewing.errors import UsageError
from lacewing.metrics import dp_epsilon
from lacewing.results import NetworkResult, Privacy, read_results_csv, results_csv
from lacewing.sparsify.masks import unpack
from lacewing.study import jobs
from lacewing.study.declared import load_study
from lacewing.study.jobs import _networks
from lacewing.study.plan import Plan, fingerprints, make_plan
from lacewing.study.prepared import Prepared
from lacewing.study.store import Store
from lacewing.training.private import PrivateSgd


def _study(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    networks = [{"method": "dp-sgd", **entry} for entry in entries]
    return {
        "name": "dp",
        "model": {"name": "mlp", "hidden": [8]},
        "train": {"epochs": 2, "batch_size": 16},
        "networks": networks,
        "attacks": {"names": ["loss"]},
        "run": {"seeds": [0]},
        **fields,
    }


def _entry(**fields: Any) -> methods.Method:
    return load_study(_study(fields)).networks[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give noise (0: clipping alone), or epsilon and delta, or a preset"),
        ({"noise": 1.0, "epsilon": 2.0, "delta": 1e-5}, "give noise (0: clipping alone), or epsilon and delta"),
        ({"epsilon": 2.0}, "networks.0.delta is missing"),
        ({"noise": 0.0, "delta": 1e-5}, "noise = 0 gives none"),
        ({"noise": -1.0}, "networks.0.noise = -1.0"),
        ({"noise": 1.0, "clip": 0.0}, "networks.0.clip = 0.0"),
        ({"noise": 1e-300}, "noise = 1e-300: 0 or at least 0.001, since"),
        ({"noise": 1.0, "clip": 1e-300}, "clip = 1e-300: at least 1e-30, since"),
        ({"method": "dp-imp", "levels": 1, "noise": 9e-4}, "noise = 0.0009: 0 or at least 0.001, since"),
        ({"noise": 1e4}, "at most 1000, since nothing is learnt under more"),
        ({"epsilon": 0.0, "delta": 1e-5}, "networks.0.epsilon = 0.0"),
        ({"epsilon": 1.0, "delta": 1.0}, "networks.0.delta = 1.0"),
        ({"method": "dp-imp", "levels": 1, "noise": 0.0, "delta": 1e-5}, "noise = 0 gives none"),
        ({"method": "dp-imp", "levels": 1}, "'networks.0.noise' is missing"),
        ({"method": "dp-imp", "levels": 1, "noise": 1.0, "epsilon": 1.0}, "unknown field 'networks.0.epsilon'"),
        ({"preset": "high-utility"}, "leaves the learning rate to you"),
        ({"preset": "high-utility", "noise": 1.0, "train": {"lr": 1.0}}, "sets the noise itself"),
        ({"preset": "high", "train": {"lr": 1.0}}, "networks.0.preset = 'high'"),
        ({"noise": 1.0, "train": {"precision": "bf16"}}, "networks.0.train.precision: DP-SGD"),
        ({"noise": 1.0, "train": {"mixup": 0.2}}, "networks.0.train.mixup: it puts two records into one gradient"),
    ],
)
def test_bad_settings_are_one_sentence(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as told:
        load_study(_study(fields))
    assert said in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"noise": 1.0, "delta": 0.01}, "delta = 0.01 is not below 1 / 449"),
        ({"epsilon": 1e-4, "delta": 1e-5}, "epsilon = 0.0001 at delta = 1e-05 cannot be met in 58 steps"),
        ({"noise": 1.0, "model": {"name": "resnet8", "width": 1}}, "BatchNorm2d ('bn1') mixes the records"),
    ],
)
def test_what_cannot_be_met_is_refused_before_training(tmp_path: Any, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as told:
        Prepared(_study(fields), out=tmp_path / "run")
    assert str(told.value).startswith("network 'dp-sgd': ")
    assert said in str(told.value)
    assert not (tmp_path / "run").exists()


def test_the_dry_run_says_what_each_network_guarantees(tmp_path: Any) -> None:
    study = _study({"noise": 0.0}, {"noise": 1.0}, {"name": "budget", "epsilon": 3.0, "delta": 1e-4})
    notes = Prepared(study, out=tmp_path / "run").notes
    spent = dp_epsilon(1.0, 16 / 449, 58, 1e-5)
    assert "clipping: no guarantee: gradients are clipped, and no noise is added to them." in notes
    assert any(note.startswith(f"dp-sgd: epsilon {spent:.4g} at delta 1e-05 (noise multiplier 1)") for note in notes)
    assert any(note.startswith("budget: epsilon 3 at delta 0.0001") or "epsilon 2.99" in note for note in notes)


def test_a_budget_becomes_the_noise_that_meets_it() -> None:
    entry = _entry(epsilon=3.0, delta=1e-4, clip=0.5)
    train = Train(epochs=10, batch_size=50)
    trainer = entry.trainer(train, 500)
    assert trainer.clip == 0.5  # type: ignore[union-attr]
    assert dp_epsilon(trainer.noise, 0.1, 100, 1e-4) <= 3.0 < dp_epsilon(0.99 * trainer.noise, 0.1, 100, 1e-4)  # type: ignore[union-attr]
    found = entry.privacy(train, 500, entry.steps(train)[0])
    assert found == Privacy(trainer.noise, pytest.approx(dp_epsilon(trainer.noise, 0.1, 100, 1e-4), rel=1e-5), 1e-4)  # type: ignore[union-attr]


def test_presets_are_those_of_the_paper_and_yield_to_the_entry() -> None:
    study = load_study(_study({"preset": "medium-utility", "train": {"lr": 4.0, "epochs": 3}}))
    entry, train = study.networks[0], study.train_of(study.networks[0])
    assert (entry.trainer(train, 25_000).noise, entry.trainer(train, 25_000).clip) == (0.2, 1.0)  # type: ignore[union-attr]
    assert (train.batch_size, train.epochs, train.lr, train.momentum, train.weight_decay) == (2048, 3, 4.0, 0.0, 0.0)
    assert train.schedule == "constant"
    assert load_study(study.as_dict()) == study  # as a run folder records it


def test_a_preset_is_plain_sgd_whatever_the_study_trains_by() -> None:
    adamw = {"optimizer": "adamw", "optimizer_options": {"eps": 1e-6}, "schedule": "cosine", "warmup": 0.1}
    asked = _study({"preset": "high-utility", "train": {"lr": 4.0}}, train={**adamw, "clip_norm": 1.0})
    study = load_study(asked)
    train = study.train_of(study.networks[0])
    assert (train.optimizer, train.optimizer_options, train.warmup, train.clip_norm) == ("sgd", {}, 0.0, 0.0)
    assert load_study(study.as_dict()) == study
    with pytest.raises(UsageError, match=r"preset = 'high-utility' trains by SGD; leave optimizer out"):
        load_study(_study({"preset": "high-utility", "train": {"lr": 4.0, "optimizer": "adam"}}))
    with pytest.raises(UsageError, match=r"networks\.0\.train\.clip_norm = 1 is of the gradient of a batch"):
        load_study(_study({"noise": 1.0}, train={"clip_norm": 1.0}))


def test_an_open_precision_is_fp32() -> None:
    study = load_study(_study({"noise": 1.0, "name": "own"}, train={"precision": "auto"}))
    assert study.train_of(study.resolved("bf16").networks[0]).precision == "fp32"


def test_noise_makes_a_family_of_controls_and_every_setting_counts_in_keys() -> None:
    entries = [{"vary": {"noise": [0.0, 0.5]}}, {"name": "tight", "noise": 0.5, "clip": 0.1}]
    entries += [{"name": "told", "noise": 0.5, "delta": 1e-6}]
    study = load_study(_study(*entries))
    plan = make_plan(study, data_digest="0" * 64, models=fingerprints(study))
    found = [sequence[0] for sequence in plan.sequences if sequence[0].role == "target"]
    assert [(job.network, job.family, job.kind) for job in found][:2] == [
        ("dp-sgd-0.0", "dp-sgd", "control"),
        ("dp-sgd-0.5", "dp-sgd", "control"),
    ]
    assert len({job.key for job in found}) == 4


def test_group_norm_has_a_key_of_its_own_and_batch_norm_the_old_one() -> None:
    old = {"name": "resnet8", "factory": None, "version": "", "width": None, "hidden": None}
    assert models.fingerprint(Model(name="resnet8")) == models.fingerprint(Model(name="resnet8", norm="batch")) == old
    assert models.fingerprint(Model(name="resnet8", norm="group")) == {**old, "norm": "group"}


def test_group_norm_has_the_weights_of_batch_norm_and_mixes_no_records() -> None:
    batch, group = (
        models.build(Model(name="resnet14", width=6, norm=norm), (3, 8, 8), 4) for norm in ("batch", "group")
    )  # type: ignore[arg-type]
    shapes = [{name: p.shape for name, p in model.named_parameters()} for model in (batch, group)]
    assert shapes[0] == shapes[1]
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(group(x)[:1], group(x[:1]))


@pytest.mark.parametrize("model", [{"name": "mlp"}, {"factory": "a:b"}])
def test_group_norm_is_an_option_of_resnets(model: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="norm"):
        models.build(load_study(_study({"noise": 1.0}, model={**model, "norm": "group"})).model, (8,), 2)


def test_results_hold_epsilon_where_there_is_one(tmp_path: Any) -> None:
    plain = NetworkResult("dense", "dense", "target", 0, 1.0, 1.0, 10, 10, 1.0, 0.5, kind="dense")
    noisy = NetworkResult("a", "dp-sgd", "target", 0, 1.0, 1.0, 10, 10, 1.0, 0.5, dp_noise=1.0, epsilon=7.5, delta=1e-5)
    noisy = dataclasses.replace(noisy, dp_trainings=3)
    clipped = NetworkResult("b", "dp-sgd", "target", 0, 1.0, 1.0, 10, 10, 1.0, 0.5, dp_noise=0.0)
    assert "epsilon" not in results_csv([plain], [])
    path = tmp_path / "results.csv"
    path.write_text(results_csv([plain, noisy, clipped], []))
    found, _ = read_results_csv(path)
    assert [network.privacy for network in found] == [None, Privacy(1.0, 7.5, 1e-5, 3), Privacy(0.0)]
    assert "3 trainings" in str(found[1].privacy)
    path.write_text(path.read_text().replace("7.5", "-7.5"))
    with pytest.raises(UsageError, match="epsilon"):
        read_results_csv(path)


IMP = {"method": "dp-imp", "noise": 0.7, "levels": 2, "fraction": 0.5}


def _run(folder: Path, *entries: dict[str, Any], stack: int, **train: Any) -> tuple[jobs.Workspace, Plan]:
    """Networks of four seeds, trained one after another or in a stack of four."""
    torch.set_num_threads(1)
    study = load_study(
        _study(
            *entries,
            data={"dataset": "tiny", "split": "random-halves"},
            run={"seeds": [0, 1, 2, 3]},
            train={"epochs": 2, "batch_size": 8, "precision": "fp32", "stack": stack, **train},
        )
    )
    rng = np.random.default_rng(0)
    dataset = data.make_dataset("tiny", rng.normal(size=(80, 6)).astype(np.float32), rng.integers(0, 3, 80), 3)
    records = data.prepare(dataset, records=None, label_noise=0.0)
    work = jobs.Workspace(study, Store(folder), dataset, records, data.normalisation(records.x), np.empty(0, np.int64))
    plan = make_plan(study, data_digest=dataset.digest, models=fingerprints(study))
    for sequences in plan.stacks.values():
        jobs.run_stack(work, sequences)
    for sequence in plan.sequences if stack == 1 else ():
        jobs.run_sequence(work, sequence)
    return work, plan


@pytest.mark.parametrize(("entry", "stack"), [({"noise": 0.7}, 1), ({"noise": 0.7}, 4), (IMP, 1), (IMP, 4)])
def test_trained_networks_record_what_they_guarantee(tmp_path: Path, entry: dict[str, Any], stack: int) -> None:
    """A mask that earlier levels learnt from the same records costs their guarantees, too."""
    work, plan = _run(tmp_path, entry, stack=stack)
    for job in plan.networks:
        found, spent = jobs.load_network(work.store, job), dp_epsilon(0.7, 8 / 36, 10 * (job.level + 1), 1e-5)
        assert (found.dp_noise, found.epsilon, found.delta) == (0.7, pytest.approx(spent, rel=1e-5), 1e-5)
        assert found.epsilon is not None
        assert found.epsilon >= spent  # it is an upper bound
        assert found.dp_trainings == job.level + 1
        if job.level:
            state = load_file(work.store.job(job.key) / "model.safetensors")
            masks = unpack(load_file(work.store.job(job.key) / "masks.safetensors"))
            assert sum(int((~mask).sum()) for mask in masks.values()) == found.parameters - found.nonzero > 0
            assert all(not state[name][~mask].any() and state[name][mask].all() for name, mask in masks.items())


@pytest.mark.parametrize("stack", [1, 4])
def test_noise_is_independent_between_levels_and_between_entries(tmp_path: Path, stack: int) -> None:
    """Guarantees compose only then. The gradients are nothing beside the noise, so that weights show it alone."""
    noise = {"noise": 100.0, "clip": 1e-3}
    entries = [
        {**IMP, **noise, "fraction": 0.2, "rewind": "init"},
        {**noise, "clip": 1.001e-3},
        {**noise, "delta": 1e-6},
    ]
    plain = {"epochs": 1, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "lr": 1.0}
    work, plan = _run(tmp_path, *({"name": str(n), **each} for n, each in enumerate(entries)), stack=stack, **plain)
    found = {}
    for job in (job for job in plan.networks if job.seed == 0):
        state = load_file(work.store.job(job.key) / "model.safetensors")
        start = {name: p.detach() for name, p in _networks.build(work, job).named_parameters()}
        found[job.network] = torch.cat([(state[name] - start[name]).flatten() for name in start])
        found[job.network][torch.cat([state[name].flatten() for name in start]) == 0] = torch.nan
    assert sorted(found) == ["0-00", "0-01", "0-02", "1", "2"]
    for one, other in itertools.combinations(found.values(), 2):
        both = ~(one.isnan() | other.isnan())
        assert both.sum() > 50
        assert abs(float(torch.corrcoef(torch.stack([one[both], other[both]]))[0, 1])) < 0.4  # 1.0 if shared


def test_batches_and_noise_are_drawn_alike_alone_and_in_a_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every network has a seed of its own for each epoch, from which `PrivateSgd` draws both."""
    alone, together = list[int](), list[int]()
    one, many = PrivateSgd.epoch, PrivateSgd.stack_epoch
    monkeypatch.setattr(PrivateSgd, "epoch", lambda *a: (alone.append(a[4]), one(*a))[1])
    monkeypatch.setattr(PrivateSgd, "stack_epoch", lambda *a: (together.extend(a[7]), many(*a))[1])
    for stack in (1, 4):
        _run(tmp_path / str(stack), IMP, {"noise": 0.7}, {"name": "more", "noise": 0.8}, stack=stack)
    assert sorted(alone) == sorted(together)
    assert len({*alone}) == len(alone) == 4 * 4 * 2  # seeds, dp-imp's three networks (one is dp-sgd's) and more, epochs


def test_other_methods_keep_the_streams_that_they_had() -> None:
    entries = [{"method": "dense"}, {"method": "imp", "levels": 1}, {"noise": 0.5}]
    study = load_study(_study(*entries, run={"seeds": [3], "inits": 2}))
    for job in make_plan(study, data_digest="0" * 64, models=fingerprints(study)).networks:
        init = [job.init] if job.init else []
        assert job.stream("init") == (3, job.role, "init", *init)
        assert (job.stream("train") == (3, job.role, "train", *init)) == (job.method != "dp-sgd")


def test_networks_that_shared_their_noise_have_other_keys() -> None:
    """The keys are those of the version before."""
    study = load_study(_study({"noise": 0.7, "name": "own"}, IMP))
    plan = make_plan(study, data_digest="0" * 64, models={"": {}})
    found = {job.network: dict(job.step.key) for job in plan.networks}
    assert {found[name].pop("draws") for name in ("own", "dp-imp-01", "dp-imp-02")} == {2}
    assert found["dp-imp-01"] == {
        "method": "dp-imp",
        "fraction": 0.5,
        "rewind": "epoch 1",
        "level": 1,
        "noise": 0.7,
        "delta": None,
        "clip": 1.0,
    }


def test_the_dry_run_composes_the_trainings_of_a_learnt_mask(tmp_path: Any) -> None:
    notes = Prepared(_study({**IMP, "noise": 1.0, "levels": 5}, {"noise": 1.0}), out=tmp_path / "run").notes
    spent = dp_epsilon(1.0, 16 / 449, 6 * 58, 1e-5)
    told = [note for note in notes if note.startswith("dp-imp-05: ")]
    assert [note.partition(":")[2][:60] for note in told] == [
        f" epsilon {spent:.4g} at delta 1e-05 (noise multiplier 1, 6 trainings)"[:60]
    ]
    assert not any(note.startswith("dp-imp-00: ") for note in notes)  # it is the study's dp-sgd
