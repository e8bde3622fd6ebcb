"""Where an environment asks for signatures, only what its signer signed starts, and the pod's status says why not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.support.cluster.checkout import TRIAL, TRIAL_NAMESPACE, Checkout, in_trial
from tests.support.cluster.kubectl import apply, kubectl, wait_until
from tests.support.cluster.serving import initializer_message, ready
from tests.support.cluster.store import Bundles

ASKED = "literals: [SLUICE_SIGNATURE=required, "


@pytest.fixture
def demanding(checkout: Checkout, trial: str) -> Iterator[Checkout]:
    """A checkout whose trial environment says that signatures are required."""
    root = checkout.root.with_name("checkout-signed")
    shutil.copytree(checkout.root, root)
    path = Checkout(root).overlay(TRIAL) / "kustomization.yaml"
    before = path.read_text()
    path.write_text(before.replace("literals: [AWS_ENDPOINT", f"{ASKED}AWS_ENDPOINT"))
    assert ASKED in path.read_text()
    yield Checkout(root)
    shutil.rmtree(root)
    kubectl("-n", trial, "delete", "secret", "model-signer", "--ignore-not-found")
    apply(checkout.overlay(TRIAL))


def refusal(checkout: Checkout, digest: str) -> str:
    """Release a digest; what the initializer says when it refuses it."""
    kubectl("-n", TRIAL_NAMESPACE, "delete", "inferenceservice", "--all", "--wait=true")
    kubectl("-n", TRIAL_NAMESPACE, "wait", "--for=delete", "pod", "-l", "sluice.dev/role=stable", "--timeout=60s")
    apply(checkout.release(in_trial("stable", stable=digest)))
    said = str(wait_until("the initializer refuses", lambda: initializer_message("stable"), 120))
    assert not ready("tiny-stable")
    return said


def test_only_what_the_environments_signer_signed_starts(demanding: Checkout, bundles: Bundles, trial: str) -> None:
    assert "the signer's key: is missing" in refusal(demanding, bundles.first)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model-signer", "namespace": trial}}
    apply([secret | {"stringData": {"public.pem": bundles.signer}}])
    name = bundles.third.replace(":", "-")
    assert f"{name}.sig: is not in the store" in refusal(demanding, bundles.third)
    assert "is not signed by this environment's key" in refusal(demanding, bundles.second)
    apply(demanding.release(in_trial("stable", stable=bundles.first)))
    wait_until("what is signed is ready", lambda: ready("tiny-stable"), 150)
