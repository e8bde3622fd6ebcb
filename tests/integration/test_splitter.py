"""The stand-in for the gateway: fair, stable, and undisturbed by a candidate that hangs or is down."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.child_process import ChildServer
from sluice.errors import BadInput
from sluice_local.connection import Answer, Client
from sluice_local.processes import ask
from sluice_local.routes import Routes
from tests.support.patience import url_of

BACKEND = textwrap.dedent("""
    import asyncio, json, os, socket, sys, threading, uvicorn
    name = sys.argv[1]
    seen = []
    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        if scope["path"] == "/seen":
            answer = json.dumps({"seen": seen}).encode()
        else:
            seen.append([headers.get("x-request-id"), headers.get("x-sluice-route"), headers.get("x-sluice-rollout")])
            answer = json.dumps({"name": name, "path": scope["path"], "body": body.decode()}).encode()
        status = 500 if body == b"break" else 200
        await send({"type": "http.response.start", "status": status,
                    "headers": [(b"content-length", str(len(answer)).encode())]})
        await send({"type": "http.response.body", "body": answer})
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0)); listener.listen(64)
    print(f"ready http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])
""")


class Bench:
    """A splitter before two backends that answer at once."""

    def __init__(self, home: Path) -> None:
        (home / "backend.py").write_text(BACKEND)
        commands = {
            "stable": [sys.executable, str(home / "backend.py"), "stable"],
            "candidate": [sys.executable, str(home / "backend.py"), "candidate"],
            "splitter": [sys.executable, "-m", "sluice_local.splitter"],
        }
        self.children = {name: ChildServer(command, home / f"{name}.log") for name, command in commands.items()}
        self.urls = {name: url_of(child) for name, child in self.children.items()}
        self.url = self.urls["splitter"]

    def route(self, **routes: Any) -> None:
        both = {"stable": self.urls["stable"], "candidate": self.urls["candidate"], "commit": "c1", "rollout": "r1"}
        ask(self.url, "/-/routes", "PUT", Routes(**(both | routes)).model_dump())

    def send(
        self, ids: list[str], body: bytes = b"{}", timeout_s: float = 20, host: str | None = None
    ) -> tuple[list[Answer], list[float]]:
        """Answers and seconds, in the order of the ids, 16 at once."""
        return asyncio.run(self._send(ids, body, timeout_s, host))

    async def _send(
        self, ids: list[str], body: bytes, timeout_s: float, host: str | None
    ) -> tuple[list[Answer], list[float]]:
        client = Client(self.url, host)
        waiting, answers, taken = iter(range(len(ids))), [Answer(0, {}, b"")] * len(ids), [0.0] * len(ids)

        async def worker() -> None:
            for i in waiting:
                start = time.perf_counter()
                headers = [(b"x-request-id", ids[i].encode()), (b"x-sluice-route", b"forged")]
                answers[i] = await client.request(b"POST", b"/v1/models/tiny:predict?q=1", headers, body, timeout_s)
                taken[i] = time.perf_counter() - start

        await asyncio.gather(*(worker() for _ in range(16)))
        client.close()
        return answers, taken

    def seen(self, name: str) -> list[list[str]]:
        found: list[list[str]] = ask(self.urls[name], "/seen")["seen"]
        return found

    def stop(self) -> None:
        for child in self.children.values():
            child.stop(2)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def hung() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def arms(answers: list[Answer]) -> list[str]:
    assert {answer.status for answer in answers} == {200}
    names = [json.loads(answer.body)["name"] for answer in answers]
    assert names == [answer.headers[b"x-sluice-route"].decode() for answer in answers]
    return names


def test_requests_are_split_by_weight_and_an_id_keeps_its_side(bench: Bench) -> None:
    ids = [f"flight-{number}" for number in range(3000)]
    bench.route(stable_weight=75, candidate_weight=25)
    first = arms(bench.send(ids)[0])
    spread = math.sqrt(3000 * 0.25 * 0.75)
    assert abs(Counter(first)["candidate"] - 750) < 4 * spread
    assert arms(bench.send(ids[:300])[0]) == first[:300]
    bench.route(stable_weight=50, candidate_weight=50)
    later = arms(bench.send(ids[:300])[0])
    assert all(new == "candidate" for old, new in zip(first, later, strict=False) if old == "candidate")
    routes = Routes(rollout="r1", stable_weight=75, candidate_weight=25)
    assert [routes.arm(name) for name in ids] == first
    assert {tuple(row[1:]) for row in bench.seen("candidate")} == {("candidate", "r1")}
    counts = ask(bench.url, "/-/counts")
    assert counts["stable.requests"] + counts["candidate.requests"] == 3600


def test_a_host_of_its_own_leads_to_a_candidate_that_no_user_reaches(bench: Bench) -> None:
    bench.route(stable_weight=100)
    assert set(arms(bench.send(["a", "b"])[0])) == {"stable"}
    assert set(arms(bench.send(["a", "b"], host="preview-localhost")[0])) == {"candidate"}
    for after in ({"candidate_weight": 100}, {"stable_weight": 100, "mirror_percent": 50}):
        bench.route(**after)
        assert {answer.status for answer in bench.send(["a"], host="preview-localhost")[0]} == {503}


def test_another_rollout_draws_another_sample(bench: Bench) -> None:
    ids = [f"flight-{number}" for number in range(200)]
    sides = []
    for rollout in ("r1", "r2"):
        bench.route(rollout=rollout, stable_weight=50, candidate_weight=50)
        sides.append(arms(bench.send(ids)[0]))
    same = sum(old == new for old, new in zip(*sides, strict=True))
    assert 60 < same < 140


def test_a_full_mirror_copies_every_request_and_answers_from_stable(bench: Bench) -> None:
    ids = [f"flight-{number}" for number in range(400)]
    bench.route(stable_weight=100, mirror_percent=100)
    assert set(arms(bench.send(ids)[0])) == {"stable"}
    counts = ask(bench.url, "/-/idle")
    assert (counts["shadow.requests"], counts.get("shadow.dropped", 0)) == (400, 0)
    assert sorted(row[0] for row in bench.seen("candidate")) == sorted(ids)
    assert {row[1] for row in bench.seen("candidate")} == {"shadow"}
    assert {row[1] for row in bench.seen("stable")} == {"stable"}
    bench.route(stable_weight=100, mirror_percent=30)
    bench.send(ids)
    copied = ask(bench.url, "/-/idle")["shadow.requests"] - 400
    assert abs(copied - 120) < 4 * math.sqrt(400 * 0.3 * 0.7)


def test_a_hung_candidate_costs_copies_and_no_answers(bench: Bench, hung: str) -> None:
    ids = [f"flight-{number}" for number in range(1500)]
    bench.route(stable_weight=100)
    _, alone = bench.send(ids)
    bench.route(stable_weight=100, mirror_percent=100, candidate=hung)
    answers, beside = bench.send(ids)
    assert set(arms(answers)) == {"stable"}
    assert sorted(beside)[750] < sorted(alone)[750] * 3 + 0.005
    assert max(beside) < 1.5
    assert ask(bench.url, "/-/counts")["shadow.dropped"] > 500


def test_a_backend_that_is_down_is_a_503_and_counted(bench: Bench) -> None:
    bench.route(stable_weight=100)
    bench.send([f"flight-{number}" for number in range(40)])
    bench.children["stable"].stop(2)
    answers, _ = bench.send(["a", "b"])
    assert [answer.status for answer in answers] == [503, 503]
    assert b"stable server: cannot be reached" in answers[0].body
    assert answers[0].headers[b"x-sluice-route"] == b"stable"
    assert ask(bench.url, "/-/counts")["stable.unreachable"] == 2


def test_nothing_released_is_a_503_and_wrong_routes_are_refused(bench: Bench) -> None:
    assert bench.send(["a"])[0][0].status == 503
    with pytest.raises(BadInput, match="candidate_weight"):
        ask(bench.url, "/-/routes", "PUT", {"stable_weight": 10, "candidate_weight": 400})
    with pytest.raises(BadInput, match="weight_of_stable"):
        ask(bench.url, "/-/routes", "PUT", {"weight_of_stable": 10})
    assert ask(bench.url, "/-/routes")["stable_weight"] == 0


def test_errors_and_paths_pass_unchanged(bench: Bench) -> None:
    bench.route(stable_weight=100)
    answer = bench.send(["a"], b"hello")[0][0]
    assert json.loads(answer.body) == {"name": "stable", "path": "/v1/models/tiny:predict", "body": "hello"}
    assert bench.send(["a"], b"break")[0][0].status == 500
    assert bench.send(["a"], b"x" * (3 << 20))[0][0].status == 413
    assert ask(bench.url, "/-/counts")["stable.errors"] == 1
