"""Make untrusted text (from files, data, arguments) safe to show in a terminal, a table or a spreadsheet."""

from __future__ import annotations

import html
import json
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import TextIO

_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (writing direction among them), half a character, line ends
_HARMLESS = "\n\t\u200c\u200d"  # the last two join and separate letters in several scripts
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")  # a spreadsheet evaluates such a cell


def visible(text: str) -> str:
    """Replace control characters by escapes, ESC by ``\\x1b``: none can move the cursor or change the text direction.

    Line ends and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in _HARMLESS or not _unseen(char) else _escape(char) for char in text)


def entry(text: str) -> str:
    """``visible``, with all lines but the first indented, so that no line can pass for an entry of a list."""
    return visible(text).replace("\n", "\n    ")


def cell(value: object) -> object:
    """A cell of a CSV file: text that a spreadsheet would evaluate as a formula gets an apostrophe in front.

    Numbers stay unchanged.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def html_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as HTML, every cell escaped."""
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    lines = (f"<tr>{''.join(f'<td>{html.escape(each)}</td>' for each in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def say(text: object, file: TextIO | None = None) -> None:
    """Print text with control characters escaped, to standard output by default."""
    print(visible(str(text)), file=file or sys.stdout, flush=True)


def print_json(document: object) -> None:
    """Print a JSON document on standard output."""
    print(json.dumps(document, indent=1).replace("\x7f", "\\u007f"))  # the one control character that JSON leaves


def _unseen(char: str) -> bool:
    return unicodedata.category(char) in _UNSEEN


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
