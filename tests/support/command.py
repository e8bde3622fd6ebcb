"""
The ``sluice`` command in a process of its own, forked from one that has imported it already.

It is all that a command started by a shell is, but for the third of a second that every start of Python takes.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

SLUICE = Path(sys.executable).with_name("sluice")
"""The command as it is installed, for what must begin with a fresh Python."""
_ROOT = Path(__file__).parents[2]


def sluice(
    *arguments: str | bytes | Path, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``sluice`` to its end, with ``env`` and nothing else for its environment."""
    assert not any(name.startswith("PYTHON") for name in env), "Python reads these at its start: use SLUICE"
    request = {"arguments": [os.fsdecode(argument) for argument in arguments], "env": dict(env), "cwd": str(cwd or ".")}
    source = _source()
    assert source.stdin is not None
    assert source.stdout is not None
    source.stdin.write(json.dumps(request) + "\n")
    source.stdin.flush()
    return subprocess.CompletedProcess([SLUICE, *arguments], **json.loads(source.stdout.readline()))


@functools.cache
def _source() -> subprocess.Popen[str]:
    """The process that commands are forked from; it ends when its input does."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    command = [sys.executable, "-m", "tests.support.command"]
    pipe, alone = subprocess.PIPE, {"OPENBLAS_NUM_THREADS": "1"}
    source = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=_ROOT, env=clean | alone)
    atexit.register(source.communicate)
    return source


def _fork_at_each_line() -> bool:
    """Whether this is a command's process; False in the first one, at the end of its input."""
    answers = os.fdopen(os.dup(1), "w")
    while line := sys.stdin.readline():
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                _become(json.loads(line), output, errors)
                return True
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            answer = {"returncode": code, "stdout": _text(output), "stderr": _text(errors)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return False


def _become(request: dict[str, Any], output: IO[bytes], errors: IO[bytes]) -> None:
    for stream, number in ((output, 1), (errors, 2)):
        os.dup2(stream.fileno(), number)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = [str(SLUICE), *request["arguments"]]


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()


if __name__ == "__main__":
    import sluice_local.command  # noqa: F401
    from sluice import operations
    from sluice.cli import main

    for operation in pkgutil.iter_modules(operations.__path__, "sluice.operations."):
        importlib.import_module(operation.name)  # what a command imports only when it is called
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork copies one thread alone"
    gc.freeze()  # a fork shares what nobody touches
    if _fork_at_each_line():
        try:
            main()
        except SystemExit as end:
            code = end.code
        else:
            code = 0
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)  # to end Python's way takes longest
