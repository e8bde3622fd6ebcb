"""What a collector takes, which label counts, and which side a prediction was on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sluice.documents.event_time import iso
from sluice.documents.state import ReleaseState
from sluice.errors import BadArtifact
from sluice.feedback.attribution import attribute_rows
from sluice.feedback.batch import LABEL_SCHEMA, MAX_LINES, Batch, labels_at, parse_feedback, parse_predictions
from sluice.feedback.compaction import LabelCompaction
from sluice.feedback.events import parse_event
from sluice.feedback.store import PredictionStore
from sluice.feedback.store_log import WATCHED, StoreLog
from sluice.models.request import BadRequest
from sluice.object_store import open_location
from sluice.predictions.log import WINDOW_SCHEMA, PredictionRecord, is_sampled, window_frame
from sluice.predictions.windows import ROW_SCHEMA
from tests.support.release import A, B, C, state_in

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
GOOD: dict[str, Any] = {
    "request_id": "q",
    "event_time": "2026-11-21T12:00:00Z",
    "route": "stable",
    "rollout": "",
    "digest": A,
    "score": 0.25,
    "status": 200,
    "latency_ms": 1.5,
    "features": {"speed": 3.0, "name": None},
    "missing": ["name"],
    "stale": [],
    "keys": {"shop": "oak"},
}


def parsed(*lines: Any) -> pl.DataFrame:
    body = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n"
    return parse_predictions(Batch.of(NOON, body), body)


def test_what_the_log_writes_is_what_a_collector_takes() -> None:
    record = PredictionRecord("q", NOON, "stable", "", A, 0.25, 200, 1.5, {"speed": 3.0}, ["name"], [], {"shop": "oak"})
    body = record.line()
    found = parse_predictions(Batch.of(NOON, body), body)
    assert found.equals(window_frame([json.loads(body)]))
    assert found.schema == pl.Schema(dict(WINDOW_SCHEMA))
    assert parsed(GOOD, GOOD | {"score": None, "status": 500}).height == 1, "an answer stays before a failure"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"score": "0.25"}, "line 2: score"),
        ({"score": float("nan")}, "line 2"),
        ({"event_time": "2026-11-21T12:00:00"}, "line 2: event_time"),
        ({"event_time": "0001-01-01T00:00:00+14:00"}, "line 2: event_time"),
        ({"route": "backdoor"}, "line 2: route"),
        ({"digest": "latest"}, "line 2: digest"),
        ({"status": 2000}, "line 2: status"),
        ({"latency_ms": -1}, "line 2: latency_ms"),
        ({"features": {"speed": [1]}}, "line 2: features"),
        ({"more": 1}, "line 2: more"),
    ],
)
def test_a_line_that_no_server_writes_is_refused_by_its_number(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parsed(GOOD, GOOD | change)
    assert str(refused.value).startswith(says)
    assert len(str(refused.value)) < 400


def test_a_batch_is_what_its_name_says() -> None:
    body = json.dumps(GOOD).encode()
    batch = Batch.of(NOON + timedelta(milliseconds=7), body)
    assert Batch.from_name(batch.name) == batch
    with pytest.raises(BadRequest, match="is not what the batch's name says"):
        parse_predictions(batch, body + b" ")
    many = b"{}\n" * (MAX_LINES + 1)
    with pytest.raises(BadRequest, match="lines"):
        parse_predictions(Batch.of(NOON, many), many)


ANSWER = {"predictions": [{"score": 0.25, "positive": False, "digest": A}]}
SECOND = {
    "outputs": [{"name": "score", "data": [0.25, 1]}, {"name": "positive", "data": [False, True]}],
    "parameters": {"digest": A},
}
EVENT = {
    "ce-id": "e-1",
    "ce-specversion": "1.0",
    "ce-source": "http://localhost:9081/",
    "ce-type": "org.kubeflow.serving.inference.response",
    "ce-time": "2026-11-21T11:00:00.5Z",
    "ce-inferenceservicename": "flights-stable",
    "ce-metadata": '{"X-Request-Id":["q"]}',
    "content-type": "application/json",
}


def event(answer: Any, **changed: str) -> list[tuple[str, float, str, str]]:
    headers = EVENT | {name.replace("_", "-"): value for name, value in changed.items()}
    rows = parse_event(headers, json.dumps(answer).encode(), NOON)
    assert rows.schema == pl.Schema(dict(WINDOW_SCHEMA))
    return [(row["request_id"], row["score"], row["digest"], iso(row["event_time"])) for row in rows.to_dicts()]


def test_kserves_events_carry_scores_and_digest() -> None:
    when = "2026-11-21T11:00:00.500000Z"
    assert event(ANSWER) == [("q", 0.25, A, when)]
    assert event(ANSWER, ce_metadata="%7B%22x-request-id%22:[%22q%22]%7D") == [("q", 0.25, A, when)]
    assert event(ANSWER, ce_metadata="{}") == [("e-1", 0.25, A, when)]
    assert event(SECOND) == [("q#0", 0.25, A, when), ("q#1", 1.0, A, when)]
    assert event({"instances": [{"speed": 1}]}, ce_type="org.kubeflow.serving.inference.request") == []
    failed = {
        "predictions": [*ANSWER["predictions"], {"error": "on-demand view basket cannot be computed", "digest": A}]
    }
    assert event(failed) == [("q#0", 0.25, A, when), ("q#1", None, A, when)]
    assert parse_event(EVENT, json.dumps(failed).encode(), NOON)["status"].to_list() == [200, 500]
    structured = {name.removeprefix("ce-"): value for name, value in EVENT.items() if name.startswith("ce-")}
    kind = {"content-type": "application/cloudevents+json; charset=utf-8"}
    found = parse_event(kind, json.dumps(structured | {"data": ANSWER}).encode(), NOON)
    assert found["request_id"].to_list() == ["q"]


@pytest.mark.parametrize(
    ("answer", "changed"),
    [
        ({"predictions": [0.25]}, {}),
        ({"predictions": [{"digest": A}]}, {}),
        ({"predictions": []}, {}),
        ({"outputs": []}, {}),
        (SECOND | {"outputs": [{"name": "score", "data": ["high"]}]}, {}),
        (SECOND | {"parameters": {}}, {}),
        ([], {}),
        (ANSWER, {"ce_type": "org.kubeflow.serving.training"}),
        (ANSWER, {"ce_specversion": "0.3"}),
        (ANSWER, {"ce_id": ""}),
        (ANSWER, {"ce_time": "noon"}),
        (ANSWER, {"ce_metadata": "{"}),
        (ANSWER, {"content_type": "application/cloudevents+json"}),
    ],
)
def test_an_event_that_is_none_of_ours_is_refused(answer: Any, changed: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="event"):
        event(answer, **changed)


def label(request_id: str, value: int, hours: float, received: float = 0) -> dict[str, Any]:
    moment = NOON + hours * HOUR
    return dict.fromkeys(LABEL_SCHEMA) | {
        "request_id": request_id,
        "label": value,
        "label_time": moment,
        "received": NOON + received * HOUR,
    }


def known(rows: list[dict[str, Any]], at: float) -> dict[str, int]:
    found = labels_at(pl.DataFrame(rows, schema=dict(LABEL_SCHEMA)), NOON + at * HOUR)
    return dict(found.select("example_id", "label").iter_rows())


def test_the_newest_label_counts_and_of_two_the_one_received_first() -> None:
    rows = [label("a", 0, 1), label("a", 1, 2), label("b", 1, 1, received=5), label("b", 0, 1, received=4)]
    rows += [label("c", 1, 3), label("a", 1, 2)]
    assert known(rows, 1) == {"a": 0, "b": 0}
    assert known(rows, 2) == {"a": 1, "b": 0}
    assert known(rows, 9) == {"a": 1, "b": 0, "c": 1}
    assert known(list(reversed(rows)), 9) == {"a": 1, "b": 0, "c": 1}


def test_a_label_without_a_time_is_known_when_it_is_received() -> None:
    body = {
        "labels": [{"request_id": "a", "label": 1}, {"request_id": "b", "label": 0, "label_time": iso(NOON - HOUR)}]
    }
    found = parse_feedback(json.dumps(body).encode(), NOON)
    assert found["label_time"].to_list() == [NOON, NOON - HOUR]
    assert found.schema == pl.Schema(dict(LABEL_SCHEMA))


def test_a_sample_is_of_requests_not_of_rows() -> None:
    ids = [f"q{number}" for number in range(4000)]
    share = sum(is_sampled(name, 30) for name in ids) / len(ids)
    assert abs(share - 0.3) < 0.035
    assert all(is_sampled(f"{name}#7", 30) == is_sampled(name, 30) for name in ids)
    assert all(is_sampled(name, 10) <= is_sampled(name, 30) for name in ids), "more percent keep what fewer kept"
    assert all(is_sampled(name, 100) for name in ids)
    assert not any(is_sampled(name, 0) for name in ids)


def at(hours: float, digest: str, **changed: Any) -> dict[str, Any]:
    return (
        GOOD
        | {"request_id": f"{digest[-1]}{hours}", "event_time": iso(NOON + hours * HOUR), "digest": digest}
        | changed
    )


def history() -> list[ReleaseState]:
    """Shadow at noon, a canary from two o'clock on, stable again from five."""
    made = [state_in("shadow"), state_in("canary"), state_in("stable")]
    starts = (0, 2, 5)
    return [
        state.model_copy(update={"since": iso(NOON + start * HOUR), "sequence": start})
        for state, start in zip(made, starts, strict=True)
    ]


