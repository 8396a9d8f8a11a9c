"""The command: what it prints, what it refuses and with which exit code."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lacewing import cli
from lacewing.support.formats import seal


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """The command in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["lacewing", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Call with words that must be refused: one sentence, exit code 2, nothing written."""

    def check(*words: object, says: str) -> None:
        before = sorted(tmp_path.rglob("*"))
        code, out, err = call(monkeypatch, capsys, *words)
        assert code == 2, err
        assert out == ""
        assert says in err
        assert len(err.strip().splitlines()) == 1
        assert "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before

    monkeypatch.chdir(tmp_path)
    return check


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--help"], ["torch", "scipy", "sklearn", "matplotlib", "numpy", "pydantic", "jinja2", "rich"]),
        (["list", "studies"], ["torch", "scipy", "sklearn", "matplotlib", "numpy", "jinja2", "rich"]),
        (["audit", "scores.csv"], ["torch", "sklearn", "matplotlib", "jinja2"]),
    ],
)
def test_short_commands_load_no_package_that_they_do_not_need(
    words: list[str], absent: list[str], tmp_path: Path
) -> None:
    rows = [f"{member},{0.1 * number + member}" for member in (0, 1) for number in range(30)]
    (tmp_path / "scores.csv").write_text("\n".join(["member,score", *rows, ""]))
    script = textwrap.dedent(
        f"""
        import sys
        sys.argv = ["lacewing", *{words}]
        import lacewing
        from lacewing import cli
        try:
            cli.main()
        except SystemExit as end:
            assert end.code == 0, end.code
        assert not set({absent}) & set(sys.modules), set({absent}) & set(sys.modules)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_processes_that_train_load_no_compiler_and_no_solver() -> None:
    """Every worker would pay for it: torch's compiler alone takes longer to load than torch."""
    script = textwrap.dedent(
        """
        import sys
        import lacewing.auditing._ask, lacewing.auditing._worker, lacewing.bench, lacewing.sparsify
        import lacewing.study.engine.worker, lacewing.study.estimate, lacewing.study.run
        from lacewing.training import loop
        heavy = {"torch._dynamo", "sympy", "sklearn", "matplotlib", "scipy.optimize", "scipy.stats"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_twice() -> None:
    script = textwrap.dedent(
        """
        import lacewing as lw
        import lacewing.study.run, lacewing.reporting, lacewing.cli
        first = {name: getattr(lw, name) for name in lw.__all__}
        assert first == {name: getattr(lw, name) for name in lw.__all__}
        modules = {"attacks", "data", "metrics", "risk", "sets", "sparsify"}
        assert all(callable(value) != (name in modules) for name, value in first.items()), first
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "digit"], "did you mean 'digits'?"),
        (["run", "nothing.toml"], "no study file nothing.toml"),
        (["run", "digits", "--set", "train.epoch=3"], "did you mean 'epochs'?"),
        (["run", "digits", "--set", "train.epochs=0"], "train.epochs = 0"),
        (["run", "digits", "--set", "data.dataset='cifar11'"], "did you mean 'cifar10'?"),
        (["run", "digits", "--set", "model.name='resnet21'"], "did you mean 'resnet"),
        (["run", "digits", "--set", "model.width=1"], "no chain of 3 factors"),
        (["run", "digits", "--set", "networks.2.segments=7"], "segments = 7"),
        (["run", "digits", "--set", "data.records=20"], "at least 40 records"),
        (["run", "digits", "--set", "data.records=2000"], "data.records"),
        (["run", "digits", "--set", "attacks.names=['lira']"], "unknown name 'lira'"),
        (["run", "digits", "--set", "model.factory='nowhere:net'", "--set", "model.name=1"], "model"),
        (["run", "digits", "--only", "roles=target"], "did you mean 'role'?"),
        (["run", "digits", "--only", "role"], "must have the form field=value"),
        (["run", "digits", "--bogus"], "No such option: --bogus"),
        (["run", "digits", "--processes", "0"], "Invalid value for '--processes'"),
        (["nonsense"], "No such command 'nonsense'"),
        (["export"], "Missing argument 'RUN'"),
        (["run", "digits", "--budget", "soon"], "--budget"),
        (["run", "digits", "--keep", "some"], "--keep"),
        (["run", "digits", "--engine", "slurm"], "--engine slurm"),
        (["run", "digits", "--device", "tpu"], "--device tpu"),
        (["run", "cifar10", "--data-root", "."], "unknown study 'cifar10'"),
        (["run", "cifar10-small", "--data-root", "."], "cifar-10"),
        (["data", "check", "mnist"], "did you mean 'fashion-mnist'?"),
        (["report", "."], "no run folder"),
        (["status", "elsewhere"], "no run folder"),
        (["merge", "out", "elsewhere"], "no run folder"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(refused: Any, words: list[str], says: str) -> None:
    refused(*words, says=says)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((50, 4), np.float32)}, "y"),
        ({"x": np.zeros((50, 4), np.float32), "y": np.arange(49) % 2}, "49"),
        ({"x": np.full((50, 4), np.nan, np.float32), "y": np.arange(50) % 2}, "NaN"),
        ({"x": np.full((50, 4), np.inf, np.float32), "y": np.arange(50) % 2}, "Inf"),
        ({"x": np.zeros((50, 4), np.float32), "y": np.arange(50) % 2 - 1}, "-1"),
        ({"x": np.zeros((50, 4), np.float32), "y": (np.arange(50) % 2) * 7}, "7"),
        ({"x": np.eye(20, 4, dtype=np.float32), "y": np.arange(20) % 2}, "at least 40 records"),
    ],
)
def test_a_bad_npz_is_refused(refused: Any, tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    refused("run", "digits", "--set", "data.dataset='own.npz'", "--set", "model={name='mlp'}", says=says)


def test_a_toml_typo_names_file_and_line(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "typo.toml").write_text('schema = 1\nname = "typo\n')
    refused("run", "typo.toml", says="line 2")


def test_an_altered_data_file_is_refused(refused: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "location30.npz", x=np.eye(5010, 446, dtype=np.uint8), y=np.arange(5010) % 30)
    refused("data", "check", "location30", "--data-root", tmp_path, says="location30")


def test_a_factory_that_cannot_be_used_is_refused(
    refused: Any, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_factory.py").write_text("def net(shape, classes):\n    return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    model = "model={factory='odd_factory:net'}"
    refused("run", study, "--set", model, says="must return a torch.nn.Module")
    refused("run", study, "--set", model.replace(":net", ":nets"), says="did you mean 'net'?")


def test_a_folder_of_another_study_is_left_alone(refused: Any, small: ModuleType, study: Path, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    refused("run", study, "--out", finished, "--set", "train.lr=0.5", says="train.lr is 0.5 now and 0.1 in the folder")
    refused("run", study, "--out", finished, "--set", "run.seeds=[1]", says="run.seeds lacks 0")
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_folder_of_an_older_schema_is_refused(refused: Any, study: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "study.toml").write_text(study.read_text().replace("schema = 1", "schema = 0"))
    (tmp_path / "run" / "plan.json").write_text(seal({"schema": 0}))
    refused("run", study, "--out", tmp_path / "run", says="schema")


def test_a_folder_with_other_files_is_not_taken_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], study: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    code, _, err = call(monkeypatch, capsys, "run", study, "--out", tmp_path / "thesis")
    assert code == 2
    assert "is not empty and is no run folder" in err


def test_dry_run_of_the_paper_lists_its_networks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    # The densities follow from model and methods alone, so that any images of CIFAR-10's shape will do.
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "like.npz", x=rng.integers(0, 256, (80, 3, 32, 32), np.uint8), y=np.arange(80) % 10)
    code, out, err = call(
        monkeypatch, capsys, "run", "paper", "--dry-run", "--json", "--set", "data.dataset='like.npz'"
    )
    assert code == 0, err
    networks = json.loads(out)["networks"]
    wanted = {"name", "method", "role", "seed", "parameters", "nonzero", "density", "density_prunable"}
    assert all(wanted <= set(network) for network in networks)
    assert sum(network["method"] != "early-stopped" for network in networks) == 31 * 2 * 3
    assert {network["parameters"] for network in networks} == {272_474}
    density = {network["name"]: 100 * network["density"] for network in networks}
    fixed = 1578 / 272_474
    for level in range(1, 25):
        assert density[f"imp-{level:02d}"] == pytest.approx(100 * (0.8**level * (1 - fixed) + fixed), abs=0.01)
    known = {"s1-l2": 32.26, "s1-l3": 29.61, "s2-l2": 15.95, "s2-l3": 12.73, "s3-l2": 11.79, "s3-l3": 8.50}
    for name, value in known.items():
        assert density[f"butterfly-{name}"] == pytest.approx(value, abs=0.01)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_no_space_ends_with_74_and_half_writes_nothing(small: ModuleType, study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace("hidden = [16]", "hidden = [512]"))

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = small.lacewing("run", study, "--out", tmp_path / "run", preexec_fn=small_files_only)
    assert done.returncode == 74, done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").glob("jobs/*/model.safetensors"))
    again = small.lacewing("run", study, "--out", tmp_path / "run")
    assert again.returncode == 0, again.stderr


def test_a_folder_that_cannot_be_written_ends_with_74(small: ModuleType, study: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = small.lacewing("run", study, "--out", tmp_path / "file" / "run")
    assert done.returncode == 74, done.stderr
    assert "Traceback" not in done.stderr
    if os.geteuid() != 0:  # permissions do not bind root
        (tmp_path / "locked").mkdir(mode=0o500)
        denied = small.lacewing("run", study, "--out", tmp_path / "locked" / "run")
        assert denied.returncode == 74, denied.stderr


def test_a_network_that_diverges_fails_alone(small: ModuleType, study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text() + "\n[[networks]]\nmethod = 'dense'\nname = 'wild'\ntrain = { lr = 1e12 }\n")
    done = small.lacewing("run", study, "--out", tmp_path / "run", "--json")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert any("wild/target/0" in sentence and "epoch" in sentence for sentence in found["failed"])
    assert {row["network"] for row in found["networks"]} == {"dense", "imp-01", "imp-02"}
    assert "wild" in (tmp_path / "run" / "report.html").read_text()


def test_status_report_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: Path
) -> None:
    code, out, _ = call(monkeypatch, capsys, "status", finished, "--json")
    assert code == 0
    assert json.loads(out)["networks"] == {"planned": 6, "done": 6}
    before = (finished / "results.csv").read_bytes()
    code, out, _ = call(monkeypatch, capsys, "report", finished, "--json")
    assert code == 0
    assert [row["network"] for row in json.loads(out)["networks"]] == ["dense", "imp-01", "imp-02"]
    assert (finished / "results.csv").read_bytes() == before


def test_reading_a_folder_runs_none_of_its_users_code(small: ModuleType, study: Path, tmp_path: Path) -> None:
    module = tmp_path / "own_net.py"
    module.write_text(
        "import torch\n"
        "def net(shape, classes):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))\n"
    )
    study.write_text(study.read_text().replace('name = "mlp"\nhidden = [16]', 'factory = "own_net:net"'))
    done = small.lacewing("run", study, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    module.write_text("raise SystemExit('user code ran')\n")
    for words in (["report", "run"], ["status", "run"], ["merge", "joined", "run"]):
        done = small.lacewing(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
