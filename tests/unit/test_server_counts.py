"""From when on two sides' counts can be compared."""

from __future__ import annotations

import pytest

from sluice.prometheus.server_counts import Key, Life, ServerStart, comparable_from, restart_events

A, B = "sha256:a", "sha256:b"
OLD = ServerStart(A, 10.0, 20.0)
CASES: dict[str, tuple[list[ServerStart], float]] = {
    "both were there": ([OLD, ServerStart(B, 15.0, 21.0)], 160.0),
    "the stable one was scraped late once": ([ServerStart(A, 10.0, 170.0), ServerStart(B, 15.0, 21.0)], 160.0),
    "nobody was seen": ([], 160.0),
    "the candidate came at once": ([OLD, ServerStart(B, 101.0, 105.0)], 165.0),
    "the candidate came late": ([OLD, ServerStart(B, 300.0, 320.0)], 380.0),
    "a server more came later still": ([OLD, ServerStart(B, 300.0, 320.0), ServerStart(B, 9000.0, 9010.0)], 380.0),
    "its second server was scraped late": ([OLD, ServerStart(B, 300.0, 320.0), ServerStart(B, 301.0, 390.0)], 390.0),
    "a server gave way to another": ([OLD, ServerStart(B, 50.0, 60.0), ServerStart(B, 300.0, 310.0)], 160.0),
    "another digest came late": ([OLD, ServerStart(B, 15.0, 21.0), ServerStart("sha256:c", 400.0, 500.0)], 160.0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_window_begins_when_both_sides_serve(case: str) -> None:
    servers, expected = CASES[case]
    assert comparable_from(servers, (A, B), since=100.0, begin=160.0, settle=60.0) == expected
    assert comparable_from(servers[::-1], (A, B), since=100.0, begin=160.0, settle=60.0) == expected


def test_whatever_route_a_client_names_a_request_is_its_servers() -> None:
    counts = {Key("sluice_requests_total", route, "2xx"): 10.0 for route in ("stable", "candidate", "shadow")}
    counts[Key("sluice_server_start_time_seconds")] = 7.0
    life = Life(A, counts, {"stable": 1.0, "shadow": 3.0, "candidate": 2.0}, (), alive=True, hours=1.0)
    moved = life.on("candidate")
    assert (moved.requests("candidate"), moved.requests("stable"), moved.last) == (30, 0, {"candidate": 3.0})
    assert moved.of("sluice_server_start_time_seconds", "") == 7.0


@pytest.mark.parametrize(
    ("ours", "others", "events"),
    [
        ((), (), 0),
        ((100.0, 4000.0), (), 2),
        ((100.0, 130.0, 159.0), (), 1),  # three replicas of one rollout of pods
        ((100.0, 130.0, 4000.0), (110.0,), 1),  # a node that both sides are on
        ((100.0,), (100.0,), 0),
        ((100.0,), (161.0,), 1),
    ],
)
def test_restarts_are_events(ours: tuple[float, ...], others: tuple[float, ...], events: int) -> None:
    assert restart_events(iter(ours), iter(others)) == events
