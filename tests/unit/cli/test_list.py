"""``lacewing list``: what is built in, what packages add, and why something of theirs cannot be used."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lacewing import data, models
from lacewing.attacks import ATTACKS
from lacewing.cli._list import rows, show
from lacewing.errors import UsageError
from lacewing.methods import METHODS
from lacewing.study.declared import builtin_studies

MODULE = '''
from lacewing.attacks import Attack

def first(evidence):
    """The first logit

    and more."""

attack = Attack("x", "own", "It sees everything.", first, frozenset())
'''
ADDED = """
[lacewing.attacks]
a-first = their_list:first
b-attack = their_list:attack
c-broken = their_list:nothing
loss = their_list:first
[lacewing.models]
their-net = their_list:first
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_list.py").write_text(MODULE)
    folder = tmp_path / "theirs-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(ADDED)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("their_list", None)


def test_all_that_is_built_in_is_listed_with_a_sentence() -> None:
    for kind, names in (
        ("methods", METHODS),
        ("attacks", ATTACKS),
        ("datasets", data.names()),
        ("models", models.NAMES),
        ("studies", sorted(builtin_studies())),
    ):
        found = [row for row in rows(kind) if row.package is None]
        assert [row.name for row in found] == list(names)
        assert all(len(row.sentence) > 15 and "\n" not in row.sentence and row.usable for row in found)


def test_a_study_is_described_by_the_first_sentence_of_its_file() -> None:
    said = {row.name: row.sentence for row in rows("studies")}
    assert said["fashion"] == "Real clothing images, about eight minutes on two cores."
    assert said["mechanism"] == "Capacity or confidence: why do sparse networks leak less?"
    assert said["paper"] == "The experiment of arXiv 2304.10553 at full size."


def test_what_packages_add_is_listed_and_what_cannot_be_used_says_why() -> None:
    first, attack, broken, loss = (row for row in rows("attacks") if row.package == "theirs")
    assert first == ("a-first", "The first logit.", "theirs", True)
    assert attack.sentence == "It sees everything."
    assert not broken.usable
    assert "does not define 'nothing'" in broken.sentence
    assert not loss.usable
    assert "'loss' is built in, and the installed package 'theirs' adds the same name" in loss.sentence


def test_the_list_is_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    show("models")
    assert "their-net The first logit. (added by theirs)" in " ".join(capsys.readouterr().out.split())
    show("models", as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["models"][-1] == {
        "name": "their-net",
        "sentence": "The first logit.",
        "package": "theirs",
        "usable": True,
    }
    with pytest.raises(UsageError, match="list attack: did you mean 'attacks'"):
        show("attack")
