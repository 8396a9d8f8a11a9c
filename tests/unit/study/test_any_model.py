"""ViT, token transformer, ResNet-50 and EfficientNet: planned exactly, trained under masks and of butterfly factors."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import nn

from lacewing import data, models
from lacewing.sparsify.layers import KSLayer
from lacewing.study import jobs
from lacewing.study.accounting import count_networks, notes
from lacewing.study.declared import load_study
from lacewing.study.jobs import _networks
from lacewing.study.plan import fingerprints, make_plan
from lacewing.study.store import Store

VIT = {"name": "vit", "options": {"patch": 4, "width": 24, "depth": 1, "heads": 3}}
TOKENS = {"name": "transformer", "options": {"vocabulary": 16, "width": 32, "depth": 1, "heads": 2}}
MODELS = {  # model, a density that chains reach, layers that stay dense beside the last one
    "vit": (VIT, 0.4, {}),
    "transformer": (TOKENS, 0.4, {"embed": "embedding"}),
    "resnet50": (
        {"name": "resnet50", "width": 2, "options": {"stem": "small"}},
        0.6,
        {},
    ),
    "efficientnet-b0": (
        {"name": "efficientnet-b0", "options": {"width": 0.1, "depth": 0.5, "stem": "small"}},
        0.9,
        {"segments.0.0.block.0": "depthwise"},
    ),
}


def _workspace(folder, model, networks, *, tokens, records=40):
    study = load_study(
        {
            "name": "tiny",
            "model": model,
            "train": {"epochs": 1, "batch_size": 10, "lr": 0.1, "schedule": "constant", "precision": "fp32"},
            "networks": networks,
            "run": {"seeds": [0]},
        }
    )
    rng = np.random.default_rng(0)
    x = rng.integers(0, 16, (records, 6)) if tokens else rng.integers(0, 256, (records, 3, 8, 8)).astype(np.uint8)
    dataset = data.make_dataset("tiny", x, np.arange(records) % 3, 3)
    drawn = data.prepare(dataset, records=None, label_noise=0.0)
    width = 6 if tokens else 3
    normalisation = (np.zeros(width, np.float32), np.ones(width, np.float32)) if tokens else data.normalisation(drawn.x)
    work = jobs.Workspace(study, Store(folder), dataset, drawn, normalisation, np.empty(0, np.int64))
    plan = make_plan(study, data_digest=dataset.digest, models=fingerprints(study))
    return work, plan


@pytest.mark.parametrize("name", MODELS)
def test_a_plan_counts_what_a_step_of_training_leaves(name, tmp_path):
    torch.set_num_threads(1)
    model, density, kept = MODELS[name]
    networks = [
        {"method": "imp", "levels": 1, "fraction": 0.3, "rewind": "init"},
        {"method": "butterfly", "density": density},
    ]
    work, plan = _workspace(tmp_path, model, networks, tokens=name == "transformer")
    shape, classes = work.dataset.shape, work.dataset.classes
    counts = count_networks(work.study, plan, shape, classes)
    pruned, butterfly = sorted((s for s in plan.sequences if s[0].role == "target"), key=len, reverse=True)
    for sequence in (pruned, butterfly):
        jobs.run_sequence(work, sequence)

    own = models.build(work.study.model, shape, classes)
    parameters = {key: p.numel() for key, p in own.named_parameters()}
    layers = [key for key, layer in own.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    weights = {f"{key}.weight" for key in layers}

    state = load_file(work.store.job(pruned[1].key) / "model.safetensors")
    left = sum(int(state[key].count_nonzero()) if key in weights else size for key, size in parameters.items())
    assert counts["imp-01"]["nonzero"] == left
    prunable = sum(parameters[key] for key in weights)
    assert left == sum(parameters.values()) - math.floor(0.3 * prunable)

    job = butterfly[0]
    network = _networks.build(work, job)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(load_file(work.store.job(job.key) / "model.safetensors"))
    stored = counts[job.network]["nonzero"]
    assert stored == sum(p.numel() for p in network.parameters())
    chains = {key: layer for key, layer in network.named_modules() if isinstance(layer, KSLayer)}
    saved = sum(
        parameters[f"{key}.weight"] - layer.groups * sum(math.prod(pattern) for pattern in layer.chain.patterns)
        for key, layer in chains.items()
    )
    assert stored == sum(parameters.values()) - saved
    assert stored <= density * sum(parameters.values())
    assert counts[job.network]["density"] == stored / sum(parameters.values())
    assert chains
    assert not [key for key, p in network.named_parameters() if ".factors." in key and torch.equal(start[key], p)]

    (told,) = notes(plan, shape, classes)
    said = {(key, why) for key, why in {**kept, layers[-1]: "the last layer"}.items() if key in told and why in told}
    assert len(said) == len(kept) + 1
    assert told.startswith(f"{job.network}: {len(chains)} of ")

    plain = models.build(work.study.model, shape, classes)
    plain.load_state_dict(jobs.plain_state(work.store, job, shape=shape, classes=classes))
    inputs = torch.from_numpy(work.records.x[:3]).float()
    torch.testing.assert_close(plain.eval()(inputs), network.eval()(inputs), atol=1e-4, rtol=1e-4)


TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embed, self.fc1, self.fc2 = nn.Embedding(16, 32), nn.Linear(32, 64), nn.Linear(64, 32)
        self.out, self.classes = nn.Linear(32, 16, bias=False), classes
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(self.fc2(self.fc1(self.embed(x.long())).relu().mean(1)))[:, : self.classes]

def tied(shape, classes):
    return Tied(classes)
"""


def test_a_weight_that_an_embedding_shares_with_the_output_counts_once(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    (tmp_path / "tied_model.py").write_text(TIED)
    monkeypatch.syspath_prepend(tmp_path)
    networks = [
        {"method": "imp", "levels": 1, "fraction": 0.5, "rewind": "init"},
        {"method": "butterfly", "density": 0.8},
    ]
    work, plan = _workspace(tmp_path / "run", {"factory": "tied_model:tied"}, networks, tokens=True)
    shape, classes = work.dataset.shape, work.dataset.classes
    counts = count_networks(work.study, plan, shape, classes)
    weights = 16 * 32 + 2 * 32 * 64
    assert counts["imp-01"] == {
        "density": (weights // 2 + 96) / (weights + 96),
        "density_prunable": 0.5,
        "parameters": weights + 96,
        "nonzero": weights // 2 + 96,
    }
    (told,) = notes(plan, shape, classes)
    assert told.endswith("2 of 4 layers become butterfly. Dense layers: out (the last layer); embed (embedding).")
    for sequence in plan.sequences:
        if sequence[0].role == "target":
            jobs.run_sequence(work, sequence)
            for job in sequence:
                assert jobs.load_network(work.store, job).nonzero == counts[job.network]["nonzero"]
                state = jobs.plain_state(work.store, job, shape=shape, classes=classes)
                save(state)  # refuses tensors that share memory
                assert torch.equal(state["embed.weight"], state["out.weight"])
