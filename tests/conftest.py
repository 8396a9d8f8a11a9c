"""Fixtures shared by test folders."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def reports() -> ModuleType:
    """The synthetic studies of ``tests/report_data.py`` (loaded by path: test folders are not packages)."""
    spec = importlib.util.spec_from_file_location("lacewing_report_data", Path(__file__).with_name("report_data.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
