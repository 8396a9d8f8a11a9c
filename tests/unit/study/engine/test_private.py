"""Temporary folders for private data: for this account alone, gone at the end, and after a kill at the next start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lacewing.study.engine._private import PrivateFolder, parent_of_sockets, private_folder, sweep

HOLD = """
import sys
from pathlib import Path
from lacewing.study.engine._private import PrivateFolder
folder = PrivateFolder(Path(sys.argv[1]))
(folder.path / "signals.npz").write_text("private")
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_the_folder_is_for_this_account_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with private_folder(tmp_path) as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "a").mkdir()
            (folder / "a" / "weights").write_text("private", encoding="utf-8")
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), private_folder(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_stays_and_one_of_a_killed_process_goes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        theirs = Path(holder.stdout.readline().decode().strip())
        with private_folder(tmp_path):
            assert (theirs / "signals.npz").is_file()
        holder.kill()
        holder.wait()
        assert (theirs / "signals.npz").is_file()
        ours = PrivateFolder(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {ours.path.name, f"{ours.path.name}.lock"}
        ours.remove()


def test_what_is_not_ours_stays_and_no_link_is_followed(tmp_path: Path) -> None:
    victim, parent = tmp_path / "victim", tmp_path / "parent"
    for folder in (victim, parent, parent / "lacewing-mine", parent / ("lacewing-" + "g" * 16)):
        folder.mkdir()
    (victim / "file").write_text("victim", encoding="utf-8")
    (parent / ("lacewing-" + "1" * 16)).symlink_to(victim)
    (parent / ("lacewing-" + "2" * 16)).mkdir()
    (parent / ("lacewing-" + "2" * 16) / "link").symlink_to(victim)
    (parent / ("lacewing-" + "3" * 16)).mkdir()
    (parent / ("lacewing-" + "3" * 16 + ".lock")).symlink_to(victim / "file")
    (parent / ("lacewing-" + "4" * 16)).write_text("a file", encoding="utf-8")
    os.mkfifo(parent / ("lacewing-" + "5" * 16 + ".lock"))
    (parent / ("lacewing-" + "6" * 16 + ".lock")).write_text("", encoding="utf-8")
    kept = {path.name for path in parent.iterdir() if "2" * 16 not in path.name and "6" * 16 not in path.name}
    sweep(parent)
    assert {path.name for path in parent.iterdir()} == kept
    assert (victim / "file").read_text(encoding="utf-8") == "victim"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="accounts of POSIX")
def test_a_folder_of_another_account_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("lacewing-" + "1" * 16)).mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    sweep(tmp_path)
    assert (tmp_path / ("lacewing-" + "1" * 16)).is_dir()


def test_sockets_get_a_short_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/var/folders/" + "x" * 40)
    assert parent_of_sockets() == Path("/tmp")
    monkeypatch.setattr("tempfile.tempdir", "/tmp/short")
    assert parent_of_sockets() == Path("/tmp/short")
