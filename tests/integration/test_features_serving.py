"""The model server and the feature server on Redis: what they answer, measure, and do while Redis is away."""

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.patience import wait_until
from tests.support.servers import Server, free_port, redis_server, running
from tests.support.shop_visits import REPO, SHOPS, load_shops, write_online_bundle

WHOLE = {"amount": 1.5, "visits": 3, "colour": "red"}
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Fleet:
    """A Redis, a model server and a feature server that read it, and their environment."""

    redis: Server
    model: Server
    features: Server
    settings: dict[str, str]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All three; both servers are up before Redis is."""
    root = tmp_path_factory.mktemp("fleet")
    redis = redis_server(root, "secret")
    settings = {
        "SLUICE_REDIS": f"127.0.0.1:{redis.port}",
        "SLUICE_REDIS_PASSWORD": "secret",
        "SLUICE_FEATURES": str(root / "features"),
    }
    digest, ports = write_online_bundle(root / "bundles"), (free_port(), free_port())
    bundle = str(root / "bundles" / digest.replace(":", "-"))
    repo, python = f"--feature_repo={REPO}", sys.executable
    predictor = [python, "-m", "sluice_serving.predictor", f"--bundle={bundle}", f"--digest={digest}", repo]
    model = Server([*predictor, "--model_name=tiny", f"--http_port={ports[0]}"], ports[0], settings)
    server = [python, "-m", "sluice.features.server", repo, f"--port={ports[1]}"]
    with running(model), running(Server(server, ports[1], settings)) as features, running(redis):
        yield Fleet(redis, model, features, settings)


def _ask(server: Server, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _predict(fleet: Fleet, shop: str = "oak") -> tuple[int, str]:
    return _ask(fleet.model, "/v1/models/tiny:predict", {"instances": [{"shop": shop, "amount": 1.5}]})


def _online(fleet: Fleet, *shops: str) -> dict[str, list[Any]]:
    status, text = _ask(
        fleet.features, "/get-online-features", {"feature_service": "shop_visits", "entities": {"shop": list(shops)}}
    )
    assert status == 200, text
    found = json.loads(text)
    names = found["metadata"]["feature_names"]
    return {name: result["values"] for name, result in zip(names, found["results"], strict=True)}


def _samples(server: Server) -> dict[tuple[str, ...], float]:
    status, text = _ask(server, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    return {(s.name, *(s.labels.values())): s.value for family in families for s in family.samples}


def _age(server: Server) -> float:
    return _samples(server)["sluice_feature_freshness_seconds", "shops"]


def test_both_read_the_same_values_and_say_how_old_they_are(fleet: Fleet) -> None:
    load_shops(fleet.settings)
    status, text = _predict(fleet)
    assert status == 200, text
    full = {"instances": [{"amount": 1.5, "visits": SHOPS["oak"][0], "colour": SHOPS["oak"][1]}]}
    assert json.loads(text) == json.loads(_ask(fleet.model, "/v1/models/tiny:predict", full)[1])
    assert _online(fleet, "oak", "ash", "yew") == {
        "shop": ["oak", "ash", "yew"],
        "visits": [3, 7, None],
        "colour": ["red", None, None],
    }
    assert 0 <= _age(fleet.model) < 120
    assert 0 <= _age(fleet.features) < 120


def test_neither_gives_a_value_past_its_time_to_live(fleet: Fleet) -> None:
    load_shops(fleet.settings, age=timedelta(hours=1, minutes=1))
    missing = {"instances": [{"amount": 1.5, "visits": None, "colour": None}]}
    assert json.loads(_predict(fleet)[1]) == json.loads(_ask(fleet.model, "/v1/models/tiny:predict", missing)[1])
    assert _online(fleet, "oak") == {"shop": ["oak"], "visits": [None], "colour": [None]}
    load_shops(fleet.settings)


def test_while_redis_is_away_both_fail_clearly_and_live(fleet: Fleet) -> None:
    load_shops(fleet.settings)
    assert _predict(fleet)[0] == 200
    fleet.redis.kill()
    assert [_predict(fleet)[0] for _ in range(3)] == [500, 500, 500]
    assert "Redis 127.0.0.1" in _predict(fleet)[1]
    assert _on_one_connection(fleet.model, {"shop": "oak", "amount": 1.5}, WHOLE, WHOLE) == [500, 200, 200]
    status, text = _ask(
        fleet.features, "/get-online-features", {"features": ["shops:visits"], "entities": {"shop": ["oak"]}}
    )
    assert (status, "Redis 127.0.0.1" in text) == (503, True)
    assert _ask(fleet.model, "/v2/health/live")[0] == _ask(fleet.features, "/health")[0] == 200
    failed = [
        value for key, value in _samples(fleet.model).items() if key[0] == "sluice_requests_total" and "features" in key
    ]
    assert max(failed) == 5
    assert _age(fleet.model) == _age(fleet.features) == float("inf")
    fleet.redis.start()
    load_shops(fleet.settings)
    wait_until("the model answers again", lambda: _predict(fleet)[0] == 200, 5)
    wait_until(
        "the feature server answers again", lambda: _online(fleet, "oak")["visits"] == [3], 5, not_yet=(AssertionError,)
    )


def _on_one_connection(server: Server, *instances: dict[str, Any]) -> list[int]:
    """Statuses of one request after the other, as a gateway sends them: a failure must not close the connection."""
    connection, found = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20), []
    connection.connect()
    connection.auto_open = 0
    for instance in instances:
        body = json.dumps({"instances": [instance]})
        connection.request("POST", "/v1/models/tiny:predict", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
        time.sleep(0.05)
    connection.close()
    return found


@pytest.mark.parametrize(
    "path", ["/push", "/write-to-online-store", "/materialize", "/materialize-incremental", "/docs"]
)
def test_the_feature_server_only_reads(fleet: Fleet, path: str) -> None:
    assert _ask(fleet.features, path, {})[0] == 404


def test_both_bound_the_head_of_a_request(fleet: Fleet) -> None:
    for server in (fleet.model, fleet.features):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/metrics", headers={f"x-{number}": "y" for number in range(20_000)})
        assert connection.getresponse().status == 431
        connection.close()
