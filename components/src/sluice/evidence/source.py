"""Where evidence comes from: the one question that a gate asks, whoever answers it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState

if TYPE_CHECKING:
    from sluice.gates.policy import GatePolicy


class EvidenceSource(Protocol):
    """
    ``sluice.evidence.prediction_source`` reads the local log, ``sluice.prometheus.source`` a Prometheus.

    What a source cannot say, or is told badly, becomes a line of ``Evidence.problems`` and never a number: the gate
    answers INCONCLUSIVE and asks again at its next look.
    """

    def read(self, state: ReleaseState, policy: GatePolicy, applied: Applied, now: datetime) -> Evidence:
        """
        All that is known at ``now`` about the stage that ``state`` is in.

        Args:
            applied: what the servers and the road say themselves, read back.
            now: event time, UTC; in a cluster the wall clock.
        """
