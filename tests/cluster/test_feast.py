"""Features on the cluster: the real server and the real feature server read one Redis, and outlive it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.checkout import TRIAL_NAMESPACE, Checkout
from tests.support.cluster.kubectl import available, get, kubectl, wait_until
from tests.support.cluster.online_features import (
    NEEDS_REDIS,
    forwarded,
    given_a_model_that_reads_online,
    given_rows_in_redis,
)
from tests.support.cluster.serving import post, predict
from tests.support.cluster.store import Bundles
from tests.support.shop_visits import SHOPS

pytestmark = NEEDS_REDIS
_SERVER = f"/api/v1/namespaces/{TRIAL_NAMESPACE}/services/feature-server:http/proxy"


@pytest.fixture
def online(checkout: Checkout, bundles: Bundles, gateway: str, trial: str) -> Iterator[str]:
    """The gateway's address, while a model behind it reads online."""
    with given_a_model_that_reads_online(checkout, bundles, "feature-server"):
        wait_until("the feature server is ready", lambda: available(TRIAL_NAMESPACE, "feature-server"), 150)
        yield gateway


def _read_features() -> dict[str, list[Any]]:
    asked = {"feature_service": "shop_visits", "entities": {"shop": ["oak", "yew"]}}
    with forwarded("feature-server", 6566) as server:
        answer = wait_until("the feature server answers", lambda: _answer(server, asked), 30)
    found = json.loads(answer)
    names = found["metadata"]["feature_names"]
    return {name: result["values"] for name, result in zip(names, found["results"], strict=True)}


def _answer(server: str, asked: Any) -> str:
    try:
        status, text = post(f"http://{server}/get-online-features", asked, {})
    except OSError:  # not forwarded yet
        return ""
    assert status == 200, text
    return text


def test_servers_read_redis_through_an_outage(online: str, tmp_path: Path) -> None:
    given_rows_in_redis(tmp_path)
    visits, colour = SHOPS["oak"]
    keys, whole = {"shop": "oak", "amount": 1.5}, {"amount": 1.5, "visits": visits, "colour": colour}
    wait_until("the model answers", lambda: predict(online, keys)[0] == 200, 30)
    assert predict(online, keys) == predict(online, whole)
    assert _read_features() == {"shop": ["oak", "yew"], "visits": [visits, None], "colour": [colour, None]}
    for metrics in (_SERVER, _model("proxy")):
        assert 'sluice_feature_freshness_seconds{feature_view="shops"}' in kubectl("get", "--raw", f"{metrics}/metrics")

    kubectl("-n", TRIAL_NAMESPACE, "scale", "deployment", "redis", "--replicas=0")
    wait_until("Redis is gone", lambda: not get("-n", TRIAL_NAMESPACE, "pods", "-l", "app=redis")["items"], 60)
    status, text = predict(online, keys)
    assert (status, "Redis redis:6379: does not answer" in text) == (500, True)
    assert predict(online, whole)[0] == 200, "who brings the features needs no Redis"
    assert "+Inf" in kubectl("get", "--raw", f"{_SERVER}/metrics")
    kubectl("-n", TRIAL_NAMESPACE, "scale", "deployment", "redis", "--replicas=1")
    wait_until("Redis is back", lambda: available(TRIAL_NAMESPACE, "redis"), 60)
    given_rows_in_redis(tmp_path)
    wait_until("the model answers again", lambda: predict(online, keys)[0] == 200, 30)
    assert predict(online, keys) == predict(online, whole)
    assert _restarts() == 0


def _model(what: str) -> str:
    return f"/api/v1/namespaces/{TRIAL_NAMESPACE}/services/tiny-stable-predictor:80/{what}"


def _restarts() -> int:
    ours = [
        pod
        for pod in get("-n", TRIAL_NAMESPACE, "pods")["items"]
        if pod["metadata"]["labels"].get("app.kubernetes.io/name") in {"model-server", "feature-server"}
    ]
    assert len(ours) == 3
    return sum(status["restartCount"] for pod in ours for status in pod["status"]["containerStatuses"])
