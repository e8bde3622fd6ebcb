"""Bare repositories in which an environment of the tiny task stands in any state."""

from __future__ import annotations

import functools
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sluice.documents.event_time import iso
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision, Verdict
from sluice.git.command import create_bare, git
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.operator import add_hold
from sluice.release.file import render_holds, render_release
from sluice.release.snapshot import paths_of
from sluice.workspace import Workspace
from tests.support.ledger import commit_text
from tests.support.release import POLICY_TEXT, C

ROOT = Path(__file__).parents[2]


def repository_in(folder: Path, state: ReleaseState, policy: str) -> GitOps:
    """Seeded with a state and a policy, as if their decisions had been made long ago; its clone is there too."""
    gitops = GitOps(folder / "gitops.git", state.environment)
    remote, (manifests, tree) = Path(gitops.remote), _manifests()
    release, holds, path = paths_of(state.environment)
    files = {release: render_release(state), holds: render_holds(state.holds), path: policy.encode()}
    shutil.copytree(Path(manifests.name) / "seeded.git", remote)
    git(remote, "fast-import", "--quiet", data=commit_text(b"seed", files, first=False, tree=tree))
    shutil.copytree(remote, gitops.clone.directory)
    gitops.clone.remember((remote / "refs/heads/main").read_text().strip())
    return gitops


@functools.cache
def _manifests() -> tuple[tempfile.TemporaryDirectory[str], bytes]:
    """A bare repository of our manifests with no branch yet, and the id of their tree."""
    folder = tempfile.TemporaryDirectory(prefix="sluice-manifests-")
    remote = Path(folder.name) / "seeded.git"
    GitOps(remote, "dev").seed(ROOT)
    for sample in (remote / "hooks").iterdir():
        sample.unlink()
    tree = git(remote, "rev-parse", "main^{tree}").strip()
    git(remote, "update-ref", "-d", "refs/heads/main")
    return folder, tree


def write_held_release(remote: Path, state: ReleaseState) -> None:
    """A GitOps repository in this state, with one hold that a person put."""
    release_file, holds, policy = paths_of(state.environment)
    files = {release_file: render_release(state), holds: render_holds(())}
    named = POLICY_TEXT.replace(b"environment: dev", f"environment: {state.environment}".encode())
    files[policy] = named.replace(b"task: toy", b"task: tiny")
    create_bare(remote)
    git(remote, "fast-import", "--quiet", data=commit_text(b"tiny", files, first=False))
    add_hold(GitOps(remote, state.environment), C, "broke before", "kim", iso(datetime.now(UTC)))


LENIENT_POLICY = b"""
apiVersion: sluice.dev/v1
kind: GatePolicy
task: tiny
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
online:
  design_effect: 1
  shadow: {minimum_n: 30, maximum_hours: 72, rules: &rules [{metric: error_rate, role: limit, limit: 0.9}]}
  canary: {minimum_n: 30, maximum_hours: 72, steps: [30], rules: *rules}
  confirm: {minimum_n: 30, maximum_hours: 72, rules: *rules}
"""


def seed_workspace(workspace: Workspace, policy: bytes = LENIENT_POLICY) -> GitOps:
    """A GitOps repository where nothing is released yet."""
    overlay = workspace.home / "checkout" / "manifests" / "overlays" / "dev"
    (overlay / "release").mkdir(parents=True)
    (overlay / "gate-policy.yaml").write_bytes(policy)
    (overlay / "release" / "kustomization.yaml").write_bytes(render_release(ReleaseState.empty("tiny", "dev")))
    (overlay / "release" / "holds.yaml").write_bytes(render_holds(()))
    (workspace.home / "checkout" / "kustomization.yaml").write_text("resources: []\n")
    gitops = GitOps(workspace.gitops, "dev")
    gitops.seed(workspace.home / "checkout")
    return gitops


def commit_state(gitops: GitOps, **changed: Any) -> ReleaseState:
    """Commit another state."""

    def decide(snapshot: Snapshot) -> Decision:
        before = snapshot.state.model_dump(mode="json")
        after = ReleaseState.model_validate(before | {"sequence": snapshot.state.sequence + 1} | changed)
        return Decision(
            id=f"canary-{after.sequence:012x}",
            task="tiny",
            environment="dev",
            stage="canary",
            action="set-weight",
            verdict=Verdict.PASS,
            candidate=after.candidate,
            stable=after.stable,
            reasons=(),
            now="2024-04-05T05:00:00Z",
            evidence_digest="sha256:" + "0" * 64,
            policy_digest=snapshot.policy_digest,
            before=before,
            after=after.model_dump(mode="json"),
        )

    gitops.commit(decide)
    return gitops.snapshot().state


STAGES: dict[str, dict[str, Any]] = {
    "shadow": {"stage": "shadow", "rollout": "r1", "stable_weight": 100, "candidate_weight": 0, "mirror_percent": 100},
    "preview": {"stage": "preview", "rollout": "r1", "stable_weight": 100, "candidate_weight": 0, "mirror_percent": 0},
    "canary": {"stage": "canary", "rollout": "r1", "stable_weight": 70, "candidate_weight": 30, "mirror_percent": 0},
    "stable": {"stage": "stable", "rollout": None, "stable_weight": 100, "candidate_weight": 0, "mirror_percent": 0},
}
