"""Large studies, and damaged run folders: what is whole is kept, the rest is said and made again."""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run folder, without what is made from its jobs."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "results.csv").unlink()
    return tmp_path / "run"


def _ids(run: Path) -> dict[str, Path]:
    """The folder of each finished job, by the job's name."""
    return {json.loads(path.read_text())["job"]: path.parent for path in run.glob("jobs/*/job.json")}


def _resumed(small: ModuleType, study: Path, run: Path, finished: Path, *words: str) -> list[str]:
    """Resume, to the bytes of the undisturbed run; what was said of damage."""
    done = small.lacewing("run", study, "--out", run, *words)
    assert done.returncode == 0, done.stderr
    assert (run / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
    return sorted(line.removeprefix("note: ") for line in done.stderr.splitlines() if "damaged" in line)


def _flip(path: Path) -> None:
    """Alter a byte in the middle; size and modification time stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.slow
def test_what_is_damaged_is_named_and_made_again(small: ModuleType, study: Path, finished: Path, run: Path) -> None:
    jobs = _ids(run)
    truncated, altered, cut = jobs["imp-01/target/0"], jobs["discriminator on dense/target/0"], jobs["dense/shadow/0"]
    os.truncate(truncated / "signals.npz", 100)
    _flip(altered / "scores.npz")
    os.truncate(cut / "job.json", 20)
    other = jobs["imp-02/shadow/0"]
    shutil.rmtree(other)
    shutil.copytree(jobs["imp-02/target/0"], other)  # every digest in it is right
    gone = jobs["discriminator on imp-01/target/0"]
    shutil.rmtree(gone)

    said = _resumed(small, study, run, finished)
    assert said == sorted(
        f"{name}: jobs/{folder.name}/{file} is lost, damaged or was altered; it is made again."
        for name, folder, file in [
            ("imp-01/target/0", truncated, "signals.npz"),
            ("discriminator on dense/target/0", altered, "scores.npz"),
            ("dense/shadow/0", cut, "job.json"),
            ("imp-02/shadow/0", other, "job.json"),
        ]
    )
    assert _ids(run).keys() == jobs.keys()
    assert _resumed(small, study, run, finished) == []


def test_damaged_weights_are_named_where_they_are_needed(
    small: ModuleType, study: Path, finished: Path, run: Path
) -> None:
    """They are made again, to the same bytes; its shadow, whose weights are whole, is not trained again."""
    jobs = _ids(run)
    before, shadow = jobs["imp-01/target/0"], jobs["imp-01/shadow/0"] / "job.json"
    whole, kept = (before / "model.safetensors").read_bytes(), shadow.read_bytes()
    _flip(before / "model.safetensors")
    (said,) = _resumed(small, study, run, finished)
    assert (before / "model.safetensors").read_bytes() == whole
    assert (
        said
        == f"imp-01/target/0: jobs/{before.name}/model.safetensors is lost, damaged or was altered; it is made again."
    )
    assert shadow.read_bytes() == kept


@pytest.mark.slow
def test_a_folder_copied_while_it_was_written_and_rubbish_in_work_are_in_nobodys_way(
    small: ModuleType, study: Path, finished: Path, run: Path
) -> None:
    jobs = _ids(run)
    half, late, work = jobs["imp-01/target/0"], jobs["imp-02/shadow/0"], run / "work"
    shutil.copytree(jobs["dense/target/0"], work / f"{jobs['dense/target/0'].name}.publishing")  # renamed meanwhile
    late.rename(work / f"{late.name}.publishing")  # not renamed yet, and not whole
    (work / f"{late.name}.publishing" / "job.json").unlink()
    (half / "job.json").unlink()  # copied before its last file
    noise = random.Random(0)
    for key in (half.name, late.name, "0" * 64):
        (work / key).mkdir(exist_ok=True)
        for name in ("checkpoint.safetensors", "progress.json", "rewind-1.safetensors", "other"):
            (work / key / name).write_bytes(noise.randbytes(1000))
    (work / "note.txt").write_text("rubbish")
    for number, text in enumerate(("[]", "{}", '{"epoch": "two"}')):
        (work / f"{number + 1:064x}").mkdir()
        (work / f"{number + 1:064x}" / "progress.json").write_text(text)
    (run / ".results.csv.123.part").write_text("half a ta")

    status = small.lacewing("status", run, "--json")
    assert status.returncode == 3, status.stderr
    assert json.loads(status.stdout)["networks"] == {"planned": 6, "done": 4}
    said = _resumed(small, study, run, finished)
    assert f"imp-01/target/0: jobs/{half.name}/job.json is lost, damaged or was altered; it is made again." in said
    assert _resumed(small, study, run, finished) == []
    assert _ids(run).keys() == jobs.keys()
    assert not (work / half.name).exists()


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_claimed_its_folder_goes_on(
    small: ModuleType, study: Path, finished: Path, run: Path
) -> None:
    for path in run.iterdir():
        if path.name not in (".lock", "plan.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run / ".study.toml.123.part").write_text("sche")
    assert _resumed(small, study, run, finished) == []


def _obey_permissions() -> None:
    """Root's command, too, is bound by the permissions of files."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.slow
def test_a_folder_that_became_read_only_is_refused_and_left_as_it_is(
    small: ModuleType, study: Path, finished: Path, run: Path
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    run.chmod(0o500)
    try:
        done = small.lacewing("run", study, "--out", run, preexec_fn=_obey_permissions)
    finally:
        run.chmod(0o700)
    assert done.returncode == 74, done.stderr
    assert f"no permission to write into {run}" in done.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


GROWTH = """
import json, resource, sys
import lacewing
study = {
    "schema": 1,
    "name": "tiny",
    "data": {"dataset": "digits", "records": 60},
    "model": {"name": "mlp", "hidden": [4]},
    "train": {"epochs": 1, "batch_size": 20},
    "networks": [{"method": "dense"}],
    "attacks": {"names": ["loss"]},
    "run": {"seeds": list(range(int(sys.argv[1]) // 2))},
}
result = lacewing.run(study, out=sys.argv[2], quiet=True)
assert not result.failed and not result.missing, result
peak = {who: resource.getrusage(getattr(resource, f"RUSAGE_{who}")).ru_maxrss for who in ("SELF", "CHILDREN")}
print(json.dumps({"networks": len(result.networks), "attacks": len(result.attacks), **peak}))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_networks(small: ModuleType, tmp_path: Path) -> None:
    def peaks(networks: int) -> dict[str, Any]:
        words = [sys.executable, "-c", textwrap.dedent(GROWTH), str(networks), str(tmp_path / str(networks))]
        done = subprocess.run(words, env=small.environment(), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert (found["networks"], found["attacks"]) == (networks, networks // 2)
        return found

    few, many = peaks(50), peaks(500)
    for process in ("SELF", "CHILDREN"):  # the run itself; the largest of its workers
        assert many[process] < 1.2 * few[process], (process, few, many)
