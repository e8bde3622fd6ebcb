"""
What only a join with labels knows, for a Prometheus: losses by window and slice, coverage, pairs, skew.

    python -m sluice.prometheus.exposition --evidence joined.json --port 9090

Whoever joins predictions with labels writes an evidence document (``collect_evidence``); this exporter reads the file
anew at each scrape, and ``part_of_points`` reads the numbers back. Every series says what it is about (task,
environment, rollout, stage, step, since), so that a stage never reads the numbers of another.

    sluice_joined_now_seconds   event time of the document
    sluice_…                    see ``sluice.evidence.measurements``; the text of a scrape says what each is

Beside them the counts of labels and their rewards, as ``sluice.prometheus.seldon_names`` calls them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import ABOUT, Evidence
from sluice.documents.state import ReleaseState
from sluice.evidence.measurements.registry import points_of
from sluice.prometheus.exporter import expose
from sluice.prometheus.seldon_names import FEEDBACK, IDENTITY, REWARD, identity, reward

PREFIX = "sluice_"
JOIN_TIME = "joined_now_seconds"


class EvidenceCollector(Collector):
    """
    The document at ``path`` as it is at each scrape.

    Raises:
        OSError, ValidationError: it cannot be read; the scrape fails, and the gate sees series that end.
    """

    def __init__(self, path: Path) -> None:
        """It need not be there yet."""
        self._path = path

    def collect(self) -> Iterator[Metric]:
        """All families, for a scrape."""
        return families(Evidence.model_validate_json(self._path.read_bytes()))


def families(evidence: Evidence) -> Iterator[Metric]:
    """The joined part of a document; what servers count themselves is left to them."""
    stage = about(evidence)
    moment = Metric(PREFIX + JOIN_TIME, "Event time of the join.", "gauge")
    moment.add_sample(moment.name, stage, moment_of(evidence.now).timestamp())
    metrics = {moment.name: moment}
    for measurement, point in points_of(evidence):
        name = PREFIX + (measurement.name if measurement.histogram else point.name)
        kind = "histogram" if measurement.histogram else "gauge"
        family = metrics.setdefault(name, Metric(name, measurement.about, kind))
        family.add_sample(PREFIX + point.name, stage | dict(point.labels), point.value)
    yield from metrics.values()
    yield from _feedback(evidence)


def about(subject: Evidence | ReleaseState) -> dict[str, str]:
    """The labels that all series of one stage have."""
    return {key: str(getattr(subject, key)) for key in ABOUT}


def _feedback(evidence: Evidence) -> Iterator[Metric]:
    """How many answers of each side got a label, and the sum of their rewards; a new stage counts anew."""
    count = CounterMetricFamily(FEEDBACK, "Answers that got a label.", labels=IDENTITY)
    rewards = CounterMetricFamily(REWARD, "Sum of their rewards.", labels=IDENTITY)
    for side, arm in evidence.arms.items():
        if arm.loss:
            labels = list(identity(evidence.task, side, arm.digest).values())
            count.add_metric(labels, arm.loss.n)
            rewards.add_metric(labels, reward(arm.loss.n, arm.loss.mean))
    yield from (count, rewards)


def main() -> None:
    """Serve until killed; prints ``ready http://host:port`` once it listens."""
    parser = argparse.ArgumentParser(description="Expose the joined part of an evidence document to Prometheus.")
    parser.add_argument("--evidence", type=Path, required=True, help="document that is written anew after each join")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a pod")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    options = parser.parse_args()
    expose(EvidenceCollector(options.evidence), options.host, options.port)


if __name__ == "__main__":
    main()
