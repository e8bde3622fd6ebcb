"""
The ``sluice`` command: starts the commands, and ends them with a line and a code.

Exit codes: 0 done, 2 the input is wrong, 3 a rule forbids it, 130 interrupted. Errors are one line: the thing, the
rule, the fix. The commands are imported late, so that Ctrl-C while they load ends as any other does.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

from sluice.errors import BadInput, SluiceError

_LONGEST_ARGUMENT = 1000
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_LET_WRITE = "let this user write there, or name another directory in SLUICE_HOME"


def main() -> None:
    """Entry point."""
    try:
        _prepare_streams()
        _check_arguments(sys.argv[1:])
        _run()
    except SluiceError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        where = str(error.filename) if error.filename else "this machine"
        fix = _LET_WRITE if error.errno in _NOT_ALLOWED else "free or mend it and run the command again"
        _end(str(BadInput(where, str(error.strerror or error), fix)), 2)
    except KeyboardInterrupt:
        _end("interrupted; the same command goes on from here", 130)


def _run() -> None:
    """Commands of the core, and those that installed distributions add (group ``sluice.commands``)."""
    from importlib.metadata import entry_points

    from typer import Typer

    from sluice.commands import app

    for entry in sorted(entry_points(group="sluice.commands"), key=lambda point: point.name):
        command = entry.load()
        if isinstance(command, Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)
    _name_environment()
    app()


def _name_environment() -> None:
    """In a project ``--env`` is its first environment; what is wrong with a project is said by who needs it."""
    from sluice.project import find_project, read_project
    from sluice.terminal import ENVIRONMENT

    folder = find_project()
    if folder is not None:
        with contextlib.suppress(SluiceError):
            os.environ.setdefault(ENVIRONMENT, read_project(folder).folders[0])


def _prepare_streams() -> None:
    """
    Let a terminal that knows no arrow still get its line, and keep the numbers of closed streams from files.

    Raises:
        BadInput: standard output is closed: what a command says would be lost.
    """
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if "stdout" in closed:
        raise BadInput("standard output", "is closed", f"let it be a file, for example {os.devnull}")


def _check_arguments(arguments: list[str]) -> None:
    for number, argument in enumerate(arguments, start=1):
        if len(argument) > _LONGEST_ARGUMENT:
            rule = f"has {len(argument):,} characters, more than {_LONGEST_ARGUMENT:,}"
            raise BadInput(f"argument {number}, {argument[:20]!r}…", rule, "name the thing itself")


def _end(line: str, code: int) -> None:
    sys.stderr.write(f"sluice: {line}\n")
    raise SystemExit(code) from None
