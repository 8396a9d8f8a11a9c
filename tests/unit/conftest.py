"""Test folders are not packages: modules that several unit tests import are loaded by path, as ``attack_results``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

for _path in sorted(Path(__file__).parent.rglob("*.py")):
    if _path.stem != "conftest" and not _path.stem.startswith("test_"):
        _spec = importlib.util.spec_from_file_location(_path.stem, _path)
        assert _spec is not None
        assert _spec.loader is not None
        sys.modules[_path.stem] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_path.stem])
