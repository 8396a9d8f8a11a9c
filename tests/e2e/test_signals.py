"""SIGTERM and Ctrl-C outside training: the documented exit code, a sentence, and no traceback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lacewing.support import machine
from lacewing.support.machine import termination_signals

# Sends itself a signal where the function PLACE of a module is called, and waits there.
DRIVER = """
import importlib, os, signal, sys, time
module, name = sys.argv.pop(1).split(":")
number = getattr(signal, sys.argv.pop(1))
def stopped(*words, **options):
    os.kill(os.getpid(), number)
    time.sleep(600)
setattr(importlib.import_module(module), name, stopped)
from lacewing.cli import main
main()
"""
ENDS = {"SIGTERM": (75, "stopped by SIGTERM; finished jobs are kept"), "SIGINT": (130, "interrupted")}
PLACES = {
    "preparing": ("lacewing.study.prepared:make_plan", ("run", "small.toml", "--out", "new", "--processes", "1")),
    "reporting": ("lacewing.study.assemble:write", ("run", "small.toml", "--out", "run")),
    "report": ("lacewing.study.assemble:write", ("report", "run")),
    "merge": ("lacewing.study.run:assemble", ("merge", "merged", "run")),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "number"),
    [(place, "SIGTERM") for place in PLACES] + [("preparing", "SIGINT"), ("reporting", "SIGINT")],
)
def test_a_signal_outside_training_ends_with_its_exit_code(
    place: str, number: str, small: ModuleType, study: Path, finished: Path
) -> None:
    folder = study.parent
    shutil.copytree(finished, folder / "run")
    where, words = PLACES[place]
    command = [sys.executable, "-c", DRIVER, where, number, *words]
    done = subprocess.run(command, cwd=folder, env=small.environment(), capture_output=True, text=True, timeout=300)
    code, said = ENDS[number]
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.rglob("*.part"))
    if number == "SIGTERM":
        again = small.lacewing(*words, cwd=folder)
        assert again.returncode == 0, again.stderr


def test_a_signal_while_a_factory_is_imported_is_no_failure_of_the_factory(small: ModuleType, study: Path) -> None:
    (study.parent / "slow.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(600)\n", encoding="utf-8"
    )
    text = study.read_text(encoding="utf-8").replace('name = "mlp"\nhidden = [16]', 'factory = "slow:net"')
    study.write_text(text, encoding="utf-8")
    done = small.lacewing("run", "small.toml", cwd=study.parent)
    assert done.returncode == 75, done.stderr
    assert ENDS["SIGTERM"][1] in done.stderr


def test_an_ignored_sigterm_stays_ignored(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "from lacewing import cli\n"
        "@cli.app.command()\ndef here(): os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.argv = ['lacewing', 'here']\ncli.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_signals_are_those_that_the_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signal.SIGTERM in termination_signals()
    monkeypatch.setattr(machine.signal, "SIGBREAK", 21, raising=False)
    assert termination_signals() == [signal.SIGTERM, 21]
    monkeypatch.delattr(machine.signal, "SIGTERM")
    assert termination_signals() == [21]
