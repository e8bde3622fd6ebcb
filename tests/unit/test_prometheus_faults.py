"""Whatever a Prometheus answers, the gate gets numbers that can be believed, or a line that says why not."""

from __future__ import annotations

import contextlib
import copy
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Verdict
from sluice.errors import BadInput
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.prometheus.api import PrometheusApi, ReadingLimits
from sluice.prometheus.source import PrometheusSource
from sluice.rollout.advance import advance
from tests.support.release import B, C, applied_of, state_in
from tests.support.scripted_prometheus import HOUR_AGO, Fault, ScriptedPrometheus

SECRET = "Xk9-not-for-logs"  # noqa: S105  what must not show
POLICY = parse_policy(
    b"""
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
online:
  design_effect: 1
  look_every_hours: 1
  evidence_hours: 2.5   # the tests run a while after the hour was taken
  canary:
    minimum_n: 100
    maximum_hours: 72
    steps: [25]
    rules:
      - {metric: split, role: quality, alpha: 0.001}
      - {metric: error_rate, role: limit, limit: 0.1}
  confirm: {minimum_n: 100, maximum_hours: 72, rules: [{metric: error_rate, role: limit, limit: 0.1}]}
""",
    "policy",
)


@pytest.fixture
def scripted() -> Iterator[ScriptedPrometheus]:
    server = ScriptedPrometheus()
    yield server
    server.close()


def state() -> ReleaseState:
    since = iso(datetime.fromtimestamp(HOUR_AGO, UTC))
    return state_in("canary", since=since, candidate_weight=25, stable_weight=75)


def read(url: str, *, joined: bool = False, policy: GatePolicy = POLICY, **limits: Any) -> Evidence:
    pauses: list[float] = []
    api = PrometheusApi(url, SECRET, ReadingLimits(**{"request_seconds": 2.0, **limits}), pause=pauses.append)
    source = PrometheusSource(api, joined=joined)
    found = source.read(state(), policy, applied_of(state()), datetime.now(UTC))
    assert SECRET not in found.model_dump_json()
    assert SECRET not in repr(source)
    assert all(0 < pause < 2 for pause in pauses)
    return found


def verdict(found: Evidence) -> Verdict:
    return advance(state(), found, POLICY, found.now).verdict


@pytest.mark.parametrize("silent", [False, True])
def test_requests_since_the_last_look_are_counted_apart(scripted: ScriptedPrometheus, silent: bool) -> None:
    often = POLICY.model_copy(
        update={"online": POLICY.online.model_copy(update={"look_every_hours": 0.75, "evidence_hours": 0.75})}
    )
    if silent:  # the candidate's 300 requests came in the first ten minutes
        candidate = [row for row in scripted.counts if row[0].get("digest") == B]
        scripted.later = [row for row in scripted.before if row[0].get("digest") != B] + candidate
    found = read(scripted.url, policy=often)
    assert found.problems == ()
    assert (found.split, found.recent) == ((900, 300), (900, 0) if silent else (900, 300))
    assert (advance(state(), found, often, found.now).verdict is Verdict.PASS) is not silent


def test_a_stable_model_of_months_is_read_since_the_last_look(scripted: ScriptedPrometheus) -> None:
    since = iso(datetime.fromtimestamp(HOUR_AGO, UTC) - timedelta(days=60))
    settled = state_in("stable", since=since)
    api = PrometheusApi(scripted.url, SECRET, ReadingLimits(request_seconds=2.0))
    source = PrometheusSource(api, joined=False, marked=False)
    found = source.read(settled, POLICY, applied_of(settled), datetime.now(UTC))
    assert found.problems == ()
    assert found.candidate is None
    assert found.stable is not None
    assert found.stable.n == 900
    assert [one.query for one in found.sources if "[" in one.query and "d]" in one.query] == []
    assert max(int(span[:-1]) for one in found.sources for span in re.findall(r"\[(\d+s)\]", one.query)) <= 9000