def sides(rows: list[dict[str, Any]], settle: float = 0) -> list[tuple[str, str, str]]:
    found = attribute_rows(window_frame(rows), history(), 1, settle * HOUR)
    assert found.schema == pl.Schema(dict(ROW_SCHEMA))
    return [(row["route"], row["rollout"], row["window"][11:16]) for row in found.to_dicts()]


def test_digest_and_time_say_which_side_a_prediction_was_on() -> None:
    rollout = history()[0].rollout
    assert history()[1].rollout == rollout
    rows = [at(-1, A), at(0.5, A), at(0.6, B), at(2.5, A), at(3.5, B), at(3.6, C), at(5.5, A)]
    assert sides(rows) == [
        ("stable", "", "11:00"),
        ("stable", rollout, "12:00"),
        ("shadow", rollout, "12:00"),
        ("stable", rollout, "14:00"),
        ("candidate", rollout, "15:00"),
        ("stable", rollout, "15:00"),  # a digest that was not released: as its server says
        ("stable", "", "17:00"),
    ]


def test_what_a_preview_answers_is_told_apart_from_what_users_get_after_the_switch() -> None:
    states = [state_in("preview", since=iso(NOON)), state_in("confirm", since=iso(NOON + HOUR), sequence=5)]
    found = attribute_rows(window_frame([at(0.5, A), at(0.6, B), at(1.5, B)]), states, 1)
    assert found["route"].to_list() == ["stable", "preview", "candidate"]


