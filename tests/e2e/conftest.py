from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_PATH = Path(__file__).with_name("small.py")
_SPEC = importlib.util.spec_from_file_location("lacewing_e2e_small", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
small_module = importlib.util.module_from_spec(_SPEC)
sys.modules["lacewing_e2e_small"] = small_module
_SPEC.loader.exec_module(small_module)


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
