"""Text of others moves no cursor, turns no writing round, passes for no line of ours, and computes nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lacewing import cli
from lacewing.study.status import as_text
from lacewing.support.text import cell, entry, html_table, say, visible

HOSTILE = "a\x1b[2Jb\x07c\rd\x9b1me\u202ef\x00g"
SEEN = r"a\x1b[2Jb\x07c\rd\x9b1me\u202ef\x00g"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, SEEN),
        ("\u2066\u2028\u200e\ufeff\udce9\x7f", r"\u2066\u2028\u200e\ufeff\udce9\x7f"),
        ("naïve Größe ≥ 5 %\u202f–\u00a0日本語 ok\n\tnext", "naïve Größe ≥ 5 %\u202f–\u00a0日本語 ok\n\tnext"),
        ("می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
        ("", ""),
    ],
)
def test_control_characters_become_their_escapes_and_words_stay(text: str, shown: str) -> None:
    assert visible(text) == shown
    visible(text).encode()  # a lone surrogate cannot be printed


def test_every_control_character_of_ascii_and_latin_is_escaped_but_line_ends_and_tabs() -> None:
    for number in (*range(0x20), *range(0x7F, 0xA0)):
        assert (visible(chr(number)) == chr(number)) == (chr(number) in "\n\t")


def test_an_entry_cannot_pass_for_several() -> None:
    assert entry("one\nFAILED: two\r\n") == "one\n    FAILED: two\\r\n    "


def test_say_prints_what_is_visible(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say(HOSTILE, sys.stderr)
    assert capsys.readouterr() == (f"{SEEN}\n", f"{SEEN}\n")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n1", "＝1"])
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1, -0.5, None, True, "mlp 30-30", "a=b", "", "imp-01", np.float64(-2.5)])
def test_numbers_and_other_words_stay(value: object) -> None:
    assert cell(value) is value


def test_status_shows_sentences_of_files_on_lines_of_their_own() -> None:
    found = {
        "running": False,
        "study": "small",
        "epochs": {"done": 1, "planned": 2},
        "networks": {"done": 1, "planned": 2},
        "attacks": {"done": 0, "planned": 2},
        "methods": {},
        "seconds_to_go": None,
        "in_work": [{"job": f"dense\n{HOSTILE}", "epoch": 1, "epochs": 2, "age": None}],
        "failed": [f"{HOSTILE}\nstudy fine"],
        "damaged": [],
    }
    text = as_text(found)
    assert f"in work: dense\n    {SEEN}, epoch 1 of 2" in text
    assert f"FAILED: {SEEN}\n    study fine" in text


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["lacewing", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def controls(text: str) -> set[str]:
    return {char for char in text if visible(char) != char}


def test_errors_that_quote_arguments_and_files_are_visible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    named = HOSTILE.replace("\x00", "")
    header = tmp_path / "header.csv"
    header.write_text(f"member,{named.replace(chr(13), '')}\n1,2\n0,3\n")
    study = tmp_path / "study.toml"
    study.write_text(f'name = "x"\n[data]\n"{json.dumps(named)[1:-1]}" = 1\n')
    for words in (
        ("status", named),
        ("data", "check", named),
        ("audit", header),
        ("run", study, "--dry-run"),
        ("run", f"{named}.toml"),
        (named,),
        ("run", "digits", "--dry-run", "--set", f"{named}=1"),
        ("report", "\udce9"),
    ):
        assert run(monkeypatch, *words) == 2, words
        out, err = capsys.readouterr()
        assert err.startswith("lacewing: ")
        assert not controls(out + err), (words, err)


def test_classes_and_ids_of_data_are_visible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    member = np.arange(60) % 2
    scores = tmp_path / "scores.npz"
    ids = np.array([f"{i}\x1b[2J" for i in range(59)] + ["0\x1b[2J"])
    np.savez(scores, member=member, score=rng.normal(size=60), id=ids)
    assert run(monkeypatch, "audit", scores) == 2  # one id stands twice
    out, err = capsys.readouterr()
    assert r"0\x1b[2J" in err
    assert not controls(out + err)
    classes = np.array(["\x1b[31mred", "\u202eblue"])[member]
    np.savez(scores, member=member, score=rng.normal(size=60), **{"class": classes})
    assert run(monkeypatch, "audit", scores, "--json") == 0
    out, err = capsys.readouterr()
    assert not controls(out + err)
    assert {row["class"] for row in json.loads(out)["classes"]} == {"\x1b[31mred", "\u202eblue"}


def test_a_table_of_html_escapes_titles_and_cells() -> None:
    made = html_table(("a<b", "c"), [("<script>", "&"), ("1", "2")])
    assert made == (
        "<table><thead><tr><th>a&lt;b</th><th>c</th></tr></thead>"
        "<tbody><tr><td>&lt;script&gt;</td><td>&amp;</td></tr><tr><td>1</td><td>2</td></tr></tbody></table>"
    )