def test_what_was_marked_on_its_way_keeps_its_mark() -> None:
    assert sides([at(0.5, B, route="candidate", rollout="r9")]) == [("candidate", "r9", "12:00")]


def test_while_the_road_follows_a_release_nothing_is_counted() -> None:
    rollout = history()[0].rollout
    assert [side[1] for side in sides([at(2.0, B), at(2.4, B), at(2.5, B)], settle=0.5)] == ["", "", rollout]


def test_windows_begin_with_their_stage_so_that_no_split_is_mixed(tmp_path: Path) -> None:
    early = [state.model_copy(update={"since": iso(NOON + 0.25 * HOUR)}) for state in history()[:1]]
    found = attribute_rows(window_frame([at(0.5, A), at(1.3, A)]), early, 1)
    assert found["window"].to_list() == ["2026-11-21T12:15:00Z", "2026-11-21T13:15:00Z"]


def test_a_store_says_which_object_is_none_of_its_own(tmp_path: Path) -> None:
    store = PredictionStore(open_location(str(tmp_path)), "tiny", "dev")
    body = json.dumps(GOOD).encode()
    batch = Batch.of(NOON, body)
    for _ in range(2):
        store.put("predictions", batch, parse_predictions(batch, body))
    (stored,) = store.batches("predictions", NOON)
    (path,) = tmp_path.rglob("*.parquet")
    pl.read_parquet(path).drop("as_of").write_parquet(path)  # a batch of before
    assert store.read("predictions", stored).schema == pl.Schema(dict(WINDOW_SCHEMA))
    assert "/date=2026-11-21/hour=12/" in str(stored)
    assert store.batches("predictions", NOON + timedelta(days=1)) == []
    assert store.read("predictions", stored)["request_id"].to_list() == ["q"]
    stored.write(stored.read(100))
    with pytest.raises(BadArtifact, match="is no batch of predictions"):
        store.read("predictions", stored)


