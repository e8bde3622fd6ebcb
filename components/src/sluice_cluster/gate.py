"""
One look at one environment from inside its cluster: what ``make run`` does after each window of traffic.

    repository ─┬─ a rollout ──► approval merged, or: read back ─► evidence ─► look ─┬─► at most one commit
                └─ none ───────► read back ─► housekeeping, or what the environment before confirmed ─┘

Where the effect is not what Git says, Argo CD is asked to compare them now, in every stage.

Nothing is decided here; that is ``sluice.rollout.advance``. A gate keeps nothing but the newest commit that it saw:
killed at any moment, the next one looks again, and what it would commit twice is one commit.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.state import Applied, ReleaseState
from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.errors import BadArtifact, BadInput, Refused, SluiceError
from sluice.evidence.history import with_history
from sluice.evidence.source import EvidenceSource, evidence_from
from sluice.git.command import GitFailed
from sluice.gitops.writer import GitOps, UnreachableError
from sluice.operations.approve import approve_merged
from sluice.operations.promote import promote
from sluice.operations.why import run_of
from sluice.release.snapshot import Snapshot
from sluice.rollout.advance import decided, look
from sluice.rollout.drain import WAITS, remove_server
from sluice.rollout.effect import judge_effect
from sluice.rollout.watch import watch
from sluice.stages.stage import SIDES
from sluice_cluster.api import KubernetesCluster
from sluice_cluster.applied import ReadBack, read_back
from sluice_cluster.cluster import Asking, Cluster, NotApplied
from sluice_cluster.memory import look_with_memory
from sluice_cluster.pods import ask_pod
from sluice_cluster.settings import Settings

_GRACE = timedelta(minutes=15)
"""From a commit until its effect is overdue: a step takes minutes, with servers that start."""
_PATIENCE_SECONDS, _PAUSE_SECONDS = 30.0, 2.0
_NOTHING = ReadBack(
    Applied(commit="", stable=None, candidate=None, stable_weight=0, candidate_weight=0, mirror_percent=0), ()
)
"""Stands for what could not be read back: no rollout's state is ever that, so no step counts as done."""


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Gate:
    """
    Args:
        gitops: the environment's repository.
        cluster: what is asked for the effect.
        namespace: of the environment.
        source: where evidence comes from.
        ask: how a pod is asked for its digest.
        patience_s: how long a cluster that is on its way, has lost a side, or does not answer, is asked again.
        clock: the wall clock, UTC, whole seconds.
    """

    gitops: GitOps
    cluster: Cluster
    namespace: str
    source: EvidenceSource
    ask: Asking = ask_pod
    patience_s: float = _PATIENCE_SECONDS
    clock: Callable[[], datetime] = _now

    def look(self) -> dict[str, Any]:
        """
        Judge what is known now, commit what that decides, and say so; without a rollout, propose one where one is due.

        While the effect cannot be read back, evidence has that as a problem: it promotes nothing, and the end of the
        stage's time still ends the rollout.

        Returns:
            plain JSON: ``environment, stage, candidate, action, verdict, reasons`` (rule, verdict and text), ``commit``
            (of the decision; of the state where nothing was written), ``decision`` (its id, or null), ``rollout`` and
            ``sequence`` (that it is about, and that is released from then on), ``cluster`` (why the effect could not
            be read back, or null), ``difference`` (how the effect differs from Git, or null), ``alarm`` (the same
            where it has lasted for longer than a step takes, and what fails of the stable model between rollouts, else
            null) and, between rollouts, ``watch`` (what is said of the stable model, as ``reasons``).

        Raises:
            BadInput, BadArtifact, Busy: as ``GitOps``; nothing was written by halves.
        """
        snapshot = self.gitops.snapshot()
        state = snapshot.state
        if state.rollout and (approved := self._approve(snapshot)):
            return approved
        effect, hindrance = self._read_back(state)
        difference = self._compare(state, effect, hindrance)
        if state.rollout is None:
            outcome = self._drain(snapshot, effect) if state.leftover else self._promote(snapshot)
            return outcome | self._watch(snapshot, effect, hindrance, difference)
        return self._judge(snapshot, effect, hindrance) | difference

    def _judge(self, snapshot: Snapshot, effect: ReadBack, hindrance: str | None) -> dict[str, Any]:
        """Commit what the evidence about a rollout decides."""
        state, now = snapshot.state, self.clock()
        evidence = self._evidence(snapshot, effect, hindrance, now)
        run = run_of(self.gitops, self.gitops.trail(snapshot.commit), state.candidate)

        def decide(fresh: Snapshot) -> Decision | None:
            return look(fresh, evidence, iso(now), run)

        if write := self.gitops.commit(decide):
            return _message(write.commit, state, **_words(write.decision), **_put(write.decision))
        waiting = decided(state, evidence, snapshot.policy, snapshot.policy_digest, iso(now), run)
        return _message(snapshot.commit, state, **_words(waiting))

    def _compare(self, state: ReleaseState, effect: ReadBack, hindrance: str | None) -> dict[str, str | None]:
        """How the effect differs from what Git says; where it does, Argo CD is asked to look at both."""
        reason = judge_effect(state, effect.applied)
        difference = hindrance or (None if reason.verdict is Verdict.PASS else reason.text)
        alarm = None
        if difference:
            try:
                self.cluster.refresh(self._application)
            except NotApplied as error:
                difference = f"{difference}; and Argo CD takes no refresh ({error})"
            lasted = self.clock() - moment_of(state.since) if state.since else timedelta()
            alarm = difference if lasted > _GRACE else None
        return {"cluster": hindrance, "difference": difference, "alarm": alarm}

    def _watch(
        self, snapshot: Snapshot, effect: ReadBack, hindrance: str | None, difference: dict[str, str | None]
    ) -> dict[str, Any]:
        """What is said of the stable model, and of the effect; what fails is an alarm, and nothing else follows."""
        if snapshot.state.stable is None:
            return difference
        now = self.clock()
        evidence = self._evidence(snapshot, effect, hindrance, now)
        reasons = watch(snapshot.state, evidence, snapshot.policy, iso(now))
        failed = [f"{one.rule}: {one.text}" for one in reasons if one.verdict is Verdict.FAIL]
        alarm = "; ".join(filter(None, (difference["alarm"], *failed))) or None
        return difference | {"watch": _plain(reasons), "alarm": alarm}

    def _drain(self, snapshot: Snapshot, effect: ReadBack) -> dict[str, Any]:
        """
        Take the server of a rollout that is over away, where a sync of its end is what was read back.

        Until then nothing is proposed from here either: another model would take the server's place while requests may
        still be sent to it.
        """

        def decide(fresh: Snapshot) -> Decision | None:
            return remove_server(fresh, effect.applied, iso(self.clock())) if fresh.state == snapshot.state else None

        if self._is_in_stage(snapshot.state, effect.applied.commit) and (write := self.gitops.commit(decide)):
            return _message(write.commit, snapshot.state, **_words(write.decision), **_put(write.decision))
        return _message(snapshot.commit, snapshot.state, snapshot.state.stage, WAITS)

    def _promote(self, snapshot: Snapshot) -> dict[str, Any]:
        """Propose what the environment before this one confirmed, where the policy names one."""
        if snapshot.policy.promote_from is None:
            return _message(snapshot.commit, snapshot.state, "rollout", "no rollout is going on")
        promotion = promote(self.gitops, iso(self.clock()))
        if (decision := promotion.decision) is None:
            return _message(snapshot.commit, snapshot.state, "promote", promotion.text)
        return _message(self.gitops.snapshot().commit, snapshot.state, **_words(decision), **_put(decision))

    def _approve(self, snapshot: Snapshot) -> dict[str, Any] | None:
        """The step that a merged approval allows; one that is none, or forbidden, keeps no look from its work."""
        try:
            decision = approve_merged(self.gitops, iso(self.clock()))
        except (Refused, BadArtifact) as error:
            logging.getLogger(__name__).warning("%s", error)
            return None
        if decision is None:
            return None
        return _message(self.gitops.snapshot().commit, snapshot.state, **_words(decision), **_put(decision))

    @property
    def _application(self) -> str:
        return f"sluice-{self.gitops.environment}"

    def _read_back(self, state: ReleaseState) -> tuple[ReadBack, str | None]:
        """What is in effect, or nothing and why that is not known; between rollouts nothing waits for it."""
        end = time.monotonic() + (self.patience_s if state.rollout else 0)
        while True:
            effect, hindrance = self._read_once(state)
            is_lost = any(getattr(state, side) and not getattr(effect.applied, side) for side in SIDES)
            if not is_lost or time.monotonic() >= end:
                return effect, hindrance
            time.sleep(min(_PAUSE_SECONDS, self.patience_s))

    def _read_once(self, state: ReleaseState) -> tuple[ReadBack, str | None]:
        about = self._application, self.namespace, state.task, self.ask, state.answering
        try:
            return read_back(self.cluster, *about), None
        except NotApplied as error:
            return _NOTHING, str(error)

    def _evidence(self, snapshot: Snapshot, read: ReadBack, hindrance: str | None, now: datetime) -> Evidence:
        state = snapshot.state
        evidence = evidence_from(self.source, state, snapshot.policy, read.applied, now, self._synced(state, read))
        if proposal := self.gitops.proposal_of(state, snapshot.commit):
            evidence = with_history(evidence, proposal.evidence)
        problems = (f"cluster: {hindrance}",) if hindrance else ()
        return evidence.model_copy(update={"problems": (*problems, *evidence.problems)})

    def _synced(self, state: ReleaseState, read: ReadBack) -> datetime | None:
        """The end of the first sync of a revision in which the stage stands; an older one may end after its start."""
        return min((sync.ended for sync in read.synced if self._is_in_stage(state, sync.revision)), default=None)

    def _is_in_stage(self, state: ReleaseState, revision: str) -> bool:
        try:
            there = self.gitops.state(revision)
        except (SluiceError, GitFailed):
            return False  # a revision of another branch, or from before these files
        return all(getattr(there, key) == getattr(state, key) for key in ("rollout", "stage", "step", "since"))


