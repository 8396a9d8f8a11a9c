"""What users add is found by its name, told apart by its source, and told about in one sentence where it fails."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lacewing.errors import UsageError
from lacewing.support.loading import ATTACKS, installed, load_installed, load_object, load_users, source_digest

MODULE = """
number = 3

class Thing:
    def __call__(self):
        return 1

def function():
    return 1
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write a module ``their_plugin`` and the metadata of installed packages that add to a group of entry points."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str = MODULE, **added: str) -> None:
        (tmp_path / "their_plugin.py").write_text(source, encoding="utf-8")
        for name, lines in added.items():
            folder = tmp_path / f"{name}-1.0.dist-info"
            folder.mkdir(exist_ok=True)
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
            (folder / "entry_points.txt").write_text(f"[{ATTACKS}]\n{lines}\n", encoding="utf-8")
        importlib.invalidate_caches()

    yield write
    sys.modules.pop("their_plugin", None)


def test_what_an_installed_package_adds_is_found_by_its_name(package: Callable[..., None]) -> None:
    package(theirs="mine = their_plugin:function")
    assert load_users("mine", ATTACKS, "attacks.names", built_in=("ours",))() == 1
    assert load_users("their_plugin:number", ATTACKS, "attacks.names", built_in=()) == 3
    assert "mine" in installed(ATTACKS)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("mine = their_plugin:nothing", "'mine' of the installed package 'theirs' cannot be loaded .*does not define"),
        ("mine = their_plugins:function", "package 'theirs' cannot be loaded .No module named 'their_plugins'"),
        ("mine = their_plugin", "'their_plugin' is not of the form package.module:name"),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_names_its_package(
    package: Callable[..., None], lines: str, said: str
) -> None:
    package(theirs=lines)
    with pytest.raises(UsageError, match=said) as caught:
        load_installed(installed(ATTACKS)["mine"], "attacks.names")
    assert str(caught.value).startswith("attacks.names: ")
    assert str(caught.value).endswith("; upgrade 'theirs', or uninstall it.")


def test_an_installed_module_that_fails_shows_its_lines(package: Callable[..., None]) -> None:
    package("x = 1 / 0\n", theirs="mine = their_plugin:function")
    with pytest.raises(UsageError, match=r"ZeroDivisionError.*; upgrade 'theirs', or uninstall it") as caught:
        load_installed(installed(ATTACKS)["mine"], "attacks.names")
    assert str(caught.value).splitlines()[1:] == ["  their_plugin.py, line 1, in <module>: x = 1 / 0"]


def test_a_name_of_two_origins_is_refused(package: Callable[..., None]) -> None:
    package(theirs="mine = their_plugin:function\nours = their_plugin:function")
    with pytest.raises(UsageError, match=r"'ours' is built in, and the installed package 'theirs' adds the same name"):
        load_users("ours", ATTACKS, "attacks.names", built_in=("ours",))
    package(others="mine = their_plugin:Thing")
    with pytest.raises(UsageError, match="'others' and 'theirs' all add 'mine': uninstall all but one"):
        load_users("mine", ATTACKS, "attacks.names", built_in=())


def test_an_unknown_name_suggests_what_is_built_in_or_installed(package: Callable[..., None]) -> None:
    package(theirs="mine = their_plugin:function")
    with pytest.raises(UsageError, match="unknown name 'mime': did you mean 'mine'"):
        load_users("mime", ATTACKS, "attacks.names", built_in=("ours",))


def test_the_digest_follows_the_source_of_the_module_that_defines_a_thing(package: Callable[..., None]) -> None:
    package()
    module = importlib.import_module("their_plugin")
    before = source_digest(module, "f")
    things = (module.function, module.Thing, module.Thing(), functools.partial(module.function))
    assert {source_digest(thing, "f") for thing in things} == {before}
    sys.modules.pop("their_plugin")
    package(MODULE + "# edited\n")
    assert source_digest(functools.partial(load_object("their_plugin:function", "f")), "f") != before


def test_what_has_no_source_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^f: 'math' has no source file"):
        source_digest(load_object("math:sqrt", "f"), "f")
