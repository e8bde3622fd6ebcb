"""A rollout that waits for a person, and the pull request that lets it go on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from sluice.gitops.writer import CommittedDecision, GitOps
from sluice.rollout.advance import look, propose
from tests.support.leftover import take_leftover_away
from tests.support.release import GOOD, A, B, passing

ROOT = Path(__file__).parents[2]


POLICY = """
apiVersion: sluice.dev/v1
kind: GatePolicy
task: flights
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
bootstrap: {allowed: true, minimum_n: 100}
online:
  design_effect: 1
  look_every_hours: 24
  canary:
    steps: [10, 50]
    minimum_n: 500
    maximum_hours: 96
    approval: true
    rules: &rules [{metric: error_rate, role: limit, limit: 0.05}]
  confirm: {minimum_n: 500, maximum_hours: 96, soak_hours: 24, approval: true, rules: *rules}
"""


RUN = {"id": "run-2", "name": "second"}


def january(number: int) -> str:
    """Midnight of a day of January 2020."""
    return f"2020-01-{number:02d}T00:00:00Z"


def write_waiting_rollout(folder: Path) -> Path:
    """A repository in which A is stable, and B passed the first canary step on 4 January and waits since."""
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    shutil.copy(ROOT / "kustomization.yaml", folder)
    (folder / "manifests/overlays/dev/gate-policy.yaml").write_text(POLICY)
    made = GitOps(folder / "gitops.git", "dev")
    made.seed(folder)
    propose_on(made, A, 1)
    look_on(made, 2)
    propose_on(made, B, 3)
    look_on(made, 4)
    return folder / "gitops.git"


def propose_on(gitops: GitOps, digest: str, day: int) -> None:
    """Start a rollout on a day of January, when nothing is left over of the one before."""
    take_leftover_away(gitops, january(day))
    gitops.commit(lambda snapshot: propose(snapshot, digest, GOOD, {}, RUN, january(day)))


def look_on(gitops: GitOps, day: int, make: Any = passing) -> CommittedDecision | None:
    """Judge on a day of January, by default on evidence that passes."""
    return gitops.commit(lambda snapshot: look(snapshot, make(snapshot.state, january(day)), january(day), RUN))


def merge_approval(gitops: GitOps, text: str, tmp_path: Path, how: str = "merge") -> None:
    """A person's pull request that brings the approval, merged in one of the ways of a Git host."""
    merge_files(gitops, {"approval.yaml": text}, tmp_path, how)


def merge_files(gitops: GitOps, files: dict[str, str], tmp_path: Path, how: str = "merge") -> None:
    """A person's pull request that writes files of the overlay."""
    work = tmp_path / "work"
    shutil.rmtree(work, ignore_errors=True)
    who = ["-c", "user.name=kim", "-c", "user.email=kim@example.com"]

    def git(*arguments: str) -> None:
        subprocess.run(["git", *who, *arguments], cwd=work, capture_output=True, check=True)

    work.mkdir()
    git("clone", "--quiet", gitops.remote, ".")
    git("checkout", "-qb", "agree")
    for name, text in files.items():
        (work / "manifests/overlays/dev" / name).write_text(text)
    git("add", "--all")
    git("commit", "-qm", "Agree to the canary's next step")
    git("checkout", "-q", "main")
    ways = {"merge": ["--no-ff", "-m", "Merge #7"], "squash": ["--squash"], "fast-forward": ["--ff-only"]}
    git("merge", "-q", *ways[how], "agree")
    if how == "squash":
        git("commit", "-qm", "Agree (#7)")
    git("push", "-q", "origin", "main")


def approval_text(gitops: GitOps) -> str:
    """What a person writes who approves the newest pause."""
    return f"pause: {gitops.decisions()[-1].id}\nby: lee\nreason: looks right\n"
