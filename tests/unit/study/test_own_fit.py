"""Studies whose networks a user's own loop trains: keys, IMP and early stops, breaks, and what is refused before."""

import contextlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from lacewing import data
from lacewing.errors import BudgetSpent, DivergedError, UsageError, UserCodeError
from lacewing.sparsify.masks import unpack
from lacewing.study import jobs
from lacewing.study.declared import load_study
from lacewing.study.plan import fingerprints, make_plan
from lacewing.study.prepared import _check_steps
from lacewing.study.store import Store
from lacewing.training.checkpoints import load_tensors

NUMBER = itertools.count()
LOOP = """
import torch
import torch.nn.functional as F


def fit(model, x, y, *, guard, seed, on_epoch, epochs, lr):
    optimizer = torch.optim.RMSprop(model.parameters(), lr=lr, weight_decay=0.01)
    guard.attach(optimizer)
    drawn = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(y), generator=drawn).split(5):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        on_epoch(loss, 0.5)
"""
NETWORKS = [
    {"method": "dense"},
    {"method": "imp", "levels": 2, "fraction": 0.5, "rewind": "epoch 1"},
    {"method": "early-stopped", "epochs": [1, 2]},
]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the loop, with a text replaced, to a module of its own."""
    monkeypatch.syspath_prepend(tmp_path)

    def module(old="", new=""):
        assert old in LOOP
        name = f"loop_of_study_{next(NUMBER)}"
        (tmp_path / f"{name}.py").write_text(LOOP.replace(old, new) if old else LOOP)
        return f"{name}:fit"

    return module


def _study(fit, networks=NETWORKS, **train):
    fields = {"epochs": 3, "lr": 0.01, "precision": "fp32", "fit": fit, **train}
    model = {"name": "mlp", "hidden": [8]}
    return load_study({"name": "t", "model": model, "train": fields, "networks": networks, "run": {"seeds": [0]}})


def _workspace(folder, study):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)).astype(np.float32), np.arange(40) % 3
    dataset = data.make_dataset("tiny", x, y, 3)
    drawn = data.prepare(dataset, records=None, label_noise=0.0)
    work = jobs.Workspace(study, Store(folder), dataset, drawn, data.normalisation(drawn.x), np.empty(0, np.int64))
    return work, make_plan(study, data_digest=dataset.digest, models=fingerprints(study))


def _keys(fit, networks=NETWORKS):
    study = _study(fit, networks)
    return {job.id: job.key for job in make_plan(study, data_digest="0" * 64, models=fingerprints(study)).networks}


def test_the_source_of_the_loop_is_part_of_the_keys_of_what_it_trains(write):
    first, again, other = write(), write(), write("weight_decay=0.01", "weight_decay=0.02")
    assert _keys(first) == _keys(first)
    assert not {*_keys(first).values()} & {*_keys(other).values()}
    assert not {*_keys(first).values()} & {*_keys("").values()}
    some = [{"method": "dense"}, {"method": "imp", "levels": 1, "train": {"fit": again}}]
    ours, both = _keys("", [{"method": "dense"}]), _keys("", some)
    assert ours.items() <= both.items()
    assert both["imp-00/target/0"] != both["dense/target/0"]
    assert _keys(first, [{"method": "dense", "train": {"fit": ""}}]) == ours


def test_imp_and_early_stops_are_trained_by_it_and_go_on_after_a_break_to_the_same_bytes(write, tmp_path):
    study = _study(write())
    whole, plan = _workspace(tmp_path / "whole", study)
    for sequence in plan.sequences:
        jobs.run_sequence(whole, sequence)
    for job in plan.networks:
        state = load_file(whole.store.file(job.key, "model.safetensors"))
        if job.network in ("imp-01", "imp-02"):
            for name, mask in unpack(load_tensors(whole.store.file(job.key, "masks.safetensors"))).items():
                assert not state[name][~mask].any()
                assert 0 < int(mask.sum()) < mask.numel()

    again, _ = _workspace(tmp_path / "again", study)
    with pytest.raises(BudgetSpent, match=r"^dense/target/0: stopped .* after epoch 1; train\.fit begins it anew\.$"):
        jobs.run_sequence(replace(again, stop=lambda: True), plan.sequences[0])
    asked = itertools.count(1)
    for stop in (2, 5, 9):  # epochs after which it is stopped: within a network, and at its end
        work = replace(again, stop=lambda stop=stop: next(asked) % stop == 0)
        for sequence in plan.sequences:
            with contextlib.suppress(BudgetSpent):
                jobs.run_sequence(work, sequence)
    assert not list((tmp_path / "again").rglob("checkpoint.safetensors"))
    for sequence in plan.sequences:
        jobs.run_sequence(again, sequence)
    for job in plan.networks:
        for name in ("model.safetensors", "signals.npz"):
            first, second = (work.store.file(job.key, name).read_bytes() for work in (whole, again))
            assert first == second, (job.id, name)


def test_a_training_that_diverges_is_told_of_its_network(write, tmp_path):
    study = _study(write("on_epoch(loss", "on_epoch(loss / 0"), [{"method": "dense"}])
    work, plan = _workspace(tmp_path / "run", study)
    jobs.try_networks(work, plan.networks)  # the trial leaves that to the networks
    with pytest.raises(DivergedError, match=r"^dense/target/0: the loss became inf in epoch 1"):
        jobs.run_sequence(work, plan.sequences[0])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("        on_epoch(loss, 0.5)\n", "", "called on_epoch 0 times"),
        ("    guard.attach(optimizer)\n", "", "did not call guard.attach"),
        ("on_epoch(loss, 0.5)", "on_epoch(loss, 50)", "with an accuracy of 50"),
    ],
)
def test_what_it_does_wrong_shows_before_anything_is_trained(write, tmp_path, old, new, said):
    work, plan = _workspace(tmp_path / "run", _study(write(old, new)))
    with pytest.raises(UserCodeError, match=said):
        jobs.try_networks(work, plan.networks)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networks": [{"method": "dp-sgd", "noise": 1.0}]}, "method 'dp-sgd' are trained by a loop of their own"),
        ({"networks": [{"method": "imp-balanced", "levels": 1}]}, "method 'imp-balanced' are trained by a loop of"),
        ({"stack": 2}, "train.stack = 2: train.fit trains one network at a time"),
    ],
)
def test_what_our_loop_alone_can_do_is_refused(changes, said):
    with pytest.raises(UsageError) as caught:
        _study("mine:fit", **changes)
    assert said in str(caught.value)


def test_recorded_steps_are_refused_and_precision_is_fp32(write, monkeypatch):
    study = _study(write(), precision="auto").as_dict()
    assert not load_study(study).undecided()
    assert load_study(study).resolved("bf16").train.precision == "fp32"
    monkeypatch.setenv("LACEWING_STEPS", "compiled")
    with pytest.raises(UsageError, match=r"LACEWING_STEPS=compiled records the steps of our own loop"):
        _check_steps(load_study(study), "cpu")
    _check_steps(_study(""), "cpu")
