"""What is declared is what is imported, and nothing is installed by a name that anybody may register."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {canonicalize_name(Requirement(text).name): Requirement(text) for text in PROJECT["dependencies"]}
EXTRAS = {
    extra: {canonicalize_name(Requirement(text).name) for text in texts}
    for extra, texts in PROJECT["optional-dependencies"].items()
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # where the module is called otherwise
# Modules that only part of the package imports, and the extra that this part needs. Triton comes with CUDA builds of
# torch, and lazylinop is a row of one benchmark that is left out without it: both are asked for inside `try`.
OF_AN_EXTRA = {"onnx": "onnx", "onnxscript": "onnx", "ray": "ray", "triton": "dev", "lazylinop": "dev"}


def imported(path: Path) -> set[str]:
    """The top-level names of the modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_every_package_that_the_source_imports_is_declared() -> None:
    own = sys.stdlib_module_names | {"lacewing", "__future__"}
    names = {name for path in (ROOT / "src").rglob("*.py") for name in imported(path)} - own
    assert {"torch", "numpy", "requests", "threadpoolctl"} <= names
    undeclared = {
        name for name in names - OF_AN_EXTRA.keys() if canonicalize_name(DISTRIBUTIONS.get(name, name)) not in CORE
    }
    assert undeclared == set()
    assert {name for name, extra in OF_AN_EXTRA.items() if name not in EXTRAS[extra]} == set()
    assert names >= OF_AN_EXTRA.keys()  # none is left here that nothing imports


def test_every_declared_package_is_pinned_within_what_is_declared() -> None:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pinned = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}
    declared = [
        *PROJECT["dependencies"],
        *(text for texts in PROJECT["optional-dependencies"].values() for text in texts),
    ]
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
        assert any(part.operator == ">=" for part in requirement.specifier), requirement


def test_nothing_is_installed_by_a_name_that_anybody_may_register() -> None:
    """The project is not on a package index: who registers its name there could run code on every reader's machine."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not in a clone")
    bare = re.compile(r"""\b(?:install|add|tool run|uvx|pipx run)\b[^\n`]*?[\s'"]lacewing(?:[\[\s'"=<>~`),.;]|$)""")
    assert bare.search("pip install 'lacewing[onnx]'")
    assert bare.search("pip install -U lacewing")
    assert not bare.search("pip install -c constraints.txt '.[onnx]'")
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".cff", ""} and path != Path(__file__) and path.is_file():
            found += [f"{name}: {line}" for line in path.read_text("utf-8").splitlines() if bare.search(line)]
    assert found == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_clean_keeps_results() -> None:
    shown = subprocess.run(["make", "-n", "clean"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ".venv" in shown
    assert "runs" not in shown
