"""One table: every method through the same promises, from the dry run over training to the exported checkpoint."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lacewing import data, methods, models
from lacewing.sparsify.masks import prunable, unpack
from lacewing.study import jobs
from lacewing.study.accounting import count_networks
from lacewing.study.declared import load_study
from lacewing.study.jobs import _networks
from lacewing.study.plan import fingerprints, make_plan
from lacewing.study.store import Store

IMP = {"method": "imp", "levels": 2, "fraction": 0.4}
METHODS = {  # name -> the [[networks]] entry, and how many networks it makes
    "dense": ({"method": "dense"}, 1),
    "imp": ({"method": "imp", "levels": 3, "fraction": 0.4}, 4),
    "imp from the start": ({"method": "imp", "levels": 2, "fraction": 0.45, "rewind": "init"}, 3),
    "imp with balanced confidences": ({"method": "imp-balanced", "levels": 1, "fraction": 0.5, "balance": 2.0}, 2),
    "butterfly of two factors": ({"method": "butterfly", "segments": 2, "factors": 2}, 1),
    "butterfly of three factors": ({"method": "butterfly", "segments": 3, "factors": 3}, 1),
    "butterfly in DeBut's order": ({"method": "butterfly", "segments": 3, "columns": "kernel-first"}, 1),
    "early-stopped": ({"method": "early-stopped", "epochs": [1]}, 2),
    "dp-sgd": ({"method": "dp-sgd", "noise": 0.5, "model": {"name": "mlp", "hidden": [8]}}, 1),
    "dp-imp": (
        {"method": "dp-imp", "noise": 0.5, "levels": 2, "fraction": 0.4, "model": {"name": "mlp", "hidden": [8]}},
        3,
    ),
    "a user's own": ({"method": "own_method:Halved", "share": 0.3}, 1),
    "ticket": ({"method": "ticket", "of": "imp-02", "train": {"epochs": 1}}, 1),
    "random-mask": ({"method": "random-mask", "of": "imp-02"}, 1),
    "shuffled-mask": ({"method": "shuffled-mask", "of": "imp-02", "within": "inputs"}, 1),
    "reinitialised": ({"method": "reinitialised", "of": "imp-02"}, 1),
    "narrow": ({"method": "imp", "levels": 1, "fraction": 0.4, "model": {"width": 2}}, 2),
}


def test_every_method_is_here():
    assert {*methods.METHODS} <= {entry["method"] for entry, _ in METHODS.values()}


@pytest.fixture(scope="module", params=METHODS)
def trained(request, tmp_path_factory, own_method):
    """(study, workspace, the chain's jobs, what the dry run said), each network trained for two epochs."""
    torch.set_num_threads(1)
    entry, networks = METHODS[request.param]
    others = [IMP] if "of" in entry else []  # whose mask it takes
    study = load_study(
        {
            "name": "tiny",
            "model": {"name": "resnet8", "width": 4},
            "train": {"epochs": 2, "batch_size": 8, "precision": "fp32"},
            "networks": [*others, entry],
            "run": {"seeds": [0]},
        }
    )
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    dataset = data.make_dataset("tiny", x, rng.integers(0, 3, 60), 3)
    records = data.prepare(dataset, records=None, label_noise=0.0)
    store = Store(tmp_path_factory.mktemp("run"))
    work = jobs.Workspace(study, store, dataset, records, data.normalisation(records.x), np.empty(0, np.int64))
    plan = make_plan(study, data_digest=dataset.digest, models=fingerprints(study))
    counts = count_networks(study, plan, dataset.shape, dataset.classes)
    *before, chain = plan.sequences[: len(others) + 1]
    assert len(chain) == networks
    for sequence in [*before, chain]:
        jobs.run_sequence(work, sequence)
    return study, work, chain, counts


def _weights(work, job):
    return load_file(work.store.job(job.key) / "model.safetensors")


def test_density_is_what_the_dry_run_said(trained):
    _, work, chain, counts = trained
    dense = models.build(work.study.model, work.dataset.shape, work.dataset.classes)
    parameters = sum(p.numel() for p in dense.parameters())
    densities = []
    for job in chain:
        found = jobs.load_network(work.store, job)
        said = counts[job.network]
        assert {name: getattr(found, name) for name in said} == said
        assert found.parameters == parameters
        assert found.density == found.nonzero / parameters
        densities.append(found.density)
    assert densities == sorted(densities, reverse=True)
    assert (densities[-1] < 1) == (job.spec.role == "sparse" or job.spec.masked or job.model != work.study.model)


def test_stored_non_zeros_are_exactly_those_counted(trained):
    """Entries of factors for butterfly layers; for IMP the zeros are the mask's, all of them and no others."""
    _, work, chain, counts = trained
    for job in chain:
        dense = models.build(job.model, work.dataset.shape, work.dataset.classes)
        weights = _weights(work, job)
        stored = sum(
            t.numel() for name, t in weights.items() if not name.rpartition(".")[2].startswith(("running", "num"))
        )
        if not job.spec.masked:
            assert stored == counts[job.network]["nonzero"]
            continue
        masks = unpack(load_file(work.store.job(job.key) / "masks.safetensors"))
        assert set(masks) == set(prunable(dense))
        assert all(torch.equal(weights[name] != 0, mask) for name, mask in masks.items())
        assert stored - sum(int((~mask).sum()) for mask in masks.values()) == counts[job.network]["nonzero"]


def test_the_checkpoint_loads_into_the_plain_network_and_answers_the_same(trained):
    _, work, chain, _ = trained
    shape, classes = work.dataset.shape, work.dataset.classes
    mean, std = (torch.from_numpy(a).view(1, -1, 1, 1) for a in work.normalisation)
    inputs = (torch.from_numpy(work.records.x).float() - mean) / std
    for job in chain:
        state = jobs.plain_state(work.store, job, shape=shape, classes=classes)
        plain = models.build(job.model, shape, classes).eval()
        plain.load_state_dict(state)
        with torch.no_grad():
            logits = plain(inputs)
        with np.load(work.store.job(job.key) / "signals.npz") as arrays:
            stored = torch.from_numpy(arrays["logits_NC"].astype(np.float32))
        torch.testing.assert_close(logits - logits.max(1, keepdim=True).values, stored, atol=1e-3, rtol=1e-3)


def test_every_stored_value_is_finite_and_was_trained(trained):
    _, work, chain, _ = trained
    for job in chain:
        weights, start = _weights(work, job), _networks.build(work, job).state_dict()
        assert set(weights) == set(start)
        for name, tensor in weights.items():
            assert torch.isfinite(tensor.float()).all()
            assert not torch.equal(tensor, start[name]), f"{name} of {job.id}"


def test_training_again_gives_the_same_bytes(trained, tmp_path):
    study, work, chain, _ = trained
    again = jobs.Workspace(study, Store(tmp_path), work.dataset, work.records, work.normalisation, work.population)
    for mask in (job.mask for job in chain if job.mask is not None):
        shutil.copytree(work.store.job(mask.key), again.store.job(mask.key))
    torch.manual_seed(123)
    jobs.run_sequence(again, chain)
    for job in chain:
        for name in ("model.safetensors", "signals.npz", "metrics.json"):
            assert (again.store.job(job.key) / name).read_bytes() == (work.store.job(job.key) / name).read_bytes()
