"""
A thousand models with a rollout in flight, read and decided: ``python -m tests.bench.thousand_models [--models 1000]``.

Beside it the way without ``read_fleet``: a ``GitOps`` for each environment, each with a fetch of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sluice.gitops.fleet import read_fleet
from sluice.gitops.writer import GitOps, Snapshot
from sluice.rollout.advance import advance
from tests.support.fleet import in_flight, make_fleet
from tests.support.release import NOW, failing, passing, unclear

_STAGES = (("shadow", 0), ("canary", 0), ("canary", 1), ("confirm", 0))
_EVIDENCE = (passing, unclear, failing)


def decide(snapshots: Iterable[Snapshot]) -> Counter[str]:
    """What follows for each, on evidence that passes, fails or cannot tell, in turn."""
    made = Counter[str]()
    for number, snapshot in enumerate(snapshots):
        evidence = _EVIDENCE[number % len(_EVIDENCE)](snapshot.state)
        made[advance(snapshot.state, evidence, snapshot.policy, NOW).action] += 1
    return made


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=1000)
    count = parser.parse_args().models
    with tempfile.TemporaryDirectory(prefix="sluice-fleet-") as folder:
        remote = Path(folder) / "gitops.git"
        states = in_flight(count, _STAGES)
        make_fleet(remote, states)
        _say(f"{count} models, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for name in ("first time", "second time"):
            started, used = time.perf_counter(), time.process_time()
            fleet = read_fleet(remote, clone=Path(folder) / "fleet")
            read = time.perf_counter() - started
            made = decide(fleet.snapshots.values())
            _row(f"read_fleet, {name}", started, used, made, f"(reading {read:.1f} s)")
        started, used = time.perf_counter(), time.process_time()
        each = (GitOps(remote, name, clone=Path(folder) / "one").snapshot() for name in states)
        _row("a GitOps each", started, used, decide(each), "")


def _row(name: str, started: float, used: float, made: Counter[str], more: str) -> None:
    spent, own = time.perf_counter() - started, time.process_time() - used
    _say(f"{name:24} {spent:6.1f} s, {own:5.1f} s of this process  {dict(sorted(made.items()))}  {more}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
