"""Dense networks stopped early: what they are, that nothing else changes by them, and runs cut up in every way."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lacewing as lw
from lacewing import signals
from lacewing.errors import BudgetSpent
from lacewing.results import Epoch
from lacewing.study import jobs
from lacewing.study.jobs import _networks
from lacewing.study.plan import NetworkJob
from lacewing.study.prepared import Prepared
from lacewing.training.loop import stream, train

STOPS = """
[[networks]]
method = "early-stopped"
epochs = [1, 2, 4]
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As workers train."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ------------------------------------------------------------------------------------- a chain, trained in this process

CHAIN: dict[str, Any] = {
    "name": "chain",
    "data": {"dataset": "digits", "records": 120},
    "model": {"name": "resnet8", "width": 8},  # batch normalisation: evaluation must leave no trace in training
    "train": {"epochs": 5, "batch_size": 10, "augment": ["crop"], "precision": "fp32"},
    "networks": [
        {"method": "dense"},
        {"method": "imp", "levels": 1, "fraction": 0.5, "rewind": "epoch 2"},
        {"method": "early-stopped", "epochs": [1, 2, 4]},
    ],
    "attacks": {"names": ["discriminator", "gradient-norm", "label-augmentation", "label-noise"]},
    "run": {"seeds": [0]},
}
SHORT = {1: "early-001", 2: "early-002", 4: "early-004"}


def prepared(folder: Path, *changes: str, stops: bool = True) -> Prepared:
    return Prepared({**CHAIN, "networks": CHAIN["networks"][: 3 if stops else 2]}, out=folder, set=changes)


def chain_of(found: Prepared) -> dict[str, NetworkJob]:
    """The chain of the target networks, by name."""
    return {job.network: job for job in found.plan.sequences[0]}


def run_sequence(found: Prepared, **options: Any) -> list[tuple[str, int]]:
    """Train the chain of the target networks; the epochs that were trained."""
    epochs: list[tuple[str, int]] = []

    def report(job: NetworkJob, epoch: Epoch) -> None:
        epochs.append((job.network, epoch.epoch))

    jobs.run_sequence(dataclasses.replace(found.work, report=report, **options), found.plan.sequences[0])
    return epochs


def published(found: Prepared, without: Sequence[str] = ()) -> dict[tuple[str, str], bytes]:
    """What the chain left, by network and file; job.json holds times."""
    files = {}
    for job in found.plan.sequences[0]:
        assert jobs.finished(found.store, job), job.id
        for kind, key in (("trained", job.key), *job.probes):
            for path in found.store.job(key).iterdir():
                if path.name not in ("job.json", *without):
                    files[job.network, f"{kind}/{path.name}"] = path.read_bytes()
    return files


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    found = prepared(tmp_path_factory.mktemp("undisturbed") / "run")
    dense, pruned = ([(name, epoch) for epoch in range(1, 6)] for name in ("dense", "imp-01"))
    assert run_sequence(found) == dense + pruned  # no epoch for early stops alone
    return found


@pytest.mark.parametrize("epoch", SHORT)
def test_an_early_stop_is_the_dense_network_trained_for_so_many_epochs(undisturbed: Prepared, epoch: int) -> None:
    work, job = undisturbed.work, chain_of(undisturbed)[SHORT[epoch]]
    split = work.split(0)
    model = _networks.build(work, chain_of(undisturbed)["dense"])
    progress = train(
        model,
        work.records.x[split.members("target")],
        work.records.y[split.members("target")],
        undisturbed.study.train,
        normalisation=work.normalisation,
        seed=stream(0, "target", "train"),
        stop_after=epoch,
    )
    folder = undisturbed.store.job(job.key)
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    with np.load(folder / "signals.npz") as seen:
        audited = seen["audited_N"]
        assert audited.sum() == 60
        logits, sensitivity = signals.observe(
            model, work.records.x, normalisation=work.normalisation, sensitivity_of=audited
        )
        np.testing.assert_array_equal(seen["logits_NC"], signals.compact(logits))
        np.testing.assert_array_equal(seen["sensitivity_N"], sensitivity)
        right = seen["logits_NC"].argmax(1) == work.records.y
    told = json.loads((folder / "metrics.json").read_text())
    assert (told["network"], told["method"], told["density"]) == (SHORT[epoch], "early-stopped", 1)
    assert told["curve"] == [dataclasses.asdict(e) for e in progress.curve]
    assert len(told["curve"]) == epoch
    assert told["train_accuracy"] == right[split.members("target")].mean()
    assert told["test_accuracy"] == right[split.nonmembers("target")].mean()