def test_all_batches_since_then_are_gathered_whatever_their_number(tmp_path: Path) -> None:
    store = PredictionStore(open_location(str(tmp_path)), "tiny", "dev")
    for number in range(300):
        rows = pl.DataFrame([label(f"q{number}", number % 2, number)], schema=dict(LABEL_SCHEMA))
        store.put("labels", Batch.of(NOON + number * HOUR, str(number).encode()), rows)
    log = StoreLog(store)
    found = log.gather("labels", NOON - 48 * HOUR, lambda rows: rows.filter(label=1).select("request_id"))
    assert sorted(found["request_id"]) == sorted(f"q{number}" for number in range(1, 300, 2))
    assert log.gather("labels", NOON + 600 * HOUR, lambda rows: rows).schema == pl.Schema(dict(LABEL_SCHEMA))
    recent = log.gather("labels", NOON + 240 * HOUR, lambda rows: rows)
    assert recent.height == 60 + 24 + 12, "what was begun the day before may hold what came then"


def test_between_rollouts_only_the_latest_batches_are_read(tmp_path: Path) -> None:
    """A stable model may serve for months."""
    store = PredictionStore(open_location(str(tmp_path)), "toy", "dev")
    for day in range(60):
        rows = pl.DataFrame([label(f"q{day}", day % 2, 0)], schema=dict(LABEL_SCHEMA))
        store.put("labels", Batch.of(NOON + 24 * day * HOUR, str(day).encode()), rows)
    log, now = StoreLog(store), NOON + 24 * 60 * HOUR
    settled = state_in("stable", since=iso(NOON))
    assert log.labels(settled, now).height == WATCHED.days + 1


def test_labels_of_an_hour_that_is_over_become_one_object(tmp_path: Path) -> None:
    store = PredictionStore(open_location(str(tmp_path)), "tiny", "dev")
    assert not LabelCompaction(store).advance(NOON), "nothing came yet"

    def receive(numbers: range, moment: datetime) -> None:
        for number in numbers:
            rows = pl.DataFrame([label(f"q{number}", number % 2, number % 20)], schema=dict(LABEL_SCHEMA))
            store.put("labels", Batch.of(moment, str(number).encode()), rows)

    def told() -> tuple[int, list[Any]]:
        batches = store.batches("labels", NOON)
        frame = labels_at(pl.concat([store.read("labels", batch) for batch in batches]), NOON + 240 * HOUR)
        return len(batches), frame.rows()

    receive(range(40), NOON)
    receive(range(40, 70), NOON + HOUR)
    receive(range(70, 71), NOON + 2 * HOUR)
    _, before = told()
    compaction, end = LabelCompaction(store), NOON + HOUR + timedelta(minutes=10)
    assert not compaction.advance(end - timedelta(seconds=1)), "the hour may still be written to"
    assert compaction.advance(end)
    assert told() == (1 + 30 + 1, before)
    assert [compaction.advance(NOON + 90 * HOUR) for _ in range(5)] == [True, False, False, False, False]
    assert told() == (1 + 1 + 1, before)
    assert not LabelCompaction(store).advance(NOON + 3 * HOUR), "who begins anew finds it done"
    receive(range(71, 72), NOON)
    n, rows = told()
    assert (n, len(rows)) == (41 + 1 + 1, 72), "a label that comes late counts at once"
    assert LabelCompaction(store).advance(NOON + 90 * HOUR)
    assert told() == (3, rows)
    (tmp_path / str(store.batches("labels", NOON)[-1])).write_bytes(b"no labels")
    store.put("labels", Batch.of(NOON + 2 * HOUR, b"more"), store.read("labels", store.batches("labels", NOON)[0]))
    assert not LabelCompaction(store).advance(NOON + 90 * HOUR), "what is damaged is left to whoever needs it"


def test_release_states_are_remembered_in_their_order(tmp_path: Path) -> None:
    store = PredictionStore(open_location(str(tmp_path)), "toy", "dev")
    assert store.releases() == ()
    for state in reversed(history()):
        store.put_release(state)
    assert [state.stage for state in store.releases()] == ["shadow", "canary", "stable"]
