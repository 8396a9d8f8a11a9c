"""The Ray engine on a cluster of two workers: the bytes of the local engine, whatever dies."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

pytest.importorskip("ray")

FACTORY = """
import torch


def net(shape, classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, classes))
"""


def start(small: ModuleType, study: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in small.environment().items() if k not in ("PYTHONWARNINGS", "RAY_ADDRESS")}
    return subprocess.Popen(
        [sys.executable, "-m", "lacewing", "run", study, "--out", out, "--engine", "ray", "--processes", "2", *words],
        cwd=study.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder for temporary files, since paths of sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="lw", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def left_in(temporary: Path) -> list[Path]:
    """What is not torch's own."""
    return [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")]


def same_results(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ("results.csv", "tradeoff.json"))


def actors(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes that are at a task."""
    return [p for p in psutil.Process(run.pid).children(recursive=True) if p.cmdline()[:1] == ["ray::_Actor.run"]]


def listening(run: subprocess.Popen[str]) -> set[str]:
    """The addresses on which a run and its processes listen."""
    mine = {run.pid, *(process.pid for process in psutil.Process(run.pid).children(recursive=True))}
    return {c.laddr.ip for c in psutil.net_connections("inet") if c.pid in mine and c.status == psutil.CONN_LISTEN}


def loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


@pytest.mark.slow
def test_a_worker_killed_in_mid_chain_is_replaced_and_nothing_changes(
    small: ModuleType, study: Path, tmp_path: Path, temporary: Path
) -> None:
    """Beside it: nothing listens on the network, no file of the working directory is run, nothing private stays."""
    for name in ("dill", "cuda", "yaml"):
        (study.parent / f"{name}.py").write_text("open(__file__ + '.was-run', 'w').close()\n", encoding="utf-8")
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 60"))
    assert small.lacewing("run", study, "--out", tmp_path / "local").returncode == 0
    run = start(small, study, tmp_path / "ray")
    assert run.stderr is not None
    assert any("imp-01" in line for line in run.stderr)  # a chain is under way, its first network is back
    first = actors(run)
    assert len(first) == 2
    addresses = listening(run)
    assert addresses
    assert all(map(loopback, addresses)), addresses
    folders = [path for path in temporary.glob("lacewing-*") if path.is_dir()]
    assert folders
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert list(temporary.glob("lacewing-*/lacewing-*/run"))  # of the workers
    for worker in first:
        worker.send_signal(signal.SIGKILL)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert same_results(tmp_path / "ray", tmp_path / "local")
    assert left_in(temporary) == []
    assert not list(study.parent.glob("*.was-run"))


@pytest.mark.slow
def test_what_a_killed_run_leaves_of_private_data_goes_at_the_next_start(
    small: ModuleType, study: Path, tmp_path: Path, temporary: Path
) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 3000"))
    run = start(small, study, tmp_path / "killed")
    assert run.stderr is not None
    assert any("epoch" in line for line in run.stderr)
    processes = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.communicate()
    psutil.wait_procs(processes, timeout=60)
    left = [path for path in temporary.glob("lacewing-*") if path.is_dir()]
    assert left
    assert {path.stat().st_mode & 0o777 for path in left} == {0o700}
    study.write_text(study.read_text().replace("epochs = 3000", "epochs = 3"))
    run = start(small, study, tmp_path / "next")
    _, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert left_in(temporary) == []


@pytest.mark.slow
def test_what_was_stopped_on_a_cluster_goes_on_here(small: ModuleType, study: Path, tmp_path: Path) -> None:
    (tmp_path / "own_net.py").write_text(FACTORY)
    text = study.read_text().replace('name = "mlp"\nhidden = [16]', 'factory = "own_net:net"')
    study.write_text(text.replace("epochs = 3", "epochs = 200"))
    run = start(small, study, tmp_path / "run", "--keep", "signals")
    assert run.stderr is not None
    assert any("epoch" in line for line in run.stderr)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 75, err
    assert list((tmp_path / "run" / "work").glob("*/checkpoint.safetensors"))
    for out in ("run", "undisturbed"):
        done = small.lacewing("run", study, "--out", tmp_path / out, "--keep", "signals", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert same_results(tmp_path / "run", tmp_path / "undisturbed")
    left = {path.name for path in (tmp_path / "run" / "jobs").glob("*/*")}
    assert not left & {"model.safetensors", "rewind-1.safetensors"}


def test_no_cluster_at_the_address_is_told(small: ModuleType, study: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    command = [sys.executable, "-m", "lacewing", "run", str(study), "--engine", "ray", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "no cluster at RAY_ADDRESS=127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
