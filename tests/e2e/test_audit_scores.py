"""``lacewing audit SCORES``: what it prints and writes, its gates and exit codes, and that it loads no torch."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from lacewing import audit_scores, cli


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """The command in this process, in a folder with scores and outputs: exit code, standard output, standard error."""
    rng = np.random.default_rng(0)
    member, label = np.arange(600) % 2 == 0, rng.integers(0, 3, 600)
    logits = rng.normal(size=(600, 3)) + 2.0 * np.eye(3)[label] * member[:, None]
    np.savez(tmp_path / "scores.npz", score=logits[np.arange(600), label], member=member)
    np.savez(tmp_path / "outputs.npz", logits=logits, label=label, member=member)
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lacewing", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def test_the_answer_comes_first_and_all_that_did_not_run_is_listed(call: Any) -> None:
    code, out, err = call("audit", "outputs.npz")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("Leakage found: the attack '")
    assert any(line.startswith("not run: lira-online") for line in lines)
    assert sum(line.startswith("check passed: ") for line in lines) == 7


def test_json_is_one_document_and_files_are_written(call: Any, tmp_path: Path) -> None:
    code, out, _ = call(
        "audit", "outputs.npz", "--attack", "loss", "--attack", "gap", "--json", "--out", "found",
        "--delta", "1e-6", "--fail-if", "gap.auc > 0.9",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)
    assert found["schema"] == 1
    assert [entry["attack"] for entry in found["attacks"]] == ["loss", "gap"]
    assert found["delta"] == 1e-6
    assert [gate["failed"] for gate in found["gates"]] == [False]
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"report.html", "model_card.md", "audit.json"}
    assert {**json.loads((tmp_path / "found" / "audit.json").read_text()), "gates": found["gates"]} == found


def test_a_failing_gate_exits_1_and_prints_its_number(call: Any) -> None:
    code, out, err = call("audit", "scores.npz", "--fail-if", "scores.auc > 0.6", "--fail-if", "tpr@0.1 > 0.98")
    assert code == 1
    assert "gate FAILED: scores.auc > 0.6: lower end of scores 0." in out
    assert "gate passed: tpr@0.1 > 0.98" in out
    assert err == ""  # each verdict is printed once
    code, out, err = call("audit", "scores.npz", "--json", "--fail-if", "auc > 0.6")
    assert code == 1
    assert [gate["failed"] for gate in json.loads(out)["gates"]] == [True]
    assert err.startswith("lacewing: gate failed: auc > 0.6: lower end of scores 0.")


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("lira.auc > 0.6", "did not run"),
        ("scores.tpr@0.001 > 0.6", "fewer than 3,688 non-members, and there are 300"),
    ],
)
def test_a_gate_that_cannot_be_judged_exits_2_after_the_audit(call: Any, gate: str, says: str) -> None:
    code, out, err = call("audit", "scores.npz", "--json", "--fail-if", gate, "--fail-if", "auc > 0.6")
    assert code == 2
    assert says in err
    assert [found["failed"] for found in json.loads(out)["gates"]] == [None, True]
    code, out, err = call("audit", "scores.npz", "--fail-if", gate, "--fail-if", "auc > 0.6")
    assert code == 2
    assert out.startswith("Leakage found")
    assert "gate FAILED: auc > 0.6" in out
    assert says not in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["scores.npz", "--fail-if", "scores.auk > 0.6"], "did you mean 'auc'?"),
        (["outputs.npz", "--attack", "los"], "did you mean 'loss'?"),
        (["outputs.npz", "--attack", "rmia-online"], "'rmia-online' cannot run"),
        (["none.npz"], "no file none.npz"),
        ([], "--model is missing"),
        (["--model", "own:net", "--data", "own.npz"], "--weights is missing"),
        (["scores.npz", "--refit", "own:refit"], "--refit applies to the audit of a model"),
        (["scores.npz", "--delta", "1.5"], "delta = 1.5"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_2(call: Any, words: list[str], says: str) -> None:
    code, out, err = call("audit", *words)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_audits_of_scores_and_outputs_load_no_torch(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        import numpy as np
        from lacewing import audit_scores, cli
        rng = np.random.default_rng(0)
        member, label = np.arange(300) % 2, rng.integers(0, 3, 300)
        inside = np.stack([half for _ in range(2) for m in [rng.random(300) < 0.5] for half in (m, ~m)])
        np.savez("outputs.npz", label=label, member=member, score=rng.random(300),
                 logits=rng.normal(size=(300, 3)) + np.eye(3)[label],
                 reference_logits=rng.normal(size=(4, 300, 3)) + np.eye(3)[label], reference_in=inside,
                 population_logits=rng.normal(size=(150, 3)), population_label=label[:150],
                 population_reference_logits=rng.normal(size=(4, 150, 3)))
        sys.argv = ["lacewing", "audit", "outputs.npz", "--out", "found", "--fail-if", "rmia.tpr@0.05 > 0.9"]
        try:
            cli.main()
        except SystemExit as end:
            assert end.code == 0, end.code
        assert "torch" not in sys.modules
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lira-online" in done.stdout
    assert "not run: lira" not in done.stdout


def test_a_reader_who_leaves_is_no_failed_gate(call: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lacewing", "audit", "outputs.npz"]
    audit = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert audit.stdout is not None
    audit.stdout.close()  # long before it prints
    _, err = audit.communicate(timeout=120)
    assert (audit.returncode, err) == (74, b"")


def test_accuracy_comes_second_and_a_model_at_chance_on_its_members_passes_no_gate(call: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    with np.load("outputs.npz") as arrays:
        good = dict(arrays)
    right = good["logits"].argmax(axis=1) == good["label"]
    inside, outside = (int(right[kind].sum()) for kind in (good["member"], ~good["member"]))
    said = (
        f"accuracy: members {inside / 3:.1f} % ({inside} of 300), non-members {outside / 3:.1f} % ({outside} of 300);"
    )
    assert call("audit", "outputs.npz")[1].splitlines()[1].startswith(said)
    renumbered = {**good, "label": (good["label"] + 1) % 3}
    noise = {**good, "logits": rng.normal(size=(600, 3))}
    for wrong in (renumbered, noise):
        np.savez("wrong.npz", **wrong)
        code, out, err = call("audit", "wrong.npz", "--fail-if", "auc > 0.9", "--out", "found", "--junit", "gates.xml")
        assert code == 2
        assert "gate 'auc > 0.9' cannot be judged. The model is right about" in err
        assert "No leakage found" not in out
        assert "no better than always answering the most frequent class" in out.splitlines()[0]
        assert any(line.startswith("check FAILED: The model is right about") for line in out.splitlines())
        assert ElementTree.parse("gates.xml").findall(".//error")
        for name in ("report.html", "model_card.md", "audit.json"):
            text = (tmp_path / "found" / name).read_text()
            assert "no better than always answering the most frequent class" in text
            assert "No leakage found" not in text
        assert json.loads((tmp_path / "found" / "audit.json").read_text())["fit"]["above_chance"] is False
    assert "accuracy: not known" in call("audit", "scores.npz")[1].splitlines()[1]


def test_gates_are_written_as_junit_whatever_the_exit_code(call: Any, tmp_path: Path) -> None:
    def cases(*words: str) -> tuple[int, list[tuple[str, list[str]]]]:
        code, _, err = call("audit", *words, "--junit", "found/gates.xml")
        root = ElementTree.parse(tmp_path / "found" / "gates.xml").getroot()
        assert root.tag == "testsuites", err
        (suite,) = root
        found = [(case.attrib["name"], [part.tag for part in case]) for case in suite]
        assert {case.attrib["classname"] for case in suite} == {"lacewing.audit"}
        for name, tag in (("failures", "failure"), ("errors", "error")):
            count = sum(tag in parts for _, parts in found)
            assert {root.attrib[name], suite.attrib[name]} == {str(count)}
        assert {root.attrib["tests"], suite.attrib["tests"]} == {str(len(found))}
        return code, found

    passed, failed, none = "auc > 0.95", "any.auc > 0.6", "scores.tpr@0.001 > 0.6"
    assert cases("scores.npz", "--fail-if", passed) == (0, [(passed, ["system-out"])])
    both = [(passed, ["system-out"]), (failed, ["failure"])]
    assert cases("scores.npz", "--fail-if", passed, "--fail-if", failed) == (1, both)
    code, found = cases("scores.npz", "--fail-if", failed, "--fail-if", none)
    assert (code, found) == (2, [(failed, ["failure"]), (none, ["error"])])
    assert cases("none.npz", "--fail-if", passed) == (2, [(passed, ["error"])])
    assert cases("scores.npz", "--fail-if", "auk\x07 > 0.6")[1][0][1] == ["error"]
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["gates.xml"]


def test_a_junit_file_that_cannot_be_written_is_told_before_the_audit(call: Any, tmp_path: Path) -> None:
    code, out, err = call("audit", "scores.npz", "--junit", "gates.xml")
    assert (code, out) == (2, "")
    assert "give --fail-if" in err
    code, out, err = call("audit", "scores.npz", "--fail-if", "auc > 0.6", "--junit", tmp_path)
    assert (code, out) == (2, "")
    assert "is a folder" in err
    code, out, err = call("audit", "scores.npz", "--fail-if", "auc > 0.6", "--junit", "scores.npz/gates.xml")
    assert (code, out) == (74, "")


def test_the_commands_of_the_ci_page_run(call: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
    documents = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    github, gitlab, hooks = documents
    commands = [step["run"] for step in github["jobs"]["audit"]["steps"] if "run" in step]
    commands += gitlab["audit"]["script"] + [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    ran = [shlex.split(command)[1:] for command in commands if command.startswith("lacewing ")]
    assert len(ran) == 3
    rng = np.random.default_rng(2)
    member, label = np.arange(1000) % 2 == 0, rng.integers(0, 3, 1000)
    np.savez("outputs.npz", logits=rng.normal(size=(1000, 3)) + 2 * np.eye(3)[label] * member[:, None], label=label,
             member=member)  # fmt: skip
    for words in ran:
        code, out, err = call(*words)
        assert (code, err) == (1, "")  # these outputs leak
        assert "gate FAILED: auc > 0.6" in out
        if "--junit" in words:
            assert ElementTree.parse("audit.xml").findall(".//failure")
    assert {Path(path).name for path in github["jobs"]["audit"]["steps"][-1]["with"]["path"].split()} == {
        "audit.xml", "report.html", "audit.json",
    }  # fmt: skip


def test_errors_of_the_command_name_its_options(call: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "one.npz", logits=rng.random(40), label=np.arange(40) % 2, member=np.arange(40) < 20)
    assert "--task binary" in call("audit", "one.npz")[2]
    assert "--outputs probabilities" in call("audit", "one.npz", "--task", "binary")[2]
    assert call("audit", "one.npz", "--task", "binary", "--outputs", "probabilities")[0] == 0
    code, _, said = call("audit", "scores.npz", "--outputs", "logits")
    assert (code, "only scores are given" in said) == (2, True)
    (tmp_path / "p.csv").write_text("member,label,prob_0,prob_1\n1,0,0.7,0.3\n0,1,0.2,0.8\n")
    assert "name the model's outputs logit_0" in call("audit", "p.csv")[2]


def _linear(task: str, n: int = 200, k: int = 8, d: int = 30) -> dict[str, Any]:
    """Outputs of linear models that know their members better, and of references on random halves."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d))
    y = x @ rng.normal(size=(d, 1 if task == "regression" else 6)) + 3 * rng.normal(
        size=(n, 1 if task == "regression" else 6)
    )
    labels = y if task == "regression" else (y > 0).astype(int)
    wanted = y if task == "regression" else 2.0 * labels - 1

    def fit(rows: Any) -> Any:
        return x @ np.linalg.lstsq(x[rows], wanted[rows], rcond=None)[0]

    member = np.arange(n) < n // 2
    half = [rng.permutation(n) < n // 2 for _ in range(k // 2)]
    inside = np.stack([h for each in half for h in (each, ~each)])
    logits = np.stack([fit(rows) for rows in inside])
    return {
        "member": member,
        "label": labels,
        "logits": fit(member),
        "reference_in": inside,
        "reference_logits": logits,
    }


@pytest.mark.parametrize("task", ["regression", "multi-label"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: {}, None),
        (lambda a: {"reference_in": ~a["reference_in"]}, "about"),
        (
            lambda a: {"reference_logits": np.random.default_rng(3).normal(size=a["reference_logits"].shape) * 5},
            "not alike on members",
        ),
    ],
    ids=["right", "inverted", "noise"],
)
def test_references_of_every_task_are_compared_with_the_target(task: Any, change: Any, says: str | None) -> None:
    given = _linear(task)
    found = audit_scores({**given, **change(given)}, task=task, attacks="loss")
    checks = {check.name: check for check in found.selfchecks}
    assert checks["references like target"].passed == (says is None), checks["references like target"].sentence
    assert (says or "alike") in checks["references like target"].sentence
    if says is None:
        assert checks["shadow like target"].passed
        compared = "AUC of the labels" if task == "multi-label" else "answered better"
        assert compared in checks["shadow like target"].sentence
