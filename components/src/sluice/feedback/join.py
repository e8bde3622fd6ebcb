"""
Join what a collector stored with the labels that are in, again and again: the evidence that a cluster's gate asks for.

    python -m sluice.feedback.join --store s3://predictions --models s3://models --release /etc/sluice/release \
        --policy /etc/sluice/environment/gate-policy.yaml --output /evidence/joined.json [--every 60] [--settle 120] \
        [--features s3://features/TASK] [--feature_repo /app/feature_repo]

    --release    the ConfigMap `release` as a directory: a file a key
    --output     the evidence document; ``sluice.prometheus.exposition`` shows it to Prometheus
    --features   a folder or s3:// address above ``offline/<view>.parquet``, from which the features that servers read
                 online came: a sample is read again from there; SLUICE_FEATURES when left out, and no parity without

Nothing is written where the join fails: the document grows old, and a gate takes an old join for none. Credentials and
endpoints come from the environment, as of ``sluice.object_store``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sluice.content import write_bytes
from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.errors import BadInput, SluiceError
from sluice.evidence.collect import evidence_about
from sluice.evidence.measurements.points import PointIndex
from sluice.evidence.measurements.registry import part_of_points
from sluice.feedback.store_source import SETTLE, StoreSource
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.installation import FEATURE_REPO
from sluice.release.file import state_of_literals


@dataclass
class Join:
    """
    The join of one environment.

    Args:
        source: predictions and labels.
        release: directory with the release state, a file a key.
        policy: the gate policy.
        output: where the evidence document goes.
    """

    source: StoreSource
    release: Path
    policy: Path
    output: Path

    def once(self, now: datetime) -> Evidence:
        """
        Write the evidence of all that is known at ``now``, whole or not at all, and return it.

        Raises:
            BadInput, BadArtifact, Unavailable: the release, the policy, an object or a bundle cannot be read.
        """
        state, policy = self._state(), self._policy()
        if not state.arms:
            self.source.remember(state)
            evidence = _empty_evidence(state, now)
        else:
            evidence = self.source.read(state, policy, Applied.of("", state), now)
        write_bytes(self.output, evidence.model_dump_json().encode())
        return evidence

    def tidy(self, now: datetime) -> None:
        """Some of the store's housekeeping; raises as ``once``."""
        self.source.compact_labels(self._state(), now)

    def _state(self) -> ReleaseState:
        """A mounted ConfigMap is replaced as a whole by one symbolic link, so what it points to is read."""
        try:
            folder = self.release.resolve(strict=True)
            behind = folder / "..data"
            folder = behind.resolve(strict=True) if behind.exists() else folder
            values = {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}
        except OSError as error:
            raise BadInput(str(self.release), f"cannot be read ({error.strerror})", "mount the ConfigMap") from error
        return state_of_literals(values, str(self.release))

    def _policy(self) -> GatePolicy:
        try:
            return parse_policy(self.policy.read_bytes(), str(self.policy))
        except OSError as error:
            raise BadInput(str(self.policy), f"cannot be read ({error.strerror})", "mount the policy") from error


def _empty_evidence(state: ReleaseState, now: datetime) -> Evidence:
    """Where nothing is served; the time of the join still shows that somebody would look."""
    return evidence_about(state, Applied.of("", state), iso(now), [part_of_points(PointIndex())])


def _summary(evidence: Evidence, *, rechecks: bool) -> str:
    """One line about a join."""
    summary = f"joined {evidence.stage} of {evidence.task}/{evidence.environment} at {evidence.now}"
    if not evidence.arms:
        return summary
    if not rechecks:
        return f"{summary}; no parity, for no feature store is named (--features)"
    if evidence.cells is None:
        return f"{summary}; no parity, for nothing has been answered yet"
    cells = evidence.cells
    return f"{summary}; {cells.different} of {cells.compared} served cells differ, {cells.excluded} cannot be compared"


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Join predictions and labels of a store to evidence.")
    parser.add_argument("--store", required=True, help="s3://bucket/prefix or file:///directory of the collector")
    parser.add_argument("--models", required=True, help="s3://bucket of the bundles")
    parser.add_argument("--release", type=Path, required=True, help="the ConfigMap `release`, a file a key")
    parser.add_argument("--policy", type=Path, required=True, help="the environment's gate policy")
    parser.add_argument("--output", type=Path, required=True, help="the evidence document")
    parser.add_argument("--task", help="module:ATTRIBUTE, where the task is none of sluice.tasks")
    parser.add_argument("--every", type=float, default=60, help="seconds between two joins; 0 joins once")
    settle = SETTLE.total_seconds()
    parser.add_argument("--settle", type=float, default=settle, help="seconds that the road takes to follow a release")
    features = os.environ.get("SLUICE_FEATURES")
    parser.add_argument("--features", default=features, help="folder or s3:// address of the feature tables")
    parser.add_argument("--feature_repo", type=Path, default=FEATURE_REPO, help="definitions of the features")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Join until killed; a join that fails is said in one line and tried again."""
    options = _arguments(argv)
    settle = timedelta(seconds=options.settle)
    source = StoreSource(
        options.store, options.models, os.environ, options.task, settle, options.features, options.feature_repo
    )
    join = Join(source, options.release, options.policy, options.output)
    while True:
        code = 0
        try:
            evidence = join.once(datetime.now(UTC))
            sys.stdout.write(f"{_summary(evidence, rechecks=bool(options.features))}\n")
            sys.stdout.flush()
            join.tidy(datetime.now(UTC))
        except SluiceError as error:
            sys.stderr.write(f"join: {error}\n")
            code = error.exit_code
        if not options.every:
            return code
        time.sleep(options.every)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