def _words(decision: Decision) -> dict[str, Any]:
    return {"action": decision.action, "verdict": decision.verdict.value, "reasons": _plain(decision.reasons)}


def _plain(reasons: Iterable[Reason]) -> list[dict[str, str]]:
    return [{"rule": one.rule, "verdict": one.verdict.value, "text": one.text} for one in reasons]


def _put(decision: Decision) -> dict[str, Any]:
    """The decision, its rollout, and the release that it put in place: servers say these two in their lines too."""
    rollout = decision.after.get("rollout") or decision.before.get("rollout")
    return {"decision": decision.id, "rollout": rollout, "sequence": decision.after.get("sequence")}


def _message(commit: str, state: ReleaseState, rule: str = "", text: str = "", **words: Any) -> dict[str, Any]:
    quiet = {"action": "wait", "verdict": None, "reasons": [{"rule": rule, "verdict": None, "text": text}]}
    keys = ("environment", "stage", "candidate", "rollout", "sequence")
    about: dict[str, Any] = {key: getattr(state, key) for key in keys}
    effect = dict.fromkeys(("cluster", "difference", "alarm"))
    return about | quiet | {"commit": commit, "decision": None} | effect | words


def look_once(settings: Settings, cluster: KubernetesCluster) -> dict[str, Any]:
    """
    ``Gate.look`` with a clone that is gone afterwards, and what the cluster remembers of the last one.

    Raises:
        BadInput: also where the repository does not answer.
        HistoryRewrittenError, NotApplied: as ``look_with_memory``.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-gate-") as scratch:
        gitops = GitOps(settings.repository, settings.environment, clone=Path(scratch) / "repository")
        gate = Gate(gitops, cluster, settings.namespace, settings.source)
        try:
            return look_with_memory(gitops, cluster, settings.namespace, gate.look)
        except UnreachableError as error:
            raise BadInput(error.thing, error.rule, "see the Git host and the key; the next run looks again") from error
