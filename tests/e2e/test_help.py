"""Help, version and completion of the command: whole, quick, and with exit codes that scripts can go by."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import lacewing as lw
from lacewing import cli


def command_line(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own that may not load torch."""
    script = (
        "import sys; sys.modules['torch'] = sys.modules['numpy'] = None; from lacewing.cli import main; "
        "sys.argv = ['lacewing', *sys.argv[1:]]; main()"
    )
    environment = {**os.environ, "COLUMNS": "80", **variables}
    return subprocess.run([sys.executable, "-c", script, *words], env=environment, capture_output=True, text=True)


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["lacewing", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0), *capsys.readouterr()


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with the words that lead to it."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(cli.app)))
GROUPS = [words for words, command in COMMANDS.items() if hasattr(command, "commands")]


def test_the_commands_are_those_that_the_documents_name() -> None:
    assert {(), ("run",), ("audit",), ("data", "list"), ("bench", "train")} <= set(COMMANDS)
    assert GROUPS == [(), ("data",), ("bench",)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_says_every_word_that_the_source_says(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[words]
    code, shown, err = call(monkeypatch, capsys, *words, "--help")
    assert (code, err) == (0, "")
    assert shown.startswith(f"Usage: {' '.join(['lacewing', *words])} [OPTIONS]")
    texts = [command.help, *(parameter.help for parameter in command.params if getattr(parameter, "help", None))]
    squeezed = "".join(shown.split())
    assert [text for text in texts if "".join(text.split()) not in squeezed] == []
    assert call(monkeypatch, capsys, *words, "-h") == (0, shown, "")


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_lists_of_commands_cut_no_sentence(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown, _ = call(monkeypatch, capsys, *words, "--help")
    lines = shown[shown.index("Commands:") :].splitlines()[1:]
    assert len(lines) == len(COMMANDS[words].commands)
    assert [line for line in lines if not line.endswith(".") or line.endswith("..")] == []


def test_the_help_of_export_keeps_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shown, _ = call(monkeypatch, capsys, "export", "--help")
    assert "'.[onnx]'" in " ".join(shown.split())


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_without_a_command_the_help_is_shown_and_the_exit_code_is_that_of_wrong_usage(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, asked, _ = call(monkeypatch, capsys, *words, "--help")
    code, out, err = call(monkeypatch, capsys, *words)
    assert (code, out) == (2, asked)
    assert err == f"lacewing: name a command: {' '.join(['lacewing', *words])} COMMAND.\n"


def test_version_loads_nothing_heavy() -> None:
    done = command_line("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lacewing {lw.__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["sp"], ["sparsify"]),
        (["run", "--e"], ["--engine", "--estimate"]),
        (["data", ""], ["check", "fetch", "list", "pack"]),
        (["--v"], ["--version"]),
    ],
)
def test_completion_offers_commands_and_options(typed: list[str], offered: list[str]) -> None:
    line = " ".join(["lacewing", *typed])
    done = command_line(_LACEWING_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(typed)))
    assert (done.returncode, sorted(done.stdout.split()), done.stderr) == (0, offered, "")
    done = command_line(_LACEWING_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("_arguments ")
    assert [word for word in offered if f'"{word}"' not in done.stdout] == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_after_the_script_that_is_shown(tmp_path: Path) -> None:
    command = tmp_path / "lacewing"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m lacewing "$@"\n')
    command.chmod(0o755)
    script = """
        eval "$(lacewing --show-completion)" || exit 3
        COMP_WORDS=(lacewing bench b) COMP_CWORD=2
        _lacewing_completion lacewing
        echo "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]])}
    done = subprocess.run(["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "butterfly\n", "")


@pytest.mark.parametrize(("shell", "file"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_completion_is_installed_into_the_home_of_the_caller(
    shell: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    code, out, err = call(monkeypatch, capsys, "--install-completion")
    assert (code, err) == (0, "")
    assert f"{shell} completion installed" in out
    assert (tmp_path / file).is_file()
    assert any("_LACEWING_COMPLETE" in path.read_text() for path in tmp_path.rglob("*lacewing*"))


@pytest.mark.parametrize("option", ["--show-completion", "--install-completion"])
def test_completion_of_an_unknown_shell_is_wrong_usage_and_no_failed_gate(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("tcsh", "/bin/tcsh"))
    code, _, err = call(monkeypatch, capsys, option)
    assert code == 2
    assert f"{option} detects the shell that runs it" in err.splitlines()[-1]


def test_completion_without_what_was_typed_is_wrong_usage_and_no_fault_of_ours(tmp_path: Path) -> None:
    done = command_line(_LACEWING_COMPLETE="complete_bash")
    assert done.returncode == 2, done.stderr
    assert "completion lacks the variable" in done.stderr
    assert "unset _LACEWING_COMPLETE" in done.stderr
