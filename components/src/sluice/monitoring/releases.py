"""
What Git says is released, for a Prometheus: stages, weights, digests, holds, deadlines, verdicts of all environments.

    python -m sluice.monitoring.releases --repository ssh://git@…/sluice.git --clone /tmp/releases.git --port 9090

The text of a scrape says what each ``sluice_release_…`` is. It fetches at each scrape and never writes; a repository
that cannot be read fails the scrape. The decisions of an environment are read again only when the repository has a new
commit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluice.documents.event_time import moment_of
from sluice.documents.verdict import Decision
from sluice.gitops.fleet import read_fleet
from sluice.gitops.reader import ReleaseReader
from sluice.prometheus.exporter import expose
from sluice.release.snapshot import Snapshot
from sluice.rollout.terms import deadline_of
from sluice.stages.registry import STAGES
from sluice.stages.stage import SIDES

_GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "stage": ("1 for the stage that it is in, 0 for the others.", ("stage",)),
    "since_seconds": ("When the stage began.", ()),
    "deadline_seconds": ("When the stage times out; none: it does not.", ()),
    "weight_percent": ("Of stable, candidate and mirror.", ("side",)),
    "digest": ("1: this digest is released on this side.", ("side", "digest")),
    "paused": ("1: a person must approve the next step.", ()),
    "holds": ("Digests that may not be released.", ()),
    "decided_seconds": ("Event time of each stage's newest decisions.", ("stage", "action", "verdict")),
}
"""Text and labels besides task and environment, by name without ``sluice_release_``."""


class Releases(Collector):
    """
    Everything, as of the newest commit at each scrape.

    Args:
        remote, clone: of the GitOps repository, as of ``read_fleet``.

    Raises:
        SluiceError: the repository cannot be read.
    """

    def __init__(self, remote: str, clone: Path) -> None:
        self._remote, self._clone = remote, clone
        self._decisions: dict[str, list[Decision]] = {}
        self._commit = ""

    def collect(self) -> Iterator[Metric]:
        """All families, for a scrape."""
        fleet = read_fleet(self._remote, clone=self._clone)
        if fleet.commit != self._commit:
            self._decisions = {name: self._newest(snapshot) for name, snapshot in fleet.snapshots.items()}
            self._commit = fleet.commit
        yield GaugeMetricFamily("sluice_release_read_seconds", "Wall-clock time of this reading.", time.time())
        unreadable = GaugeMetricFamily(
            "sluice_release_unreadable",
            "1: its files are nonsense, nothing else is said of it.",
            labels=["environment"],
        )
        for name in (*fleet.snapshots, *fleet.problems):
            unreadable.add_metric([name], name in fleet.problems)
        yield unreadable
        gauges = {
            name: GaugeMetricFamily(f"sluice_release_{name}", text, labels=["task", "environment", *labels])
            for name, (text, labels) in _GAUGES.items()
        }
        for name, snapshot in fleet.snapshots.items():
            about = [snapshot.state.task, snapshot.state.environment]
            for gauge, labels, value in _values(snapshot, self._decisions[name]):
                gauges[gauge].add_metric([*about, *labels], value)
        yield from gauges.values()

    def _newest(self, snapshot: Snapshot) -> list[Decision]:
        reader = ReleaseReader(self._remote, snapshot.state.environment, clone=self._clone)
        return list(reader.latest(snapshot.commit))


def _values(snapshot: Snapshot, decisions: list[Decision]) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """What the release file, the holds, the policy and the decisions of one environment say: gauge, labels, value."""
    state = snapshot.state
    for stage in STAGES:
        yield "stage", (stage,), stage == state.stage
    for name, moment in (("since", state.since), ("deadline", deadline_of(state, snapshot.policy))):
        if moment:
            yield f"{name}_seconds", (), moment_of(moment).timestamp()
    weights = (
        dict.fromkeys(SIDES, 0) | {arm.role: arm.weight for arm in state.rivals} | {"mirror": state.mirror_percent}
    )
    for side, percent in weights.items():
        yield "weight_percent", (side,), percent
    for arm in state.rivals:
        yield "digest", (arm.role, str(arm.digest)), 1
    yield "paused", (), state.paused
    yield "holds", (), len(state.holds)
    for one in decisions:
        yield "decided_seconds", (one.stage, one.action, one.verdict.value), moment_of(one.now).timestamp()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="Expose what Git says is released to Prometheus.")
    parser.add_argument("--repository", required=True, help="URL or path of the GitOps repository")
    parser.add_argument("--clone", type=Path, required=True, help="where the private bare copy lives")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a pod")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    options = parser.parse_args()
    expose(Releases(options.repository, options.clone), options.host, options.port)


if __name__ == "__main__":
    main()
