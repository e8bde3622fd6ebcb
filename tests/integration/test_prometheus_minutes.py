"""A real Prometheus says what happened in each minute, over restarts, and leaves out what was before the stage."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest

from sluice.documents.minutes import Minutes
from sluice.evidence.minutes import millisecond_sums, minutes_of
from sluice.prometheus.api import PrometheusApi
from sluice.prometheus.minutes import MinuteReading
from tests.support.patience import wait_until
from tests.support.release import A, B
from tests.support.servers import free_port

BEGIN = int(time.time()) // 3600 * 3600 - 7200
MINUTES = 40
_EVERY = 15
_PATH, _OWN, _RESTART = range(10, 12), range(20, 23), 30
"""Minutes in which both sides fail, in which the candidate alone does, and before which it began anew."""


def grown(digest: str, minute: int) -> tuple[float, float, float]:
    """Good answers, failed ones and seconds that a side counts in a minute of the stage."""
    stable = digest == A
    failing = minute in _PATH or (not stable and minute in _OWN)
    n = 60 if stable else 20
    return (0, n, 0.06) if failing else (n, 0, n * 0.002)


def openmetrics() -> str:
    """All samples, from ten minutes before the stage."""
    lines: dict[str, list[str]] = {"sluice_requests": [], "sluice_request_latency_seconds_sum": []}
    for digest, route in ((A, "stable"), (B, "candidate")):
        labels = f'task="toy",digest="{digest}",route="{route}",instance="{digest[7]}"'
        totals = [1000.0, 1000.0, 9.0]
        samples: list[list[str]] = [[], [], []]
        for sample in range(-40, MINUTES * 4 + 1):
            minute, part = divmod(sample - 1, 4)
            step = grown(digest, minute) if minute >= 0 else (4, 4, 0.04)
            if digest == B and (minute, part) == (_RESTART, 0):
                totals = [0.0, 0.0, 0.0]
            totals = [total + more / 4 for total, more in zip(totals, step, strict=True)]
            for kind, total in zip(samples, totals, strict=True):
                kind.append(f"{total!r} {BEGIN + _EVERY * sample}")
        statuses = (f'{labels},status="2xx",cause=""', f'{labels},status="5xx",cause="model"')
        for series, kind in zip(statuses, samples, strict=False):
            lines["sluice_requests"] += [f"sluice_requests_total{{{series}}} {one}" for one in kind]
        name = "sluice_request_latency_seconds_sum"
        lines[name] += [f"{name}{{{labels}}} {one}" for one in samples[2]]
    types = {"sluice_requests": "counter", "sluice_request_latency_seconds_sum": "gauge"}
    text = [line for name, kind in types.items() for line in (f"# TYPE {name} {kind}", *lines[name])]
    return "\n".join([*text, "# EOF\n"])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusApi]:
    if shutil.which("promtool") is None:
        pytest.skip("the binaries `prometheus` and `promtool` are absent; Debian: apt-get install prometheus")
    home, port = tmp_path_factory.mktemp("minutes"), free_port()
    (home / "text").write_text(openmetrics())
    (home / "config").write_text("{}")
    data = str(home / "tsdb")
    backfill = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(home / "text"), data]
    subprocess.run(backfill, check=True, capture_output=True)
    command = ["prometheus", f"--config.file={home / 'config'}", f"--storage.tsdb.path={data}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until("a Prometheus that is ready", lambda: _is_ready(url))
        yield PrometheusApi(url)
    finally:
        server.kill()
        server.wait(10)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=1) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def reading(api: PrometheusApi, *, marked: bool = True, at_a_time: int = 2 * 86400) -> MinuteReading:
    api.begin()
    routes = {"candidate": "candidate", "stable": "stable"} if marked else None
    digests = {"candidate": B, "stable": A}
    return MinuteReading(api, {"task": "toy"}, digests, routes, BEGIN, BEGIN + 60 * MINUTES, at_a_time)


@pytest.mark.parametrize(("marked", "at_a_time"), [(True, 2 * 86400), (False, 2 * 86400), (True, 600), (True, 420)])
def test_each_minute_is_counted_once(api: PrometheusApi, marked: bool, at_a_time: int) -> None:
    sums = reading(api, marked=marked, at_a_time=at_a_time).sums()
    assert sums is not None
    minutes: Minutes = minutes_of(sums)
    assert minutes.both_failing == len(_PATH)
    candidate, stable = minutes.candidate, minutes.stable
    assert candidate is not None
    assert stable is not None
    assert (candidate.failing, stable.failing) == (len(_OWN), 0)
    assert (candidate.path_requests, candidate.path_errors) == (40, 40)
    assert (stable.requests, stable.errors) == (60 * (MINUTES - 2), 0)
    assert (candidate.requests, candidate.errors) == (20 * (MINUTES - 2), 60)
    assert candidate.sums.values == 3 * 20**2
    assert millisecond_sums(sums)["candidate_minutes"].products == pytest.approx(20 * (35 * 40 + 5 * 60), rel=1e-6)


def test_queries_are_few_and_small(api: PrometheusApi) -> None:
    reading(api).sums()
    assert [n for _, n in api.queries if n > 6] == []  # two sides, three numbers each
    assert len(api.queries) == 1
    month = MinuteReading(api, {}, {}, None, BEGIN - 90 * 86400, BEGIN)
    assert 15 <= len(list(month.windows)) <= 16
    assert max(seconds for _, seconds in month.windows) < 2 * 86400 + 60
    assert list(MinuteReading(api, {}, {}, None, BEGIN - 100, BEGIN).windows) == []
