"""Fixtures shared by test folders."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from lacewing.property import Known


@pytest.fixture(scope="session")
def reports() -> ModuleType:
    """The synthetic studies of ``tests/report_data.py``."""
    return _load("report_data")


@pytest.fixture(scope="session")
def known() -> Callable[..., Known]:
    """Networks with a planted property: ``known`` of ``tests/property_networks.py``."""
    found: Callable[..., Known] = _load("property_networks").known
    return found


@pytest.fixture(scope="session")
def preloaded() -> ModuleType:
    """``tests/preloaded.py``."""
    return _load("preloaded")


@pytest.fixture(scope="session")
def forging() -> ModuleType:
    """``tests/forging.py``."""
    return _load("forging")


@pytest.fixture(scope="session")
def own_method(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``tests/own_method.py``, which studies may name from now on; its folder is on the search path."""
    folder = tmp_path_factory.mktemp("own_method")
    found = folder / "own_method.py"
    found.write_bytes(Path(__file__).with_name("own_method.py").read_bytes())
    sys.path.insert(0, str(folder))
    yield found
    sys.path.remove(str(folder))


def _load(name: str) -> ModuleType:
    """A module of this folder, by its path: test folders are not packages."""
    spec = importlib.util.spec_from_file_location(f"lacewing_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
