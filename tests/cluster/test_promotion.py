"""A whole promotion by commits through Argo CD: each step is read back before the next is decided."""

from __future__ import annotations

import json
import time

import pytest

from sluice.documents.state import ReleaseState
from tests.support.cluster.argo_cd import (
    then_argo_cd_is_calm_for_three_syncs,
)
from tests.support.cluster.checkout import ENVIRONMENTS, Checkout
from tests.support.cluster.kubectl import Refused, apply, get, kubectl, wait_until
from tests.support.cluster.promotion import Promotion, Requests, broken
from tests.support.cluster.store import Bundles


def test_a_promotion_is_commits_and_nobody_notices(
    promotion: Promotion, bundles: Bundles, gateway: str, dev: str
) -> None:
    promotion.propose(bundles.first)
    user = Requests(gateway)
    user.start()
    promotion.look()
    promotion.propose(bundles.second)
    kubectl("-n", dev, "delete", "pod", "-l", "sluice.dev/role=candidate", "--wait=false")
    wait_until("the candidate is lost", lambda: promotion.applied().candidate is None, 20)
    canary = promotion.look()
    assert (canary.stable_weight, canary.candidate_weight) == (50, 50)

    route = [{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 90}]
    route += [{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 10}]
    started = time.monotonic()
    kubectl("-n", dev, "patch", "httproute", "tiny", "--type=json", "-p", json.dumps(route))
    wait_until("the hand-edited weight is healed", lambda: promotion.applied().stable_weight == 50, 60)
    promotion.seconds.append(("healed", round(time.monotonic() - started, 1)))

    assert promotion.look().candidate_weight == 100
    promoted = promotion.look()
    assert (promoted.stable, promoted.candidate, promoted.stable_weight) == (bundles.second, None, 100)

    assert promotion.propose_and_go_back(bundles.tampered).candidate is None
    promotion.propose(bundles.third)
    back = promotion.look(broken)
    assert (back.stable, back.candidate) == (bundles.second, None)
    user.stop()
    print("\nseconds from commit to read back:", promotion.seconds)  # noqa: T201
    assert set(user.answers) == {bundles.first, bundles.second}
    assert not user.failures
    _assert_held(promotion, bundles.third, dev)
    then_argo_cd_is_calm_for_three_syncs()


def _assert_held(promotion: Promotion, digest: str, namespace: str) -> None:
    """The namespace knows the hold, and the API server refuses the digest."""
    assert promotion.gitops.snapshot().state.held(digest)
    (service,) = get("-n", namespace, "inferenceservice")["items"]
    copy = {key: service[key] for key in ("apiVersion", "kind", "spec")}
    copy["metadata"] = {"namespace": namespace, "name": "other"} | {
        key: service["metadata"][key] for key in ("labels", "annotations")
    }
    text = json.dumps(copy).replace(service["spec"]["predictor"]["model"]["storageUri"].split("/")[-1], "DIGEST")
    spelt = text.replace("DIGEST", digest.replace(":", "-"))
    held = json.loads(spelt)
    held["spec"]["predictor"]["model"]["args"][0] = f"--digest={digest}"
    with pytest.raises(Refused, match=f"{digest} is held"):
        apply([held], "--dry-run=server")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_second_apply_changes_nothing(checkout: Checkout, dev: str, environment: str) -> None:
    overlay = checkout.release(ReleaseState.empty("tiny", environment))
    apply(overlay)
    versions = kubectl("get", "-k", overlay, "-o", "jsonpath={.items[*].metadata.resourceVersion}")
    apply(overlay)
    assert kubectl("get", "-k", overlay, "-o", "jsonpath={.items[*].metadata.resourceVersion}") == versions
