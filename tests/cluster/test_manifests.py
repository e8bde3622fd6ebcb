"""Every environment, strategy and option as the API server sees it: strict, and nothing left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sluice.release.state import ReleaseState
from tests.cluster.conftest import ENVIRONMENTS, ROOT, Checkout, with_option
from tests.cluster.kubectl import apply, get, kubectl, render
from tests.unit.release_sample import state_in

STAGES = ("empty", "bootstrap", "shadow", "canary", "confirm", "stable")
OPTIONS = sorted(path.parent.name for path in (ROOT / "manifests/options").glob("*/kustomization.yaml"))


def checked(directory: Path) -> int:
    """How many objects the API server accepted, strictly; every rendered one, or this fails."""
    lines = apply(directory, "--dry-run=server")
    accepted = [line for line in lines if line.endswith("serverside-applied (server dry run)")]
    assert len(accepted) == len(lines) == len(render(directory))
    return len(accepted)


def test_everything_is_installed_as_rendered(checkout: Checkout, installed: list[str]) -> None:
    once = len(render(checkout.root / "manifests/cluster"))
    empty = [checkout.release(ReleaseState.empty("tiny", environment)) for environment in ENVIRONMENTS]
    assert len(installed) == once + sum(len(render(overlay)) for overlay in empty) == 13 + 3 * 14


def test_the_top_of_the_checkout_applies(checkout: Checkout, installed: list[str]) -> None:
    assert checked(checkout.root) == checked(checkout.root / "manifests/cluster") + checked(checkout.overlay("dev"))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_stage_applies_in_every_environment(
    checkout: Checkout, installed: list[str], environment: str, stage: str
) -> None:
    state = state_in(stage, task="tiny", environment=environment)
    extra = {"empty": 0, "bootstrap": 2, "stable": 2}.get(stage, 3)
    assert checked(checkout.release(state)) == 14 + extra


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("stage", ["empty", "canary"])
def test_every_option_applies(checkout: Checkout, installed: list[str], stage: str, option: str) -> None:
    overlay = with_option(checkout, option, "staging")
    release = checkout.release(state_in(stage, task="tiny", environment="staging")) / "release/kustomization.yaml"
    shutil.copy(release, overlay / "release/kustomization.yaml")
    plain = {str(found) for found in render(checkout.overlay("staging"))}
    assert stage == "empty" or {str(found) for found in render(overlay)} != plain, "the option changes nothing"
    assert checked(overlay) >= 14


def test_argo_cd_accepts_its_part(checkout: Checkout, installed: list[str]) -> None:
    if "argocd" not in {found["metadata"]["name"] for found in get("namespaces")["items"]}:
        pytest.skip("NOT CHECKED: there is no namespace argocd")
    assert checked(checkout.root / "manifests/argocd") == 11


def test_a_second_apply_changes_nothing(checkout: Checkout, installed: list[str]) -> None:
    for environment in ENVIRONMENTS:
        overlay = checkout.release(state_in("empty", task="tiny", environment=environment))
        apply(overlay)
        versions = kubectl("get", "-k", overlay, "-o", "jsonpath={.items[*].metadata.resourceVersion}")
        apply(overlay)
        assert kubectl("get", "-k", overlay, "-o", "jsonpath={.items[*].metadata.resourceVersion}") == versions
