"""
Failures and latency by minute, from a Prometheus: what each counter grew by in each minute, summed there over servers,
minutes without growth left out. It is asked about two days at a time, which costs it little however long a stage is.

A server that began anew counts from nothing; one seen for the first time is left out of its first minute. How often
servers are scraped does not matter: growth is seen at the next scrape.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sluice.arrays import Floats
from sluice.documents.evidence import SIDES
from sluice.evidence.minutes import TEN, minute_columns
from sluice.prometheus.api import PrometheusApi
from sluice.prometheus.server_counts import selector

_MINUTE = 60
_LONGEST = 30 * 86400
"""Seconds that are asked about at most."""
_NAMES = "sluice_requests_total|sluice_request_latency_seconds_sum"
_OWN = ("digest", "route", "status")
_ROWS: Mapping[str | None, list[int]] = {None: [2], "5xx": [0, 1, 3], "4xx": [3, 4]}
"""
Arguments of ``minute_columns`` that a status counts for; the sum of latencies has none. Whose fault a refusal is, only
a join can tell: here it is no failure.
"""


@dataclass(frozen=True)
class MinuteReading:
    """
    The minutes that lie in ``(begin, end]``, seconds.

    Args:
        matchers: labels that every query pins.
        digests: of the sides that there are, by ``SIDES``.
        routes: by ``SIDES``; ``None`` where a server's requests are its side's on whatever route.
    """

    api: PrometheusApi
    matchers: Mapping[str, str]
    digests: Mapping[str, str]
    routes: Mapping[str, str] | None
    begin: float
    end: float
    at_a_time: int = 2 * 86400
    """Seconds of one query, whole minutes."""

    @property
    def windows(self) -> Iterator[tuple[float, int]]:
        """Ends and lengths of the times that are asked about, newest first; none where no minute is over."""
        first, end = max(self.begin, self.end - _LONGEST) + _MINUTE, self.end
        while end - first >= _MINUTE:
            begin = (end - self.at_a_time) // _MINUTE * _MINUTE
            yield end, int(end - max(begin + 1, first))  # the minute that ends as a window begins is the one's before
            end = begin

    def query(self, seconds: int) -> str:
        """For the growth in each minute of so many seconds."""
        counters = selector(_NAMES, self.matchers)
        growth = f"{counters} - {counters} offset 1m"
        labels = ",".join((*self.matchers, *_OWN))
        return f"sum by ({labels}) (({growth}) > 0 or {counters} and ({growth}) < 0)[{seconds}s:1m]"

    def sums(self) -> list[float] | None:
        """
        Summed columns of ``sluice.evidence.minutes``; ``None`` where no minute is over, or has a request.

        Raises:
            BadAnswer: no answer, or one that breaks a rule.
        """
        table: dict[int, Floats] = {}
        answers = (self.api.matrix(self.query(seconds), end, self.matchers) for end, seconds in self.windows)
        for one in itertools.chain.from_iterable(answers):
            side = self._side(one.labels)
            status = one.labels.get("status")
            if side is None:
                continue
            rows = _ROWS.get(status, [0, 3])
            scale = 1000 if status is None else 1
            for moment, value in one.samples:
                minute = table.setdefault(round(moment / _MINUTE), np.zeros((5, len(SIDES))))
                minute[rows, side] += scale * value
        if not table:
            return None
        minutes = np.array(sorted(table))
        columns = np.stack([table[minute] for minute in minutes.tolist()], axis=2)
        ten = np.unique((minutes - 1) // TEN, return_inverse=True)[1]  # a sample is of the minute that it ends
        sums: list[float] = minute_columns(ten, *columns).sum(axis=1).tolist()
        return sums

    def _side(self, labels: Mapping[str, str]) -> int | None:
        for number, side in enumerate(SIDES):
            on_route = self.routes is None or labels.get("route") == self.routes[side]
            if on_route and labels.get("digest") == self.digests.get(side):
                return number
        return None
