"""What is lost or damaged in a run folder is told by name, and used by no command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import lacewing as lw
from lacewing import cli
from lacewing.errors import FolderError, UsageError
from lacewing.support.formats import read_sealed, seal

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command in this process: exit code, standard output and standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lacewing", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def _of(run: Path, name: str) -> Path:
    """The folder of the job that is called so."""
    return next(path.parent for path in run.glob("jobs/*/job.json") if json.loads(path.read_text())["job"] == name)


def test_an_altered_accuracy_is_in_no_table_and_no_page(run: Path, call: Call) -> None:
    path = _of(run, "imp-02/target/0") / "metrics.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "test_accuracy": 0.98765}))
    code, out, _ = call("report", run)
    assert code == 3
    assert "LOST OR DAMAGED: 1 file" in out
    named = f"jobs/{path.parent.name}/metrics.json of imp-02/target/0"
    assert named in out
    for file in ("report.html", "model_card.md"):
        text = (run / file).read_text()
        assert f"jobs/{path.parent.name}/metrics.json" in text, file
        assert "98765" not in text
        assert "98.8 %" not in text
    assert "0.98765" not in (run / "results.csv").read_text()
    assert out.count("imp-02") == 1  # in the list of what is damaged
    code, out, _ = call("report", run, "--json")
    assert code == 3
    assert json.loads(out)["damaged"] == [named]
    code, out, _ = call("status", run)
    assert code == 3
    assert named in out


def test_damaged_scores_are_counted_and_named(run: Path, call: Call) -> None:
    paths = sorted(run.glob("jobs/*/scores.npz"))
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:-20])
    paths[2].unlink()
    before = {path: path.read_bytes() for path in run.glob("jobs/*/*")}
    code, out, _ = call("report", run)
    assert code == 3
    assert "LOST OR DAMAGED: 3 files" in out
    assert all(f"jobs/{path.parent.name}/scores.npz of discriminator on " in out for path in paths)
    assert {path: path.read_bytes() for path in run.glob("jobs/*/*")} == before
    code, out, _ = call("merge", run.parent / "merged", run)
    assert code == 3
    assert f"{run}: jobs/{paths[2].parent.name}/scores.npz" in out


@pytest.mark.slow
def test_what_was_dropped_on_purpose_is_no_loss(run: Path, call: Call, small: ModuleType, study: Path) -> None:
    dropped = study.parent / "dropped"
    assert small.lacewing("run", study, "--out", dropped, "--keep", "signals").returncode == 0
    assert not list(dropped.glob("jobs/*/model.safetensors"))
    assert call("report", dropped)[0] == 0
    assert call("status", dropped)[0] == 0
    assert lw.merge(study.parent / "merged", [dropped]).damaged == ()
    lost = next(iter(run.glob("jobs/*/model.safetensors")))
    lost.unlink()  # nobody recorded this
    code, out, _ = call("report", run)
    assert code == 3
    assert f"jobs/{lost.parent.name}/model.safetensors" in out
    undisturbed = (dropped / "results.csv").read_bytes()
    assert small.lacewing("run", study, "--out", run).returncode == 0  # made again
    assert lost.is_file()
    assert (run / "results.csv").read_bytes() == undisturbed


def test_an_altered_study_is_not_used_and_written_again(run: Path, call: Call, small: ModuleType, study: Path) -> None:
    path = run / "study.toml"
    whole = path.read_text()
    path.write_text(whole.replace("fraction = 0.5", "fraction = 0.6"))
    code, out, _ = call("report", run)
    assert code == 3
    assert "study.toml, which the next run writes again" in out
    assert "0.6" not in (run / "report.html").read_text().split("<h3>Settings</h3>")[1].split("</dl>")[0]
    assert small.lacewing("run", study, "--out", run).returncode == 0
    assert path.read_text() == whole


def test_a_folder_that_holds_a_study_of_somebodys_is_no_run_folder(call: Call, study: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    text = "# my own words\n" + study.read_text()
    (mine / "study.toml").write_text(text)
    code, _, err = call("run", mine / "study.toml", "--out", mine)
    assert code == 2
    assert "not empty and is no run folder" in err
    assert (mine / "study.toml").read_text() == text


PLANS = {
    "a flipped bit": lambda text: text.replace("digits", "dig\x00ts"),
    "no text": lambda text: b"\xff\xfe" + text.encode(),
    "deep": lambda text: "[" * 100_000,
    "digits": lambda text: text.replace('"schema": 1', '"schema": ' + "1" * 5000),
    "a list": lambda text: "[1]",
    "five": lambda text: "5",
    "empty": lambda text: "",
    "classes": lambda text: text.replace('"classes": 10', '"classes": 11'),
    "command": lambda text: text.replace('"command": "lacewing run', '"command": "rm -rf'),
}


@pytest.mark.parametrize("name", PLANS)
def test_an_altered_plan_is_one_sentence_for_every_command(run: Path, call: Call, name: str, study: Path) -> None:
    path = run / "plan.json"
    content = PLANS[name](path.read_text())
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for words in (
        ("report", run),
        ("status", run),
        ("compare", run, "dense", "imp-01"),
        ("merge", run.parent / "out", run),
        ("export", run, "dense", "--to", run.parent / "x.safetensors"),
        ("run", study, "--out", run),
        ("run", study, "--out", run.parent / "new", "--reuse", run),
    ):
        code, out, err = call(*words)
        assert (code, out) == (2, ""), (words, err)
        assert len(err.strip().splitlines()) == 1
        assert "plan.json" in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "fields",
    [{"study": 5}, {"shape": []}, {"shape": [10**12]}, {"shape": ["8"]}, {"classes": True}, {"data_digest": "x"}],
)
def test_a_plan_of_other_types_is_refused_however_it_is_sealed(
    run: Path, call: Call, fields: dict[str, object]
) -> None:
    found = read_sealed(run / "plan.json")
    (run / "plan.json").write_text(seal({**found, **fields}))
    code, _, err = call("report", run)
    assert code == 2
    assert "holds no study that this version reads" in err


@pytest.mark.parametrize("text", ["5", "[]", '["a"]', "{}", "[" * 9999, '{"failed": [5]}'])
def test_an_altered_list_of_failures_is_one_sentence(run: Path, call: Call, text: str) -> None:
    (run / "failed.json").write_text(text)
    for command in ("report", "status"):
        code, _, err = call(command, run)
        assert code == 2
        assert "failed.json" in err
        assert len(err.strip().splitlines()) == 1
    (run / "failed.json").write_text(seal({"failed": [5]}))
    assert call("report", run)[0] == 2


def _resealed(folder: Path, name: str, content: bytes) -> None:
    """As a forger would: the file, its digest, and the digest of job.json."""
    import hashlib

    (folder / name).write_bytes(content)
    job = read_sealed(folder / "job.json")
    job["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "job.json").write_text(seal(job))


METRICS = {
    "no object": b"5",
    "deep": b"[" * 100_000,
    "a number of words": b'"x"',
    "another field": b'{"x": 1}',
    "no JSON": b"\xff",
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("job", ["imp-01/target/0", "discriminator on imp-01/target/0"])
def test_forged_metrics_of_other_types_are_one_sentence(run: Path, call: Call, name: str, job: str) -> None:
    _resealed(_of(run, job), "metrics.json", METRICS[name])
    code, _, err = call("report", run)
    assert code == 2, err
    assert "metrics.json" in err
    assert len(err.strip().splitlines()) == 1


def test_forged_values_of_other_types_are_one_sentence(run: Path, call: Call) -> None:
    folder = _of(run, "imp-01/target/0")
    whole = json.loads((folder / "metrics.json").read_text())
    others = [({name: {"x": 1}}, name) for name in whole]
    others += [({"density": value}, "density") for value in ("0.5", True, float("nan"), 1e999, None, [0.5])]
    others += [({"parameters": value}, "parameters") for value in (1.5, "1", False)]
    others += [({"curve": [{"epoch": 1}]}, "curve"), ({"role": "both"}, "role")]
    for fields, name in others:
        _resealed(folder, "metrics.json", json.dumps({**whole, **fields}).encode())
        with pytest.raises(FolderError, match=rf"metrics\.json.*{name}" if name != "density" else r"metrics\.json"):
            lw.report(run)
    _resealed(folder, "metrics.json", json.dumps({**whole, "seed": 1}).encode())
    with pytest.raises(FolderError, match="is of imp-01/target/1, not of imp-01/target/0"):
        lw.report(run)


def test_forged_arrays_of_other_shapes_and_types_are_one_sentence(run: Path, call: Call, tmp_path: Path) -> None:
    import io

    import numpy as np

    def packed(**arrays: object) -> bytes:
        stream = io.BytesIO()
        np.savez(stream, **arrays)  # type: ignore[arg-type]
        return stream.getvalue()

    folder = _of(run, "discriminator on imp-01/target/0")
    with np.load(folder / "scores.npz") as found:
        whole = dict(found)
    for changed in (
        {**whole, "score_N": whole["score_N"][:-1]},
        {**whole, "score_N": whole["score_N"].astype(str)},
        {**whole, "score_N": whole["score_N"][:, None]},
        {**whole, "member_N": whole["member_N"].astype(float)},
        {**whole, "member_N": ~whole["member_N"][whole["member_N"]]},
        {**whole, "unknown_N": whole["score_N"]},
        {name: values for name, values in whole.items() if name != "hit_N"},
        {name: np.array([1, None], object) for name in whole},
        {},
    ):
        _resealed(folder, "scores.npz", packed(**changed))
        with pytest.raises(UsageError, match=r"(scores\.npz|metrics\.json)"):
            lw.report(run)
    _resealed(folder, "scores.npz", packed(**whole))
    assert lw.report(run).damaged == ()


def test_a_fault_of_ours_is_written_through_no_link(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("lacewing.study.run.status", fail)
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    name = f"lacewing-fault-{os.getpid()}.txt"
    (tmp_path / name).symlink_to(victim)
    code, _, err = call("status", tmp_path)
    assert code == 70
    assert name in err
    assert victim.read_text() == "mine"
    assert "RuntimeError: a fault" in (tmp_path / name).read_text()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr("lacewing.cli._main.write_atomically", refuse)
    code, _, err = call("status", tmp_path)
    assert code == 70
    assert "Traceback" in err
    assert "The traceback is above" in err
