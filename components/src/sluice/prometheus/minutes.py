"""
Failures and latency by minute, from a Prometheus in one query: what each counter grew by in each minute, summed there
over servers, minutes without growth left out. A server that began anew counts from nothing; one seen for the first time
is left out of its first minute. How often servers are scraped does not matter: growth is seen at the next scrape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sluice.arrays import Floats
from sluice.documents.evidence import SIDES
from sluice.evidence.minutes import TEN, minute_columns
from sluice.prometheus.api import PrometheusApi
from sluice.prometheus.server_counts import selector

_MINUTE = 60
_LONGEST = 30 * 86400
"""Seconds that are asked about at most: an answer of two sides is some two megabytes then."""
_NAMES = "sluice_requests_total|sluice_request_latency_seconds_sum"
_OWN = ("digest", "route", "status")


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

    @property
    def query(self) -> str:
        """For the growth in each minute; empty where no minute is over."""
        seconds = int(min(self.end - self.begin, _LONGEST)) - _MINUTE
        if seconds < _MINUTE:
            return ""
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
        if not self.query:
            return None
        table: dict[int, Floats] = {}
        for one in self.api.matrix(self.query, self.end, self.matchers):
            side = self._side(one.labels)
            status = one.labels.get("status")
            if side is None or status == "4xx":  # whose fault a refusal is, only a join can tell
                continue
            rows = [2] if status is None else [0, 1] if status == "5xx" else [0]
            scale = 1000 if status is None else 1
            for moment, value in one.samples:
                minute = table.setdefault(round(moment / _MINUTE), np.zeros((3, len(SIDES))))
                minute[rows, side] += scale * value
        if not table:
            return None
        minutes = np.array(sorted(table))
        requests, errors, milliseconds = np.stack([table[minute] for minute in minutes.tolist()], axis=2)
        ten = np.unique((minutes - 1) // TEN, return_inverse=True)[1]  # a sample is of the minute that it ends
        sums: list[float] = minute_columns(requests, errors, milliseconds, ten).sum(axis=1).tolist()
        return sums

    def _side(self, labels: Mapping[str, str]) -> int | None:
        for number, side in enumerate(SIDES):
            on_route = self.routes is None or labels.get("route") == self.routes[side]
            if on_route and labels.get("digest") == self.digests.get(side):
                return number
        return None
