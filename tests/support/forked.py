"""
Python processes that begin with slow imports, forked from one that has made them already.

``install`` lets ``subprocess`` do so for processes that run one of our modules, or a program whose first line asks for
it. Such a process is all that a started one is: a child of ours with arguments, environment, folder and streams of its
own, which can be killed and waited for, and which shows its words and environment in ``/proc``. Only its imports,
seconds of a processor each time, are made once. What is forked as a loop forks its own children, steps of KFP's local
runner too, in the same way: beside each such process waits a copy of what it was before it did anything.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

_SERVING = (
    "sluice_serving.server",
    "sluice_serving.metrics",
    "sluice_serving.shipping",
    "sluice_serving.collector",
    "sluice.features.reader",
    "sluice.feedback.join",
    "sluice.gitops.writer",
    "sluice.operations.operator",
    "ai_edge_litert.interpreter",
)
_COMMANDS = (
    "sluice_local.command",
    "sluice.operations.approve",
    "sluice.operations.decide",
    "sluice.operations.ledger_report",
    "sluice.operations.promote",
    "sluice.operations.status",
    "sluice.operations.why",
    "sluice.simulation.command",
    "sluice_cluster.gate",
    "typer.rich_utils",
)
_TRAINING = (
    "tests.support.keras_import",
    "sluice.training.teacher",
    "sluice.training.worker",
    "tests.support.tiny_task",
)
_LOOP = (
    *_SERVING,
    *_COMMANDS,
    *_TRAINING,
    "kfp.dsl.executor_main",
    "kfp.local",
    "sluice.features.build",
    "sluice.compression.ladder",
    "sluice.operations.import_model",
    "sluice.steps.evaluate",
    "sluice.steps.infra",
    "sluice.steps.release",
    "sluice_local.play",
    "sluice_local.worker",
    "sluice_pipelines.catalogue",
    "tests.support.tiny_story",
)
_MODULES = {
    "sluice_serving.predictor": _SERVING,
    "sluice_serving.collector": _SERVING,
    "sluice.feedback.join": _SERVING,
    "sluice.monitoring.releases": _SERVING,
    "sluice.prometheus.exposition": _SERVING,
    "sluice_local.splitter": _SERVING,
    "tests.support.failing_predictor": _SERVING,
    "tests.support.race_writer": _SERVING,
    "sluice.training.worker": _TRAINING,
}
"""What is started → what is imported before."""
AS_A_COMMAND, AS_A_WRITER, AS_A_TRAINING, AS_A_LOOP = (
    f"# forked as a {kind}\n" for kind in ("command", "writer", "training", "loop")
)
_PROGRAMS = {AS_A_COMMAND: _COMMANDS, AS_A_WRITER: _SERVING, AS_A_TRAINING: _TRAINING, AS_A_LOOP: _LOOP}
"""First line of a program given by ``-c`` → what is imported before."""
_OF_A_LOOP = frozenset({"sluice_local.worker", "sluice_local.splitter", "sluice_serving.predictor"})
"""What a loop's processes start, and fork from what waits beside them."""
_EXECUTOR = "kfp.dsl.executor_main"
_STEP = f"""
import os, runpy, sys, tempfile
path = os.path.join(tempfile.mkdtemp(), "ephemeral_component.py")
with open(path, "w") as stream:
    stream.write(sys.argv[1])
os.environ["_KFP_RUNTIME"] = "true"
sys.argv[:2] = ["{_EXECUTOR}", "--component_module_path", path]
runpy.run_module("{_EXECUTOR}", run_name="__main__")
"""
"""What the shell of a step in KFP's local runner does."""
_SPACE = {"words": 4096, "variables": 16384}
"""Bytes in which a process that was forked can show its own."""
_SPACE_VARIABLE = "SPACE_FOR_VARIABLES"
_ROOT = Path(__file__).parents[2]
_SUBREAPER = 36
_LARGEST = 1 << 20
_LIKE_HERE = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONUTF8", "KERAS_HOME"}
"""Variables that a process which is forked obeys, or that say what holds here anyway."""
_one_at_a_time = threading.Lock()
_beside: list[socket.socket] = []
"""In a process of a loop: leads to the copy that its children are forked from."""
_fork_exec = subprocess._fork_exec  # type: ignore[attr-defined]


def install() -> None:
    """From now on, in this process."""
    subprocess._fork_exec = _start  # type: ignore[attr-defined]


def prepare(module: str) -> None:
    """Let what ``module`` is forked from be there, for who counts processes afterwards."""
    _source(_MODULES[module])


def _start(*arguments: Any) -> int:
    """As ``fork_exec``."""
    args, _, _, _, cwd, env, *rest = arguments
    words = _step([os.fsdecode(word) for word in args])
    variables = _variables(env)
    imports = _imports(words)
    if not imports or _is_read_at_the_start(variables):
        return int(_fork_exec(*arguments))
    request = {"words": words, "env": variables, "cwd": os.fsdecode(cwd or Path.cwd()), "session": bool(rest[9])}
    streams = [number if given == -1 else given for number, given in enumerate((rest[0], rest[3], rest[5]))]
    return _fork(imports, request, streams)


def _variables(env: Any) -> dict[str, str]:
    pairs = dict(os.environ) if env is None else dict(os.fsdecode(pair).split("=", 1) for pair in env)
    return {name: value for name, value in pairs.items() if name != "PYTEST_CURRENT_TEST"}


