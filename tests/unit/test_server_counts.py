"""From when on two sides' counts can be compared."""

from __future__ import annotations

import pytest

from sluice.prometheus.server_counts import Began, Key, Life, both_began

A, B = "sha256:a", "sha256:b"
OLD = Began(A, 10.0, 20.0)
CASES: dict[str, tuple[list[Began], float]] = {
    "both were there": ([OLD, Began(B, 15.0, 21.0)], 160.0),
    "the stable one was scraped late once": ([Began(A, 10.0, 170.0), Began(B, 15.0, 21.0)], 160.0),
    "nobody was seen": ([], 160.0),
    "the candidate came at once": ([OLD, Began(B, 101.0, 105.0)], 165.0),
    "the candidate came late": ([OLD, Began(B, 300.0, 320.0)], 380.0),
    "a server more came later still": ([OLD, Began(B, 300.0, 320.0), Began(B, 9000.0, 9010.0)], 380.0),
    "its second server was scraped late": ([OLD, Began(B, 300.0, 320.0), Began(B, 301.0, 390.0)], 390.0),
    "a server gave way to another": ([OLD, Began(B, 50.0, 60.0), Began(B, 300.0, 310.0)], 160.0),
    "another digest came late": ([OLD, Began(B, 15.0, 21.0), Began("sha256:c", 400.0, 500.0)], 160.0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_window_begins_when_both_sides_serve(case: str) -> None:
    servers, expected = CASES[case]
    assert both_began(servers, (A, B), since=100.0, begin=160.0, settle=60.0) == expected
    assert both_began(servers[::-1], (A, B), since=100.0, begin=160.0, settle=60.0) == expected


def test_whatever_route_a_client_names_a_request_is_its_servers() -> None:
    counts = {Key("sluice_requests_total", route, "2xx"): 10.0 for route in ("stable", "candidate", "shadow")}
    counts[Key("sluice_server_start_time_seconds")] = 7.0
    life = Life(A, counts, {"stable": 1.0, "shadow": 3.0, "candidate": 2.0}, 0, alive=True, hours=1.0)
    moved = life.on("candidate")
    assert (moved.requests("candidate"), moved.requests("stable"), moved.last) == (30, 0, {"candidate": 3.0})
    assert moved.of("sluice_server_start_time_seconds", "") == 7.0
