"""What the real server says of single requests: traces to a real OTLP receiver, failures and refusals as JSON lines."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sluice.child_process import ChildServer
from sluice.workspace import bundle_directory
from tests.support.patience import url_of
from tests.support.prometheus_town import FAILING_PREDICTOR
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.trace_receiver import Received, receiver

CURSED = 1313
GOOD = {"amount": 1.5, "visits": 3, "colour": "red"}
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REQUESTS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("good", GOOD, {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-sluice-route": "candidate", "x-sluice-rollout": "r7"}),
    ("not-sampled", GOOD, {"traceparent": f"00-{'1' * 32}-{SPAN}-00"}),
    ("nonsense", GOOD, {"traceparent": "00-zz-1"}),
    ("broken", GOOD | {"amount": CURSED}, {"x-sluice-rollout": "r7"}),
    ("refused", GOOD | {"more": 1}, {}),
    *((f"again-{i}", GOOD | {"more": 1}, {}) for i in range(30)),
]
FIRST = 5


@dataclass(frozen=True)
class Seen:
    digest: str
    statuses: list[int]
    spans: list[Received]
    lines: list[dict[str, Any]]

    def spans_of(self, request_id: str) -> dict[str, Received]:
        (root,) = [span for span in self.spans if span.attributes.get("sluice.request") == request_id]
        return {span.name: span for span in self.spans if span.trace == root.trace}

    def lines_of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """All that a server said of its whole life; the last spans leave when it ends."""
    home = tmp_path_factory.mktemp("observed")
    digest = write_tiny_bundle(home)
    command = [*FAILING_PREDICTOR, str(CURSED), "--bundle", str(bundle_directory(home, digest))]
    command += ["--digest", digest, "--model_name", "tiny", "--http_port", "0", "--role", "candidate", "--json_log"]
    command += ["--release", str(home / "release")]
    publish(home / "release", "r0004-b", "7")
    with receiver() as (endpoint, spans), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        child = ChildServer(command, home / "server.log")
        try:
            address = urlsplit(url_of(child)).netloc
            statuses = [status(address, *request) for request in REQUESTS[:FIRST]]
            publish(home / "release", "r0004-b", "8")
            statuses += [status(address, *request) for request in REQUESTS[FIRST:]]
            publish(home / "release", "r0005-c", "nonsense")
            time.sleep(1.1)  # lines of another second
            statuses.append(status(address, "unreleased", GOOD | {"more": 1}, {}))
        finally:
            child.stop(20)
        _, _, text = (home / "server.log").read_text().partition("ready http")  # before it LiteRT says hello by itself
        yield Seen(digest, statuses, spans, [json.loads(line) for line in text.splitlines()[1:]])


def publish(mount: Path, rollout: str, sequence: str) -> None:
    """What the kubelet does with the volume of a ConfigMap: a new folder, and one link that changes."""
    folder = mount / f"..{sequence}"
    folder.mkdir(parents=True)
    for key, value in (("rollout", rollout), ("sequence", sequence)):
        (folder / key).write_text(value)
        if not (mount / key).is_symlink():
            (mount / key).symlink_to(Path("..data", key))
    (mount / "..next").symlink_to(folder.name)
    (mount / "..next").rename(mount / "..data")


def status(address: str, request_id: str, instance: dict[str, Any], headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(address, timeout=20)
    told = {"content-type": "application/json", "x-request-id": request_id} | headers
    connection.request("POST", "/v1/models/tiny:predict", json.dumps({"instances": [instance]}), told)
    return connection.getresponse().status


def test_a_trace_goes_on_through_features_and_model(seen: Seen) -> None:
    assert seen.statuses[:5] == [200, 200, 200, 500, 400]
    spans = seen.spans_of("good")
    assert spans.keys() == {"predict", "features", "model"}
    root = spans["predict"]
    assert (root.trace, root.parent) == (TRACE, SPAN), "the caller's trace goes on"
    assert {span.parent for name, span in spans.items() if name != "predict"} == {root.id}
    assert (root.attributes["sluice.route"], root.attributes["sluice.rollout"]) == ("candidate", "r7")
    assert root.resource["sluice.digest"] == seen.digest
    assert root.resource["service.name"] == "sluice"


def test_the_caller_decides_what_is_sampled_and_nonsense_begins_a_new_trace(seen: Seen) -> None:
    assert not [span for span in seen.spans if span.trace == "1" * 32]
    assert seen.spans_of("nonsense")["predict"].parent == ""


def test_a_failure_is_one_in_its_trace_and_a_refusal_is_not(seen: Seen) -> None:
    assert seen.spans_of("broken")["predict"].status == 2
    (refused,) = [span for span in seen.spans_of("refused").values() if span.name == "predict"]
    assert (refused.status, refused.attributes["sluice.refused"]) == (0, "names")


def test_every_line_is_json_and_says_who_speaks(seen: Seen) -> None:
    for line in seen.lines:
        assert (line["task"], line["digest"], line["role"]) == ("tiny", seen.digest, "candidate")
    assert [line["event"] for line in seen.lines[:3]] == ["ready", "failed", "refused"], "each failure is told once"
    (ended,) = seen.lines_of("ended")
    assert (ended["answered"], ended["failed"]) == (3, 1)


def test_a_failure_has_its_ids_and_its_traceback(seen: Seen) -> None:
    (failed,) = seen.lines_of("failed")
    assert (failed["request_id"], failed["rollout"], failed["cause"]) == ("broken", "r7", "model")
    assert failed["trace_id"] == seen.spans_of("broken")["predict"].trace
    assert "not finite" in failed["error"]
    assert "Traceback" in failed["exception"]


def test_a_flood_of_refusals_is_told_in_few_lines_and_counted(seen: Seen) -> None:
    refused = seen.lines_of("refused")
    assert refused[0]["part"] == "names"
    assert refused[0]["request_id"] == "refused"
    assert len(refused) < 31


def test_a_line_says_the_release_under_which_it_was_answered(seen: Seen) -> None:
    (failed,) = seen.lines_of("failed")
    assert (failed["rollout"], failed["sequence"]) == ("r7", 7), "the request said its rollout itself"
    refused = seen.lines_of("refused")
    assert (refused[0]["rollout"], refused[0]["sequence"]) == ("r0004-b", 7)
    later = [line for line in refused if line["request_id"].startswith("again")]
    assert {(line["rollout"], line["sequence"]) for line in later} == {("r0004-b", 8)}


def test_a_release_that_makes_no_sense_costs_no_line(seen: Seen) -> None:
    (last,) = [line for line in seen.lines_of("refused") if line["request_id"] == "unreleased"]
    assert not {"rollout", "sequence"} & last.keys()
