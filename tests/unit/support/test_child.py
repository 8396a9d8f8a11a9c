"""Child processes: messages both ways, their end in words, and that none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from lacewing.support.child import Child, own_group

MODULE = """
import os, signal, sys
from lacewing.support.child import Parent
seen = []
parent = Parent(lambda message: bool(message.get("aside")) and not seen.append(message))
parent.send({"setup": parent.receive()})
while True:
    match parent.receive():
        case {"do": "print"}:
            print("printed by user code")
            parent.send({"read": sys.stdin.read(), "seen": seen})
        case {"do": "half"}:
            os.write(parent._messages.fileno(), b'{"cut')
            os.kill(os.getpid(), signal.SIGKILL)
        case {"do": "exit", "code": code}:
            sys.exit(code)
"""


@contextmanager
def child(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = MODULE) -> Iterator[Child]:
    (folder / "speaking.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    started = Child("speaking", {"name": "ü"})
    try:
        yield started
    finally:
        started.kill()
        started.close()


def test_messages_go_both_ways_whatever_user_code_prints_and_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with child(tmp_path, monkeypatch) as started:
        assert started.receive() == {"setup": {"name": "ü"}}
        started.send({"aside": 1})
        started.send({"do": "print"})
        assert started.receive() == {"read": "", "seen": [{"aside": 1}]}
        assert started.end() is None
    assert capfd.readouterr() == ("", "printed by user code\n")


@pytest.mark.parametrize(
    ("message", "end"),
    [
        ({"do": "half"}, "signal 9"),
        ({"do": "exit", "code": 7}, "exit code 7"),
        ({"do": "exit", "code": 0}, "exit code 0"),
    ],
)
def test_the_end_of_a_child_is_told_and_half_a_message_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: dict[str, Any], end: str
) -> None:
    with child(tmp_path, monkeypatch) as started:
        started.receive()
        started.send(message)
        assert list(started.listen()) == []
        assert started.end() == end


def test_a_child_that_ends_before_its_setup_is_told_by_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(tmp_path, monkeypatch, "import sys\nsys.exit(3)\n") as started:
        assert started.receive() is None
        assert started.end() == "exit code 3"


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "speaking.py").write_text(MODULE, encoding="utf-8")
    code = (
        "import time\nfrom lacewing.support.child import Child\n"
        "child = Child('speaking', {})\nchild.receive()\nprint(child.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        started = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        psutil.wait_procs([started], timeout=30)
        assert not started.is_running() or started.status() == psutil.STATUS_ZOMBIE


def test_children_are_kept_from_ctrl_c_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(subprocess, "CREATE_NEW_PROCESS_GROUP", raising=False)
    assert own_group() == {"start_new_session": True}
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    assert own_group() == {"creationflags": 512}


def test_the_end_is_told_where_there_are_no_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(tmp_path, monkeypatch, "import sys\nsys.exit(9)\n") as started:
        monkeypatch.delattr(signal, "SIGKILL", raising=False)
        assert started.end(wait=True) == "exit code 9"
        monkeypatch.undo()
