"""
Many writers, one repository: ``python -m tests.bench.git_race [--writers 16] [--each 25]``.

Races in one run: all on one environment; each on its own; the same without a line to stand in (a ``file://`` remote,
as every remote on another machine is); and as a peer the loop that scripts use: fetch, commit, push, and again after
a random pause. Prints a table, and what the writers without a line take as a share of what the peer's do; asserts that
what landed is in the history once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sluice.git.command import create_bare, git
from sluice.gitops.writer import GitOps
from sluice.operations.ledger import verify
from tests.support.fleet import in_flight, make_fleet

_PEER = """
import json, random, subprocess, sys, time
remote, work, name, count = sys.argv[1:]
dice = random.Random(name)
def git(*arguments):
    return subprocess.run(["git", "-C", work, "-c", "user.name=x", "-c", "user.email=x@localhost", *arguments],
                          capture_output=True, text=True)
subprocess.run(["git", "clone", "--quiet", remote, work], check=True, capture_output=True)
print("ready", flush=True)
sys.stdin.read()
for number in range(int(count)):
    made, started = f"canary-{name}-{number:03d}", time.perf_counter()
    for attempt in range(400):
        git("fetch", "--quiet", "origin", "main")
        git("reset", "--quiet", "--hard", "origin/main")
        with open(f"{work}/{made}.json", "w") as stream:
            stream.write(made * 20)
        git("add", "--all")
        git("commit", "--quiet", "-m", f"{made}\\n\\nSluice-Decision: {made}")
        if not git("push", "--quiet", "origin", "HEAD:main").returncode:
            ended = git("rev-parse", "HEAD").stdout.strip()
            break
        time.sleep(dice.uniform(0, min(1.0, 0.02 * 2**attempt)))
    else:
        ended = "gave up"
    print(json.dumps({"id": made, "ended": ended, "seconds": time.perf_counter() - started}), flush=True)
"""


@dataclass(frozen=True)
class Race:
    """Seconds of each promotion, and how many ended how."""

    name: str
    seconds: list[float]
    landed: int
    refused: int
    lost: int
    doubled: int
    wall: float

    def within(self, share: float) -> float:
        """Seconds in which this share of the promotions ended."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]

    def row(self) -> str:
        """A row of the table."""
        p50, p99 = self.within(0.5), self.within(0.99)
        counts = f"{self.landed:6} {self.refused:7} {self.lost:4} {self.doubled:7}"
        times = f"{p50:7.2f} {p99:7.2f} {max(self.seconds):7.2f} {self.wall:7.1f}"
        return f"{self.name:34} {counts} {times} {len(self.seconds) / self.wall:6.1f}"


def _stream(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


_HEAD = f"{'race':34} landed refused lost doubled   p50 s   p99 s   max s  wall s   /s"


def race(name: str, remote: Path, commands: list[list[str]]) -> Race:
    """Start the writers at once, when all of them have their clones, then hold what they say against the history."""
    pipe, waiting = subprocess.PIPE, os.environ | {"SLUICE_RACE_WAITS": "1"}
    writers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, env=waiting) for command in commands]
    for writer in writers:
        _stream(writer.stdout).readline()
    started = time.perf_counter()
    for writer in writers:
        _stream(writer.stdin).close()
    rows = [json.loads(line) for writer in writers for line in _stream(writer.stdout)]
    wall = time.perf_counter() - started
    shown = git(remote, "log", "--format=%(trailers:key=Sluice-Decision,valueonly,separator=%x20)", "main").decode()
    kept = Counter(shown.split())
    landed = [row["id"] for row in rows if " " not in row["ended"] and row["ended"]]
    lost = sum(kept[one] == 0 for one in landed)
    doubled = sum(count > 1 for count in kept.values())
    return Race(name, [row["seconds"] for row in rows], len(landed), len(rows) - len(landed), lost, doubled, wall)


def ours(folder: Path, writers: int, each: int, *, apart: bool, url: bool) -> Race:
    """Sluice's writers, on one environment or on one each (``apart``)."""
    remote = folder / "gitops.git"
    make_fleet(remote, in_flight(writers if apart else 1))
    module = [sys.executable, "-m", "tests.support.race_writer", f"file://{remote}" if url else str(remote)]
    commands = [
        [*module, f"model-{k if apart else 0:03d}", str(folder / f"clone-{k}"), f"w{k:02d}", str(each)]
        for k in range(writers)
    ]
    name = f"sluice, {'environments of their own' if apart else 'one environment'}{', URL' if url else ''}"
    found = race(name, remote, commands)
    for environment in {command[4] for command in commands}:
        verify(GitOps(remote, environment)).require_intact()
    return found


def peer(folder: Path, writers: int, each: int) -> Race:
    """The loop that scripts use."""
    remote = folder / "gitops.git"
    create_bare(remote)
    make_fleet(remote, in_flight(1))
    commands = [
        [sys.executable, "-c", _PEER, str(remote), str(folder / f"work-{k}"), f"w{k:02d}", str(each)]
        for k in range(writers)
    ]
    return race("fetch, commit, push, again", remote, commands)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table, the races in an order drawn by chance."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--each", type=int, default=25)
    parser.add_argument("--only", action="store_true", help="only those two")
    asked = parser.parse_args()
    races: list[Callable[[Path], Race]] = [
        lambda folder: ours(folder, asked.writers, asked.each, apart=False, url=False),
        lambda folder: ours(folder, asked.writers, asked.each, apart=True, url=False),
        lambda folder: ours(folder, asked.writers, asked.each, apart=False, url=True),
        lambda folder: peer(folder, asked.writers, asked.each),
    ]
    without_a_line, naive = races[2:]
    found: dict[Callable[[Path], Race], Race] = {}
    races = races[2:] if asked.only else races
    random.shuffle(races)
    _say(f"{asked.writers} writers x {asked.each}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n{_HEAD}")
    for run in races:
        with tempfile.TemporaryDirectory(prefix="sluice-race-") as folder:
            found[run] = run(Path(folder))
            _say(f"{found[run].row()}   load {os.getloadavg()[0]:.1f}")
    line_less, peers = found[without_a_line], found[naive]
    shares = f"wall {line_less.wall / peers.wall:.2f}, p99 {line_less.within(0.99) / peers.within(0.99):.2f}"
    _say(f"without a line, as a share of the peer: {shares}, refused {line_less.refused} against {peers.refused}")


if __name__ == "__main__":
    main()
