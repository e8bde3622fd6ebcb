"""What the gate does after a rollout: reads the route back, and takes the other server away."""

from __future__ import annotations

from sluice.gitops.writer import GitOps
from sluice.rollout.drain import remove_server
from tests.support.release import applied_of


def take_leftover_away(gitops: GitOps, now: str) -> None:
    """As once the route was read back; nothing where nothing is left over."""
    gitops.commit(lambda snapshot: remove_server(snapshot, applied_of(snapshot.state), now))
