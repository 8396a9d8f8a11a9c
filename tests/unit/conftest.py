"""Test folders are not packages: what several unit tests import is loaded by path, as `attack_results`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("attack_results", Path(__file__).with_name("attack_results.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules["attack_results"] = _MODULE
_SPEC.loader.exec_module(_MODULE)
