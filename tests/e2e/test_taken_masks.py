"""Networks under the mask of another one: what they share with it, however they are trained, stopped and continued."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lacewing.errors import BudgetSpent, FolderError
from lacewing.sparsify.masks import unpack
from lacewing.study import jobs
from lacewing.study.jobs import _networks
from lacewing.study.plan import NetworkJob
from lacewing.study.prepared import Prepared

STUDY: dict[str, Any] = {
    "name": "masks",
    "data": {"dataset": "digits", "records": 240},
    "model": {"name": "mlp", "hidden": [16, 12]},
    "train": {"epochs": 3, "batch_size": 20, "precision": "fp32"},
    "networks": [
        {"method": "dense"},
        {"method": "imp", "levels": 2, "fraction": 0.5, "rewind": "init"},
        {"method": "random-mask", "vary": {"of": ["imp-01", "imp-02"]}},
        {"method": "shuffled-mask", "name": "by-output", "of": "imp-02"},
        {"method": "shuffled-mask", "name": "by-input", "of": "imp-02", "within": "inputs"},
        {"method": "reinitialised", "name": "fresh", "of": "imp-02"},
        {"method": "ticket", "of": "imp-02", "vary": {"train.epochs": [2, 3]}},
        {"method": "random-mask", "name": "of-a-control", "of": "by-input"},
    ],
    "run": {"seeds": [0, 1]},
}
TOML = """
schema = 1
name = "masks"
[data]
dataset = "digits"
records = 240
[model]
name = "mlp"
hidden = [16]
[train]
epochs = 8
batch_size = 20
precision = "fp32"
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 1
fraction = 0.5
[[networks]]
method = "random-mask"
name = "control"
of = "imp-01"
[run]
seeds = [0, 1]
"""
Weights = dict[str, Tensor]


class Trained:
    """A study whose networks are trained in this process, in the order of the plan."""

    def __init__(self, study: dict[str, Any], out: Path, keep: jobs.Keep = "all") -> None:
        self.prepared = Prepared(study, out=out)
        self.prepared.claim()
        self.work = dataclasses.replace(self.prepared.work, keep=keep)
        self.jobs = {job.id: job for job in self.prepared.plan.networks}
        for sequences in self.tasks():
            self.train(sequences)

    def tasks(self) -> list[tuple[tuple[NetworkJob, ...], ...]]:
        plan = self.prepared.plan
        return [*plan.stacks.values(), *((sequence,) for sequence in plan.sequences if sequence[0].stack is None)]

    def train(self, sequences: tuple[tuple[NetworkJob, ...], ...], work: jobs.Workspace | None = None) -> None:
        if sequences[0][0].stack is None:
            jobs.run_sequence(work or self.work, sequences[0])
        else:
            jobs.run_stack(work or self.work, sequences)

    def weights(self, name: str) -> Weights:
        return load_file(self.work.store.job(self.jobs[name].key) / "model.safetensors")

    def masks(self, name: str) -> Weights:
        return unpack(load_file(self.work.store.job(self.jobs[name].key) / "masks.safetensors"))

    def beginning(self, name: str) -> Weights:
        """The weights before the first step."""
        job = self.jobs[name]
        model, _ = job.spec.begin(_networks.NetworksOfEntry(self.work, [job]))
        return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module", params=[1, 2], ids=["single", "stacked"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    train = {**STUDY["train"], "stack": request.param}
    torch.set_num_threads(1)
    return Trained({**STUDY, "train": train}, tmp_path_factory.mktemp("masks") / "run")


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def counts(masks: Weights, axis: int | None = None) -> dict[str, list[int]]:
    """Kept weights of each layer, or of each index along an axis."""
    return {name: (mask.sum() if axis is None else mask.sum(axis)).reshape(-1).tolist() for name, mask in masks.items()}


PLACES = ["target/0", "shadow/0", "target/1", "shadow/1"]


@pytest.mark.parametrize("place", PLACES)
def test_each_control_shares_what_it_says_and_nothing_more(trained: Trained, place: str) -> None:
    learnt = trained.masks(f"imp-02/{place}")
    for level in ("imp-01", "imp-02"):
        random, of = trained.masks(f"random-mask-{level}/{place}"), trained.masks(f"{level}/{place}")
        assert counts(random) == counts(of)
        assert not any(torch.equal(random[name], of[name]) for name in of)
        assert counts(random, 1) != counts(of, 1)
    by_output, by_input = trained.masks(f"by-output/{place}"), trained.masks(f"by-input/{place}")
    assert counts(by_output, 1) == counts(learnt, 1)
    assert counts(by_output, 0) != counts(learnt, 0)
    assert counts(by_input, 0) == counts(learnt, 0)
    assert counts(by_input, 1) != counts(learnt, 1)
    assert same(trained.masks(f"fresh/{place}"), learnt)
    assert same(trained.masks(f"ticket-002/{place}"), learnt)
    assert counts(trained.masks(f"of-a-control/{place}")) == counts(learnt)
    for name in ("random-mask-imp-01", "by-output", "by-input", "fresh", "ticket-002", "of-a-control"):
        weights, masks = trained.weights(f"{name}/{place}"), trained.masks(f"{name}/{place}")
        assert all(torch.equal(weights[layer] != 0, mask) for layer, mask in masks.items())
        found = jobs.load_network(trained.work.store, trained.jobs[f"{name}/{place}"])
        assert found.nonzero == trained.prepared.counts[name]["nonzero"]


def test_every_seed_and_role_has_a_draw_of_its_own(trained: Trained) -> None:
    drawn = [trained.masks(f"random-mask-imp-01/{place}") for place in PLACES]
    begun = [trained.beginning(f"fresh/{place}") for place in PLACES]
    for found in (drawn, begun):
        assert not any(torch.equal(a["1.weight"], b["1.weight"]) for a in found for b in found if a is not b)


@pytest.mark.parametrize("place", PLACES)
def test_a_ticket_begins_where_the_dense_network_does_and_fresh_weights_do_not(trained: Trained, place: str) -> None:
    origin = trained.beginning(f"dense/{place}")
    for name in ("ticket-002", "random-mask-imp-01", "by-output"):
        assert same(trained.beginning(f"{name}/{place}"), origin)
    fresh = trained.beginning(f"fresh/{place}")
    assert not any(torch.equal(fresh[name], origin[name]) for name in origin)


@pytest.mark.parametrize("place", PLACES)
def test_a_ticket_of_the_same_schedule_is_the_level_that_was_rewound_to_the_initialisation(
    trained: Trained, place: str
) -> None:
    assert same(trained.weights(f"ticket-003/{place}"), trained.weights(f"imp-02/{place}"))
    assert not same(trained.weights(f"ticket-002/{place}"), trained.weights(f"imp-02/{place}"))


def test_a_stack_gives_the_networks_of_single_trainings_to_rounding(tmp_path: Path) -> None:
    study = {**STUDY, "networks": STUDY["networks"][:4], "run": {"seeds": [0]}}
    single = Trained(study, tmp_path / "single")
    stacked = Trained({**study, "train": {**STUDY["train"], "stack": 2}}, tmp_path / "stacked")
    for name in ("random-mask-imp-02/target/0", "by-output/shadow/0"):
        assert same(single.masks(name), stacked.masks(name))
        for layer, weights in single.weights(name).items():
            torch.testing.assert_close(stacked.weights(name)[layer], weights, atol=1e-4, rtol=1e-3)


def test_what_is_stopped_after_an_epoch_goes_on_to_the_same_bits(trained: Trained, tmp_path: Path) -> None:
    names = [f"{network}/target/0" for network in ("random-mask-imp-02", "fresh", "ticket-003")]
    again = tmp_path / "run"
    shutil.copytree(trained.work.store.folder, again)
    for sequences in trained.tasks():
        if sequences[0][0].id not in names:
            continue
        for job in (job for sequence in sequences for job in sequence):
            shutil.rmtree(again / "jobs" / job.key)
        epochs: list[int] = []
        other = Prepared(trained.prepared.study.as_dict(), out=again)
        stopping = dataclasses.replace(
            other.work,
            report=lambda job, epoch, seen=epochs: seen.append(epoch.epoch),  # type: ignore[misc]
            stop=lambda seen=epochs: seen[-1:] == [1],  # type: ignore[misc]
        )
        with pytest.raises(BudgetSpent):
            trained.train(sequences, stopping)
        trained.train(sequences, stopping)
        assert sorted(set(epochs)) == [1, 2, 3]
        for job in (job for sequence in sequences for job in sequence):
            for name in ("model.safetensors", "masks.safetensors", "signals.npz"):
                left = (again / "jobs" / job.key / name).read_bytes()
                assert left == (trained.work.store.job(job.key) / name).read_bytes()


def test_masks_that_are_taken_outlive_the_weights(tmp_path: Path) -> None:
    study = {**STUDY, "networks": STUDY["networks"][:4], "run": {"seeds": [0]}}
    found = Trained(study, tmp_path / "run", keep="signals")
    assert {path.parent.name for path in (tmp_path / "run").glob("jobs/*/masks.safetensors")} == {
        found.jobs[f"{network}/{role}/0"].key for network in ("imp-01", "imp-02") for role in ("target", "shadow")
    }
    assert not list((tmp_path / "run").glob("jobs/*/model.safetensors"))
    # A mask that nothing took then is gone now, which is told before anything is trained.
    later = {**study, "networks": [*study["networks"], {"method": "ticket", "of": "by-output"}]}
    with pytest.raises(FolderError, match="the mask of by-output/target/0 was dropped, and ticket-by-output/target/0"):
        Prepared(later, out=tmp_path / "run")
    # Another folder takes over what needs no weights, and makes the others again.
    reused = Prepared(later, out=tmp_path / "other", reuse=tmp_path / "run")
    assert {job.network for job in reused.plan.networks if job.key not in reused.found} == {
        "by-output",
        "ticket-by-output",
    }


OWN = """
from lacewing.methods import Method
from lacewing.sparsify.controls import random_mask


