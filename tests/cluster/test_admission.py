"""What the API server refuses, each rule with a neighbour that it accepts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sluice.documents.state import Hold, ReleaseState
from tests.support.cluster.api_server import accepted
from tests.support.cluster.checkout import Checkout, in_trial
from tests.support.cluster.kubectl import Object, Refused, apply, render
from tests.support.release import A, B, C, state_in

Change = Callable[[Object], Any]
PINNED = "example.com/any@" + A


@pytest.fixture
def service(checkout: Checkout, installed: list[str]) -> Object:
    """The stable InferenceService of a release in the trial environment."""
    objects = render(checkout.release(in_trial("canary")))
    (found,) = [each for each in objects if each["metadata"]["name"] == "tiny-stable"]
    return found


@pytest.fixture
def route(checkout: Checkout, installed: list[str]) -> Object:
    """The HTTPRoute of a shadow release there."""
    (found,) = [each for each in render(checkout.release(in_trial("shadow"))) if each["kind"] == "HTTPRoute"]
    return found


def annotate(**pairs: str) -> Change:
    """Set KServe's annotations."""
    return lambda found: found["metadata"]["annotations"].update(
        {f"serving.kserve.io/{key}": value for key, value in pairs.items()}
    )


def predictor(**fields: Any) -> Change:
    """Set fields of the predictor."""
    return lambda found: found["spec"]["predictor"].update(fields)


def canary(percent: int = 10, digest: str = B, **fields: Any) -> Change:
    """Add KServe's own canary; the service is seen by gateways then."""

    def change(found: Object) -> None:
        found["metadata"]["labels"].pop("networking.kserve.io/visibility", None)
        model = copy.deepcopy(found["spec"]["predictor"]["model"])
        model["storageUri"] = f"sluice+s3://models/tiny/{digest.replace(':', '-')}"
        model["args"][0] = f"--digest={digest}"
        model["name"] = "kserve-container"
        found["spec"]["canary"] = [
            {"trafficPercent": percent, "predictor": {"name": "candidate", "model": model} | fields}
        ]

    return change


def all_of(*changes: Change) -> Change:
    """One change after the other."""
    return lambda found: [change(found) for change in changes]


def model(**fields: Any) -> Change:
    """Set fields of the predictor's model."""
    return lambda found: found["spec"]["predictor"]["model"].update(fields)


HIDDEN = {"networking.kserve.io/visibility": "cluster-local"}
REFUSED: dict[str, tuple[Change, str]] = {
    "canary in Knative mode": (
        all_of(canary(), annotate(deploymentMode="Knative")),
        "Knative mode ignores spec.canary",
    ),
    "canary by the old word": (
        all_of(canary(), annotate(deploymentMode="Serverless")),
        "Knative mode ignores spec.canary",
    ),
    "canaryTrafficPercent in Standard mode": (predictor(canaryTrafficPercent=10), "Standard mode ignores"),
    "no mode": (lambda s: s["metadata"]["annotations"].pop("serving.kserve.io/deploymentMode"), "is not in Git"),
    "a model cache": (
        lambda s: s["metadata"]["annotations"].pop("serving.kserve.io/disable-localmodel"),
        "replaces the initializer",
    ),
    "canary nobody routes to": (all_of(canary(), lambda s: s["metadata"]["labels"].update(HIDDEN)), "no route"),
    "canary past a transformer": (
        all_of(canary(), lambda s: s["spec"].update(transformer={"containers": [{"name": "kserve-container"}]})),
        "bypasses transformer",
    ),
    "canary that never starts": (canary(0), "never starts"),
    "a strategy in Knative mode": (annotate(deploymentMode="Knative"), "Knative mode ignores deploymentStrategy"),
    "keda in Knative mode": (
        annotate(deploymentMode="Knative", autoscalerClass="keda"),
        "ignores autoscalerClass: keda",
    ),
    "autoScaling nobody reads": (predictor(autoScaling={"metrics": []}), "read by KEDA only"),
    "maxReplicas nobody reads": (predictor(maxReplicas=4), "ignores maxReplicas"),
    "a container of its own": (
        predictor(containers=[{"name": "kserve-container", "image": PINNED}]),
        "start unverified",
    ),
    "more storage": (
        predictor(storageUris=[{"uri": "s3://models/other", "mountPath": "/mnt/models"}]),
        "start unverified",
    ),
    "a volume that somebody filled": (model(storageUri=f"pvc://m/t/{A.replace(':', '-')}"), "must be sluice"),
    "an unverified address": (model(storageUri=f"s3://models/tiny/{A.replace(':', '-')}"), "must be sluice"),
    "an address without digest": (model(storageUri="sluice+s3://models/tiny/latest"), "must be sluice"),
    "another digest in the argument": (model(args=[f"--digest={B}", "--model_name=tiny"]), "must be the digest"),
    "a held digest": (
        model(storageUri=f"sluice+s3://m/t/{C.replace(':', '-')}", args=[f"--digest={C}"]),
        f"{C} is held",
    ),
    "a held digest as canary": (canary(digest=C), f"{C} is held"),
}
ACCEPTED: dict[str, Change] = {
    "as rendered": lambda _: None,
    "canary in Standard mode": canary(),
    "dark canary with a server": canary(0, minReplicas=1),
    "canaryTrafficPercent in Knative mode": all_of(
        predictor(canaryTrafficPercent=10),
        annotate(deploymentMode="Knative", autoscalerClass="kpa"),
        lambda s: s["spec"]["predictor"].pop("deploymentStrategy"),
    ),
    "keda in Standard mode": all_of(annotate(autoscalerClass="keda"), predictor(maxReplicas=4)),
}


