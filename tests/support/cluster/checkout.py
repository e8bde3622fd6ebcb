"""Copies of the checkout's manifests that deploy the tests' images, and the environments in them."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.documents.state import ReleaseState
from sluice.release.file import render_holds, render_release
from tests.support.cluster.store import STORE
from tests.support.release import state_in

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ("dev", "staging", "prod")
TRIAL = "trial"
"""An environment of the tests' own, for what is applied by hand while Argo CD has the shipped ones."""
TRIAL_NAMESPACE = f"sluice-{TRIAL}"
MONITORING = "monitoring"
"""The namespace of Prometheus."""


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout's manifests that deploys the test's images, task and store."""

    root: Path

    def overlay(self, environment: str) -> Path:
        """Directory of an environment."""
        return self.root / "manifests/overlays" / environment

    def release(self, state: ReleaseState) -> Path:
        """Write a release and its holds; returns the overlay to apply."""
        overlay = self.overlay(state.environment)
        (overlay / "release/kustomization.yaml").write_bytes(render_release(state))
        (overlay / "release/holds.yaml").write_bytes(render_holds(state.holds))
        return overlay


def write_checkout(root: Path, *, images: bool = True) -> Checkout:
    """Copy manifests; replace images by the tests', the task by the tiny one, and name the tests' store."""
    shutil.copytree(ROOT / "manifests", root / "manifests")
    shutil.copy(ROOT / "kustomization.yaml", root)
    if images:
        _use_images(root / "manifests/images/kustomization.yaml")
    store = f"- {{name: model-storage, behavior: merge, literals: [AWS_ENDPOINT_URL=http://store.{STORE}.svc:9000]}}\n"
    for environment in ENVIRONMENTS:
        overlay = root / "manifests/overlays" / environment
        path = overlay / "kustomization.yaml"
        path.write_text(path.read_text().replace("configMapGenerator:\n", "configMapGenerator:\n" + store))
        policy = (ROOT / "tests/support/tiny_checkout/manifests/overlays/dev/gate-policy.yaml").read_text()
        came = {"staging": "\npromote_from: dev", "prod": "\npromote_from: staging"}.get(environment, "")
        named = policy.replace("environment: dev", f"environment: {environment}{came}")
        (overlay / "gate-policy.yaml").write_text(named)
        Checkout(root).release(ReleaseState.empty("tiny", environment))
    return Checkout(root)


def add_trial(checkout: Checkout) -> Checkout:
    """The same with one environment more, made from dev."""
    shutil.copytree(checkout.overlay("dev"), checkout.overlay(TRIAL))
    path = checkout.overlay(TRIAL) / "kustomization.yaml"
    text = path.read_text().replace("sluice-dev", TRIAL_NAMESPACE)
    path.write_text(text.replace("host=flights.dev.", f"host=flights.{TRIAL}."))
    policy = path.with_name("gate-policy.yaml")
    policy.write_text(policy.read_text().replace("environment: dev", f"environment: {TRIAL}"))
    checkout.release(ReleaseState.empty("tiny", TRIAL))
    return checkout


def in_trial(stage: str, **changed: Any) -> ReleaseState:
    """A state of the tests' own environment."""
    return state_in(stage, task="tiny", environment=TRIAL, **changed)


def with_option(checkout: Checkout, option: str, environment: str = TRIAL) -> Path:
    """A copy of the checkout in which one environment has one option; returns its overlay."""
    root = checkout.root.with_name(f"{checkout.root.name}-{option}-{environment}")
    if not root.exists():
        shutil.copytree(checkout.root, root)
        path = Checkout(root).overlay(environment) / "kustomization.yaml"
        before = path.read_text()
        path.write_text(before.replace("[release, ", f"[release, ../../options/{option}, "))
        assert path.read_text() != before
    return Checkout(root).overlay(environment)


def _use_images(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    for image in document["images"]:
        if image["name"] == "sluice/steps-gpu":
            continue  # nothing that these tests apply names it
        variable = f"SLUICE_TEST_{image['name'].removeprefix('sluice/').upper()}_IMAGE"
        reference = os.environ.get(variable, "")
        if not re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", reference):
            pytest.exit(f"{variable} must name an image by its digest, got {reference!r}", returncode=2)
        image.pop("newTag", None)
        image["newName"], image["digest"] = reference.split("@")
    path.write_text(yaml.safe_dump(document))
