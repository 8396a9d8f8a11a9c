"""Gates as JUnit XML, as GitHub, GitLab and Jenkins read it: a test case a gate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from lacewing.auditing._gates import Verdict
from lacewing.errors import UsageError
from lacewing.support.files import write_atomically
from lacewing.support.text import visible

_SUITE = "lacewing audit"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def begin(path: Path, gates: Sequence[str]) -> None:
    """Write the file before the audit runs, each gate an error: an audit that is killed leaves no old verdict there.

    Raises:
        UsageError: there is no gate, or the path is a folder.
        OSError: the file cannot be written.
    """
    if not gates:
        raise UsageError("--junit writes what the gates find: give --fail-if as well.")
    if path.is_dir():
        raise UsageError(f"--junit {path} is a folder: name a file, e.g. {path / 'audit.xml'}.")
    write(path, [Verdict(gate, None, "The audit did not end.") for gate in gates])


def write(path: Path, found: Sequence[Verdict]) -> None:
    """Write what the gates found. One that cannot be judged is an error, which no reader takes for a passed test."""
    write_atomically(path, as_xml(found))


def as_xml(found: Sequence[Verdict]) -> bytes:
    """The document: testsuites, one testsuite, and a testcase for each gate."""
    counts = {
        "tests": str(len(found)),
        "failures": str(sum(verdict.failed is True for verdict in found)),
        "errors": str(sum(verdict.failed is None for verdict in found)),
        "time": "0",
    }
    suites = ElementTree.Element("testsuites", {"name": _SUITE, **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _SUITE, **counts, "skipped": "0"})
    for verdict in found:
        about = {"classname": "lacewing.audit", "name": _text(verdict.gate), "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", about)
        sentence = _text(verdict.sentence)
        if verdict.failed is False:
            ElementTree.SubElement(case, "system-out").text = sentence
            continue
        kind, name = ("error", "UsageError") if verdict.failed is None else ("failure", "GateFailed")
        ElementTree.SubElement(case, kind, {"message": sentence, "type": name}).text = sentence
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, "utf-8", xml_declaration=True))


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", visible(text))
