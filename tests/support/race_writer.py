"""
One writer of a race: ``python -m tests.support.race_writer REMOTE ENVIRONMENT CLONE NAME COUNT``.

Prints a JSON line for each promotion: its id, how it ended (the commit, or the one-line refusal), and how long it took.
With ``SLUICE_RACE_WAITS`` it says first that it is ready, and starts when its standard input ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from pathlib import Path

from sluice.documents.verdict import Decision, Verdict
from sluice.errors import SluiceError
from sluice.gitops.writer import GitOps, Snapshot


def promotion(snapshot: Snapshot, name: str) -> Decision:
    """The canary's next weight, under a name of the writer's choice."""
    state = snapshot.state
    weight = 1 + (state.candidate_weight + 1) % 98
    moved = {"sequence": state.sequence + 1, "candidate_weight": weight, "stable_weight": 100 - weight}
    before = state.model_dump(mode="json")
    return Decision(
        id=f"canary-{name}",
        task=state.task,
        environment=state.environment,
        stage="canary",
        action="set-weight",
        verdict=Verdict.PASS,
        candidate=state.candidate,
        stable=state.stable,
        reasons=(),
        now="2020-01-02T00:00:00Z",
        evidence_digest="sha256:" + "1" * 64,
        policy_digest=snapshot.policy_digest,
        before=before,
        after=before | moved,
    )


def main(remote: str, environment: str, clone: str, name: str, count: str) -> None:
    """Make ``count`` promotions, one after the other."""
    gitops = GitOps(remote, environment, clone=Path(clone), seed=zlib.crc32(name.encode()))
    if "SLUICE_RACE_WAITS" in os.environ:
        gitops.snapshot()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
    for number in range(int(count)):
        made, started = f"{name}-{number:03d}", time.perf_counter()
        try:
            written = gitops.commit(lambda snapshot, made=made: promotion(snapshot, made))  # type: ignore[misc]
            ended = written.commit if written else ""
        except SluiceError as error:
            ended = str(error)
        row = {"id": f"canary-{made}", "ended": ended, "seconds": time.perf_counter() - started}
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
