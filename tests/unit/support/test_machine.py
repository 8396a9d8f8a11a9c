"""What a process may use, on systems that lack what Linux has."""

from __future__ import annotations

import ast
import builtins
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lacewing
from lacewing.study.engine.local import default_processes
from lacewing.study.init import init
from lacewing.support import files as support_files
from lacewing.support import machine
from lacewing.support.child import WORKER_ENVIRONMENT, search_path
from lacewing.support.files import sync, write_atomically
from lacewing.support.machine import peak_memory, usable_cores


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a system with 12 cores that are all this process's, and no cgroups."""
    monkeypatch.setattr(machine, "_FILES", tmp_path)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_affinity_counts_where_there_is_one_else_the_cores_of_the_machine(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert usable_cores() == 12
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 64
    assert default_processes("cpu") == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert usable_cores() == 5


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"a/b/cpu.max": "250000 100000\n"}, 2),
        ({"a/b/cpu.max": "max 100000\n"}, 12),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),  # in a container: the path is of the host, the root is its own
        ({"a/b/cpu.max": "2000000 100000\n"}, 12),
        ({"a/b/cpu.max": "nonsense"}, 12),
        ({"a/b/cpu.max": ""}, 12),
    ],
)
def test_quotas_of_cgroups_version_2(files: Path, limits: dict[str, str], cores: int) -> None:
    write(files / "proc/self/cgroup", "0::/a/b\n")
    for name, text in limits.items():
        write(files / "sys/fs/cgroup" / name, text)
    assert usable_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("400000", 4), ("-1", 12), ("1000", 1)])
@pytest.mark.parametrize("place", ["docker/x", ""])
def test_quotas_of_cgroups_version_1(files: Path, place: str, quota: str, cores: int) -> None:
    write(files / "proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n")
    folder = files / "sys/fs/cgroup/cpu,cpuacct" / place
    write(folder / "cpu.cfs_quota_us", quota + "\n")
    write(folder / "cpu.cfs_period_us", "100000\n")
    write(files / "sys/fs/cgroup/memory" / place / "cpu.cfs_quota_us", "100000\n")  # of another controller
    assert usable_cores() == cores


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has no /proc")
def test_the_peak_is_that_of_this_process_and_not_of_the_one_that_started_it() -> None:
    held = np.ones(25_000_000)  # 200 MB
    script = "from lacewing.support.machine import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < held.nbytes


