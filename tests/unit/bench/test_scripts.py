"""`benchmarks/all.py` and `benchmarks/gpu.py`: each step is done, and one that fails or hangs costs others nothing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
BENCHMARKS = sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py") if p.name != "all.py" and p.name[0] != "_")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in ("all", "gpu", "_steps"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs_in_its_small_form(name: str) -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "all.py"), "--quick", "--only", name, "--patience", "3000"]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split()[0] == name
    assert done.stdout.splitlines()[-1].endswith(" ok")


def test_a_script_that_is_there_is_found(module: Callable[[str], Any], tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "_shared.py", "all.py", "notes.md"):
        (tmp_path / name).write_text("")
    assert [path.name for path in module("all").scripts(tmp_path)] == ["a.py", "b.py"]
    assert [path.stem for path in module("all").scripts()] == BENCHMARKS


@pytest.mark.parametrize(
    ("body", "ratio", "failed"),
    [
        (
            "import sys; print('ratio: 1, x'); print('ratio: 2.5, loop / ours'); print(sys.argv[1:])",
            "2.5, loop / ours",
            "",
        ),
        ("print('no ratio: 3')", "", ""),
        ("raise ValueError('broken')", "", "exit code 1"),
    ],
)
def test_what_a_script_did_is_told(
    body: str, ratio: str, failed: str, module: Callable[[str], Any], tmp_path: Path
) -> None:
    (tmp_path / "some.py").write_text(body)
    found = module("all").run(tmp_path / "some.py", ["--quick"], 60)
    assert (found.name, found.ratio, found.failed) == ("some", ratio, failed)
    assert ("['--quick']" in found.output) == ("argv" in body)
    assert ("ValueError: broken" in found.output) == bool(failed)
    assert str(found).endswith(f"failed: {failed}" if failed else "ok")


@pytest.mark.slow
def test_what_hangs_is_ended_with_everything_that_it_started(module: Callable[[str], Any], tmp_path: Path) -> None:
    child = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(8); pathlib.Path('late').touch()"
    (tmp_path / "some.py").write_text(
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('so far', flush=True);"
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    steps = module("_steps")
    steps.GRACE = 0.1
    log = tmp_path / "log"
    command = [sys.executable, "-S", str(tmp_path / "some.py")]
    begun = time.monotonic()
    found = steps.limited(command, log, 6.0, folder=tmp_path)
    assert (found.code, found.failed) == (None, "not done after 6 s")
    assert log.read_text() == "so far\n"
    assert (tmp_path / "begun").exists()
    time.sleep(max(0.0, begun + 15 - time.monotonic()))
    assert not (tmp_path / "late").exists()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def gpu(module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    found = module("gpu")
    monkeypatch.setattr(found, "machine", lambda device: {"device": device, "name": "a machine"})
    return found


def setting(gpu: Any, out: Path, **changed: Any) -> Any:
    fields = {"device": "cpu", "data_root": None, "window": 1.0, "routes": [], "butterfly": [], "study": "digits"}
    return gpu.Setting(out=out, **{**fields, **changed})


def test_steps_share_the_time_and_one_that_breaks_or_hangs_costs_the_others_nothing(gpu: Any, tmp_path: Path) -> None:
    clock, limits = Clock(), dict[str, float]()

    def takes(seconds: float, error: str = "") -> Callable[..., None]:
        def do(_: object, step: Any, __: object) -> None:
            limits[step.name] = step.limit
            clock.now += min(seconds, step.limit)
            step.found["did"] = step.name
            if error:
                raise RuntimeError(error)

        return do

    steps = {"a": takes(5), "b": takes(30, "out of\nmemory"), "c": takes(10**6), "d": takes(10**6), "e": takes(1)}
    shares = {"a": 0.25, "b": 0.25, "c": 0.25, "d": 1.0, "e": 1.0}
    done = gpu.perform(setting(gpu, tmp_path), steps, 200.0, shares, clock)
    assert limits == {"a": 50, "b": 50, "c": 50, "d": 200 - gpu.RESERVE - 5 - 30 - 50}
    assert clock.now == 200 - gpu.RESERVE
    assert [step.result for step in done.values()] == ["ok", "failed", "ok", "ok", "no time left"]
    assert done["b"].why == "RuntimeError: out of memory"
    written = json.loads((tmp_path / "summary.json").read_text())
    assert [step["name"] for step in written["steps"]] == list("abcde")
    assert [step["found"] for step in written["steps"]] == [*({"did": name} for name in "abcd"), {}]
    assert "| b | failed: RuntimeError: out of memory | 30 | 50 |" in (tmp_path / "summary.md").read_text()


def test_what_is_done_is_written_before_the_next_step_begins(gpu: Any, tmp_path: Path) -> None:
    def dies(*_: object) -> None:
        raise SystemExit(9)

    steps = {"a": lambda _, step, __: step.found.update(rate=3), "b": dies}
    with pytest.raises(SystemExit):
        gpu.perform(setting(gpu, tmp_path), steps, 100.0, {"a": 0.5, "b": 0.5}, Clock())
    [step] = json.loads((tmp_path / "summary.json").read_text())["steps"]
    assert (step["name"], step["found"]) == ("a", {"rate": 3})


def test_the_steps_are_done_in_the_order_of_what_they_tell(gpu: Any) -> None:
    assert list(gpu.STEPS) == list(gpu.SHARES) == list(gpu.TINY)
    assert [name.split("-")[0] for name in gpu.STEPS] == ["tests", "routes", "butterfly", "butterfly", "study"]
    assert sum(gpu.SHARES.values()) - gpu.SHARES["study"] < 0.85  # the study has what is left
    assert sum(gpu.TINY.values()) <= 1


def answer(gpu: Any, monkeypatch: pytest.MonkeyPatch, told: Callable[[list[str]], tuple[str, int | None]]) -> None:
    def limited(command: list[str], log: Path, limit: float, **_: object) -> Any:
        text, code = told(command)
        log.write_text(text)
        return gpu.Ended(1.0, code, f"exit code {code}" if code else "" if code == 0 else "not done after 9 s")

    monkeypatch.setattr(gpu, "limited", limited)


@pytest.mark.parametrize(
    ("device", "log", "code", "result"),
    [
        ("cuda", "tests/a.py::test_b[c] PASSED [ 50%]\ntests/a.py::test_d SKIPPED (no) [100%]\n", 0, "ok"),
        ("cuda", "tests/a.py::test_b[c] SKIPPED (no GPU) [100%]\n", 0, "failed"),
        ("cpu", "tests/a.py::test_b[c] SKIPPED (no GPU) [100%]\n", 0, "ok"),
        ("cuda", "tests/a.py::test_b[c] PASSED [ 50%]\ntests/a.py::test_d FAILED [100%]\n", 1, "failed"),
        ("cuda", "tests/a.py::test_b[c] PASSED [ 50%]\ntests/a.py::test_d ", None, "failed"),
    ],
)
def test_tests_that_were_skipped_prove_nothing_on_a_gpu(
    device: str, log: str, code: int | None, result: str, gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer(gpu, monkeypatch, lambda command: (log, code))
    step = gpu.Step("tests", 100.0)
    gpu.tests(setting(gpu, tmp_path, device=device), step, {})
    assert (step.result, step.found["passed"]) == (result, log.count("PASSED"))


def test_a_route_that_cannot_be_measured_is_left_out(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def told(command: list[str]) -> tuple[str, int | None]:
        name = command[command.index("--route") + 1]
        return {"plain ready 1 fp32": ("rate: 100.0\n", 0), "lacewing graph 1 bf16": ("rate: 250.0\n", 0)}.get(
            name, ("out of memory", None)
        )

    answer(gpu, monkeypatch, told)
    step, routes = gpu.Step("routes", 1e4), [*gpu.ROUTES[:3], gpu.ROUTES[4]]
    gpu.routes(setting(gpu, tmp_path, routes=routes), step, {})
    assert step.result == "ok"
    assert step.found["rates"] == {"plain ready 1 fp32": 100.0, "lacewing graph 1 bf16": 250.0}
    assert step.found["missing"] == dict.fromkeys(
        ["lacewing eager 1 bf16", "lacewing compiled-graph 1 bf16"], "not done after 9 s"
    )
    shown = "\n".join(gpu.page({"device": "cuda"}, {"routes": step}))
    assert "| lacewing graph 1 bf16 | 250 | 2.50 |" in shown
    assert gpu.fastest({"routes": step, "tests": gpu.Step("tests", 9.0)}) == "graph"
    assert gpu.fastest({"routes": step, "tests": gpu.Step("tests", 9.0, result="failed")}) == "eager"


def test_there_is_a_test_for_each_thing_that_only_a_gpu_can_tell() -> None:
    marked = {p.name for p in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in p.read_text("utf-8")}
    assert {"test_replay.py", "test_triton.py"} <= marked


def test_without_a_gpu_nothing_is_begun(module: Callable[[str], Any], tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--minutes", "99"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--minutes must be 0.5 to 60" in done.stderr
    assert not list(tmp_path.iterdir())
