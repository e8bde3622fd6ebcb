"""
What Git says is released, for a Prometheus: stages, weights, digests, holds, deadlines, verdicts of all environments.

    python -m sluice.monitoring.releases --repository ssh://git@…/sluice.git --clone /tmp/releases.git --port 9090

    sluice_release_stage{…,stage}               1 for the stage that it is in, 0 for the others
    sluice_release_{since,deadline}_seconds{…}  when the stage began, and when it times out (none: it does not)
    sluice_release_weight_percent{…,side}       stable, candidate, mirror
    sluice_release_digest{…,side,digest}        1: this digest is released on this side
    sluice_release_paused{…}, sluice_release_holds{…}
    sluice_release_decided_seconds{…,stage,action,verdict}   event time of each stage's newest decisions
    sluice_release_unreadable{environment}      1: its files are nonsense, so nothing else is said about it
    sluice_release_read_seconds                 wall-clock time of this reading

Labels are task and environment besides. It fetches at each scrape and never writes; a repository that cannot be read
fails the scrape. The decisions of an environment are read again only when the repository has a new commit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from sluice.documents.event_time import moment_of
from sluice.documents.state import Stage
from sluice.gitops.fleet import read_fleet
from sluice.gitops.reader import ReleaseReader
from sluice.prometheus.exporter import Sample, expose, in_text
from sluice.release.snapshot import Snapshot
from sluice.rollout.terms import deadline_of


class Releases:
    """
    The series of all environments of a repository.

    Args:
        remote, clone: of the GitOps repository, as of ``read_fleet``.
    """

    def __init__(self, remote: str, clone: Path) -> None:
        self._remote, self._clone = remote, clone
        self._decided: dict[str, list[Sample]] = {}
        self._commit = ""

    def render(self) -> bytes:
        """
        Everything, as of the newest commit.

        Raises:
            SluiceError: the repository cannot be read.
        """
        fleet = read_fleet(self._remote, clone=self._clone)
        if fleet.commit != self._commit:
            self._decided = {name: list(self._decisions(one)) for name, one in fleet.snapshots.items()}
            self._commit = fleet.commit
        samples = [Sample("sluice_release_read_seconds", {}, time.time())]
        samples += [
            Sample("sluice_release_unreadable", {"environment": name}, name in fleet.problems)
            for name in (*fleet.snapshots, *fleet.problems)
        ]
        for name, snapshot in fleet.snapshots.items():
            samples += [*samples_of(snapshot), *self._decided[name]]
        return in_text(samples)

    def _decisions(self, snapshot: Snapshot) -> Iterator[Sample]:
        reader = ReleaseReader(self._remote, snapshot.state.environment, clone=self._clone)
        for decision in reader.latest(snapshot.commit):
            labels = {"stage": decision.stage, "action": decision.action, "verdict": decision.verdict.value}
            when = moment_of(decision.now).timestamp()
            yield Sample("sluice_release_decided_seconds", _about(snapshot) | labels, when)


def samples_of(snapshot: Snapshot) -> Iterator[Sample]:
    """What the release file, the holds and the policy of one environment say."""
    state, labels = snapshot.state, _about(snapshot)
    for stage in get_args(Stage):
        yield Sample("sluice_release_stage", labels | {"stage": stage}, stage == state.stage)
    for name, moment in (("since", state.since), ("deadline", deadline_of(state, snapshot.policy))):
        if moment:
            yield Sample(f"sluice_release_{name}_seconds", labels, moment_of(moment).timestamp())
    weights = {"stable": state.stable_weight, "candidate": state.candidate_weight, "mirror": state.mirror_percent}
    for side, percent in weights.items():
        yield Sample("sluice_release_weight_percent", labels | {"side": side}, percent)
    for side, digest in (("stable", state.stable), ("candidate", state.candidate)):
        if digest:
            yield Sample("sluice_release_digest", labels | {"side": side, "digest": digest}, 1)
    yield Sample("sluice_release_paused", labels, state.paused)
    yield Sample("sluice_release_holds", labels, len(state.holds))


def _about(snapshot: Snapshot) -> dict[str, str]:
    return {"task": snapshot.state.task, "environment": snapshot.state.environment}


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="Expose what Git says is released to Prometheus.")
    parser.add_argument("--repository", required=True, help="URL or path of the GitOps repository")
    parser.add_argument("--clone", type=Path, required=True, help="where the private bare copy lives")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a pod")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    options = parser.parse_args()
    releases = Releases(options.repository, options.clone)
    expose(releases.render, options.host, options.port)


if __name__ == "__main__":
    main()