class Mine(Method):
    masked = True
    of: str

    @property
    def mask_of(self):
        return self.of

    def train_networks(self, training):
        model = training.model()
        guard = self.guard(model)
        guard.masks = random_mask(training.mask(), training.seed)
        training.fit(model, guard)


class Unmasked(Mine):
    masked = False


class Fewer(Mine):
    def train_networks(self, training):
        model = training.model()
        guard = self.guard(model)
        guard.masks = {name: mask & False for name, mask in training.mask().items()}
        training.fit(model, guard)


class Nobody(Method):
    masked = True

    def train_networks(self, training):
        training.mask()
"""


@pytest.mark.slow
def test_a_users_method_takes_a_mask_too(small: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    study = tmp_path / "study.toml"
    text = TOML.replace("epochs = 8", "epochs = 2")
    study.write_text(text.replace('method = "random-mask"', 'method = "mine:Mine"'))
    done = small.lacewing("run", study, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "mine.py").unlink()
    done = small.lacewing("report", tmp_path / "run", cwd=tmp_path)  # runs no user code
    assert done.returncode == 0, done.stderr
    (tmp_path / "mine.py").write_text(OWN)
    for name, message in {
        "Unmasked": "method mine:Unmasked trains it under masks; set masked = True in its class",
        "Fewer": "method mine:Fewer trains",
        "Nobody": "mask() needs the name of the network whose mask it is: let mask_of return it",
    }.items():
        study.write_text(text.replace('method = "random-mask"', f'method = "mine:{name}"'))
        if name == "Nobody":
            study.write_text(study.read_text().replace('of = "imp-01"\n', ""))
        done = small.lacewing("run", study, "--out", tmp_path / name, cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        assert message in done.stderr


def same_results(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ("results.csv", "tradeoff.json"))


@pytest.mark.slow
@pytest.mark.parametrize("stack", [1, 2])
def test_killed_sliced_and_merged_it_ends_in_the_same_bytes(small: ModuleType, tmp_path: Path, stack: int) -> None:
    study = tmp_path / "study.toml"
    study.write_text(TOML.replace("[train]", f"[train]\nstack = {stack}"))
    whole = tmp_path / "whole"
    done = small.lacewing("run", study, "--out", whole, "--processes", 2)
    assert done.returncode == 0, done.stderr
    killed = tmp_path / "killed"
    run = subprocess.Popen(
        [sys.executable, "-m", "lacewing", "run", study, "--out", killed, "--processes", "1", "--keep", "signals"],
        env=small.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    assert any(line.startswith("control") and "epoch" in line for line in run.stderr)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = small.lacewing("run", study, "--out", killed, "--keep", "signals")
    assert done.returncode == 0, done.stderr
    assert same_results(killed, whole)
    for role in ("target", "shadow"):
        done = small.lacewing("run", study, "--out", tmp_path / role, "--only", f"network=control,role={role}")
        assert done.returncode == 0, done.stderr
    done = small.lacewing("merge", tmp_path / "merged", tmp_path / "target", tmp_path / "shadow")
    assert done.returncode == 0, done.stderr
    assert same_results(tmp_path / "merged", whole)
    done = small.lacewing("export", whole, "control", "--to", tmp_path / "control.safetensors")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_on_ray_it_waits_for_the_mask(small: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    study = tmp_path / "study.toml"
    study.write_text(TOML.replace("epochs = 8", "epochs = 2"))
    environment = {k: v for k, v in small.environment().items() if k not in ("PYTHONWARNINGS", "RAY_ADDRESS")}
    words = [sys.executable, "-m", "lacewing", "run", study, "--out", tmp_path / "ray", "--keep", "signals"]
    done = subprocess.run(
        [*words, "--engine", "ray", "--processes", "2"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    done = small.lacewing("run", study, "--out", tmp_path / "local")
    assert done.returncode == 0, done.stderr
    assert same_results(tmp_path / "ray", tmp_path / "local")
