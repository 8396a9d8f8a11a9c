"""What is declared is what is imported, and nothing is installed by a name that anybody may register."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import lacewing as lw

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {canonicalize_name(Requirement(text).name): Requirement(text) for text in PROJECT["dependencies"]}
EXTRAS = {
    extra: {canonicalize_name(Requirement(text).name) for text in texts}
    for extra, texts in PROJECT["optional-dependencies"].items()
}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow"}  # where the module is called otherwise
# Modules that only part of the package imports, and the extra that this part needs. Triton comes with CUDA builds of
# torch, and lazylinop is a row of one benchmark that is left out without it: both are asked for inside `try`.
OF_AN_EXTRA = {
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "pyarrow": "parquet",
    "ray": "ray",
    "triton": "dev",
    "lazylinop": "dev",
    "opacus": "dp",
    "datasets": "hf",
}


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


@pytest.mark.slow
def test_the_lowest_declared_versions_run_a_study(tmp_path: Path) -> None:
    """All core packages at their lower bounds, torch apart: it is the present one, for its builds are large."""
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, capture_output=True)
    python = next(path for path in (place / "bin" / "python", place / "Scripts" / "python.exe") if path.exists())
    lowest = [
        f"{name}=={part.version}"
        for name, requirement in CORE.items()
        for part in requirement.specifier
        if part.operator == ">=" and name != "torch"
    ]
    assert len(lowest) == len(CORE) - 1
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *lowest],
        capture_output=True,
        text=True,
    )
    if done.returncode and re.search("No matching distribution|connection|Temporary failure", done.stderr):
        pytest.skip(f"no package index with these versions can be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    borrowed = tmp_path / "borrowed"
    borrowed.mkdir()
    for name in ("torch", "lacewing"):
        lend(name, borrowed)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(lw.__file__).parents[1]), str(borrowed)])}
    ask = "import sys; from importlib.metadata import version; print(*(f'{n}=={version(n)}' for n in sys.argv[1:]))"
    names = [text.partition("==")[0] for text in lowest]
    told = subprocess.run([python, "-P", "-c", ask, *names], env=environment, capture_output=True, text=True).stdout
    assert all(
        Version(is_.split("==")[1]) == Version(want.split("==")[1])
        for is_, want in zip(told.split(), lowest, strict=True)
    )
    small = ["train.epochs=1", "run.seeds=[0]", 'networks=[{method="dense"},{method="imp",levels=1}]']
    for words in (["run", "digits", "--out", "run", *(word for text in small for word in ("--set", text))], ["--help"]):
        done = subprocess.run(
            [python, "-P", "-m", "lacewing", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()


def lend(name: str, folder: Path) -> None:
    """Links to the files of an installed distribution and of what it alone needs, for another environment."""
    found = metadata.distribution(name)
    for file in found.files or ():
        top = file.parts[0]
        if top in ("..", "__pycache__") or top.endswith(".pth") or (folder / top).exists():
            continue
        (folder / top).symlink_to(Path(str(found.locate_file(top))))
    for text in found.requires or ():
        needed = Requirement(text)
        if canonicalize_name(needed.name) not in CORE and (not needed.marker or needed.marker.evaluate({"extra": ""})):
            lend(needed.name, folder)
