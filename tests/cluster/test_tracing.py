"""The option `tracing` in pods: the real image under `restricted` sends spans, which continue the caller's trace."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import trace_receiver
from tests.support.cluster.checkout import Checkout
from tests.support.cluster.kubectl import Object, apply, available, get, kubectl, wait_until
from tests.support.cluster.online_features import NEEDS_REDIS, given_a_model_that_reads_online, given_rows_in_redis
from tests.support.cluster.serving import predict
from tests.support.cluster.stand_ins import RESTRICTED, behind_a_service
from tests.support.cluster.store import Bundles

pytestmark = NEEDS_REDIS

RECEIVER = "otel-collector"
TRACE, UNSAMPLED, SPAN = "0af7651916cd43dd8448eb211c80319c", "1" * 32, "b7ad6b7169203331"
KEYS = {"amount": 1.5, "shop": "oak"}


def _receiver_objects(namespace: str) -> list[Object]:
    """Stands in for an OpenTelemetry collector, by its name and port: it decodes OTLP and logs each span."""
    metadata = {"namespace": namespace, "name": RECEIVER}
    container = {
        "name": "receiver",
        "image": os.environ["SLUICE_TEST_SERVING_IMAGE"],
        "command": ["python", "/script/trace_receiver.py"],
        "readinessProbe": {"tcpSocket": {"port": 4318}, "periodSeconds": 1},
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        "securityContext": RESTRICTED | {"readOnlyRootFilesystem": True},
    }
    pod = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "script", "configMap": {"name": RECEIVER}}],
    }
    script = {"trace_receiver.py": Path(trace_receiver.__file__).read_text()}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": script},
        *behind_a_service(namespace, RECEIVER, 4318, pod),
    ]


@pytest.fixture
def receiver(monitoring: str) -> Iterator[str]:
    """Its namespace, while it listens where the option sends spans."""
    apply(_receiver_objects(monitoring))
    wait_until("the receiver listens", lambda: available(monitoring, RECEIVER), 120)
    yield monitoring
    kubectl("-n", monitoring, "delete", "deployment,service,configmap", RECEIVER)


def spans(namespace: str) -> list[dict[str, Any]]:
    """Everything that was sent so far."""
    return [json.loads(line) for line in kubectl("-n", namespace, "logs", f"deployment/{RECEIVER}").splitlines()]


def asked(gateway: str, trace: str, flags: str) -> bool:
    """Whether a request of this trace is answered with a prediction."""
    headers = {"traceparent": f"00-{trace}-{SPAN}-{flags}", "x-request-id": f"of-{trace}"}
    try:
        return predict(gateway, KEYS, headers)[0] == 200
    except OSError:
        return False


@pytest.fixture
def traced(checkout: Checkout, bundles: Bundles, receiver: str, trial: str, tmp_path: Path) -> Iterator[str]:
    """The namespace of a model that reads features from Redis, with the option."""
    with given_a_model_that_reads_online(checkout, bundles, "tracing"):
        given_rows_in_redis(tmp_path)
        yield trial


def test_a_callers_trace_goes_on_in_the_pod_through_the_read_of_features(
    traced: str, receiver: str, bundles: Bundles, gateway: str
) -> None:
    labels = get("namespace", traced)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    wait_until("the model answers", lambda: asked(gateway, UNSAMPLED, "00"), 30)
    assert asked(gateway, TRACE, "01")
    mine = wait_until("the spans arrive", lambda: _whole(spans(receiver)), 30)
    assert {span["trace"] for span in spans(receiver)} == {TRACE}, "the caller decides what is traced"
    root = mine["predict"]
    assert (root["parent"], root["attributes"]["sluice.request"]) == (SPAN, f"of-{TRACE}")
    assert {mine[name]["parent"] for name in ("features", "model")} == {root["id"]}
    assert {span["resource"]["sluice.digest"] for span in mine.values()} == {bundles.online}


def _whole(sent: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The spans of the sampled trace by name, once all three are there."""
    found = {span["name"]: span for span in sent if span["trace"] == TRACE}
    return found if {"predict", "features", "model"} <= found.keys() else {}
