"""The audit with the user's own training function: leak found, cached, resumed, over processes, and told when not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.auditing import _refit, _work
from lacewing.auditing._model import audit
from lacewing.errors import UsageError

ATTACKS = ["loss", "lira-online", "rmia-online"]
SOURCE = '''
import os, sys
import numpy as np
import torch
from torch import nn

LOG = os.environ["REFIT_LOG"]

def data():
    """Labels are noise, so that a network can only learn them by heart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 20)).astype(np.float32)
    return x, rng.integers(0, 2, 500)

def refit(x, y, seed):
    with open(LOG, "a") as log:
        log.write(f"{seed} {len(x)} {float(x.sum()):.3f} {os.getpid()}\\n")
    if os.environ.get("STOP_AT") == str(seed):
        raise {"error": RuntimeError, "interrupt": KeyboardInterrupt}[os.environ["STOP_BY"]]("stopped")
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))
    for _ in range(150):  # by hand: torch.optim takes seconds to import in every worker
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients):
                parameter -= gradient
    return model
'''
_loaded = 0


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The user's module, importable by a name of its own, and what it logs."""
    global _loaded
    _loaded += 1
    torch.set_num_threads(1)
    name = f"own_refit_{_loaded}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REFIT_LOG", str(tmp_path / "log"))
    return __import__(name)


def calls(own) -> list[list[str]]:
    path = Path(own.LOG)
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    path.write_text("")
    return lines


def sides(own):
    x, y = own.data()
    return (x[:150], y[:150]), (x[150:400], y[150:400])


def scores(found):
    return {result.attack: result.score_N for result in found.attacks}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-4)


def test_an_overfitted_network_leaks_and_one_trained_on_other_records_does_not(own, capfd):
    members, nonmembers = sides(own)
    x, y = own.data()
    memorised, other = own.refit(*members, 0), own.refit(x[400:], y[400:], 0)
    options = {"refit": own.refit, "references": 4, "attacks": ATTACKS}
    leaky = audit(memorised, members, nonmembers, **options)
    assert all(result.metrics["auc"].low > 0.6 for result in leaky.attacks)
    assert all(result.metrics["balanced_accuracy"].low > 0.5 for result in leaky.attacks)
    told = capfd.readouterr().err
    assert "training reference 1 of 4" in told
    assert "the other 3 take about" in told
    innocent = audit(other, members, nonmembers, progress=False, **options)
    for result in innocent.attacks:
        low, high = result.metrics["auc"][1:]
        assert low <= 0.5 <= high, result.attack
    assert capfd.readouterr().err == ""


def test_references_train_on_complementary_halves_and_are_reused_until_something_changes(own, tmp_path):
    members, nonmembers = sides(own)
    model = own.refit(*members, 99)
    calls(own)
    options = {
        "refit": own.refit,
        "references": 4,
        "attacks": "lira-online",
        "out": tmp_path / "out",
        "progress": False,
    }
    first = audit(model, members, nonmembers, **options)
    made = calls(own)
    assert [int(call[0]) for call in made] == [0, 1, 2, 3]
    sums = [float(call[2]) for call in made]
    assert sums[0] + sums[1] == pytest.approx(sums[2] + sums[3], abs=0.01)  # complements: together every record
    assert {int(call[1]) for call in made} == {200}  # of 150 members and 250 non-members

    again = audit(model, members, nonmembers, **options)
    assert calls(own) == []
    same(scores(first), scores(again))
    audit(model, members, nonmembers, **{**options, "references": 6})
    assert [int(call[0]) for call in calls(own)] == [4, 5]
    audit(model, members, nonmembers, **{**options, "attacks": ["lira-online", "label-noise"]})
    assert [int(call[0]) for call in calls(own)] == [0]  # the shadow alone lacks what the new attack needs
    audit(model, members, nonmembers, **options)
    assert calls(own) == []
    audit(model, members, nonmembers, **{**options, "version": "2"})
    assert len(calls(own)) == 4
    audit(model, members, nonmembers, **options, seed=1)
    assert [int(call[0]) for call in calls(own)] == [1000, 1001, 1002, 1003]
    changed = (members[0] + 1e-3, members[1])
    audit(model, changed, nonmembers, **options)
    assert len(calls(own)) == 4
    assert not list((tmp_path / "out").rglob("*.part"))


def test_an_interrupted_audit_goes_on_where_it_stopped(own, tmp_path, monkeypatch):
    members, nonmembers = sides(own)
    model = own.refit(*members, 99)
    options = {"refit": own.refit, "references": 4, "attacks": ATTACKS, "progress": False}
    whole = audit(model, members, nonmembers, **options)
    monkeypatch.setenv("STOP_AT", "2")
    monkeypatch.setenv("STOP_BY", "interrupt")
    with pytest.raises(KeyboardInterrupt):
        audit(model, members, nonmembers, out=tmp_path / "out", **options)
    kept = sorted((tmp_path / "out" / "references").glob("*.npz"))
    assert len(kept) == 2
    kept[0].write_bytes(kept[0].read_bytes()[:-100])  # and one of them is damaged
    monkeypatch.delenv("STOP_AT")
    calls(own)
    same(scores(whole), scores(audit(model, members, nonmembers, out=tmp_path / "out", **options)))
    assert len(calls(own)) == 3


def test_worker_processes_give_what_one_process_gives(own, tmp_path, monkeypatch):
    members, nonmembers = sides(own)
    model = own.refit(*members, 99)
    options = {"refit": own.refit, "references": 4, "attacks": ATTACKS, "progress": False}
    one = audit(model, members, nonmembers, processes=1, **options)
    calls(own)
    monkeypatch.setattr(_refit, "_WORTH_WORKERS", 0)
    several = audit(model, members, nonmembers, processes=2, **options)
    first, *others = (int(call[3]) for call in calls(own))
    assert first == os.getpid()
    assert len(others) == 3
    assert os.getpid() not in others
    same(scores(one), scores(several))
    assert several.notes == one.notes

    monkeypatch.setenv("STOP_AT", "2")
    monkeypatch.setenv("STOP_BY", "error")
    with pytest.raises(
        UsageError, match=r"refit of reference 3 \(150 records, seed 2\) failed with RuntimeError: stopped"
    ):
        audit(model, members, nonmembers, processes=2, **options)


def test_a_script_without_a_guard_or_a_closure_is_trained_here_and_a_note_says_so(own, tmp_path, monkeypatch):
    members, nonmembers = sides(own)
    monkeypatch.setattr(_refit, "_WORTH_WORKERS", 0)

    def closure(x, y, seed):
        return own.refit(x, y, seed)

    options = {"references": 3, "attacks": "loss", "processes": 2, "progress": False}
    found = audit(own.refit(*members, 9), members, nonmembers, refit=closure, out=tmp_path / "out", **options)
    assert any("one after another" in note for note in found.notes)
    assert len(list((tmp_path / "out" / "references").iterdir())) == 3
    bare, guarded = tmp_path / "bare.py", tmp_path / "guarded.py"
    bare.write_text("audit()\n")
    guarded.write_text("if __name__ == '__main__':\n    audit()\n")
    assert (_work._guarded(bare), _work._guarded(guarded)) == (False, True)


def test_a_killed_audit_keeps_its_references_and_leaves_no_worker(own, tmp_path, monkeypatch):
    """A script with a guard, killed while its two workers train; its function is in the script itself."""
    script = tmp_path / "script.py"
    script.write_text(
        SOURCE.replace("    if os.environ.get", "    wait(seed)\n    if os.environ.get")
        + textwrap.dedent("""
        import time
        from lacewing.auditing import _refit
        from lacewing.auditing._model import audit

        def wait(seed):
            while seed > 1 and not os.path.exists("go"):
                time.sleep(0.05)

        if __name__ == "__main__":
            _refit._WORTH_WORKERS = 1e9 if os.path.exists("go") else 0
            x, y = data()
            members, nonmembers = (x[:150], y[:150]), (x[150:300], y[150:300])
            found = audit(refit(*members, 0), members, nonmembers, refit=refit, references=4, attacks="lira-online",
                          out="out", processes=2)
            print(*found.notes)
        """)
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = tmp_path / "log"
    run = subprocess.Popen([sys.executable, script], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    references = tmp_path / "out" / "references"
    while len(calls_of(log)) < 5 and time.monotonic() < deadline:  # the model, and four references begun
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    workers = {int(call[3]) for call in calls_of(log)} - {run.pid}
    assert len(workers) == 2
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert len(list(references.glob("*.npz"))) == 2
    (tmp_path / "go").touch()
    log.write_text("")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "one after another" not in done.stdout
    assert sorted(int(call[0]) for call in calls_of(log)) == [0, 2, 3]  # the model, and the two that were cut off
    assert "2 of 4 references are there already" in done.stderr


def calls_of(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def test_a_classifier_that_is_no_module_is_audited_through_functions(own):
    from sklearn.tree import DecisionTreeClassifier

    def refit(x, y, seed):
        tree = DecisionTreeClassifier(random_state=seed, max_depth=6).fit(x, y)
        return lambda x: np.log(tree.predict_proba(x).clip(1e-3))

    members, nonmembers = sides(own)
    found = audit(
        refit(*members, 0),
        members,
        nonmembers,
        refit=refit,
        references=4,
        progress=False,
        attacks=["loss", "lira-offline", "label-noise", "label-augmentation"],
    )
    assert found.attacks[0].metrics["auc"].low > 0.5
    with pytest.raises(UsageError, match="'gradient-norm' cannot run"):
        audit(refit(*members, 0), members, nonmembers, attacks="gradient-norm")


@pytest.mark.parametrize(
    ("refit", "says"),
    [
        (lambda x, y, seed: None, "refit returned None"),
        (lambda x, y: nn.Linear(20, 2), "refit of reference 1 .* failed with TypeError"),
        (lambda x, y, seed: lambda x: x, "refit returned a function and model is a torch module"),
        (lambda x, y, seed: nn.Linear(20, 3), "reference 1 answers 3 classes and model 2"),
        (lambda x, y, seed: nn.Linear(7, 2), "reference 1, asked about records .* failed with RuntimeError"),
    ],
)
def test_a_refit_that_gives_no_like_model_is_refused(own, refit, says):
    members, nonmembers = sides(own)
    with pytest.raises(UsageError, match=says):
        audit(nn.Linear(20, 2), members, nonmembers, refit=refit, references=2, attacks="loss", progress=False)


def test_the_users_random_state_is_put_back(own):
    members, nonmembers = sides(own)
    model = nn.Linear(20, 2)
    state, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    audit(model, members, nonmembers, refit=own.refit, references=2, attacks="loss", progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002
