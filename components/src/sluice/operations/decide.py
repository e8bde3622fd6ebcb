"""The decision about documents: the same ``advance`` as a rollout's, for other tools and for anyone who doubts it."""

from __future__ import annotations

import re
from pathlib import Path

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import Evidence
from sluice.documents.file import read_document
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision
from sluice.errors import BadInput
from sluice.gates.policy import read_policy
from sluice.operations.why import COLOURS, reason_lines
from sluice.rollout.advance import decided
from sluice.rollout.message import short

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def decide(policy: Path, state: Path, evidence: Path, now: str) -> Decision:
    """
    What a rollout in ``state`` would decide on ``evidence`` at ``now``; its action is ``wait`` where nothing follows.

    Raises:
        BadInput: a document cannot be read, or the policy is for another task or environment than the state.
            Evidence that can be read and does not fit is no error: the decision says INCONCLUSIVE and names why.
    """
    moment = _valid_moment(now)
    rules, policy_digest = read_policy(policy)
    release = read_document(state, ReleaseState, "docs/schemas/release-state.schema.json")
    document = read_document(evidence, Evidence, "docs/schemas/evidence.schema.json")
    if (rules.task, rules.environment) != (release.task, release.environment):
        rule = f"is for {rules.task} {rules.environment}, {state} is {release.task} {release.environment}"
        raise BadInput(str(policy), rule, "name the policy of the same task and environment")
    return decided(release, document, rules, policy_digest, moment, {})


def describe(decision: Decision) -> list[str]:
    """For people, with rich's markup."""
    before, after = decision.before, decision.after
    colour = COLOURS[decision.verdict]
    sides = f"{short(decision.candidate)} against {short(decision.stable)}"
    rows = [
        f"[bold]{decision.task} {decision.environment}, {decision.stage}: {sides}[/bold]",
        f"  [{colour}]{decision.verdict}[/{colour}] → {decision.action}   {decision.id}",
    ]
    rows += reason_lines(decision)
    if before["rollout"] is None:
        rows.append("  no rollout is going on, so there is nothing to decide")
    if after.get("paused") and before != after:
        rows.append("  then waits for a person: `sluice approve`")
    elif before != after:
        rows.append(f"  then {after['stage']}, weights {after['stable_weight']} / {after['candidate_weight']} %")
    return rows


def _valid_moment(now: str) -> str:
    if not _MOMENT.fullmatch(now):
        raise BadInput(f"--now {now!r}", "is not a moment in UTC", "write it like 2013-08-01T05:00:00Z")
    return iso(moment_of(now))