def _step(words: list[str]) -> list[str]:
    """The words of a process, and in a loop those of a step without its shell."""
    if not _beside or words[:2] != ["sh", "-ec"] or _EXECUTOR not in words[2]:
        return words
    return [sys.executable, "-c", AS_A_LOOP + _STEP, *words[3:]]


def _imports(words: list[str]) -> tuple[str, ...]:
    """What is imported before; nothing where a process has to be started."""
    if words[0] != sys.executable or len(words) < 3:
        return ()
    if _beside and words[1] == "-m" and words[2] in _OF_A_LOOP:
        return _LOOP
    first_line = words[2].partition("\n")[0] + "\n"
    return {"-m": _MODULES.get(words[2], ()), "-c": _PROGRAMS.get(first_line, ())}.get(words[1], ())


def _is_read_at_the_start(variables: Mapping[str, str]) -> bool:
    """Whether they ask Python, or Keras, to start in another way than it did here."""
    names = {name for name in variables if name.startswith(("PYTHON", "KERAS_"))} - _LIKE_HERE
    return any(variables[name] != os.environ.get(name) for name in names)


def _fork(imports: tuple[str, ...], request: dict[str, Any], streams: list[int]) -> int:
    """The id of a new child of ours."""
    adopt = ctypes.CDLL(None).prctl
    with _one_at_a_time:
        source = _source(imports)
        adopt(_SUBREAPER, 1, 0, 0, 0)  # what loses its parent now becomes ours
        try:
            socket.send_fds(source, [json.dumps(request).encode()], streams)
            return int(source.recv(32))
        finally:
            adopt(_SUBREAPER, 0, 0, 0, 0)


@functools.cache
def _source(imports: tuple[str, ...]) -> socket.socket:
    """Leads to the process that is forked; it ends when this is closed."""
    if _beside:
        return _beside[0]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.support.forked", str(theirs.fileno()), *imports, "-" * _SPACE["words"]]
    env = _variables(None) | {_SPACE_VARIABLE: "-" * _SPACE["variables"]}
    env |= {"OPENBLAS_NUM_THREADS": "1"}  # its threads would not be forked
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=_ROOT, env=env)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _fork_at_each_request(requests: socket.socket) -> dict[str, Any] | None:
    """In a process that was asked for: what it shall be; None in the first one, when nobody is left to ask."""
    while True:
        message, streams, _, _ = socket.recv_fds(requests, _LARGEST, 3)
        if not message:
            return None
        reading, writing = os.pipe()
        if not (between := os.fork()):
            child = os.fork()
            if not child:
                request: dict[str, Any] = json.loads(message)
                for descriptor in (reading, writing):
                    os.close(descriptor)
                requests.close()
                if _is_of_a_loop(request["words"]) and (asked := _wait_beside(streams)):
                    return asked
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                return request
            os.write(writing, b"%d" % child)
            os._exit(0)
        os.waitpid(between, 0)
        requests.send(os.read(reading, 32))
        for descriptor in (*streams, reading, writing):
            os.close(descriptor)


def _is_of_a_loop(words: list[str]) -> bool:
    """Whether a process starts others that are forked; a server does not."""
    return (words[1] == "-c" and words[2].startswith(AS_A_LOOP)) or words[1:3] == ["-m", "sluice_local.worker"]


def _wait_beside(streams: list[int]) -> dict[str, Any] | None:
    """Leave a copy of this process to be forked; in what is forked of it: what it shall be. None in this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        _beside[:] = [ours]
        return None
    ours.close()
    for stream in streams:
        os.close(stream)
    asked = _fork_at_each_request(theirs)
    if asked is None:
        os._exit(0)
    return asked


def _show(words: list[str], variables: Mapping[str, str]) -> None:
    """Let ``/proc`` tell them of this process: what it tells is read of its memory, where the source left space."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    places = [int(number) for number in stat[45:49]]  # arg_start, arg_end, env_start, env_end: see proc(5)
    texts = words, [f"{name}={value}" for name, value in variables.items()]
    for start, end, own in zip(places[::2], places[1::2], texts, strict=True):
        shown = b"".join(os.fsencode(text) + b"\0" for text in own)[: end - start - 1]
        ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def _open_streams(is_buffered: bool) -> None:
    """Those of the process that is forked know whether theirs was a file."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        mode, lines = ("w" if number else "r"), (1 if number == 2 or not is_buffered else -1)
        stream = open(number, mode, lines, before.encoding, before.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(request: dict[str, Any]) -> NoReturn:
    """As ``python -m`` would, to the end of the process."""
    if request["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["cwd"])
    _show(request["words"], request["env"])
    kind, name, *arguments = request["words"][1:]
    sys.path[0], sys.argv = request["cwd"], [kind, *arguments]
    asked_for = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[1:1] = [folder for folder in asked_for if folder not in sys.path]
    if _beside:
        install()
    _open_streams(is_buffered="PYTHONUNBUFFERED" not in request["env"])
    code: Any = 0
    try:
        if kind == "-c":
            exec(compile(name, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102  as Python does
        else:
            sys.modules.pop(name, None)
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  as Python does
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for module in sys.argv[2:-1]:
        importlib.import_module(module)
    threads = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    assert threads <= {"python", "jemalloc_bg_thd", "polars-ooc-clea"}, f"a fork would miss {threads}"
    gc.freeze()  # a fork shares what nobody touches
    asked = _fork_at_each_request(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _run(asked)