@pytest.fixture(scope="module")
def held(checkout: Checkout, installed: list[str]) -> None:
    """A hold on C, whose reason also names the digest A, which is not held."""
    hold = Hold(digest=C, reason=f'worse than {A}\n- digest: "{A}"', by="kim", at="2020-01-01T00:00:00Z")
    apply(checkout.release(in_trial("empty", holds=(hold,))))


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_ignored_or_unverified_or_held_is_refused(service: Object, held: None, case: str) -> None:
    change, says = REFUSED[case]
    change(service)
    with pytest.raises(Refused, match=says):
        accepted([service])


@pytest.mark.parametrize("case", ACCEPTED)
def test_its_neighbours_are_accepted(service: Object, held: None, case: str) -> None:
    ACCEPTED[case](service)
    assert accepted([service]) == 1


ROUTES: dict[str, tuple[Change, str]] = {
    "weights that do not add up": (lambda rule: rule["backendRefs"][0].update(weight=90), "add up to 100"),
    "another team's model": (lambda rule: rule["backendRefs"][0].update(namespace="sluice-prod"), "its own namespace"),
    "a mirror without a share": (lambda rule: rule["filters"][0]["requestMirror"].pop("percent"), "which share"),
    "a mirror to who answers": (
        lambda rule: rule["filters"][0]["requestMirror"]["backendRef"].update(name="tiny-stable-predictor"),
        "count twice",
    ),
}


def test_a_route_as_rendered_is_accepted(route: Object) -> None:
    assert accepted([route]) == 1


@pytest.mark.parametrize("case", ROUTES)
def test_a_route_that_does_something_else_is_refused(route: Object, case: str) -> None:
    change, says = ROUTES[case]
    change(route["spec"]["rules"][0])
    with pytest.raises(Refused, match=says):
        accepted([route])


def test_a_route_without_a_host_is_refused(route: Object) -> None:
    del route["spec"]["hostnames"]
    with pytest.raises(Refused, match="every team's requests"):
        accepted([route])


def test_prod_has_two_servers_of_each_side(checkout: Checkout, installed: list[str]) -> None:
    objects = render(checkout.release(state_in("canary", task="tiny", environment="prod")))
    services = [each for each in objects if each["kind"] == "InferenceService"]
    checkout.release(ReleaseState.empty("tiny", "prod"))
    assert accepted(services) == len(services)
    predictor(minReplicas=1)(services[0])
    with pytest.raises(Refused, match="two servers of each side"):
        accepted(services[:1])


def test_a_typing_error_is_refused(service: Object) -> None:
    service["spec"]["predictor"]["canaryTraficPercent"] = 10
    with pytest.raises(Refused, match="canaryTraficPercent"):
        accepted([service])


def pod(namespace: str, image: str, **changed: Any) -> Object:
    """A pod as `restricted` wants it."""
    secure = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container: Object = {"name": "any", "image": image, "securityContext": secure | changed}
    metadata = {"name": "any", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_outside_dev_images_are_named_by_digest(checkout: Checkout, installed: list[str], environment: str) -> None:
    namespace = f"sluice-{environment}"
    accepted([pod(namespace, PINNED)])
    with pytest.raises(Refused, match="not named by its digest"):
        accepted([pod(namespace, "example.com/any:1.0")])
    objects = render(checkout.overlay(environment))
    (runtime,) = [found for found in objects if found["kind"] == "ServingRuntime"]
    runtime["spec"]["containers"][0]["image"] = "example.com/any:1.0"
    with pytest.raises(Refused, match="not named by its digest"):
        accepted([runtime])


def test_in_dev_a_tag_will_do_and_restricted_is_enforced(installed: list[str]) -> None:
    accepted([pod("sluice-dev", "example.com/any:1.0")])
    with pytest.raises(Refused, match=r"violates PodSecurity .restricted"):
        accepted([pod("sluice-dev", "example.com/any:1.0", runAsNonRoot=False)])


def test_nothing_is_published_past_the_gateway(installed: list[str]) -> None:
    metadata = {"name": "any", "namespace": "sluice-dev"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    accepted([service])
    service = service | {"spec": {"ports": [{"port": 80}], "type": "LoadBalancer"}}
    with pytest.raises(Refused, match="exceeded quota"):
        accepted([service])
