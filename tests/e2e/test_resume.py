"""Whatever interrupts a run, the same command continues it to the same bytes."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from lacewing.errors import FolderError
from lacewing.study import folder, plan, prepared
from lacewing.study.run import run
from lacewing.support import locks
from lacewing.support.locks import hold


def start(small: ModuleType, study: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lacewing", "run", str(study), "--out", str(out), *words],
        env=small.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_epoch(run: subprocess.Popen[str]) -> bool:
    """Wait until a network trains; False where the run ended before."""
    assert run.stderr is not None
    return any("epoch" in line for line in run.stderr)


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(small: ModuleType, study: Path, tmp_path: Path) -> None:
    """The process itself and its real workers; test_kills.py has a thousand kills."""
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 100"))
    assert small.lacewing("run", study, "--out", tmp_path / "undisturbed").returncode == 0
    out, finished = tmp_path / "run", tmp_path / "undisturbed"
    moments = random.Random(2304)
    for number in range(5):
        run = start(small, study, out)
        if number % 2:  # half of them while networks train, the others anywhere from the start of Python on
            wait_for_epoch(run)
        time.sleep(moments.uniform(0.0, 1.5))
        run.kill()
        run.communicate()
        assert run.returncode in (-signal.SIGKILL, 0)
    last = small.lacewing("run", study, "--out", out)
    assert last.returncode == 0, last.stderr
    assert (out / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
    assert (out / "tradeoff.json").read_bytes() == (finished / "tradeoff.json").read_bytes()
    assert not list(out.rglob("*.part"))
    assert not list((out / "work").iterdir())


@pytest.mark.slow
def test_a_state_that_a_killed_run_left_of_a_finished_network_goes(
    small: ModuleType, study: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    left = tmp_path / "run" / "work" / min(finished.glob("jobs/*/signals.npz")).parent.name
    left.mkdir(parents=True)
    (left / "progress.json").write_text('{"epoch": 2}')
    done = small.lacewing("run", study, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert not left.exists()


def test_a_run_with_nothing_to_do_reads_each_file_once_and_plans_once(
    study: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    calls: Counter[str] = Counter()

    def count(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def counting(*args: Any, **options: Any) -> Any:
            calls[f"{module.__name__.rpartition('.')[2]}.{name}"] += 1
            return function(*args, **options)

        monkeypatch.setattr(module, name, counting)

    count(plan, "sequences_of")
    count(prepared, "load_study")
    count(folder, "recorded_study")
    count(folder, "read_toml")
    assert not run(study, out=tmp_path / "run", quiet=True).missing
    assert calls == {
        "plan.sequences_of": 1,
        "prepared.load_study": 1,  # the study that was asked for
        "folder.recorded_study": 2,  # plan.json, and study.toml to see that it is not damaged
        "folder.read_toml": 1,
    }


def test_sigterm_saves_and_the_same_command_continues(
    small: ModuleType, study: Path, tmp_path: Path, finished: Path
) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 3000"))
    out = tmp_path / "run"
    run = start(small, study, out)
    assert wait_for_epoch(run)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 75, err
    assert "SIGTERM" in err
    status = json.loads(small.lacewing("status", out, "--json").stdout)
    assert status["networks"] == {"planned": 6, "done": 0}
    assert any(0 < item["epoch"] < 3000 for item in status["in_work"])


def test_ctrl_c_ends_with_130_and_no_traceback(small: ModuleType, study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 3000"))
    run = start(small, study, tmp_path / "run")
    assert wait_for_epoch(run)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_reports_command_continues_this_folder(small: ModuleType, study: Path, tmp_path: Path) -> None:
    place = tmp_path / "my studies"
    place.mkdir()
    study = study.rename(place / "small one.toml")
    (tmp_path / "data").mkdir()
    given = ["--set", "train.precision=auto", "--set", "run.seeds = [1]", "--data-root", "../data"]
    done = small.lacewing("run", study, "--out", "not here/it's", *given, cwd=place)
    assert done.returncode == 0, done.stderr
    folder = place / "not here" / "it's"

    def command(folder: Path) -> list[str]:
        code = re.search(r"<pre><code>(lacewing run .*?)</code>", (folder / "report.html").read_text(encoding="utf-8"))
        assert code is not None
        assert str(tmp_path) not in code[1]
        return shlex.split(unescape(code[1]))

    assert command(folder) == [
        *("lacewing", "run", "not here/it's/study.toml", "--out", "not here/it's", "--data-root", "../data")
    ]
    trained = {path: path.stat().st_mtime_ns for path in folder.glob("jobs/*/job.json")}
    assert len(trained) > 5
    page = (folder / "report.html").read_bytes()
    again = small.lacewing(*command(folder)[1:], cwd=place)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("jobs/*/job.json")} == trained
    assert (folder / "report.html").read_bytes() == page
    assert not (place / "runs").exists()
    moved = folder.rename(place / "moved")  # and a report made elsewhere names where the folder is
    assert small.lacewing("report", "moved", cwd=place).returncode == 0
    assert command(moved)[2:5] == ["moved/study.toml", "--out", "moved"]


@pytest.mark.slow
def test_budget_stops_cleanly_and_says_how_to_go_on(small: ModuleType, study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 3000"))
    done = small.lacewing("run", study, "--out", tmp_path / "run", "--budget", "6s")
    assert done.returncode == 75, done.stderr
    assert "the same command continues" in done.stderr


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_network_and_the_study_goes_on(
    small: ModuleType, study: Path, tmp_path: Path
) -> None:
    (tmp_path / "fragile.py").write_text(
        "import os, sys, torch\n"
        "def net(shape, classes):\n"
        "    class Net(torch.nn.Module):\n"
        "        def __init__(self):\n"
        "            super().__init__()\n"
        "            self.fc = torch.nn.Linear(64, classes)\n"
        "        def forward(self, x):\n"
        "            worker = sys.modules['__main__'].__spec__.name == 'lacewing.study.engine.worker'\n"
        "            if worker and self.training and torch.initial_seed() % 2:\n"
        "                os._exit(9)\n"
        "            return self.fc(x.flatten(1))\n"
        "    return Net()\n"
    )
    text = study.read_text().replace('name = "mlp"\nhidden = [16]', 'factory = "fragile:net"')
    study.write_text(text.replace("seeds = [0]", "seeds = [0, 1, 2]").replace("levels = 2", "levels = 1"))
    done = small.lacewing("run", study, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "exit code 9" in done.stderr
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_an_altered_artefact_is_found_and_made_again(small: ModuleType, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert small.lacewing("run", study, "--out", out).returncode == 0
    before = (out / "results.csv").read_bytes()
    victims = sorted(out.glob("jobs/*/signals.npz"))
    victims[0].write_bytes(victims[0].read_bytes()[:100])
    (out / "results.csv").unlink()
    done = small.lacewing("run", study, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "results.csv").read_bytes() == before


@pytest.mark.slow
def test_slices_of_two_machines_merge_to_the_whole(
    small: ModuleType, study: Path, tmp_path: Path, finished: Path
) -> None:
    for role in ("target", "shadow"):
        done = small.lacewing("run", study, "--out", tmp_path / role, "--only", f"role={role}", "--keep", "signals")
        assert done.returncode == 0, done.stderr
        assert not list((tmp_path / role).rglob("model.safetensors"))
    merged = small.lacewing("merge", tmp_path / "whole", tmp_path / "target", tmp_path / "shadow")
    assert merged.returncode == 0, merged.stderr
    assert (tmp_path / "whole" / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()


@pytest.mark.slow
def test_added_levels_and_seeds_extend_a_folder_to_the_bytes_of_the_larger_study(
    small: ModuleType, study: Path, tmp_path: Path
) -> None:
    out, larger = tmp_path / "run", ("--set", "networks.1.levels=3", "--set", "run.seeds=[0,1]")
    assert small.lacewing("run", study, "--out", out, "--keep", "signals").returncode == 0
    first = {p.name for p in (out / "jobs").iterdir()}
    extended = small.lacewing("run", study, "--out", out, *larger)
    assert extended.returncode == 0, extended.stderr
    assert first < {p.name for p in (out / "jobs").iterdir()}
    assert small.lacewing("run", study, "--out", tmp_path / "fresh", *larger).returncode == 0
    assert (out / "results.csv").read_bytes() == (tmp_path / "fresh" / "results.csv").read_bytes()


def test_one_worker_and_two_give_the_same_bytes(small: ModuleType, study: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "run"
    assert small.lacewing("run", study, "--out", out, "--processes", "1").returncode == 0
    assert (out / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()


@pytest.mark.slow
def test_a_second_process_on_the_folder_is_told(small: ModuleType, study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 3000"))
    out = tmp_path / "run"
    run = start(small, study, out)
    assert wait_for_epoch(run)
    second = small.lacewing("run", study, "--out", out)
    run.kill()
    run.communicate()
    assert second.returncode == 2
    assert "in use by another lacewing process" in second.stderr


def snapshot(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """What is in a folder, and when it was written."""
    return {p: (s.st_ino, s.st_size, s.st_mtime_ns) for p in folder.rglob("*") for s in [p.lstat()]}


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 10])
def test_when_a_new_run_has_the_folder_no_worker_of_a_killed_one_writes_any_more(
    kills: int, small: ModuleType, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 3000"))
    out = tmp_path / "run"
    for suspended in (True, *[False] * (kills - 1)):
        run = start(small, study, out, "--processes", "2")
        assert wait_for_epoch(run)
        workers = psutil.Process(run.pid).children()
        assert workers
        if suspended:  # so that they cannot notice that the run is over
            for worker in workers:
                worker.suspend()
        run.kill()
        run.wait()
        if suspended:
            monkeypatch.setattr(locks, "PATIENCE", 0.2)
            with pytest.raises(FolderError, match="workers of a killed run are still ending"), hold(out):
                raise AssertionError
            for worker in workers:
                worker.resume()
        monkeypatch.setattr(locks, "PATIENCE", 60.0)
        with hold(out):
            before = snapshot(out)
            _, alive = psutil.wait_procs(workers, timeout=60)
            assert not alive
            assert snapshot(out) == before
        run.communicate()
    assert list(out.glob("work/*/checkpoint.safetensors"))


@pytest.mark.slow
def test_no_worker_outlives_a_killed_run(small: ModuleType, study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace("epochs = 3", "epochs = 3000"))
    out = tmp_path / "run"
    run = start(small, study, out)
    assert wait_for_epoch(run)
    workers = [
        int(pid) for path in Path(f"/proc/{run.pid}/task").glob("*/children") for pid in path.read_text().split()
    ]
    assert workers
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and _running(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its run"
        time.sleep(0.1)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
