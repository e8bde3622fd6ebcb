"""Where no gate looks, a person ends the end of a rollout, by what kubectl reads of the cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sluice.documents.state import ReleaseState
from tests.support import command as commands
from tests.support.release import A, C, state_in
from tests.support.release_repository import repository_in

ROOT = Path(__file__).parents[2]
POLICY = (ROOT / "tests/support/tiny_checkout/manifests/overlays/dev/gate-policy.yaml").read_text()
WHY = ("--reason", "no gate looks here")


def _route(stable: int, candidate: int, *, accepted: bool = True) -> dict[str, Any]:
    conditions = [{"type": kind, "status": str(accepted)} for kind in ("Accepted", "ResolvedRefs")]
    weights = {"tiny-stable-predictor": stable, "tiny-candidate-predictor": candidate}
    refs = [{"name": name, "weight": weight} for name, weight in weights.items()]
    return {
        "metadata": {"name": "tiny", "generation": 1},
        "spec": {"rules": [{"backendRefs": refs}]},
        "status": {"parents": [{"conditions": conditions}]},
    }


def _service(digest: str, *, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": "tiny-stable", "generation": 1},
        "spec": {"predictor": {"model": {"storageUri": f"sluice+s3://models/{digest.replace(':', '-')}"}}},
        "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


@pytest.mark.parametrize(
    ("stage", "cluster", "code", "said"),
    [
        ("drain", (_route(100, 0), _service(A)), 0, "is not released any more; now stable"),
        ("drain", (_route(50, 50), _service(A)), 3, "candidate_weight is 50, decided was 0"),
        ("drain", (_route(100, 0), _service(C)), 3, "stable serves cccccccccccc instead of aaaaaaaaaaaa"),
        ("drain", (_route(100, 0), _service(A, ready=False)), 3, "stable serves none"),
        ("drain", (_route(100, 0, accepted=False), _service(A)), 2, "is not Accepted by its gateway"),
        ("stable", (_route(100, 0), _service(A)), 3, "no server of a rollout that is over runs"),
    ],
)
def test_only_what_the_cluster_does_is_settled(
    tmp_path: Path, stage: str, cluster: tuple[dict[str, Any], dict[str, Any]], code: int, said: str
) -> None:
    gitops = repository_in(tmp_path, state_in(stage, task="tiny"), POLICY)
    kubectl = tmp_path / "bin/kubectl"
    kubectl.parent.mkdir()
    for kind, item in zip(("httproute", "inferenceservice"), cluster, strict=True):
        (tmp_path / kind).write_text(json.dumps({"items": [item]}))
    kubectl.write_text(f'#!/bin/sh\necho "$2" > {tmp_path}/namespace\ncat {tmp_path}/"$4"\n')
    kubectl.chmod(0o755)
    environment = {"PATH": f"{kubectl.parent}:{os.environ['PATH']}", "COLUMNS": "400", "SLUICE_HOME": str(tmp_path)}
    environment["SLUICE_REPOSITORY"] = str(gitops.remote)
    done = commands.sluice("settle", *WHY, env=environment)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done
    assert "Traceback" not in done.stderr
    after: ReleaseState = gitops.snapshot().state
    assert (after.stage == stage) == (code != 0 or stage == "stable")
    assert (tmp_path / "namespace").read_text() == "sluice-dev\n"