def test_without_proc_and_the_module_resource_the_memory_is_unknown(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = peak_memory()
    assert known is not None
    assert known > 10 * 2**20
    refuse(monkeypatch, "resource")
    assert peak_memory() is None


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plain = builtins.__import__

    def importing(module: str, *rest: Any) -> Any:
        if module == name:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return plain(module, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)


# ------------------------------------------------------------------------------------------------- files on Windows


@pytest.fixture
def windows_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders cannot be opened, and only what is open for writing can be synced."""
    opened, synced = os.open, os.fsync
    writable: dict[int, bool] = {}

    def opening(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if os.path.isdir(path):  # noqa: PTH112
            raise PermissionError(13, "Permission denied", str(path))
        descriptor = opened(path, flags, *rest, **options)
        writable[descriptor] = bool(flags & (os.O_RDWR | os.O_WRONLY))
        return descriptor

    def syncing(descriptor: int) -> None:
        if not writable.get(descriptor, True):
            raise OSError(9, "Bad file descriptor")
        synced(descriptor)

    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.setattr(support_files.os, "open", opening)
    monkeypatch.setattr(support_files.os, "fsync", syncing)


@pytest.mark.usefixtures("windows_files")
def test_files_are_written_and_folders_are_not_synced_where_they_cannot_be_opened(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.txt", "one")
    write_atomically(tmp_path / "a" / "b.txt", "two")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "two"
    sync(tmp_path)


def test_a_project_is_moved_into_an_empty_folder_where_nothing_is_renamed_onto_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = os.replace

    def replacing(source: Any, target: Any, **options: Any) -> None:
        if os.path.isdir(target):  # noqa: PTH112
            raise PermissionError(13, "Access is denied", str(target))
        replaced(source, target, **options)

    monkeypatch.setattr(os, "replace", replacing)
    (tmp_path / "project").mkdir()
    init(tmp_path / "project")
    assert (tmp_path / "project" / "study.toml").is_file()


# -------------------------------------------------------------------------------------------------------- encodings

ROOT = Path(__file__).parents[3]
SOURCES = [
    *Path(lacewing.__file__).parent.rglob("*.py"),
    *(ROOT / "benchmarks").rglob("*.py"),
    *(ROOT / "docs").rglob("*.py"),
    *(ROOT / "examples").rglob("*.py"),
]
_OTHER_OPENS = {
    "os",
    "webbrowser",
    "tarfile",
    "zipfile",
    "archive",
    "Image",
    "Workspace",
    "jobs.Workspace",
    "cls",  # Workspace, in its own module
}  # open no text


def unnamed(source: str) -> list[int]:
    """Lines that read or write text in whatever encoding the machine has."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg for keyword in node.keywords}
        name = ast.unparse(node.func)
        called = name.rpartition(".")[2]
        if "encoding" in keywords:
            continue
        mode = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        binary = any(isinstance(word, str) and "b" in word and len(word) <= 3 for word in mode)
        if (
            (called == "read_text" and not node.args)
            or (called == "write_text" and len(node.args) < 2)
            or (called == "fdopen" and not binary)
            or (called == "open" and name.rpartition(".")[0] not in _OTHER_OPENS and not binary)
            or any(k.arg in ("text", "universal_newlines") and ast.unparse(k.value) == "True" for k in node.keywords)
        ):
            lines.append(node.lineno)
    return lines


def test_the_check_of_encodings_finds_what_it_is_for() -> None:
    assert unnamed("p.read_text()\np.read_text('utf-8')\nopen(p)\nopen(p, 'rb')\np.open('w')\np.open(encoding='utf-8')")
    assert unnamed("p.read_text()\nopen(p)\np.open('w')\np.write_text(t)\nos.fdopen(1, 'w')\nrun(a, text=True)") == [
        *range(1, 7)
    ]
    assert not unnamed(
        "p.read_text('utf-8')\nopen(p, 'rb')\nos.open(p, 1)\nos.fdopen(1, 'wb')\nf(text=True, encoding=e)\nf(text=t)"
    )


def test_every_text_that_is_read_or_written_names_its_encoding() -> None:
    assert len(SOURCES) > 100
    found = {str(path): lines for path in SOURCES if (lines := unnamed(path.read_text(encoding="utf-8")))}
    assert found == {}


# ------------------------------------------------------------------------------------------------------------ spawn


def test_no_file_does_its_work_when_it_is_imported() -> None:
    """Where processes are spawned and not forked, each imports the script that started it."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = [node for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
        assert {ast.unparse(node).partition("(")[0] for node in called} <= {
            "app.add_typer",
            "app.command",
            "torch.library.register_autograd",  # of torch's registry of operators, which each process has its own of
        }, path
        script = path.parts[-2] in ("examples", "benchmarks", "results") and not path.name.startswith("_")
        if path.name == "__main__.py" or script:
            tests = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
            assert any("__name__ == '__main__'" in test for test in tests), path


GIVE_BACK = """
from pathlib import Path
from lacewing.support.machine import give_back_memory, own_memory

def told():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10

parts = [bytes([1]) * (1 << 20) for _ in range(600)]
assert abs(own_memory() - told()) < 16 << 20, (own_memory(), told())
del parts[:-1]  # the last lies above the others, so that the heap cannot shrink
before = told()
give_back_memory()
print(before >> 20, told() >> 20, len(parts))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's memory can be given back")
def test_a_worker_gives_back_memory_that_it_no_longer_uses() -> None:
    found = subprocess.run(
        [sys.executable, "-P", "-c", GIVE_BACK],
        env={**os.environ, **WORKER_ENVIRONMENT, "PYTHONPATH": search_path()},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, _ = map(int, found.stdout.split())
    assert before > 600
    assert after < 100


HOLD_LITTLE = """
import sys

from lacewing.support.machine import hold_little_memory, own_memory

if sys.argv[1] == "little":
    hold_little_memory()
parts = [bytes([1]) * (12 << 20) for _ in range(50)]
del parts[:-1]  # the last lies above the others
print(own_memory() >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")
@pytest.mark.parametrize(("how", "least", "most"), [("little", 0, 100), ("as-started", 600, 1000)])
def test_a_worker_that_is_to_hold_little_memory_frees_each_large_block_at_once(how: str, least: int, most: int) -> None:
    found = subprocess.run(
        [sys.executable, "-P", "-c", HOLD_LITTLE, how],
        env={**os.environ, **WORKER_ENVIRONMENT, "PYTHONPATH": search_path()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert least <= int(found.stdout) <= most


def test_a_system_that_does_not_tell_its_memory_keeps_it(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.ctypes, "CDLL", None)
    assert machine.own_memory() == 0
    monkeypatch.setattr(machine.sys, "platform", "win32")
    machine.hold_little_memory()
    machine.give_back_memory()
