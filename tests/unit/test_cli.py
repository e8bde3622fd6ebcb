"""The command line: help for everything, one line for every mistake, the documented exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.errors import BadInput
from tests.support import command as commands


def sluice(*arguments: str, home: Path, columns: int = 200) -> subprocess.CompletedProcess[str]:
    environment = {"SLUICE_HOME": str(home), "PATH": "/usr/bin:/bin", "COLUMNS": str(columns)}
    return commands.sluice(*arguments, env=environment)


@pytest.mark.parametrize(
    "command",
    [
        *(
            "run",
            "simulate",
            "status",
            "why",
            "report",
            "rollback",
            "decide",
            "gate",
            "promote",
            "approve",
            "propose",
            "import",
            "apply",
            "settle",
        ),
        *("data stats", "data schema", "data check", "data compare", "data show"),
        *("hold list", "hold add", "hold release", "ledger verify", "ledger accept"),
    ],
)
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    done = sluice(*command.split(), "--help", home=tmp_path)
    assert done.returncode == 0
    assert f"sluice {command}" in done.stdout.split("Example:")[1]
    narrow = sluice(*command.split(), "--help", home=tmp_path, columns=80).stdout
    examples = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("Example:")]
    assert [line.strip() for line in narrow.splitlines() if line.strip().startswith("Example:")] == examples


def test_examples_of_all_commands_are_a_line_each_on_a_narrow_terminal(tmp_path: Path) -> None:
    lines = [line.rstrip() for line in sluice("--help", home=tmp_path, columns=80).stdout.splitlines()]
    first = lines.index(" Examples:") + 1
    examples = lines[first : lines.index("", first)]
    assert len(examples) == 10
    assert all(line.startswith("   sluice ") for line in examples)


def test_help_lists_every_command(tmp_path: Path) -> None:
    """By the command as it is installed."""
    shown = subprocess.run([commands.SLUICE, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(name in shown for name in ("run", "status", "why", "report", "rollback", "hold"))


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "status --json",
        "why sha256:abcd",
        "rollback --reason x",
        "hold list",
        "report",
        "ledger verify",
        "promote --env staging",
        "propose . --env dev",
    ],
)
def test_without_a_history_a_command_says_what_to_do(command: str, tmp_path: Path) -> None:
    done = sluice(*command.split(), home=tmp_path / "nothing")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "sluice run" in done.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "command", ["rollback", "hold add sha256:00", "why", "frobnicate", "status --nope", "decide", "promote", "propose"]
)
def test_a_wrong_call_is_refused_by_name(command: str, tmp_path: Path) -> None:
    done = sluice(*command.split(), home=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["why {}", "{}", "status --env={}", "status --{}", "decide --policy={}", "gate {}"])
def test_a_long_argument_is_not_said_again(command: str, tmp_path: Path) -> None:
    for letters, most in ((5000, 200), (1000, 2500)):  # the second is told by whoever reads it
        done = sluice(*command.format("x" * letters).split(), home=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr) < most
        assert "Traceback" not in done.stderr


def test_an_error_is_one_short_line_of_letters_whatever_is_in_it() -> None:
    error = BadInput("a\nb\x1b[31m\udcff", "x" * 5000, "see " + "word " * 1000)
    assert str(error).startswith(r"a\nb\x1b[31m\udcff: xxx")
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    assert str(BadInput("é → 1", "is", "ok")) == "é → 1: is; ok"


@pytest.mark.parametrize("command", ["status", "status --json", "simulate no-such.yaml", "--help"])
def test_a_closed_stream_is_named_and_never_a_crash(command: str, tmp_path: Path) -> None:
    variables = {"SLUICE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def run(streams: str) -> subprocess.CompletedProcess[str]:
        shell = ["sh", "-c", f'exec "$0" "$@" {streams}', str(commands.SLUICE), *command.split()]
        return subprocess.run(shell, env=variables, capture_output=True, text=True, check=False)

    closed = run(">&-")
    line = f"sluice: standard output: is closed; let it be a file, for example {os.devnull}\n"
    assert (closed.returncode, closed.stderr) == (2, line)
    assert run(">&- 2>&-").returncode == 2
    silent = run("<&- 2>&-")
    assert (silent.returncode, silent.stdout) == (run("").returncode, run("").stdout)


@pytest.mark.parametrize("late", ["typer", "rich.console", "sluice.operations.status"])
def test_ctrl_c_while_commands_load_is_one_line(late: str, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "class Interrupter:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {late!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupter())\n"
        "from sluice.cli import main\n"
        "sys.argv = ['sluice', 'status']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"SLUICE_HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr in {"", "sluice: interrupted; the same command goes on from here\n"}
