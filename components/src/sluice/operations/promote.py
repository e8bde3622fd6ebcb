"""
Promotion between environments: what one environment confirmed is proposed in the next, by that one's own policy.

    dev ── confirmed ──► staging ── confirmed ──► prod

A policy names the environment that its candidates come from (``promote_from``). Nothing is measured again offline: the
evaluation that the digest was proposed with travels in the record, and this environment's rules are asked of it. Live
traffic is asked anew, by every stage that this environment's policy has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sluice.documents.evaluation import Evaluation
from sluice.documents.event_time import iso, moment_of
from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.errors import BadInput
from sluice.gates.offline import judge
from sluice.gates.policy import GatePolicy
from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.good_models import good_models
from sluice.operations.operator import check_text
from sluice.release.snapshot import paths_of
from sluice.rollout.advance import propose
from sluice.rollout.message import short
from sluice.rollout.terms import frozen

_NO_CURVES = {"curves": {"roc": (), "precision_recall": (), "reliability": ()}}
"""Records leave the points of an evaluation's curves out; no rule reads them."""


@dataclass(frozen=True)
class Origin:
    """
    A digest as the environment that it comes from knows it.

    Attributes:
        environment: which one.
        digest: its stable model.
        decision, commit: what confirmed it.
        evidence: the offline evaluation that it was proposed with there, as plain JSON; empty where none is on record.
        run: the pipeline run that made it.
    """

    environment: str
    digest: str
    decision: str
    commit: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Promotion:
    """
    What came of a proposal, or of asking for a promotion.

    Attributes:
        decision: the proposal as it is in Git: a rollout's start, or a refusal with its reasons, which may be of an
            earlier call that asked the same; ``None`` where nothing was written.
        text: one sentence for people.
        forbidden: a rule forbids it, so that asking again changes nothing by itself.
    """

    decision: Decision | None
    text: str
    forbidden: bool

    @classmethod
    def of(cls, decision: Decision) -> Promotion:
        """What a decision in Git says."""
        refused = [reason for reason in decision.reasons if reason.verdict is not Verdict.PASS]
        why = "".join(f"; {reason.verdict} by {reason.rule}: {reason.text}" for reason in refused[:1])
        return cls(decision, f"{decision.action}: {decision.candidate}{why}", forbidden=decision.action == "refuse")


def promote(gitops: GitOps, now: str, again: tuple[str, str] | None = None) -> Promotion:
    """
    Propose here what the environment that the policy names has confirmed: one commit, or none.

    Called again, after a kill too, it finds its rollout going on and writes nothing; a refusal is written once for each
    policy, evaluation and confirmation.

    Args:
        gitops: the environment that is promoted into.
        now: event time of the proposal, ISO 8601.
        again: who asks, and why, to try a digest once more whose rollout ended here before.

    Raises:
        BadInput: the policy names no environment, one that is not there or is about another task, or a circle of them;
            ``now`` is no moment, or what ``again`` says is not plain text.
        BadArtifact, Busy: as ``GitOps.commit``.
    """
    for name, text in zip(("by", "reason"), again or (), strict=False):
        check_text(name, text)
    moment, outcome = iso(moment_of(now)), [Promotion(None, "", forbidden=False)]

    def decide(here: Snapshot) -> Decision | None:
        sources = _sources(gitops, here)
        origin = _origin(sources[0], here.commit)
        earlier = _proposed(gitops, here, origin.digest) if origin else []
        obstacle = _obstacle(here, origin, sources, earlier, again, moment)
        if obstacle or origin is None:
            outcome[0] = obstacle or outcome[0]
            return None
        refusal = None if again else _refused(here.policy_digest, origin, earlier)
        return refusal or _proposal(here, origin, again, moment)

    commit = gitops.commit(decide)
    if commit is None:
        return outcome[0]
    return Promotion.of(commit.decision)


def _sources(gitops: GitOps, here: Snapshot) -> list[GitOps]:
    """The environments that candidates come through, the nearest first, all as of the commit of ``here``."""
    names, policy = [gitops.environment], here.policy
    sources: list[GitOps] = []
    while policy.promote_from is not None or not sources:
        path, name = paths_of(names[-1])[2], policy.promote_from
        if name is None:
            raise BadInput(f"{path}: promote_from", "is not there", "name the environment that candidates come from")
        if name in names:
            circle = " <- ".join([*names, name])
            raise BadInput(f"{path}: promote_from", f"goes in a circle ({circle})", "let one of them name none")
        try:
            source = GitOps(gitops.remote, name, clone=gitops.clone.directory)
            there = source.snapshot(here.commit)
        except BadInput as error:
            raise BadInput(f"{path}: promote_from", f"{error.thing} {error.rule}", error.fix) from error
        if there.policy.task != here.policy.task:
            rule = f"names {name}, which is about {there.policy.task}, not {here.policy.task}"
            raise BadInput(f"{path}: promote_from", rule, "name an environment of the same task")
        names.append(name)
        sources.append(source)
        policy = there.policy
    return sources


