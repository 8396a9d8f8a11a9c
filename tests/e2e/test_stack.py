"""Studies whose perceptrons are trained in stacks: the same bytes, however the run is cut up."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lacewing.errors import BudgetSpent, DivergedError, UsageError
from lacewing.study import jobs
from lacewing.study.declared import load_study
from lacewing.study.jobs import _networks
from lacewing.study.plan import NetworkJob, make_plan
from lacewing.study.prepared import Prepared


@pytest.fixture
def stacked(study: Path) -> Path:
    """Three seeds in a stack of four places."""
    text = study.read_text().replace("batch_size = 20", "batch_size = 20\nstack = 4")
    study.write_text(text.replace("seeds = [0]", "seeds = [0, 1, 2]"))
    return study


def same_results(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ("results.csv", "tradeoff.json"))


@pytest.mark.slow
def test_a_stack_that_is_killed_in_each_level_ends_in_the_same_bytes(
    small: ModuleType, stacked: Path, tmp_path: Path
) -> None:
    stacked.write_text(stacked.read_text().replace("epochs = 3", "epochs = 40"))
    done = small.lacewing("run", stacked, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    killed = tmp_path / "killed"
    for word in ("dense", "imp-01"):
        run = subprocess.Popen(
            [sys.executable, "-m", "lacewing", "run", stacked, "--out", killed],
            env=small.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stderr is not None
        assert any(line.startswith(word) and "epoch" in line for line in run.stderr)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    done = small.lacewing("run", stacked, "--out", killed, "--processes", 1)
    assert done.returncode == 0, done.stderr
    assert same_results(killed, tmp_path / "whole")
    assert not list(killed.glob("work/*"))


@pytest.mark.slow
def test_a_slice_brings_its_stack_and_added_seeds_change_no_network(
    small: ModuleType, stacked: Path, tmp_path: Path
) -> None:
    done = small.lacewing("run", stacked, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    parts = tmp_path / "parts"
    done = small.lacewing("run", stacked, "--out", parts, "--set", "run.seeds=[0, 1]", "--only", "role=shadow,seed=1")
    assert done.returncode == 0, done.stderr
    with (parts / "results.csv").open() as stream:
        rows = {(row["network"], row["role"], row["seed"]) for row in csv.DictReader(stream)}
    assert rows == {(network, "shadow", seed) for network in ("dense", "imp-01", "imp-02") for seed in ("0", "1")}
    done = small.lacewing("run", stacked, "--out", parts, "--keep", "signals")
    assert done.returncode == 0, done.stderr
    assert same_results(parts, tmp_path / "whole")


def test_a_network_that_diverges_leaves_the_others_of_its_stack_alone(
    stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = Prepared(stacked, out=tmp_path / "run")
    build = _networks.build

    def spoilt(work: jobs.Workspace, job: NetworkJob, seed: int | None = None) -> torch.nn.Module:
        model = build(work, job, seed)
        if job.seed == 1:
            torch.nn.init.constant_(model[1].bias, torch.nan)
        return model

    monkeypatch.setattr(_networks, "build", spoilt)
    chains = prepared.plan.stacks["dense/target/0"]
    with pytest.raises(DivergedError, match=r"^dense/target/1: the loss became nan in epoch 1; .*[^.]*\.$"):
        jobs.run_stack(prepared.work, chains)
    assert [[jobs.trained(prepared.store, job) for job in chain] for chain in chains] == [
        [True] * 3,
        [False] * 3,
        [True] * 3,
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [('name = "mlp"\nhidden = [16]', 'name = "resnet8"'), ('precision = "fp32"', 'precision = "bf16"')],
)
def test_what_does_not_stack_is_refused(small: ModuleType, stacked: Path, tmp_path: Path, old: str, new: str) -> None:
    stacked.write_text(stacked.read_text().replace(old, new))
    done = small.lacewing("run", stacked, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "train.stack = 4 needs model.name = 'mlp', fp32" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_key_tells_the_size_of_the_stack_and_the_place_in_it(stacked: Path) -> None:
    def keys(*changes: str) -> dict[str, str]:
        study = load_study(stacked, ('train.precision="auto"', *changes)).resolved(
            "bf16"
        )  # stacks are trained in fp32 all the same
        assert study.train.precision == "fp32" or study.train.stack == 1
        return {job.id: job.key for job in make_plan(study, data_digest="0" * 64, models={"": {}}).networks}

    four = keys()
    assert not set(four.values()) & set(keys("train.stack=3").values())
    assert not set(four.values()) & set(keys("train.stack=1", "train.precision=fp32").values())
    more = keys("run.seeds=[0, 1, 2, 3, 4]")
    assert {name: more[name] for name in four} == four
    assert keys("run.seeds=[1, 0, 2]")["dense/target/1"] != four["dense/target/1"]


def test_keys_of_networks_that_are_not_stacked_are_those_of_older_folders() -> None:
    study = load_study("digits").resolved("fp32")
    plan = make_plan(study, data_digest="0" * 64, models={"": {"name": "resnet8", "width": 8}})
    assert plan.stacks == {}
    assert plan.networks[0].key == "2d40f5c02a4c9f7b53401786082e4acaebdc28372a629bbc86b4d14807b9983a"
    with pytest.raises(UsageError, match="stack"):
        load_study("digits", ["train.stack=0"])


@pytest.mark.parametrize("stack", [1, 4])
def test_a_stop_at_the_last_epoch_saves_it_and_is_not_trained_again(stacked: Path, tmp_path: Path, stack: int) -> None:
    epochs: list[int] = []
    prepared = Prepared(stacked, out=tmp_path / "run", set=[f"train.stack={stack}"])
    work = dataclasses.replace(
        prepared.work, report=lambda job, epoch: epochs.append(epoch.epoch), stop=lambda: epochs[-1:] == [3]
    )
    chains = prepared.plan.stacks["dense/target/0"] if stack > 1 else prepared.plan.sequences[:1]

    def run() -> None:
        jobs.run_stack(work, chains) if stack > 1 else jobs.run_sequence(work, chains[0])

    with pytest.raises(BudgetSpent):
        run()
    assert not any(jobs.trained(prepared.store, chain[0]) for chain in chains)
    seen = len(epochs)
    epochs.append(0)
    with pytest.raises(BudgetSpent):  # at the end of the next level
        run()
    assert all(jobs.trained(prepared.store, chain[0]) for chain in chains)
    assert len(epochs) == seen + 1 + seen  # that level's epochs and no others


def _trained(prepared: Prepared, work: jobs.Workspace) -> list[bytes]:
    """The results of a stack's networks, by level and seed."""
    chains = prepared.plan.stacks["dense/target/0"]
    jobs.run_stack(work, chains)
    return [(prepared.store.job(job.key) / "metrics.json").read_bytes() for job in itertools.chain(*zip(*chains))]  # noqa: B905


@pytest.mark.parametrize("rewind", ["init", "epoch 1"])
def test_levels_are_added_where_weights_were_dropped_or_damaged(stacked: Path, tmp_path: Path, rewind: str) -> None:
    changes = [f"networks.1.rewind={rewind}", "networks.1.levels=1"]
    whole = Prepared(stacked, out=tmp_path / "whole", set=changes[:1])
    wanted = _trained(whole, whole.work)
    assert len(wanted) == 9
    for name in ("dropped", "damaged"):
        first = Prepared(stacked, out=tmp_path / name, set=changes)
        keep = "signals" if name == "dropped" else "all"
        assert _trained(first, dataclasses.replace(first.work, keep=keep)) == wanted[:6]
        if name == "damaged":
            for path in (tmp_path / name).glob("jobs/*/model.safetensors"):
                path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
        then = Prepared(stacked, out=tmp_path / name, set=changes[:1])
        assert _trained(then, then.work) == wanted
