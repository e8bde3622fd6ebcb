"""The command line: help for everything, one line for every mistake, the documented exit codes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import command as commands


def sluice(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"SLUICE_HOME": str(home), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    return commands.sluice(*arguments, env=environment)


@pytest.mark.parametrize(
    "command",
    [
        *("run", "simulate", "status", "why", "report", "rollback", "decide", "gate", "promote", "approve"),
        *("hold list", "hold add", "hold release", "ledger verify"),
    ],
)
def test_every_command_has_help_with_an_example(command: str, tmp_path: Path) -> None:
    done = sluice(*command.split(), "--help", home=tmp_path)
    assert done.returncode == 0
    assert f"sluice {command}" in done.stdout.split("Example:")[1]


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
    ],
)
def test_without_a_history_a_command_says_what_to_do(command: str, tmp_path: Path) -> None:
    done = sluice(*command.split(), home=tmp_path / "nothing")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "sluice run" in done.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "command", ["rollback", "hold add sha256:00", "why", "frobnicate", "status --nope", "decide", "promote"]
)
def test_a_wrong_call_is_refused_by_name(command: str, tmp_path: Path) -> None:
    done = sluice(*command.split(), home=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
