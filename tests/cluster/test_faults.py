"""What brings a promotion about dies in the middle of it and comes back: same outcome, nothing half done."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from tests.support.cluster.argo_cd import refresh, then_argo_cd_is_calm_for_three_syncs
from tests.support.cluster.kubectl import apply, get, kubectl
from tests.support.cluster.promotion import Promotion, Requests, broken
from tests.support.cluster.restart import can_restart, restart
from tests.support.cluster.store import Bundles


@dataclass
class Outages:
    """Kills parts and remembers when they were away."""

    spans: list[tuple[float, float]] = field(default_factory=list)

    def of(self, *parts: str) -> None:
        """Kill parts, one after the other, and wait until each is back."""
        for part in parts:
            start = time.monotonic()
            restart(part)
            self.spans.append((start, time.monotonic() + 10))

    def explain(self, moment: float) -> bool:
        """Whether something was away at a moment (and ten seconds after: a gateway has to learn its routes anew)."""
        return any(start <= moment <= end for start, end in self.spans)


@pytest.mark.timeout(1500)
def test_killing_gateway_controller_and_repository_server_changes_no_outcome(
    promotion: Promotion, bundles: Bundles, gateway: str, dev: str, gateway_may_die: None
) -> None:
    can_restart()
    gateway_away, outages = Outages(), Outages()
    promotion.patience = 240.0
    promotion.propose(bundles.first)
    user = Requests(gateway)
    promotion.look()
    user.start()

    promotion.meanwhile = lambda: outages.of("argocd-repo-server")
    shadow = promotion.propose(bundles.second)
    assert (shadow.stable_weight, shadow.candidate_weight) == (100, 0)
    promotion.meanwhile = lambda: outages.of("argocd-controller")
    canary = promotion.look()
    assert (canary.stable_weight, canary.candidate_weight) == (50, 50)
    promotion.meanwhile = lambda: gateway_away.of("gateway")
    assert promotion.look().candidate_weight == 100
    promotion.meanwhile = lambda: outages.of("argocd-controller", "argocd-repo-server")
    promoted = promotion.look()
    assert (promoted.stable, promoted.candidate, promoted.stable_weight) == (bundles.second, None, 100)

    promotion.meanwhile = lambda: None
    promotion.propose(bundles.third)

    def both() -> None:
        outages.of("argocd-controller")
        gateway_away.of("gateway")

    promotion.meanwhile = both
    back = promotion.look(broken)
    assert (back.stable, back.candidate) == (bundles.second, None)
    user.stop()
    print("\nseconds from commit to read back, with something killed in between:", promotion.seconds)  # noqa: T201
    state = promotion.gitops.snapshot().state
    assert (state.stage, state.stable, bool(state.held(bundles.third))) == ("stable", bundles.second, True)
    assert set(user.answers) == {bundles.first, bundles.second}
    assert user.failures, "the gateway was never away"
    assert not [each for each in user.failures if not gateway_away.explain(each[0])]
    then_argo_cd_is_calm_for_three_syncs()


_NOWHERE = "sluice-test-nowhere"
_WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": _NOWHERE},
    "webhooks": [
        {
            "name": "nowhere.sluice.dev",
            "clientConfig": {"url": "https://127.0.0.1:9/"},
            "rules": [
                {
                    "apiGroups": ["serving.kserve.io"],
                    "apiVersions": ["v1beta1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["inferenceservices"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"sluice.dev/environment": "dev"}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 1,
        }
    ],
}
"""Stands for KServe's own while its controller is down: whatever is applied to an InferenceService is refused."""


@pytest.mark.timeout(900)
def test_a_rollback_while_webhooks_are_down_loses_no_request(
    promotion: Promotion, bundles: Bundles, gateway: str, dev: str
) -> None:
    promotion.propose(bundles.first)
    promotion.look()
    promotion.propose(bundles.second)
    assert promotion.look().candidate_weight == 50
    user, left = Requests(gateway), []
    user.start()

    def half_a_minute_without() -> None:
        time.sleep(30)
        left.append(sorted(each["metadata"]["name"] for each in get("-n", dev, "inferenceservice")["items"]))
        kubectl("delete", "validatingwebhookconfiguration", _NOWHERE, "--ignore-not-found")
        refresh("sluice-dev", "normal")

    apply([_WEBHOOK])
    try:
        promotion.meanwhile = half_a_minute_without
        back = promotion.roll_back()
    finally:
        kubectl("delete", "validatingwebhookconfiguration", _NOWHERE, "--ignore-not-found")
    user.stop()
    assert (back.stable, back.candidate, back.stable_weight) == (bundles.first, None, 100)
    assert left[0] == ["tiny-candidate", "tiny-stable"], "its server stays while the route is not read back"
    assert not user.failures
    made = [decision.action for decision in promotion.gitops.decisions()][-2:]
    assert made == ["rollback", "remove-server"]
