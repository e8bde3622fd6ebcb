"""Everything that one server counts, by one call a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry

from sluice.models.bundle import Bundle
from sluice.models.request import BadRequest
from sluice_serving.metrics import Cause, ServingMetrics
from sluice_serving.model_metrics import ModelMetrics
from sluice_serving.rows import RequestRows
from sluice_serving.seldon_metrics import SeldonMetrics


class Meters:
    """
    The counts of one server process.

    Args:
        seldon: the role under which to count by Seldon's names too, if at all.
    """

    def __init__(self, bundle: Bundle, seldon: str | None = None) -> None:
        task, digest = bundle.manifest.task, bundle.digest
        self.requests = ServingMetrics(task, digest)
        self.model = ModelMetrics(task, digest, bundle.manifest.features.names)
        self.seldon = SeldonMetrics(task, digest, seldon) if seldon else None

    def register(self, registry: CollectorRegistry) -> None:
        """Show all of it at each scrape of ``registry``."""
        for collector in (self.requests, self.model, self.seldon):
            if collector is not None:
                registry.register(collector)

    def count_answers(self, rows: RequestRows, scores: Sequence[float], milliseconds: float) -> None:
        """One request that was answered; there is a score for each of its rows where a prediction is one number."""
        route = rows.context.route
        lacking = sum(1 for missing, stale in zip(rows.missing, rows.stale, strict=True) if missing or stale)
        self.requests.count_answers(route, len(rows.numbers), lacking, milliseconds, rows.context.event_time)
        if lacking:
            self.model.count_gaps(rows.missing, rows.stale)
        self.model.count_scores(route, scores)
        if self.seldon:
            self.seldon.count("200", milliseconds)

    def count_failures(
        self, route: str, cause: Cause, n: int, milliseconds: float, moment: datetime, *, whole: bool = True
    ) -> None:
        """``n`` instances of one request that got no score, which is our fault; ``whole``: nor did the others."""
        self.requests.count_failures(route, cause, n, milliseconds, moment)
        if self.seldon and whole:
            self.seldon.count("500", milliseconds)

    def count_refusal(self, headers: Mapping[str, str], error: BadRequest, milliseconds: float) -> None:
        """One request that broke its contract; the headers may say anything."""
        self.requests.count_refusal(headers.get("x-sluice-route"), error.rows)
        self.model.count_refusal(error.part, error.rows)
        if self.seldon:
            self.seldon.count("400", milliseconds)
