"""What is left in a repository after a fault, against the same history played undisturbed."""

from __future__ import annotations

import fcntl
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sluice.git.command import git
from sluice.gitops.writer import GitOps
from sluice.operations.ledger import verify
from tests.faults.play import STEPS, World
from tests.faults.registry import Trial

SAME = "the same commits and records as undisturbed, byte for byte"
"""What surviving means where an undisturbed history is there to compare with."""


class Left(NamedTuple):
    """Everything that a history consists of; a commit's id covers its files, its message, its dates and its parent."""

    tip: str
    decisions: tuple[str, ...]
    windows: tuple[tuple[str, bytes], ...]


def left_in(world: World) -> Left:
    """What is there now."""
    decisions = tuple(made.id for made in world.gitops.decisions())
    windows = tuple((path.name, path.read_bytes()) for path in sorted(world.windows.glob("[!.]*")))
    return Left(tip_of(Path(world.gitops.remote)), decisions, windows)


def tip_of(remote: Path) -> str:
    """The newest commit's id."""
    return git(remote, "rev-parse", "main").decode().strip()


def lost_or_doubled(found: Sequence[str], wanted: Sequence[str]) -> int:
    """Decisions of ``wanted`` that are not in ``found``, and those of ``found`` that are too many."""
    missing, extra = Counter(wanted), Counter(found)
    return sum((missing - extra).values()) + sum((extra - missing).values())


def judged(world: World, wanted: Left, *, fired: bool, said: str = "") -> Trial:
    """The trial's outcome: equal byte for byte, and a ledger that is whole."""
    found = left_in(world)
    lost = lost_or_doubled(found.decisions, wanted.decisions)
    problems = [said] if said else []
    if lost:
        problems.append(f"{lost} decisions lost or doubled")
    elif found.tip != wanted.tip:
        problems.append("the same decisions in other commits")
    if found.windows != wanted.windows:
        problems.append("other prediction windows")
    problems += ledger_problems(world.gitops)
    return Trial(fired, not problems, lost=lost, said="; ".join(problems))


def ledger_problems(gitops: GitOps) -> list[str]:
    """What `sluice ledger verify` finds, and what `git fsck` does."""
    report = verify(gitops)
    git(Path(gitops.remote), "fsck", "--strict", "--no-dangling")
    return [f"{problem.where}: {problem.rule}" for problem in report.problems][:1]


@dataclass(frozen=True)
class Reference:
    """The undisturbed history: the whole home before each step, and after the last."""

    homes: tuple[Path, ...]

    def left(self, steps: int) -> Left:
        """What is there after the first ``steps`` steps."""
        return left_in(World(self.homes[steps]))

    def copy(self, steps: int, directory: Path) -> World:
        """A home of one's own in which the first ``steps`` steps were played."""
        shutil.copytree(self.homes[steps], directory, symlinks=True)
        return World(directory)


def reference(directory: Path) -> Reference:
    """The one of this run of the suite, played by the first trial that needs it; ``directory`` is the trial's own."""
    root = directory.parent / "reference"
    homes = tuple(root / str(number) for number in range(len(STEPS) + 1))
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "whole").exists():
            shutil.rmtree(root, ignore_errors=True)
            _play(homes)
            (root / "whole").touch()
    return Reference(homes)


def _play(homes: Sequence[Path]) -> None:
    homes[0].mkdir(parents=True)
    World(homes[0]).seed()
    for number, step in enumerate(STEPS):
        shutil.copytree(homes[number], homes[number + 1])
        step(World(homes[number + 1]))
