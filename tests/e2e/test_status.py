"""What can be known before, while and after a study runs: estimates, the view on a terminal, status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lacewing as lw
from lacewing.study.status import at_once_before
from lacewing.support.formats import seal
from lacewing.support.locks import hold, under_way


def wait_for(condition: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_status_while_a_run_is_under_way_and_after_it_was_killed(
    small: ModuleType, study: Path, tmp_path: Path
) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 5000"))
    out = tmp_path / "run"
    with (tmp_path / "stderr").open("w") as errors:
        run = subprocess.Popen(
            [sys.executable, "-m", "lacewing", "run", str(study), "--out", str(out), "--processes", "2"],
            env=small.environment(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )

    def both_in_work() -> dict[str, Any] | None:
        assert run.poll() is None, (tmp_path / "stderr").read_text()
        found = lw.status(out) if (out / "study.toml").exists() else {"in_work": []}
        return found if len(found["in_work"]) == 2 else None

    try:
        found = wait_for(both_in_work)
        assert found["running"]
        assert found["epochs"]["planned"] == 6 * 5000
        assert 0 < found["epochs"]["done"] == sum(item["epoch"] for item in found["in_work"])
        assert all(0 <= item["age"] < 60 for item in found["in_work"])
        assert 0 < found["seconds_to_go"] < 3600
        assert run.poll() is None  # the lock was only probed
        text = small.lacewing("status", out).stdout
    finally:
        run.kill()
        run.wait()
    assert "a run is under way" in text
    assert "in work: dense/" in text
    wait_for(lambda: not under_way(out))  # workers let go a moment later
    assert "no run is under way" in small.lacewing("status", out).stdout


def test_status_of_a_finished_folder(finished: Path) -> None:
    before = sorted(finished.rglob("*"))
    found = lw.status(finished)
    assert not found["running"]
    assert found["networks"] == {"planned": 6, "done": 6}
    assert found["attacks"]["done"] == found["attacks"]["planned"] == 3
    assert found["epochs"] == {"planned": 18, "done": 18}
    assert found["methods"] == {"dense": {"planned": 2, "done": 2}, "imp": {"planned": 4, "done": 4}}
    assert found["in_work"] == []
    assert found["seconds_to_go"] == 0
    assert sorted(finished.rglob("*")) == before


def test_status_after_a_part_tells_the_rest_from_what_is_finished(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / ".lock").unlink()  # as in a copy without hidden files
    facts = {path.parent: json.loads(path.read_text()) for path in out.glob("jobs/*/job.json")}
    for folder, fields in facts.items():
        if fields["job"] == "imp-02/target/0":
            shutil.rmtree(folder)
        elif "seconds" in fields:  # one after the other, 30 seconds a dense epoch and 60 a pruned one
            number = list(facts).index(folder)
            fields |= {"seconds": 90 if "dense" in fields["job"] else 180, "finished": 1000.0 * (number + 1)}
            del fields["sha256"]
            (folder / "job.json").write_text(seal(fields))
    found = lw.status(out)
    assert found["networks"] == {"planned": 6, "done": 5}
    assert found["methods"]["imp"] == {"planned": 4, "done": 3}
    assert found["epochs"] == {"planned": 18, "done": 15}
    assert found["seconds_to_go"] == pytest.approx(180)
    assert not (out / ".lock").exists()


def test_how_many_networks_trained_at_once() -> None:
    assert at_once_before([(0, 10), (0, 10)]) == 2
    assert at_once_before([(0, 10), (20, 30)]) == 1
    assert at_once_before([(0, 10), (5, 15)]) == pytest.approx(20 / 15)
    assert at_once_before([]) == 1


def test_probing_sees_a_lock_and_takes_none(tmp_path: Path) -> None:
    assert not under_way(tmp_path)
    assert not list(tmp_path.iterdir())
    with hold(tmp_path):
        assert under_way(tmp_path)
        assert under_way(tmp_path)
    assert not under_way(tmp_path)
    with hold(tmp_path):
        pass


@pytest.mark.slow
def test_a_run_on_a_terminal_shows_the_study_its_networks_and_its_attacks(
    small: ModuleType, study: Path, tmp_path: Path
) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 60"))
    ours, theirs = os.openpty()
    got: list[bytes] = []

    def read() -> None:
        while True:
            try:
                got.append(os.read(ours, 65536))
            except OSError:
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-m", "lacewing", "run", str(study), "--out", str(tmp_path / "run")],
        env={**small.environment(), "COLUMNS": "120", "LINES": "40", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    reader.join(timeout=10)
    shown = b"".join(got).decode()
    assert done.returncode == 0, shown
    assert b"report:" in done.stdout
    assert "360/360" in shown
    assert "3/3" in shown[shown.rindex("attacks") :]
    assert "/target/0" in shown
    assert "loss " in shown


def test_a_dry_run_ends_with_an_estimate(small: ModuleType, study: Path, finished: Path, tmp_path: Path) -> None:
    words = ("run", study, "--dry-run", "--estimate", "h100:8")
    done = small.lacewing(*words, "--out", tmp_path / "run", "--set", "train.precision='auto'")
    assert done.returncode == 0, done.stderr
    here, steps, there = done.stdout.splitlines()[-6:-3]
    assert here.startswith("  here, ")
    assert "dense" in steps
    assert "pruned" in steps
    assert there.startswith("  on h100 x 8 (2 of them have work), bf16: at least ")
    again = json.loads(small.lacewing(*words, "--json", "--out", finished).stdout)
    assert again["estimate"]["networks"] == again["estimate"]["epochs"] == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise RuntimeError('needs a\\nGPU')", "RuntimeError: needs a GPU"),
        pytest.param("os._exit(7)", "exit code 7", marks=pytest.mark.slow),
    ],
)
def test_a_dry_run_stands_where_the_model_cannot_be_timed(
    body: str, why: str, small: ModuleType, study: Path, tmp_path: Path
) -> None:
    (tmp_path / "own_net.py").write_text(
        "import os, torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        f"        if len(x) > 8: {body}\n"
        "        return super().forward(x.flatten(1))\n"
        "def net(shape, classes):\n"
        "    return Net(64, classes)\n"
    )
    study.write_text(study.read_text().replace('name = "mlp"\nhidden = [16]', 'factory = "own_net:net"'))
    done = small.lacewing("run", study, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 networks, 0 done" in done.stdout
    (here,) = (line for line in done.stdout.splitlines() if line.startswith("  here: "))
    assert here.startswith("  here: not possible: ")
    assert why in here


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--estimate", "h100"], "--estimate needs --dry-run."),
        (["--estimate", "h100:many", "--dry-run"], "as in h100:8"),
        (["--estimate", "tpu", "--dry-run"], "--estimate tpu: known: "),
    ],
)
def test_what_is_wrong_is_named(words: list[str], says: str, small: ModuleType, study: Path, tmp_path: Path) -> None:
    done = small.lacewing("run", study, "--out", tmp_path / "run", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_tensorboard_is_asked_for_before_anything_is_trained(small: ModuleType, study: Path, tmp_path: Path) -> None:
    (tmp_path / "tensorboard.py").write_text("raise ImportError('not here')\n")  # also where the package is installed
    done = subprocess.run(
        [sys.executable, "-m", "lacewing", "run", str(study), "--out", "run", "--tensorboard", "scalars"],
        cwd=tmp_path,
        env={**small.environment(), "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "pip install -c constraints.txt '.[tensorboard]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "scalars").exists()
