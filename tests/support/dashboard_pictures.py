"""
The pictures of docs/bring-your-own-prometheus.md: what a real Prometheus answers to each panel's query.

    python -m tests.support.dashboard_pictures docs

Two real servers are asked for two minutes. For a while some of the candidate's answers fail, then it is killed and
started again. Labels come between a few minutes and some hours after their predictions; the last are still to come.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from sluice.documents.evidence import Cells
from sluice.documents.state import ReleaseState
from sluice.monitoring.dashboards import DASHBOARDS
from tests.support.panel_drawing import Drawn, page
from tests.support.prometheus import answer_of
from tests.support.prometheus_town import POLICY, Town, applied_of, town_in
from tests.support.release_repository import write_held_release
from tests.support.seldon_dashboard import queries

_WINDOWS, _REQUESTS = 45, 60
_HOURS_AGO = (8, 7, 6, 5, 4, 3, 2, 1)


def send(town: Town, state: ReleaseState, start: datetime, minutes: float, **special: int) -> None:
    """A window of requests whose labels come up to so many minutes later, most of them sooner."""
    town.send(state, start, _REQUESTS, **special)
    late = [minutes ** (k * 7 % _REQUESTS / _REQUESTS) - 1 for k in range(_REQUESTS)]
    town.examples[-1] = town.examples[-1].with_columns(
        label_time=pl.col("event_time") + pl.Series(late) * timedelta(minutes=1)
    )


def past(town: Town, state: ReleaseState) -> None:
    """Some hours at once."""
    now = datetime.now(UTC).replace(microsecond=0)
    for ago in _HOURS_AGO:
        send(town, state, now - timedelta(hours=ago), 240)
    join(town, state)


def present(town: Town, state: ReleaseState) -> None:
    """A window every two seconds."""
    for number in range(_WINDOWS):
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        time.sleep((start - datetime.now(UTC)).total_seconds())
        send(town, state, start, 1.5, cursed=4 if 15 <= number < 25 else 0, refused=2 if number % 5 == 0 else 0)
        if number == 32:
            town.servers["candidate"].stop()
            town.start("candidate")
        if number % 5 == 0:
            join(town, state)
        time.sleep(1)


def join(town: Town, state: ReleaseState) -> None:
    """What whoever joins labels would write; its cells are made up, for nothing here reads features again."""
    evidence = town.log_source().read(state, POLICY, applied_of(state), datetime.now(UTC))
    town.join(evidence.model_copy(update={"cells": Cells(compared=1000, different=2)}))


def answered(
    town: Town, query: str, legend: str, begin: float, end: float
) -> list[tuple[str, list[tuple[float, float]]]]:
    """Name and points of each series."""
    query = query.replace("$__rate_interval", "15s").replace("$environment", ".*").replace("$task", ".*")
    span = {"start": f"{begin:.0f}", "end": f"{end:.0f}", "step": "1"}
    found = answer_of(town.prometheus, "query_range", query=query, **span)["result"]
    made = []
    for series in found:
        name = re.sub(r"\{\{(\w+)\}\}", r"{\1}", legend).format_map(defaultdict(str, series["metric"]))
        points = [(float(t), float(v)) for t, v in series["values"] if math.isfinite(float(v))]
        made.append((" ".join(name.split()) or "all", points))
    return sorted((one for one in made if one[1]), key=lambda one: one[0])


def ours(town: Town, name: str, begin: float, end: float) -> list[Drawn]:
    """The panels of one of our dashboards."""
    return [
        Drawn(
            panel.title,
            panel.unit,
            panel.kind,
            [s for asked in panel.queries for s in answered(town, *asked, begin, end)],
        )
        for panel in DASHBOARDS[name]
    ]


def seldons(town: Town, begin: float, end: float) -> list[Drawn]:
    """The chart's panels; the quantiles of the latency are one."""
    found: dict[str, list[tuple[str, list[tuple[float, float]]]]] = {}
    for title, query in queries():
        panel, _, quantile = title.partition(" p")
        legend = (
            f"{{{{predictor_name}}}} p{quantile}" if quantile.isdigit() else "{{predictor_name}} {{predictor_version}}"
        )
        found.setdefault(panel if quantile.isdigit() else title, []).extend(answered(town, query, legend, begin, end))
    units = {"Success": "percentunit", "Latency": "s", "Reward": "short"}
    return [
        Drawn(title, next((unit for word, unit in units.items() if word in title), "reqps"), "timeseries", series)
        for title, series in found.items()
    ]


def main(arguments: Sequence[str]) -> None:
    """Write the four pictures."""
    [directory] = arguments
    with tempfile.TemporaryDirectory(prefix="pictures-") as home, town_in(Path(home)) as town:
        state = town.state(town.settle() - timedelta(hours=_HOURS_AGO[0] + 1), "shadow", 0)
        town.route(state)
        write_held_release(Path(home) / "gitops.git", state)
        town.expose_releases(Path(home) / "gitops.git")
        past(town, state)
        begin = time.time() + 16  # no rate looks back at it
        present(town, state)
        end = time.time()
        for name in DASHBOARDS:
            page(ours(town, name, begin, end), 2, begin, end).save(
                Path(directory) / f"dashboard-{name}.png", optimize=True
            )
        page(seldons(town, begin, end), 3, begin, end).save(Path(directory) / "dashboard-seldon.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
