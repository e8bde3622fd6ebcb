"""
SIGKILL on the decision path: at labelled points, and at any time.

A point is the entry or the exit of a function of the release, the gates, the evidence, the log or the controller. The
points are not written down: they are those that the undisturbed history passes, so a new function is a new point.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from tests.faults.history import Reference, judged, reference
from tests.faults.play import STEPS, World, play
from tests.faults.registry import SEED, Row, Trial

_GROUPS: Mapping[str, tuple[str, ...]] = {
    "deciding": ("sluice.rollout.advance", "sluice.rollout.drain", "sluice.gates.", "sluice.documents.state"),
    "writing the commit": (
        "sluice.gitops.writer",
        "sluice.ledger.record",
        "sluice.rollout.message",
        "sluice.release.file",
        "sluice.documents.trailers",
    ),
    "between git's commands": ("sluice.git.command",),
    "collecting a window": ("sluice.predictions.", "sluice.evidence.", "sluice.content"),
    "a person's command": ("sluice.operations.operator",),
    "the controller's own steps": ("tests.faults.play",),
}
"""Which modules' points belong to which row; the first that fits."""
_SHORT = {"writing the commit": 16, "between git's commands": 16, "a person's command": 6}
_EACH = 8
_FULL_TIMES = 8
"""Occurrences of each point that are tried in full."""
HOLDS = "after a restart the same commits, records and windows, byte for byte"


class Point(NamedTuple):
    """A labelled point, and when it is passed."""

    label: str
    step: int
    """The step of the history in which it is passed."""
    time: int
    """Which of its passages in that step, counted from 1."""


def _group_of(module: str) -> str | None:
    for group, modules in _GROUPS.items():
        for prefix in modules:
            if module == prefix or (prefix.endswith(".") and module.startswith(prefix)):
                return group
    return None


@cache
def _known(module: str) -> bool:
    return _group_of(module) is not None


def _label(frame: FrameType, event: str) -> str | None:
    module = frame.f_globals.get("__name__", "")
    if event not in ("call", "return") or not _known(module):
        return None
    name = frame.f_code.co_qualname
    if name.startswith("<"):
        return None
    if (module, name) == ("sluice.git.command", "git"):
        name = f"git {frame.f_locals['arguments'][0]}"
    return f"{'before' if event == 'call' else 'after'} {module}:{name}"


def _record(home: str, step: int, answer: Any) -> None:
    """In a process of its own: play one step and tell how often each point is passed."""
    passed: Counter[str] = Counter()

    def watch(frame: FrameType, event: str, _: object) -> None:
        if label := _label(frame, event):
            passed[label] += 1

    sys.setprofile(watch)
    STEPS[step](World(Path(home)))
    sys.setprofile(None)
    answer.send(dict(passed))


def _killed_at(home: str, step: int, label: str, time_: int) -> None:
    """In a process of its own: play one step, and end it with SIGKILL at the point."""
    os.setsid()
    left = time_

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if _label(frame, event) == label:
            left -= 1
            if left == 0:
                os.killpg(0, signal.SIGKILL)

    sys.setprofile(watch)
    STEPS[step](World(Path(home)))


def _whole(home: str) -> None:
    os.setsid()
    play(Path(home))


