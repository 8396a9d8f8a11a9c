from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(file: str, name: str) -> ModuleType:
    """A module of this folder under the name that tests import it by: test folders are not packages."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


small_module = _load("small.py", "lacewing_e2e_small")
forged = _load("forged.py", "forged")


@pytest.fixture(scope="session")
def small() -> ModuleType:
    """The small study and the command."""
    return small_module


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(small_module.STUDY)
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small study, run to its end without a break, in ``run``."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.toml").write_text(small_module.STUDY)
    done = small_module.lacewing("run", "small.toml", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="session")
def made(preloaded: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A finished run folder, and the server that runs commands on copies of it; for the tests of forged folders."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "small.toml").write_text(forged.STUDY)
    server = preloaded.Server(tmp_path_factory.mktemp("said"))
    done = server.run("run", "small.toml", "--out", "run", folder=folder, limit=300)
    assert done.code == 0, done.err
    server.warm(folder / "run")
    yield forged.Made(server, folder)
    server.close()
