"""Clocks that disagree or jump; ``metrics`` has those between the evidence and the decider."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from sluice.documents.event_time import iso, moment_of
from sluice.operations.operator import roll_back
from tests.faults import sample
from tests.faults.history import judged, ledger_problems, reference
from tests.faults.play import STEPS
from tests.faults.registry import Row, Trial

_ROOT = Path(__file__).parents[2]
_ZONES = ("EST5EDT,M3.2.0,M11.1.0", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "<+14>-14")
"""New York, whose clocks go back within the history; Lord Howe with half hours; Kiritimati, the farthest from UTC."""
_OFFSETS = """
import sys, time
moments = [float(word) for word in sys.argv[1:]]
print(*(time.localtime(moment).tm_gmtoff for moment in moments))
"""


def _offsets(zone: str) -> list[str]:
    """Seconds from UTC at the start and the end of the history, as the zone's own processes see them."""
    moments = [str((sample.BEGIN + timedelta(hours=hours)).timestamp()) for hours in (0, 24)]
    done = subprocess.run(
        [sys.executable, "-c", _OFFSETS, *moments], env={**os.environ, "TZ": zone}, capture_output=True, check=True
    )
    return done.stdout.decode().split()


def other_zone(directory: Path, index: int) -> Trial:
    """The whole history in another time zone, over a change of its clocks where it has one."""
    played, zone = reference(directory), _ZONES[index]
    world = played.copy(0, directory / "home")
    command = [sys.executable, "-m", "tests.faults.play", str(world.home)]
    subprocess.run(command, cwd=_ROOT, env={**os.environ, "TZ": zone}, check=True, capture_output=True, timeout=300)
    start, end = _offsets(zone)
    fired = start != end if index == 0 else start != "0"
    return judged(world, played.left(len(STEPS)), fired=fired)


def behind(directory: Path, minutes: int) -> Trial:
    """A person whose clock is behind ends a rollout before it began; the ledger's order is its numbers, not times."""
    world = reference(directory).copy(7, directory / "home")
    state = world.gitops.snapshot().state
    begun = moment_of(state.since or "")
    made = roll_back(world.gitops, "complaints", "kim", iso(begun - timedelta(minutes=minutes)))
    last = world.gitops.decisions()[-1]
    problems = ledger_problems(world.gitops)
    if last != made or world.gitops.snapshot().state.stage != "drain":
        problems.append("the last decision is not the last in the ledger")
    world.propose("e", begun + timedelta(minutes=1))
    wrong = int(world.gitops.snapshot().state.candidate == state.candidate)
    return Trial(moment_of(last.now) < begun, not problems, wrong=wrong, said="; ".join(problems))


ROWS = (
    Row(
        "clocks: another time zone, daylight saving",
        "clocks",
        "the same commits, records and windows, byte for byte",
        lambda full: [(index,) for index in (range(len(_ZONES)) if full else (0,))],
        other_zone,
    ),
    Row(
        "clocks: a person's clock is behind",
        "clocks",
        "decided and recorded in order",
        lambda full: [(minutes,) for minutes in ((1, 5, 60, 1440) if full else (5,))],
        behind,
    ),
)