def _process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """A forked child of a clean server process: no second start of Python, no threads of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.crashes"])
    return context.Process(target=target, args=arguments)


@cache
def _points(root: Path) -> Mapping[str, tuple[tuple[str, tuple[Point, ...]], ...]]:
    """Group → label → where it is passed, the labels in an order drawn by chance."""
    found: dict[str, dict[str, list[Point]]] = {group: {} for group in _GROUPS}
    for step in range(len(STEPS)):
        for label, count in _recorded(root, step).items():
            group = _group_of(label.split(" ", 1)[1].partition(":")[0])
            places = found[group or ""].setdefault(label, [])
            places += [Point(label, step, time_) for time_ in range(1, count + 1)]
    order = random.Random(SEED)  # noqa: S311
    return {
        group: tuple((label, tuple(labels[label])) for label in order.sample(sorted(labels), len(labels)))
        for group, labels in found.items()
    }


def _recorded(root: Path, step: int) -> dict[str, int]:
    home = root / f"recorded-{os.getpid()}-{step}"
    reference(home).copy(step, home)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = _process(_record, str(home), step, theirs)
    child.start()
    theirs.close()
    try:
        passed: dict[str, int] = ours.recv()
    finally:
        child.join()
    return passed


def chosen(directory: Path, group: str, index: int) -> Point:
    """The ``index``-th label of a group, round and round, at one of its passages."""
    labels = _points(directory.parent)[group]
    _, places = labels[index % len(labels)]
    return random.Random(f"{SEED} {group} {index}").choice(places)  # noqa: S311


def killed_at_a_point(directory: Path, group: str, index: int) -> Trial:
    """Kill one step of the history at a point; play it again, and the next one too."""
    played, point = reference(directory), chosen(directory, group, index)
    world = played.copy(point.step, directory / "home")
    child = _process(_killed_at, str(world.home), point.step, point.label, point.time)
    child.start()
    child.join()
    fired = child.exitcode == -signal.SIGKILL
    end = min(point.step + 2, len(STEPS))
    trial = _resumed(world, played, point.step, end, fired=fired, said=f"{point.label} ({point.time})")
    return trial._replace(point=point.label)


def _resumed(world: World, played: Reference, step: int, end: int, *, fired: bool, said: str) -> Trial:
    play(world.home, steps=STEPS[step:end])
    trial = judged(world, played.left(end), fired=fired)
    return trial if trial.survived else trial._replace(said=f"{said}: {trial.said}")


def killed_at_any_time(directory: Path, index: int) -> Trial:
    """Kill the whole process group, git included, again and again; then let it end."""
    played, chance = reference(directory), random.Random(f"{SEED} any {index}")  # noqa: S311
    world, kills = played.copy(0, directory / "home"), 0
    for _ in range(6):
        child = _process(_whole, str(world.home))
        child.start()
        child.join(chance.uniform(0.05, 1.5))
        if child.exitcode is None and child.pid:
            _kill_group(child.pid)
            kills += 1
        child.join()
    return _resumed(world, played, 0, len(STEPS), fired=kills > 0, said=f"{kills} kills")


def _kill_group(leader: int) -> None:
    """Before the child has called ``setsid`` there is no such group yet, and only the child."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(leader, signal.SIGKILL)


_HOOK = """#!/bin/sh
test "$1" = {phase} || exit 0
grep -q refs/heads/main || exit 0
test -e {armed} || exit 0
rm {armed}
touch {fired}
kill -9 -$(ps -o pgid= -p $$ | tr -d ' ')
"""


def killed_inside_the_update(directory: Path, step: int, phase: str) -> Trial:
    """Kill everything while the repository itself is moving the branch: it stays locked, or has just moved."""
    played = reference(directory)
    world = played.copy(step, directory / "home")
    armed, fired = directory / "armed", directory / "fired"
    armed.touch()
    hook = Path(world.gitops.remote) / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(_HOOK.format(phase=phase, armed=armed, fired=fired))
    hook.chmod(0o755)
    child = _process(_whole, str(world.home))
    child.start()
    child.join()
    hook.unlink()
    for lock in Path(world.gitops.remote).rglob("*.lock"):
        os.utime(lock, (time.time() - 60, time.time() - 60))
    return _resumed(world, played, step, len(STEPS), fired=fired.exists(), said=f"step {step}, {phase}")


def _cases(group: str) -> Callable[[bool], list[tuple[Any, ...]]]:
    short = _SHORT.get(group, _EACH)
    return lambda full: [(group, index) for index in range(short * (_FULL_TIMES if full else 1))]


def _rows() -> Iterator[Row]:
    for group in _GROUPS:
        yield Row(f"SIGKILL: {group}", "crashes", HOLDS, _cases(group), killed_at_a_point)
    yield Row(
        "SIGKILL: any time, git too",
        "crashes",
        HOLDS,
        lambda full: [(index,) for index in range(100 if full else 6)],
        killed_at_any_time,
    )
    yield Row(
        "SIGKILL: while the branch moves",
        "crashes",
        HOLDS,
        lambda full: [
            (step, phase) for step in (range(len(STEPS)) if full else (1, 3)) for phase in ("prepared", "committed")
        ],
        killed_inside_the_update,
    )


ROWS = tuple(_rows())
