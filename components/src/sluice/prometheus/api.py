"""
Ask a Prometheus over HTTP and believe as little as possible: bounded time, size and retries, strict answers.

https://prometheus.io/docs/prometheus/latest/querying/api/ (instant queries; the same for Thanos and Mimir).
"""

from __future__ import annotations

import http.client
import json
import math
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from sluice.errors import BadInput

_PIECE = 1 << 16
_MOMENT = 0.0015
"""Seconds by which an answer's time may differ from the one asked about: Prometheus keeps milliseconds."""


class BadAnswer(Exception):
    """No answer, or none that may be believed; says which query and which rule, never an address or a credential."""

    def __init__(self, query: str, rule: str) -> None:
        super().__init__(f"prometheus: {query}: {rule}")


@dataclass(frozen=True)
class ReadingLimits:
    """What one reading may cost."""

    request_seconds: float = 5.0
    total_seconds: float = 30.0
    attempts: int = 4
    """Consecutive tries of one query; only what may go away by itself is tried again: no answer, 5xx."""
    maximum_bytes: int = 8 << 20


@dataclass(frozen=True)
class Series:
    """One series with its labels and its samples as (seconds, value), oldest first."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """Of the newest sample."""
        return self.samples[-1][1]


@dataclass
class PrometheusApi:
    """
    One server.

    Args:
        url: http or https, host, and at most a path prefix.
        token: sent as a bearer token; kept out of every message and of ``repr``.
        seed: of the jitter between tries, so that a test repeats.

    Raises:
        BadInput: a URL or a token that cannot be used.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    limits: ReadingLimits = ReadingLimits()
    seed: int = 0
    pause: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._address = checked_url(self.url)
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token):
            raise BadInput("the Prometheus token", "has characters that no header may have", "write one line of ASCII")
        self._jitter = random.Random(self.seed)  # noqa: S311  a pause needs no secrecy
        self._deadline = math.inf
        self.queries: list[tuple[str, int]] = []
        """Queries of this reading that were answered well, with the number of their series."""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> PrometheusApi:
        """
        From ``SLUICE_PROMETHEUS_URL`` and, for a server that asks, ``SLUICE_PROMETHEUS_TOKEN_FILE`` or ``…_TOKEN``.

        Raises:
            BadInput: no URL, one that cannot be used, or a file that cannot be read.
        """
        if not (url := environment.get("SLUICE_PROMETHEUS_URL")):
            raise BadInput("SLUICE_PROMETHEUS_URL", "is not set", "export it, like https://prometheus.monitoring:9090")
        token = environment.get("SLUICE_PROMETHEUS_TOKEN")
        if path := environment.get("SLUICE_PROMETHEUS_TOKEN_FILE"):
            try:
                token = Path(path).read_text("ascii").strip()
            except (OSError, ValueError) as error:
                raise BadInput(
                    "SLUICE_PROMETHEUS_TOKEN_FILE", f"cannot be read ({path})", "mount the secret"
                ) from error
        return cls(url, token)

    def begin(self) -> None:
        """Start the clock of one reading."""
        self._deadline = time.monotonic() + self.limits.total_seconds
        self.queries = []

    def clock(self) -> float:
        """The server's own time, in seconds."""
        answer = self._data("time()", None)
        if answer.get("resultType") != "scalar":
            raise BadAnswer("time()", f"answers with a {answer.get('resultType')}, not a scalar")
        return _sample("time()", answer.get("result"))[1]

    def vector(self, query: str, at: float, pins: Mapping[str, str]) -> list[Series]:
        """The series of an instant vector at a time, each with one sample; all must carry the labels in ``pins``."""
        series = self._series(query, at, pins, "vector", lambda one: [one.get("value")])
        if any(abs(one.samples[0][0] - at) > _MOMENT for one in series):
            raise BadAnswer(query, "answers about another time than was asked about")
        return series

    def matrix(self, query: str, at: float, pins: Mapping[str, str]) -> list[Series]:
        """The raw samples of a range vector that ends at a time."""
        series = self._series(query, at, pins, "matrix", lambda one: one.get("values"))
        if any(one.samples[-1][0] > at + _MOMENT for one in series):
            raise BadAnswer(query, "has a sample from the future")
        return series

    def _series(
        self, query: str, at: float, pins: Mapping[str, str], kind: str, points: Callable[[dict[str, Any]], Any]
    ) -> list[Series]:
        answer = self._data(query, at)
        result = answer.get("result")
        if answer.get("resultType") != kind or not isinstance(result, list):
            raise BadAnswer(query, f"answers with a {answer.get('resultType')}, not a {kind}")
        series: dict[frozenset[tuple[str, str]], Series] = {}
        for one in result:
            labels = _labels(query, one)
            if strange := {key: labels.get(key) for key, value in pins.items() if labels.get(key) != value}:
                raise BadAnswer(query, f"answers about {strange}, not about what was asked")
            values = points(one)
            if not isinstance(values, list) or not values:
                raise BadAnswer(query, "has a series without samples")
            identity = frozenset(labels.items())
            if identity in series:
                raise BadAnswer(query, f"answers with several series for {dict(sorted(labels.items()))}")
            series[identity] = Series(labels, tuple(_sample(query, value) for value in values))
        self.queries.append((query, len(series)))
        return list(series.values())

    def _data(self, query: str, at: float | None) -> dict[str, Any]:
        body = urlencode({"query": query} | ({} if at is None else {"time": f"{at:.3f}"}))
        document = _document(query, self._ask(query, body))
        if document.get("status") != "success":
            raise BadAnswer(query, f"failed: {str(document.get('error', 'no reason given'))[:200]}")
        if warnings := document.get("warnings"):
            raise BadAnswer(query, f"is answered with warnings, so perhaps in part: {str(warnings)[:200]}")
        data = document.get("data")
        if not isinstance(data, dict):
            raise BadAnswer(query, "is answered without data")
        return data

    def _ask(self, query: str, body: str) -> bytes:
        """The body of an answer with status 200."""
        rule = ""
        for attempt in range(self.limits.attempts):
            if attempt and self._left() > 0:
                self.pause(min(0.1 * 2**attempt * self._jitter.uniform(0.5, 1.5), self._left()))
            if self._left() <= 0:
                raise BadAnswer(query, f"the reading took over {self.limits.total_seconds:g} s" + _after(rule))
            try:
                status, answer = self._post(query, body)
            except (OSError, http.client.HTTPException) as error:
                rule = f"no answer ({type(error).__name__})"
                continue
            if status == 200:
                return answer
            if status < 500:
                raise BadAnswer(query, f"answers with status {status}: {answer[:200].decode(errors='replace')}")
            rule = f"answers with status {status}"
        raise BadAnswer(query, f"{rule}, {self.limits.attempts} times in a row")

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _post(self, query: str, body: str) -> tuple[int, bytes]:
        """
        One exchange, all of it within the time of one request; redirects are not followed.

        By http.client, since httpx and urllib3 bound each read and no exchange as a whole.
        """
        address, seconds = self._address, min(self.limits.request_seconds, self._left())
        deadline = time.monotonic() + seconds
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=seconds)
        try:
            headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
            headers |= {"authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request("POST", address.path.rstrip("/") + "/api/v1/query", body, headers)
            open_socket = connection.sock  # an answer that closes takes it away from the connection
            response = connection.getresponse()
            return response.status, self._whole(query, response, open_socket, deadline)
        finally:
            connection.close()

    def _whole(
        self, query: str, response: http.client.HTTPResponse, open_socket: socket.socket, deadline: float
    ) -> bytes:
        """The body, read in pieces: a server that drips must not outlast its time, nor one that floods our memory."""
        pieces, size = [], 0
        while not response.isclosed():
            if time.monotonic() >= deadline:
                raise TimeoutError
            open_socket.settimeout(max(deadline - time.monotonic(), 0.001))
            if not (piece := response.read1(_PIECE)):
                break
            pieces.append(piece)
            size += len(piece)
            if size > self.limits.maximum_bytes:
                raise BadAnswer(query, f"answers with more than {self.limits.maximum_bytes} bytes")
        if response.length:
            raise http.client.IncompleteRead(b"")
        return b"".join(pieces)


def checked_url(url: str) -> SplitResult:
    """
    The parts of a server's URL.

    Raises:
        BadInput: another scheme, no host, credentials in it, or a query.
    """
    fix = "write it like https://prometheus.monitoring:9090"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput("the Prometheus URL", f"cannot be read ({error})", fix) from error
    if parts.username or parts.password:
        rule = "carries credentials, which would end in logs"
        raise BadInput("the Prometheus URL", rule, "set SLUICE_PROMETHEUS_TOKEN_FILE instead")
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise BadInput("the Prometheus URL", f"has scheme {parts.scheme!r} and host {parts.hostname!r}", fix)
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise BadInput("the Prometheus URL", "is more than scheme, host, port and path", fix)
    return parts


def _after(rule: str) -> str:
    return f", the last try: {rule}" if rule else ""


def _document(query: str, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(query, f"is not answered with JSON ({str(error)[:80]})") from error
    if not isinstance(document, dict):
        raise BadAnswer(query, "is not answered with a JSON object")
    return document


def _labels(query: str, one: Any) -> dict[str, str]:
    labels = one.get("metric") if isinstance(one, dict) else None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise BadAnswer(query, "has a series without labels")
    return labels


def _sample(query: str, pair: Any) -> tuple[float, float]:
    """Seconds and value of ``[1435781451.781, "1"]``; finite both."""
    if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], str)):
        raise BadAnswer(query, f"has {str(pair)[:60]} where a time and a number belong")
    try:
        moment, value = float(pair[0]), float(pair[1])
    except (TypeError, ValueError) as error:
        raise BadAnswer(query, f"says {str(pair[1])[:40]!r}, not a number") from error
    if not (math.isfinite(moment) and math.isfinite(value)):
        raise BadAnswer(query, f"says {pair[1]}, not a finite number")
    return moment, value
