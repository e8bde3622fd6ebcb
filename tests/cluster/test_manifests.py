"""Every environment, strategy and option as the API server sees it: strict, and nothing left out."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from sluice.documents.state import ReleaseState
from sluice.stages.registry import STAGES
from tests.support.cluster.api_server import accepted
from tests.support.cluster.argo_cd import given_argo_cd
from tests.support.cluster.checkout import ENVIRONMENTS, ROOT, TRIAL, Checkout, with_option
from tests.support.cluster.kubectl import Refused, apply, render
from tests.support.release import state_in

NEVER_PAUSED = ("empty", "bootstrap", "drain", "stable")
STATES: dict[str, dict[str, Any]] = {stage: {"stage": stage} for stage in STAGES}
STATES |= {f"{stage}, paused": {"stage": stage, "paused": True} for stage in STAGES if stage not in NEVER_PAUSED}
"""Every shape that a release file can have."""
CANNOT_MIRROR = ("kserve-canary", "knative")
OPTIONS = sorted(path.parent.name for path in (ROOT / "manifests/options").glob("*/kustomization.yaml"))


def test_everything_is_installed_as_rendered(checkout: Checkout, installed: list[str]) -> None:
    once = len(render(checkout.root / "manifests/cluster"))
    empty = [checkout.release(ReleaseState.empty("tiny", environment)) for environment in (*ENVIRONMENTS, TRIAL)]
    assert len(installed) == once + sum(len(render(overlay)) for overlay in empty) == 17 + 4 * 14


def test_the_top_of_the_checkout_applies(checkout: Checkout, installed: list[str]) -> None:
    lines = apply(checkout.root, "--dry-run=server")
    accepted_lines = [line for line in lines if line.endswith("serverside-applied (server dry run)")]
    parts = render(checkout.root / "manifests/cluster") + render(checkout.overlay("dev"))
    assert len(accepted_lines) == len(lines) == len(parts)


def _in(state: str, environment: str = "dev") -> ReleaseState:
    return state_in(**STATES[state], task="tiny", environment=environment)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_stage_applies_in_every_environment(
    checkout: Checkout, installed: list[str], environment: str, state: str
) -> None:
    wanted = _in(state, environment)
    extra = {"empty": 0, "bootstrap": 2, "stable": 2, "preview": 4}.get(wanted.stage, 3)
    assert accepted(render(checkout.release(wanted))) == 14 + extra


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in NEVER_PAUSED])
def test_a_pause_changes_nothing_that_runs(checkout: Checkout, stage: str) -> None:
    rendered = []
    for state in (stage, f"{stage}, paused"):
        objects = render(checkout.release(_in(state)))
        rendered.append([found for found in objects if found["metadata"]["name"] != "release"])
    assert rendered[0] == rendered[1]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_option_applies(checkout: Checkout, installed: list[str], stage: str, option: str) -> None:
    overlay = with_option(checkout, option, "staging")
    path = checkout.release(_in(stage, "staging")) / "release/kustomization.yaml"
    shutil.copy(path, overlay / "release/kustomization.yaml")
    if stage == "shadow" and option in CANNOT_MIRROR:
        with pytest.raises(Refused, match="testing value /metadata/name failed"):
            render(overlay)
        return
    objects = render(overlay)
    assert stage == "empty" or objects != render(checkout.overlay("staging")), "the option changes nothing"
    assert accepted(objects) >= 14


def test_argo_cd_accepts_its_part(checkout: Checkout, installed: list[str]) -> None:
    given_argo_cd()
    assert accepted(render(checkout.root / "manifests/argocd")) == 11


@pytest.mark.parametrize("stage", ["shadow", "canary", "confirm", "stable"])
def test_nodes_have_a_wave_to_learn_of_a_server_before_its_traffic_comes(checkout: Checkout, stage: str) -> None:
    waves = {
        (found["kind"], found["metadata"]["name"]): int(
            found["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0)
        )
        for found in render(checkout.release(_in(stage)))
    }
    server, route = waves["InferenceService", "tiny-stable"], waves["HTTPRoute", "tiny"]
    assert any(server < wave < route for wave in waves.values())
