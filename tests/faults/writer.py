"""
A controller in a process of its own that writes many decisions: ``python -m tests.faults.writer``.

    hold REMOTE CLONE SEED DIGEST...    one hold a digest
    propose REMOTE CLONE SEED DIGEST    one proposal
    play HOME                           the whole history, from wherever it stands
    step HOME NUMBER BYTES              one step of it, while no file may grow beyond BYTES

Prints one line a decision: its id, what became of it, and how many seconds that took.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from sluice.documents.event_time import iso
from sluice.documents.verdict import Decision
from sluice.errors import SluiceError
from sluice.gitops.writer import GitOps
from sluice.operations.operator import add_hold
from sluice.rollout.advance import propose
from tests.faults import sample
from tests.faults.play import STEPS, play

_NOW = iso(sample.BEGIN)
ROOT = Path(__file__).parents[2]


def started(*arguments: object) -> subprocess.Popen[str]:
    """A writer on its way; REMOTE may be a URL."""
    command = [sys.executable, "-m", "tests.faults.writer", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _hold(gitops: GitOps, digest: str, seed: str) -> Decision:
    return add_hold(gitops, digest, "race", f"writer {seed}", _NOW)


def _propose(gitops: GitOps, digest: str, seed: str) -> Decision:
    written = gitops.commit(lambda seen: propose(seen, digest, sample.PASSED, {"auc": 0.8}, {"id": seed}, _NOW))
    if written is None:
        raise AssertionError("a proposal is always recorded")
    return written.decision


def _play(home: str, number: str = "", most: str = "") -> int:
    if most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
    try:
        play(Path(home), steps=(STEPS[int(number)],) if number else STEPS)
    except (SluiceError, OSError) as error:
        sys.stdout.write(f"refused {type(error).__name__} {error}\n")
        return 2
    return 0


def main(command: str, *arguments: str) -> int:
    """Do it; 2 when anything was refused, each refusal in one line."""
    if command in ("play", "step"):
        return _play(*arguments)
    remote, clone, seed, *digests = arguments
    gitops = GitOps(remote, sample.ENVIRONMENT, clone=Path(clone), seed=int(seed))
    act = _hold if command == "hold" else _propose
    failed = 0
    for digest in digests:
        begun = time.perf_counter()
        try:
            made = act(gitops, digest, seed)
            said = f"{made.id} {made.action}"
        except SluiceError as error:
            failed, said = 2, f"refused {type(error).__name__} {error}".replace("\n", " ")
        sys.stdout.write(f"{time.perf_counter() - begun:.3f} {said}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
