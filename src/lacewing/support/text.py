"""Text of others (files, data, arguments) as a terminal, a table and a spreadsheet may show it."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from typing import TextIO

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (writing direction among them), half a character, line ends
_HARMLESS = "\n\t\u200c\u200d"  # the last two join and part letters in several scripts
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")  # a spreadsheet computes what such a cell says


def visible(text: str) -> str:
    """Every control character as its escape, ESC as ``\\x1b``: none can move the cursor or turn the writing round.

    Line ends and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in _HARMLESS or not _unseen(char) else _escape(char) for char in text)


def entry(text: str) -> str:
    """``visible``, and every line but the first indented: in a list it cannot pass for an entry of its own."""
    return visible(text).replace("\n", "\n    ")


def cell(value: object) -> object:
    """A cell of a CSV file: words that a spreadsheet would compute as a formula begin with an apostrophe.

    Numbers stay as they are.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def say(text: object, file: TextIO | None = None) -> None:
    """Print a text that may quote others; on standard output if no file is given."""
    print(visible(str(text)), file=file or sys.stdout, flush=True)


def print_json(document: object) -> None:
    """Print a JSON document on standard output."""
    print(json.dumps(document, indent=1).replace("\x7f", "\\u007f"))  # the one control character that JSON leaves


def _unseen(char: str) -> bool:
    return unicodedata.category(char) in _UNSEEN


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