def test_good_answers_pass(scripted: ScriptedPrometheus) -> None:
    """Else nothing below would show anything."""
    found = read(scripted.url)
    assert found.problems == ()
    assert found.candidate is not None
    assert (found.split, found.candidate.n, found.candidate.errors) == ((900, 300), 300, 0)
    assert verdict(found) is Verdict.PASS
    assert {authorization for _, authorization in scripted.asked} == {f"Bearer {SECRET}"}
    assert [kind for kind, _ in scripted.asked] == ["clock", "counts", "before", "seen", "changes", "minutes"]
    assert all(f'task="{found.task}"' in one.query and one.n for one in found.sources)


def test_of_a_sampled_log_the_share_that_was_refused_alone_is_taken(scripted: ScriptedPrometheus) -> None:
    """The servers refused 40, the join knows of 4: three of these were the candidate's alone."""
    named = {"task": "toy", "environment": "dev", "rollout": "r0004-b", "stage": "canary", "step": "0"}
    now = datetime.now(UTC)
    points = {"joined_now_seconds": now.timestamp(), "refusals": 4, "refusals_alone": 3}

    def refusing(kind: str, document: dict[str, Any]) -> Any:
        result = document["data"]["result"]
        if kind == "joined":
            result += [
                {
                    "metric": {**named, "__name__": f"sluice_{name}", **({"route": "candidate"} if index else {})}
                    | {"since": iso(datetime.fromtimestamp(HOUR_AGO, UTC))},
                    "value": [now.timestamp(), repr(value)],
                }
                for index, (name, value) in enumerate(points.items())
            ]
        for one in result if kind == "counts" else ():
            labels = one["metric"]
            if (labels.get("status"), labels.get("route"), labels["digest"]) == ("4xx", "candidate", B):
                one["value"][1] = "40"
        return document

    scripted.fault = refusing
    found = PrometheusSource(PrometheusApi(scripted.url)).read(state(), POLICY, applied_of(state()), now)
    assert found.problems == ()
    arm = found.candidate
    assert arm is not None
    assert (arm.n, arm.refused, arm.refused_alone, arm.errors, arm.answered) == (340, 40, 30, 30, 300)


def on(kind: str, change: Any) -> Fault:
    """The fault that changes the result of one kind of query."""

    def fault(asked: str, document: dict[str, Any]) -> Any:
        if asked != kind:
            return document
        changed = copy.deepcopy(document)
        said = change(changed)
        return changed if said is None else said

    return fault


