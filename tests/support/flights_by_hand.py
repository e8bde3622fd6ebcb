"""
The features of one flight recomputed the slow way: plain Python over the raw lines, with everything that happened at or
after the prediction struck out first.

Shares no code with the tables, the join or the transforms.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from sluice.tasks.flights_source import source_files

_HALF_HOUR, _DAY = timedelta(minutes=30), timedelta(days=1)


@dataclass(frozen=True)
class Event:
    """One flight; what has not happened yet is None."""

    origin: str
    carrier: str
    route: str
    tailnum: str
    due: datetime
    elapsed: int
    departed: datetime | None
    landed: datetime | None
    dep_delay: int | None
    arr_delay: int | None

    def seen_at(self, now: datetime) -> Event:
        """What was known of it before ``now``."""
        departed = self.departed is not None and self.departed < now
        landed = self.landed is not None and self.landed < now
        if departed >= (self.departed is not None) and landed >= (self.landed is not None):
            return self
        return replace(
            self,
            departed=self.departed if departed else None,
            dep_delay=self.dep_delay if departed else None,
            landed=self.landed if landed else None,
            arr_delay=self.arr_delay if landed else None,
        )


def features_by_hand(request: dict[str, Any], months: tuple[str, ...]) -> dict[str, Any]:
    """
    All features of a request, from events before its ``event_time`` alone.

    Args:
        request: event_time, entity keys and request inputs.
        months: which of the source's months have to be read.
    """
    now = request["event_time"]
    known = [event.seen_at(now) for event in _events(months) if event.due < now + 2 * _DAY]
    grid = now - (now - datetime(2013, 1, 1, tzinfo=UTC)) % _HALF_HOUR
    return {
        **_schedule(now),
        **_airport([event for event in known if event.origin == request["origin"]], grid),
        **_weather(request["origin"], now),
        **_rates(known, ("carrier", request["carrier"]), now, _Rates(3, (7, 28), "carrier")),
        **_rates(known, ("route", request["route"]), now, _Rates(8, (28,), "route", counted=True)),
        **_rates(known, ("tailnum", request["tailnum"]), now, _Rates(28, (28,), "plane", counted=True)),
        **_plane(request["tailnum"]),
        **_previous_leg([event for event in known if event.tailnum == request["tailnum"]], now, grid),
    }


def _schedule(now: datetime) -> dict[str, Any]:
    local = now.astimezone(ZoneInfo("America/New_York"))
    angle = 2 * math.pi * (local.hour * 60 + local.minute) / 1440
    return {
        "local_hour": local.hour,
        "weekday": local.strftime("%a"),
        "day_sin": math.sin(angle),
        "day_cos": math.cos(angle),
    }


def _airport(known: list[Event], grid: datetime) -> dict[str, Any]:
    since = grid - timedelta(hours=2)
    delays = [e.dep_delay for e in known if e.departed and e.dep_delay is not None and since <= e.departed < grid]
    due = [event for event in known if since <= event.due < grid]
    waiting = [event for event in due if event.departed is None or event.departed >= grid]
    return {
        "airport_delay_mean": sum(delays) / len(delays) if delays else None,
        "airport_late_share": sum(delay >= 15 for delay in delays) / len(delays) if delays else None,
        "airport_departures": float(len(delays)),
        "airport_overdue_share": len(waiting) / len(due) if due else None,
    }


def _weather(origin: str, now: datetime) -> dict[str, Any]:
    names = {
        "temp": "temperature",
        "dewp": "dew_point",
        "humid": "humidity",
        "wind_speed": "wind_speed",
        "wind_gust": "wind_gust",
        "precip": "precipitation",
        "pressure": "pressure",
        "visib": "visibility",
    }
    seen = [
        line
        for line in _lines("weather.csv")
        if line["origin"] == origin and now - timedelta(hours=6) <= _time(line["time_hour"]) + timedelta(hours=1) <= now
    ]
    newest = max(seen, key=lambda line: line["time_hour"], default={})
    return {name: _number(newest.get(column, "NA")) for column, name in names.items()}


@dataclass(frozen=True)
class _Rates:
    ttl_days: int
    windows: tuple[int, ...]
    prefix: str
    counted: bool = False


def _rates(known: list[Event], key: tuple[str, str], now: datetime, asked: _Rates) -> dict[str, Any]:
    """Late rates up to the newest 05:00 UTC after which, and not longer ago than they live, the key had landed."""
    landed = [e for e in known if e.landed is not None and getattr(e, key[0]) == key[1] and key[1] != "UNKNOWN"]
    edges = [edge for event in landed if event.landed and (edge := _next_five_o_clock(event.landed)) <= now]
    edge = max(edges, default=datetime(1970, 1, 1, tzinfo=UTC))
    expired = edge + asked.ttl_days * _DAY < now
    found: dict[str, Any] = {}
    for days in asked.windows:
        inside = [e for e in landed if e.landed and edge - days * _DAY <= e.landed < edge]
        late = sum(event.arr_delay is not None and event.arr_delay >= 15 for event in inside)
        found[f"{asked.prefix}_late_rate_{days}d"] = None if expired else (late + 1.25) / (len(inside) + 5)
        if asked.counted:
            found[f"{asked.prefix}_flights_{days}d"] = None if expired else float(len(inside))
    return found


def _plane(tailnum: str) -> dict[str, Any]:
    line = next((line for line in _lines("planes.csv") if line["tailnum"] == tailnum), {"seats": "NA", "year": "NA"})
    built = _number(line["year"])
    return {"plane_seats": _number(line["seats"]), "plane_age": None if built is None else 2013 - built}


def _previous_leg(known: list[Event], now: datetime, grid: datetime) -> dict[str, Any]:
    names = ("previous_arr_delay", "previous_dep_delay", "minutes_since_landing", "return_slack")
    landed = [(e.landed, e) for e in known if e.landed is not None and e.landed < grid and e.tailnum != "UNKNOWN"]
    if not landed:
        return dict.fromkeys(names)
    moment, last = max(landed, key=lambda pair: pair[0])
    published = moment - (moment - datetime(2013, 1, 1, tzinfo=UTC)) % _HALF_HOUR + _HALF_HOUR
    if published + _DAY < now:
        return dict.fromkeys(names)
    since = (now - moment) / timedelta(minutes=1)
    values = (last.arr_delay, last.dep_delay, since, since - last.elapsed - 90)
    return dict(zip(names, values, strict=True))


def _next_five_o_clock(moment: datetime) -> datetime:
    five = moment.replace(hour=5, minute=0)
    return five + _DAY if moment >= five else five


@cache
def _events(months: tuple[str, ...]) -> list[Event]:
    zones = {line["faa"]: int(line["tz"]) for line in _lines("airports.csv")}
    return [_event(line, zones) for line in _lines("flights.csv.zip") if line["month"] in months]


def _event(line: dict[str, str], zones: dict[str, int]) -> Event:
    due = _time(line["time_hour"]) + timedelta(minutes=int(line["minute"]))
    clock = _clock(line["sched_arr_time"]) - _clock(line["sched_dep_time"])
    elapsed = (clock - (zones.get(line["dest"], -4) + 5) * 60) % 1440
    dep_delay, arr_delay = _number(line["dep_delay"]), _number(line["arr_delay"])
    return Event(
        origin=line["origin"],
        carrier=line["carrier"],
        route=f"{line['origin']}-{line['dest']}",
        tailnum=line["tailnum"] if line["tailnum"] not in ("", "NA") else "UNKNOWN",
        due=due,
        elapsed=elapsed,
        departed=None if dep_delay is None else due + timedelta(minutes=dep_delay),
        landed=None if arr_delay is None else due + timedelta(minutes=elapsed + arr_delay),
        dep_delay=None if dep_delay is None else int(dep_delay),
        arr_delay=None if arr_delay is None else int(arr_delay),
    )


@cache
def _lines(name: str) -> list[dict[str, str]]:
    path = source_files()[name]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.read("flights.csv").decode()
    else:
        text = path.read_text()
    return list(_read(io.StringIO(text)))


def _read(stream: Iterable[str]) -> Iterable[dict[str, str]]:
    return csv.DictReader(stream)


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _clock(text: str) -> int:
    return int(text) // 100 * 60 + int(text) % 100


def _number(text: str) -> float | None:
    return None if text in ("", "NA") else float(text)