def test_no_other_network_changes_by_a_bit(undisturbed: Prepared, tmp_path: Path) -> None:
    without = prepared(tmp_path / "run", stops=False)
    run_sequence(without)
    there = published(undisturbed)
    for place, content in published(without).items():
        assert there[place] == content, place
    names = {f"trained/{name}" for name in ("model.safetensors", "signals.npz", "metrics.json")}
    names |= {f"{kind}/probe.npz" for kind in ("queries", "noise", "gradients")}
    assert {name for network, name in there if network == "early-002"} == names
    assert not any(there["early-004", name] == there["dense", name] for name in names - {"noise/probe.npz"})


def test_a_network_asked_later_is_in_the_layout_of_its_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another layout would round otherwise, and attacks added later would not give the same bytes."""
    found = prepared(tmp_path / "run", "model.width=16", "train.epochs=3", stops=False)  # wide enough for channels-last
    layouts: list[bool] = []
    ask = signals.probe

    def seen(model: torch.nn.Module, *args: Any, **options: Any) -> signals.Probes:
        kernels = [p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
        layouts.extend(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
        return ask(model, *args, **options)

    monkeypatch.setattr(signals, "probe", seen)
    run_sequence(found)
    there, asked = published(found), len(layouts)
    for job in found.plan.sequences[0]:
        for _, key in job.probes:
            shutil.rmtree(found.store.job(key))
    assert run_sequence(found) == []
    assert len(layouts) == 2 * asked > 0
    assert all(layouts)
    assert published(found) == there


def test_a_run_that_asks_what_is_new_stops_after_every_single_network(undisturbed: Prepared, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.folder, tmp_path / "run")
    found = prepared(tmp_path / "run")
    chain = found.plan.sequences[0]
    for job in chain:
        for _, key in job.probes:
            shutil.rmtree(found.store.job(key))
    for number in range(1, len(chain)):
        stops = iter([False, True])
        with pytest.raises(BudgetSpent, match="what others answered is saved"):
            run_sequence(found, stop=lambda stops=stops: next(stops))
        assert sum(jobs.finished(found.store, job) for job in chain) == number
    assert run_sequence(found, stop=iter([False]).__next__) == []
    assert published(found) == published(undisturbed)


def test_a_run_stopped_after_every_single_epoch_ends_in_the_same_bytes(undisturbed: Prepared, tmp_path: Path) -> None:
    found, epochs = prepared(tmp_path / "run"), 0
    while not all(jobs.finished(found.store, job) for job in found.plan.sequences[0]):
        before = sum(jobs.trained(found.store, chain_of(found)[name]) for name in SHORT.values())
        assert before == sum(stop <= epochs for stop in SHORT)
        with pytest.raises(BudgetSpent):
            run_sequence(found, stop=lambda: True)
        epochs += 1
        if epochs == 10:
            run_sequence(found)
    assert epochs == 10  # five of the dense network, five of the pruned one, each once
    assert published(found) == published(undisturbed)
    assert not list(found.folder.glob("work/*"))


@pytest.mark.parametrize("stop", [None, lambda: True], ids=["at once", "epoch by epoch"])
def test_early_stops_added_to_a_finished_chain_are_those_of_a_fresh_run(
    undisturbed: Prepared, tmp_path: Path, stop: Callable[[], bool] | None
) -> None:
    """Weights of the first run were dropped: it takes none to train the dense network again."""
    run_sequence(prepared(tmp_path / "run", stops=False), keep="signals")
    found, epochs = prepared(tmp_path / "run"), []
    if stop is not None:
        for epoch in range(1, 5):
            with pytest.raises(BudgetSpent, match=f"early-004/target/0 after epoch {epoch}"):
                epochs += run_sequence(found, keep="signals", stop=stop)
    epochs += run_sequence(found, keep="signals")
    assert epochs == ([] if stop else [("early-004", epoch) for epoch in range(1, 5)])  # and not to the end
    there = published(undisturbed, without=["model.safetensors", "rewind-2.safetensors", "masks.safetensors"])
    assert published(found) == there  # with no weights


def test_stops_added_while_others_are_trained_again_are_not_passed_over(undisturbed: Prepared, tmp_path: Path) -> None:
    run_sequence(prepared(tmp_path / "run", stops=False))
    epochs: list[int] = []
    first = prepared(tmp_path / "run", "networks.2.epochs=[4]")
    with pytest.raises(BudgetSpent):
        run_sequence(first, stop=lambda: epochs.append(0) is None and len(epochs) == 3)
    found = prepared(tmp_path / "run")
    assert run_sequence(found) == [("early-004", 4), ("early-002", 1), ("early-002", 2)]
    assert published(found) == published(undisturbed)


def test_a_damaged_early_stop_is_made_again_and_nothing_else(undisturbed: Prepared, tmp_path: Path) -> None:
    found = prepared(tmp_path / "run")
    run_sequence(found)
    victim = found.store.job(chain_of(found)["early-002"].key) / "signals.npz"
    victim.write_bytes(victim.read_bytes()[:-1])
    assert run_sequence(found) == [("early-002", 1), ("early-002", 2)]
    assert published(found) == published(undisturbed)


# -------------------------------------------------------------------------------------------------------- whole studies


def with_stops(text: str, epochs: int = 6) -> str:
    """The small study with one level of IMP, and early stops."""
    return text.replace("levels = 2", "levels = 1").replace("epochs = 3", f"epochs = {epochs}") + STOPS


def without_stops(text: str) -> str:
    return with_stops(text).replace(STOPS, "")


def same_results(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ("results.csv", "tradeoff.json"))


@pytest.fixture(scope="module")
def whole(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study run to its end without a break."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.toml").write_text(with_stops(small.STUDY))
    done = small.lacewing("run", "small.toml", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_every_early_stop_is_attacked_and_sparse_networks_are_held_against_them(whole: Path) -> None:
    with (whole / "results.csv").open() as stream:
        rows = {(row["network"], row["role"]): row for row in csv.DictReader(stream)}
    names = ["dense", "imp-01", *SHORT.values()]
    assert set(rows) == {(name, role) for name in names for role in ("target", "shadow")}
    for name in SHORT.values():
        row = rows[name, "target"]
        assert (row["method"], row["density"], row["attack"]) == ("early-stopped", "1.0", "discriminator")
        assert 0 <= float(row["balanced_accuracy_low"]) <= float(row["balanced_accuracy"]) <= 1
    (match,) = json.loads((whole / "tradeoff.json").read_text())["matches"]
    assert (match["network"], match["against"]) == ("imp-01", "early-stopped")
    assert 1 <= match["where"]["0"] <= 6


def test_an_early_stop_is_exported(whole: Path, tmp_path: Path) -> None:
    states = [load_file(lw.export(whole, n, tmp_path / "x.safetensors")) for n in ("early-002/shadow", "dense/shadow")]
    assert states[0].keys() == states[1].keys()
    assert not any(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_the_plan_and_the_status_count_early_stops_apart_from_what_is_trained(
    small: ModuleType, study: Path, whole: Path, tmp_path: Path
) -> None:
    study.write_text(with_stops(study.read_text()))
    done = small.lacewing("run", study, "--dry-run", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "\n4 networks and 6 early stops, 0 done; 5 attacks; folder" in done.stdout
    assert "estimate for 4 networks, 24 epochs" in done.stdout
    shown = [line.split() for line in done.stdout.splitlines() if line.startswith("early-")]
    assert [(line[0], line[-1]) for line in shown] == [(SHORT[k], str(k)) for _ in range(2) for k in SHORT]
    assert (
        "\n4 networks and 6 early stops, 10 done; 5 attacks"
        in small.lacewing("run", whole / "study.toml", "--dry-run", "--out", whole).stdout
    )
    found = lw.status(whole)
    assert found["networks"] == {"planned": 10, "done": 10}
    assert found["epochs"] == {"planned": 24, "done": 24}
    assert found["methods"]["early-stopped"] == {"planned": 6, "done": 6}
    assert (found["attacks"]["done"], found["seconds_to_go"]) == (5, 0)


@pytest.mark.slow
def test_early_stops_added_to_a_finished_folder_make_it_the_larger_study(
    small: ModuleType, study: Path, whole: Path, tmp_path: Path
) -> None:
    text, out = study.read_text(), tmp_path / "run"
    study.write_text(without_stops(text))
    assert small.lacewing("run", study, "--out", out).returncode == 0
    first = {path.parent.name: path.read_bytes() for path in out.glob("jobs/*/signals.npz")}
    assert len(first) == 4
    for key, content in first.items():
        assert (whole / "jobs" / key / "signals.npz").read_bytes() == content
    study.write_text(with_stops(text))
    done = small.lacewing("run", study, "--out", out)
    assert done.returncode == 0, done.stderr
    assert same_results(out, whole)
    assert not list(out.glob("work/*"))
    study.write_text(without_stops(text))
    refused = small.lacewing("run", study, "--out", out)
    assert refused.returncode == 2
    assert "network 'early' is missing, which the folder has" in refused.stderr


@pytest.mark.slow
def test_slices_without_weights_merge_to_the_whole(small: ModuleType, study: Path, whole: Path, tmp_path: Path) -> None:
    study.write_text(with_stops(study.read_text()))
    for role in ("target", "shadow"):
        done = small.lacewing("run", study, "--out", tmp_path / role, "--only", f"role={role}", "--keep", "signals")
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / role).glob("jobs/*/signals.npz"))) == 5
        assert not list((tmp_path / role).rglob("*.safetensors"))
    merged = small.lacewing("merge", tmp_path / "both", tmp_path / "target", tmp_path / "shadow")
    assert merged.returncode == 0, merged.stderr
    assert same_results(tmp_path / "both", whole)


def names_done(out: Path) -> set[str]:
    return {json.loads(path.read_text())["job"] for path in out.glob("jobs/*/job.json")}


@pytest.mark.slow
def test_kills_while_a_dense_network_is_on_its_way_change_nothing(
    small: ModuleType, study: Path, tmp_path: Path
) -> None:
    """Killed once when the first early stop is there, once when the second is."""
    study.write_text(with_stops(study.read_text(), 150).replace("[1, 2, 4]", "[2, 40, 149]"))
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    assert small.lacewing("run", study, "--out", undisturbed).returncode == 0
    for awaited in ("early-002/target/0", "early-040/target/0"):
        with subprocess.Popen(
            [sys.executable, "-m", "lacewing", "run", study, "--out", out, "--processes", "1"],
            env=small.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as run:
            deadline = time.monotonic() + 120
            while awaited not in names_done(out):
                assert run.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            run.kill()
        assert not {"dense/target/0", "early-149/target/0"} & names_done(out)
    done = small.lacewing("run", study, "--out", out)
    assert done.returncode == 0, done.stderr
    assert same_results(out, undisturbed)
    assert not list(out.rglob("*.part"))
    assert not list(out.glob("work/*"))


@pytest.mark.slow
def test_a_cluster_sends_back_every_early_stop(small: ModuleType, study: Path, whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    study.write_text(with_stops(study.read_text()))
    environment = {k: v for k, v in small.environment().items() if k not in ("PYTHONWARNINGS", "RAY_ADDRESS")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lacewing",
            "run",
            study,
            "--out",
            tmp_path / "run",
            "--engine",
            "ray",
            "--processes",
            "2",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert same_results(tmp_path / "run", whole)