def first_value(value: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        document["data"]["result"][0]["value"][1] = value

    return change


def of(document: dict[str, Any], digest: str) -> list[dict[str, Any]]:
    return [one for one in document["data"]["result"] if one["metric"]["digest"] == digest]


def clear(document: dict[str, Any]) -> None:
    document["data"]["result"].clear()


def scraped_twice(document: dict[str, Any]) -> None:
    again = copy.deepcopy(of(document, B))
    for one in again:
        one["metric"] |= {"job": "another"}
    document["data"]["result"] += again


def relabelled(key: str, text: str) -> Any:
    def change(document: dict[str, Any]) -> None:
        for one in of(document, B):
            one["metric"][key] = text

    return change


def aged(document: dict[str, Any]) -> None:
    for one in of(document, B):
        one["value"][1] = str(time.time() - 600)


def shifted(seconds: float) -> Any:
    return lambda document: document["data"]["result"].__setitem__(1, str(time.time() + seconds))


def hung(_: Any) -> None:
    time.sleep(0.6)


FAULTS: dict[str, tuple[Fault, str]] = {
    "5xx": (lambda *_: (503, b"{}"), "answers with status 503, 4 times in a row"),
    "slow": (on("counts", hung), "no answer (TimeoutError), 4 times in a row"),
    "NaN": (on("counts", first_value("NaN")), "says NaN, not a finite number"),
    "+Inf": (on("before", first_value("+Inf")), "says +Inf, not a finite number"),
    "empty": (on("counts", clear), "no server of sha256:"),
    "two series": (on("counts", scraped_twice), "several series, 2, for one server of sha256:bbbbbbbbbbbb"),
    "a string": (on("counts", first_value("many")), "says 'many', not a number"),
    "stale": (on("seen", aged), "no server of sha256:bbbbbbbbbbbb was seen in the last 60 s"),
    "clock ahead": (on("clock", shifted(300)), "its clock is 300 s ahead of ours"),
    "clock behind": (on("clock", shifted(-300)), "its clock is 300 s behind ours"),
    "another digest": (on("counts", relabelled("digest", C)), "candidate with sha256:cccccccccccc served before"),
    "another task": (on("counts", relabelled("task", "cats")), "answers about {'task': 'cats'}"),
    "wrong type": (lambda _, d: d["data"].__setitem__("resultType", "string") or d, "answers with a string"),
    "warnings": (lambda _, d: d | {"warnings": ["a store is down"]}, "with warnings, so perhaps in part"),
    "failed": (lambda _, d: d | {"status": "error", "error": "out of memory"}, "failed: out of memory"),
    "no data": (lambda *_: {"status": "success"}, "is answered without data"),
    "4xx": (lambda *_: (422, b"too many samples"), "answers with status 422: too many samples"),
    "redirect": (lambda *_: (302, b""), "answers with status 302"),
    "cut JSON": (on("counts", lambda _: (200, b'{"status": "succ')), "is not answered with JSON"),
    "cut answer": (on("counts", lambda _: (200, b"{cut")), "no answer (IncompleteRead)"),
    "no object": (lambda *_: (200, b"[1]"), "is not answered with a JSON object"),
    "deep": (lambda *_: (200, b"[" * 100_000), "is not answered with JSON"),
    "bare NaN": (on("counts", lambda _: (200, b'{"status":"success","data":NaN}')), "is answered without data"),
    "10 MB": (on("counts", lambda _: (200, b" " * 10_000_000)), "answers with more than 8388608 bytes"),
    "other time": (on("seen", lambda d: d["data"]["result"][0]["value"].__setitem__(0, 1.0)), "about another time"),
    "same twice": (
        on("counts", lambda d: d["data"]["result"].append(d["data"]["result"][0])),
        "answers with several series for {'__name__'",
    ),
    "a bin is missing": (
        on("counts", lambda d: d["data"]["result"].remove(next(o for o in of(d, B) if "le" in o["metric"]))),
        "has no series sluice_request_latency_seconds_bucket/stable/0.00025",
    ),
    "backwards": (
        on("before", lambda d: [one["value"].__setitem__(1, "1e6") for one in of(d, B) if "le" in one["metric"]] and d),
        "counts sluice_request_latency_seconds_bucket backwards",
    ),
    "no sample from before": (on("before", clear), "served before the stage began, and there is no sample from then"),
    "no labels": (on("counts", lambda d: d["data"]["result"].append({"value": [0, "1"]})), "a series without labels"),
    "label not text": (on("counts", relabelled("job", 3)), "a series without labels"),  # type: ignore[arg-type]
    "no digest": (
        on("counts", lambda d: d["data"]["result"][0]["metric"].pop("digest") and None),
        "has a series without a digest",
    ),
    "minutes of another task": (on("minutes", relabelled("task", "cats")), "answers about {'task': 'cats'}"),
    "huge": (on("counts", first_value("1e999")), "says 1e999, not a finite number"),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_is_named_and_decides_nothing(scripted: ScriptedPrometheus, name: str) -> None:
    scripted.fault, expected = FAULTS[name]
    found = read(scripted.url, request_seconds=0.3 if name == "slow" else 2.0)
    assert len(found.problems) == 1
    assert expected in found.problems[0]
    assert found.problems[0].startswith("prometheus: ")
    assert verdict(found) is Verdict.INCONCLUSIVE
    assert advance(state(), found, POLICY, found.now).action == "wait"
    assert Evidence.model_validate_json(found.model_dump_json()) == found
    tries = len(scripted.asked)
    assert tries <= (8 if name in {"slow", "cut answer"} else 6)
    assert name not in {"4xx", "redirect"} or tries == 1, "what will not go away is asked once"


def test_a_server_that_is_down_costs_four_tries() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    found = read(url)
    assert found.problems == ("prometheus: time(): no answer (ConnectionRefusedError), 4 times in a row",)
    assert verdict(found) is Verdict.INCONCLUSIVE


def test_what_goes_away_by_itself_is_tried_again(scripted: ScriptedPrometheus) -> None:
    def sometimes(_: str, document: dict[str, Any]) -> Any:
        return (500, b"") if len(scripted.asked) % 3 else document

    scripted.fault = sometimes
    assert read(scripted.url).problems == ()
    assert len(scripted.asked) == 18


def test_an_answer_that_drips_ends_with_the_time_of_a_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        api = PrometheusApi(url, limits=ReadingLimits(0.3, 0.8, 2, 1000))

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    with contextlib.suppress(OSError):
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
                        for _ in range(60):
                            connection.sendall(b" ")
                            time.sleep(0.05)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        found = PrometheusSource(api, joined=False).read(state(), POLICY, applied_of(state()), datetime.now(UTC))
        assert "no answer (TimeoutError)" in found.problems[0]
        thread.join(10)


def test_a_reading_has_a_budget(scripted: ScriptedPrometheus) -> None:
    scripted.fault = on("counts", hung)
    found = read(scripted.url, total_seconds=0.5)
    assert len(found.problems) == 1
    assert "no answer (TimeoutError)" in found.problems[0] or "the reading took over 0.5 s" in found.problems[0]
    assert len(scripted.asked) <= 3


def test_a_server_that_began_anew_before_its_first_sample_of_the_stage_counts_from_nothing(
    scripted: ScriptedPrometheus,
) -> None:
    def earlier(document: dict[str, Any]) -> None:
        for one in of(document, B):
            one["value"][1] = str(HOUR_AGO - 900) if "start_time" in one["metric"]["__name__"] else "50"

    scripted.fault = on("before", earlier)
    found = read(scripted.url)
    assert (found.problems, found.split) == ((), (900, 300))


def test_silence_of_what_needs_labels_is_a_problem(scripted: ScriptedPrometheus) -> None:
    found = read(scripted.url, joined=True)
    assert "is empty: nothing exposes the numbers that need labels" in found.problems[0]


def test_traffic_that_stopped_is_too_old_to_decide() -> None:
    scripted = ScriptedPrometheus(last=datetime.now(UTC) - timedelta(hours=3))
    try:
        found = read(scripted.url)
        assert found.problems == ()
        assert verdict(found) is Verdict.INCONCLUSIVE
    finally:
        scripted.close()


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("ftp://prometheus", "scheme 'ftp'"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("prometheus:9090", "scheme"),
        ("http://", "host None"),
        ("http://kim:secret@prometheus", "carries credentials"),
        ("http://prometheus/?token=1", "more than scheme, host, port and path"),
        ("http://prometheus:99999", "cannot be read"),
        ("http://prometheus/a b", "more than scheme, host, port and path"),
        ("http://prometheus\r\nx: y", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, rule: str) -> None:
    with pytest.raises(BadInput, match=rule) as caught:
        PrometheusApi(url)
    assert "secret" not in str(caught.value)


def test_credentials_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET + "\n")
    environment = {"SLUICE_PROMETHEUS_URL": "http://p", "SLUICE_PROMETHEUS_TOKEN_FILE": str(tmp_path / "token")}
    assert PrometheusApi.of_environment(environment).token == SECRET
    with pytest.raises(BadInput, match="cannot be read"):
        PrometheusApi.of_environment(environment | {"SLUICE_PROMETHEUS_TOKEN_FILE": str(tmp_path / "none")})
    with pytest.raises(BadInput, match="no header may have") as caught:
        PrometheusApi("http://p", f"{SECRET}\r\nhost: elsewhere")
    assert SECRET not in str(caught.value)
    with pytest.raises(BadInput, match="is not set"):
        PrometheusApi.of_environment({})


def test_pauses_repeat_with_their_seed(scripted: ScriptedPrometheus) -> None:
    scripted.fault = FAULTS["5xx"][0]

    def pauses(seed: int) -> list[float]:
        seen: list[float] = []
        api = PrometheusApi(scripted.url, seed=seed, pause=seen.append)
        PrometheusSource(api).read(state(), POLICY, applied_of(state()), datetime.now(UTC))
        return seen

    assert pauses(1) == pauses(1) != pauses(2)
