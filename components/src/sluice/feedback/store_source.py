"""A store of predictions and labels as a source of evidence: of the join, and of a gate that asks no Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path

from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.errors import BadInput
from sluice.evidence.prediction_source import PredictionSource, Recheck
from sluice.feedback.compaction import LabelCompaction
from sluice.feedback.store import PredictionStore
from sluice.feedback.store_log import StoreLog
from sluice.gates.policy import GatePolicy
from sluice.installation import FEATURE_REPO
from sluice.models.bundle import BundleManifest
from sluice.models.fetch import PREFIX, fetch_manifest
from sluice.tasks.task import Task, load_task

SETTLE = timedelta(seconds=120)
"""What a road takes to follow a release, by default."""


@dataclass
class StoreSource:
    """
    Args:
        store: address of predictions and labels.
        models: address above ``<task>/sha256-<hex>``.
        settings: of the stores.
        task: module of the task, where it is not one of ``sluice.tasks`` of that name.
        settle: see ``sluice.feedback.attribution``.
        features: where the feature tables lie; without it nothing is read again, unless the task has no tables.
        feature_repo: the definitions of those features.
    """

    store: str
    models: str
    settings: Mapping[str, str]
    task: str | None = None
    settle: timedelta = timedelta(0)
    features: str | None = None
    feature_repo: Path = FEATURE_REPO
    _sources: dict[tuple[str, str], tuple[StoreLog, PredictionSource]] = field(default_factory=dict)
    _compactions: dict[tuple[str, str], LabelCompaction] = field(default_factory=dict)

    def read(
        self,
        state: ReleaseState,
        policy: GatePolicy,
        applied: Applied,
        now: datetime,
        synced: datetime | None = None,
    ) -> Evidence:
        """
        The evidence of all that the store has at ``now``.

        Raises:
            BadInput, BadArtifact: an object or a bundle cannot be read.
        """
        return self._of(state)[1].read(state, policy, applied, now, synced)

    def remember(self, state: ReleaseState) -> None:
        """Where nothing is served too, a state must be known to tell later which side an answer was on."""
        self._of(state)[0].remember(state)

    def compact_labels(self, state: ReleaseState, now: datetime) -> None:
        """Some of the housekeeping that is due."""
        key = (state.task, state.environment)
        if key not in self._compactions:
            self._compactions[key] = LabelCompaction(self._of(state)[0].store)
        self._compactions[key].advance(now)

    def _of(self, state: ReleaseState) -> tuple[StoreLog, PredictionSource]:
        key = (state.task, state.environment)
        if key not in self._sources:
            task = load_task(self.task or state.task)
            store = PredictionStore.open(self.store, state.task, state.environment, self.settings, task.target)

            @cache
            def manifest(digest: str) -> BundleManifest:
                address = f"{PREFIX}{self.models}/{state.task}/{digest.replace(':', '-')}"
                return fetch_manifest(address, self.settings)

            log = StoreLog(store, self.settle)
            self._sources[key] = log, PredictionSource(log, task, manifest, self._recheck(task))
        return self._sources[key]

    def _recheck(self, task: Task) -> Recheck | None:
        if not self.features and task.feature_service is not None:
            return None
        from sluice.evidence.recheck import recheck_cells
        from sluice.features.parity import FeatureHistory

        return partial(recheck_cells, history=FeatureHistory.at(task, self.feature_repo, self.features or ""))


def store_source(variables: Mapping[str, str]) -> StoreSource:
    """
    A ``SourceFactory``: ``SLUICE_PREDICTIONS``, ``SLUICE_MODELS`` and, where there are any, ``SLUICE_FEATURES``,
    ``SLUICE_TASK`` (``module:ATTRIBUTE``), ``SLUICE_FEATURE_REPO``; settings of the stores as of ``join``.

    Raises:
        BadInput: an address is missing.
    """
    for name in ("SLUICE_PREDICTIONS", "SLUICE_MODELS"):
        if not variables.get(name):
            raise BadInput(f"environment variable {name}", "is not set", "see docs/gitops.md, sources of evidence")
    return StoreSource(
        variables["SLUICE_PREDICTIONS"],
        variables["SLUICE_MODELS"],
        variables,
        variables.get("SLUICE_TASK"),
        SETTLE,
        variables.get("SLUICE_FEATURES"),
        Path(variables.get("SLUICE_FEATURE_REPO") or FEATURE_REPO),
    )
