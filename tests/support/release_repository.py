"""A bare repository in which dev of the tiny task stands in any state, and a cluster that does what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

from sluice.documents.state import ReleaseState
from sluice.gitops.writer import GitOps
from sluice.release.file import render_holds, render_release
from tests.unit.test_cluster_applied import Documents

ROOT = Path(__file__).parents[2]


def repository_in(folder: Path, state: ReleaseState, policy: str) -> GitOps:
    """Seeded with a state and a policy, as if their decisions had been made long ago."""
    checkout = folder / "checkout"
    shutil.copytree(ROOT / "manifests", checkout / "manifests")
    shutil.copy(ROOT / "kustomization.yaml", checkout)
    overlay = checkout / "manifests/overlays" / state.environment
    (overlay / "gate-policy.yaml").write_text(policy)
    (overlay / "release/kustomization.yaml").write_bytes(render_release(state))
    (overlay / "release/holds.yaml").write_bytes(render_holds(state.holds))
    gitops = GitOps(folder / "gitops.git", state.environment)
    gitops.seed(checkout)
    return gitops


class Cluster(Documents):
    """One that has brought a state about; its servers say what the state says."""

    def __init__(self, state: ReleaseState, synced: str) -> None:
        super().__init__()
        self.app["status"]["history"] = [{"deployedAt": "2013-01-01T00:00:00Z"}, {"deployedAt": synced}]
        self.served = {f"{side}-0": found for side in ("stable", "candidate") if (found := getattr(state, side))}
        self.all_pods = [pod for pod in self.all_pods if pod["metadata"]["name"] in self.served]
        self.deployments = {
            name: found for name, found in self.deployments.items() if getattr(state, name.split("-")[1])
        }
        rule = self.route["spec"]["rules"][0]
        rule["backendRefs"] = [
            {"name": f"tiny-{side}-predictor", "weight": getattr(state, f"{side}_weight")}
            for side in ("stable", "candidate")
        ]
        if state.mirror_percent:
            rule["filters"][0]["requestMirror"]["percent"] = state.mirror_percent
        else:
            rule["filters"] = []