def _origin(source: GitOps, commit: str) -> Origin | None:
    """What confirmed the stable model of an environment; ``None`` where none is stable, or none that is good."""
    snapshot = source.snapshot(commit)
    digest = snapshot.state.stable
    if digest not in good_models(source, snapshot):
        return None
    steps = list(source.trail(commit).about(source.environment, digest)) if digest else []
    place = next((place for place, step in enumerate(steps) if step.before != step.after == digest), None)
    if digest is None or place is None:
        return None
    decisions = {step.commit: decision for step, _, decision in source.records_of(steps[place:])}
    confirmed = decisions.pop(steps[place].commit, None)
    if confirmed is None:
        return None
    proposals = (each for each in decisions.values() if each.stage == "offline" and each.after != each.before)
    proposal = next(proposals, None)
    carried = {"evidence": proposal.evidence, "run": proposal.run} if proposal else {}
    return Origin(source.environment, digest, confirmed.id, steps[place].commit, **carried)


def _proposed(gitops: GitOps, here: Snapshot, digest: str) -> list[Decision]:
    """Every proposal of a digest in this environment, the newest first."""
    steps = list(gitops.trail(here.commit).about(gitops.environment, digest))
    return [decision for _, _, decision in gitops.records_of(steps) if decision.stage in ("offline", "propose")]


def _obstacle(
    here: Snapshot,
    origin: Origin | None,
    sources: Sequence[GitOps],
    earlier: Sequence[Decision],
    again: tuple[str, str] | None,
    now: str,
) -> Promotion | None:
    """Why nothing is proposed; ``None`` where nothing stands in the way."""
    name = sources[0].environment
    if origin is None:
        return Promotion(None, f"{name} has no stable model that a decision confirmed", forbidden=False)
    state, digest, who = here.state, origin.digest, short(origin.digest)
    if digest in (state.stable, state.candidate):
        place = "the stable model" if digest == state.stable else f"in {state.stage}"
        return Promotion(None, f"{who} of {name} is {place} in {state.environment} already", forbidden=False)
    ice = frozen(here.policy, now)
    if text := ice.text if ice else _forbidden(here, origin, sources, earlier, again):
        return Promotion(None, f"{who} of {name} is not proposed in {state.environment}: {text}", forbidden=True)
    return None


def _forbidden(
    here: Snapshot,
    origin: Origin,
    sources: Sequence[GitOps],
    earlier: Sequence[Decision],
    again: tuple[str, str] | None,
) -> str | None:
    state, digest = here.state, origin.digest
    if state.rollout:
        return f"{short(state.candidate)} is in {state.stage}, one rollout at a time"
    for there in (here.state, *(source.snapshot(here.commit).state for source in sources)):
        if hold := there.held(digest):
            return f"held in {there.environment} since {hold.at} by {hold.by}: {hold.reason}"
    for source in sources:
        if (record := source.glass.pending_record()) and record.digest == digest:
            return f"a break-glass rollback of it in {source.environment} waits for Git"
    start = next((decision for decision in earlier if decision.before != decision.after), None)
    if start and not again:
        return f"its rollout of {start.now} ({start.id}) ended; a person may ask for it again (`--again`)"
    return None


def _refused(policy_digest: str, origin: Origin, earlier: Sequence[Decision]) -> Decision | None:
    """The refusal on record that asking now would only repeat."""
    for decision in earlier:
        confirmation = decision.run.get("promoted_from", {}).get("decision")
        unchanged = decision.before == decision.after
        if unchanged and (decision.policy_digest, confirmation) == (policy_digest, origin.decision):
            return decision
    return None


def _proposal(here: Snapshot, origin: Origin, again: tuple[str, str] | None, now: str) -> Decision:
    confirmed = f"stable in {origin.environment}, confirmed by {origin.decision} in commit {origin.commit[:12]}"
    reasons = [Reason.plain("promoted", Verdict.PASS, confirmed)]
    reasons += [Reason.plain("person", Verdict.PASS, ": ".join(again))] if again else []
    provenance = {"environment": origin.environment, "decision": origin.decision, "commit": origin.commit}
    run = {**origin.run, "promoted_from": provenance}
    return propose(here, origin.digest, [*reasons, *_reasons_of(origin, here)], origin.evidence, run, now)


def _reasons_of(origin: Origin, here: Snapshot) -> list[Reason]:
    """
    What this environment's offline rules say of the evaluation that the digest was proposed with.

    Its ``production`` is what was stable in the environment of the pipeline's run. Where another model is stable here,
    that is said: rules against production then hold the candidate against a model that passed the same gates, and the
    online stages against the one that is served here.
    """
    try:
        evaluation = Evaluation.model_validate({**origin.evidence, **_NO_CURVES})
    except ValidationError:
        text = f"no offline evaluation of {short(origin.digest)} is on record in {origin.environment}"
        return [Reason.plain("evaluation", Verdict.INCONCLUSIVE, text)]
    return offline_reasons(evaluation, here)


def offline_reasons(evaluation: Evaluation, here: Snapshot) -> list[Reason]:
    """What an environment's offline rules say of an evaluation, and how its ``production`` is the model here."""
    return [*judge(evaluation, here.policy), *_production(evaluation, here.policy, here.state.stable)]


def _production(evaluation: Evaluation, policy: GatePolicy, stable: str | None) -> list[Reason]:
    if stable is None or all(rule.against != "production" for rule in policy.offline):
        return []
    if evaluation.production is None:
        text = f"it was never compared with a production model, and {short(stable)} is stable here"
        return [Reason.plain("production", Verdict.INCONCLUSIVE, text)]
    if evaluation.production.digest == stable:
        return []
    comparison = f"offline it was compared with {short(evaluation.production.digest)}; {short(stable)} is stable here"
    return [Reason.plain("production", Verdict.PASS, f"{comparison}, and the online stages compare with that")]
