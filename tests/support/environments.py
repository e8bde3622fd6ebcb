"""dev, staging and prod in one repository, each the source of the next."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sluice.documents.evaluation import Curves, Estimate, Evaluation, Peer
from sluice.documents.verdict import Decision
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.promote import Promotion, promote
from sluice.rollout.advance import look, propose
from tests.support.copies import copy_of
from tests.support.leftover import take_leftover_away
from tests.support.release import GOOD, POLICY_TEXT, passing

ROOT = Path(__file__).parents[2]


RUN = {"id": "run-7", "name": "seventh", "data": "sha256:" + "7" * 64}


def policy_of(environment: str, source: str | None, *, offline: bytes = b"", task: bytes = b"flights") -> bytes:
    text = POLICY_TEXT.replace(b"task: toy", b"task: " + task)
    came = f"promote_from: {source}\n" if source else ""
    text = text.replace(b"environment: dev\n", f"environment: {environment}\n{came}".encode())
    rules = b"offline:\n- {metric: auc, role: success, against: best-baseline}\n" + offline + b"\n"
    return text.replace(b"offline: [{metric: auc, role: success, against: best-baseline}]\n", rules)


def write_chained_checkout(folder: Path) -> Path:
    """Manifests of which dev feeds staging, and staging prod; returns the folder."""
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    shutil.copy(ROOT / "kustomization.yaml", folder)
    for environment, source in (("dev", None), ("staging", "dev"), ("prod", "staging")):
        path = folder / "manifests/overlays" / environment / "gate-policy.yaml"
        path.write_bytes(policy_of(environment, source))
    return folder


@functools.cache
def _seeded(checkout: Path) -> Callable[[Path], None]:
    def seed(home: Path) -> None:
        GitOps(home / "gitops.git", "dev").seed(checkout)

    return seed


class Environments:
    """One repository and its environments."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.folder = folder
        self.remote = folder / "home/gitops.git"
        self.dev, self.staging, self.prod = (GitOps(self.remote, name) for name in ("dev", "staging", "prod"))
        copy_of(_seeded(checkout), self.remote.parent)
        self.day = 0

    def now(self) -> str:
        self.day += 1
        return f"2020-01-{self.day:02d}T00:00:00Z"

    def propose(self, digest: str, evidence: dict[str, Any], gitops: GitOps | None = None) -> Decision:
        now = self.now()
        written = (gitops or self.dev).commit(lambda snapshot: propose(snapshot, digest, GOOD, evidence, RUN, now))
        assert written is not None
        return written.decision

    def look(self, gitops: GitOps, make: Any = passing) -> Decision:
        now = self.now()

        def decide(snapshot: Snapshot) -> Decision | None:
            return look(snapshot, make(snapshot.state, now), now, {})

        written = gitops.commit(decide)
        assert written is not None
        return written.decision

    def confirm(self, gitops: GitOps) -> Decision:
        """Look until the candidate is stable, and its server of before is gone; returns what confirmed it."""
        made = self.look(gitops)
        while gitops.snapshot().state.rollout:
            made = self.look(gitops)
        self.drain(gitops)
        return made

    def drain(self, gitops: GitOps) -> None:
        """Let the server of a rollout that is over be taken away."""
        today = f"2020-01-{self.day:02d}T00:00:00Z"
        take_leftover_away(gitops, today)

    def release(self, digest: str, evidence: dict[str, Any] | None = None) -> Decision:
        """Propose in dev and confirm; returns the decision that confirmed it."""
        self.propose(digest, evaluation() if evidence is None else evidence)
        return self.confirm(self.dev)

    def promote(self, gitops: GitOps, again: tuple[str, str] | None = None) -> Promotion:
        return promote(gitops, self.now(), again)

    def edit(self, environment: str, name: str, data: bytes) -> None:
        """A person's commit."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        git_as_kim("clone", "--quiet", str(self.remote), str(work), cwd=self.folder)
        (work / "manifests/overlays" / environment / name).write_bytes(data)
        git_as_kim("add", "--all", cwd=work)
        git_as_kim("commit", "--quiet", "-m", "by hand", cwd=work)
        git_as_kim("push", "--quiet", "origin", "HEAD:main", cwd=work)


def git_as_kim(*arguments: str, cwd: Path) -> str:
    who = ["-c", "user.name=kim", "-c", "user.email=kim@example.com"]
    done = subprocess.run(["git", *who, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def evaluation(gain: float = 0.05, versus: str | None = None) -> dict[str, Any]:
    """The offline evaluation of a record: ``gain`` in AUC to the baseline, equal to production, if there is one."""

    def about(value: float) -> dict[str, Estimate]:
        return {"auc": Estimate(value=value, low=value - 0.01, high=value + 0.01, n=9000)}

    even = {"auc": Estimate(value=0.0, low=-0.001, high=0.001, n=9000)}
    found = Evaluation(
        model="student",
        window=("2019-01-01", "2019-02-01"),
        n=9000,
        positives=2000,
        threshold=0.5,
        metrics=about(0.75),
        slices=(),
        baselines=(Peer(name="simple", metrics=about(0.7), difference=about(gain)),),
        best_baseline="simple",
        teacher=None,
        production=Peer(name="production", digest=versus, metrics=about(0.75), difference=even) if versus else None,
        curves=Curves(roc=(), precision_recall=(), reliability=()),
        bootstrap={"resamples": 100, "days": 30, "seed": 0},
    )
    return found.model_dump(mode="json", exclude={"curves"})
