"""Where evidence comes from: the one question that a gate asks, whoever answers it, and who that is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.errors import BadInput, SluiceError
from sluice.evidence.collect import evidence_about
from sluice.evidence.measurements.points import PointIndex
from sluice.evidence.measurements.registry import part_of_points

if TYPE_CHECKING:
    from sluice.gates.policy import GatePolicy

SETTING = "SLUICE_EVIDENCE_SOURCE"
GROUP = "sluice.evidence_sources"
"""Entry points by name; each is a ``SourceFactory``."""


@runtime_checkable
class EvidenceSource(Protocol):
    """
    ``sluice.evidence.prediction_source`` reads a prediction log, ``sluice.prometheus.source`` a Prometheus.

    What a source cannot say, or is told badly, becomes a line of ``Evidence.problems`` and never a number: the gate
    answers INCONCLUSIVE and asks again at its next look.
    """

    def read(
        self,
        state: ReleaseState,
        policy: GatePolicy,
        applied: Applied,
        now: datetime,
        synced: datetime | None = None,
    ) -> Evidence:
        """
        All that is known at ``now`` about the stage that ``state`` is in.

        Args:
            applied: what the servers and the road say themselves, read back.
            now: event time, UTC; in a cluster the wall clock.
            synced: when the cluster first did what the stage says, where that is known. Until then traffic went as the
                stage before said: a source that cannot tell such requests by their marks leaves them out.
        """


def evidence_from(
    source: EvidenceSource,
    state: ReleaseState,
    policy: GatePolicy,
    applied: Applied,
    now: datetime,
    synced: datetime | None,
) -> Evidence:
    """
    As ``source.read``, but what it raises is a problem too: a rollout must end in time whatever a source does.

    Of an error that is not ours only the type is told, since its text may carry credentials.
    """
    try:
        return source.read(state, policy, applied, now, synced)
    except SluiceError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001  sources may be anybody's
        problem = f"{type(source).__name__}: failed with {type(error).__name__}"
    return evidence_about(state, applied, iso(now), [part_of_points(PointIndex())], problems=(problem,))


SourceFactory = Callable[[Mapping[str, str]], EvidenceSource]
"""Makes a source from environment variables; raises BadInput for one that is missing or wrong."""


def source_of(variables: Mapping[str, str]) -> EvidenceSource:
    """
    The source that ``SLUICE_EVIDENCE_SOURCE`` names: one of ``GROUP``, or ``module:factory``; a Prometheus by default.

    Raises:
        BadInput: it is not known, cannot be loaded, or lacks a setting of its own.
    """
    name = variables.get(SETTING) or "prometheus"
    source = _factory(name)(variables)
    if not isinstance(source, EvidenceSource):
        raise BadInput(SETTING, f"is {name!r}, which makes a {type(source).__name__}", "let it have read(), see docs")
    return source


def _factory(name: str) -> SourceFactory:
    sources = {point.name: point.value for point in entry_points(group=GROUP)}
    module, _, attribute = sources.get(name, name).partition(":")
    if not attribute:
        raise BadInput(SETTING, f"is {name!r}", f"write {', '.join(sorted(sources))}, or module:factory")
    try:
        factory: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise BadInput(SETTING, f"is {name!r}, which cannot be loaded ({error})", "write module:factory") from error
    return factory  # type: ignore[no-any-return]
