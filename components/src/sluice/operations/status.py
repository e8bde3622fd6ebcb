"""What is in production, what is on its way, and what is held: for people and for scripts."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from sluice.gitops.writer import GitOps, Snapshot
from sluice.operations.expectation import expected_end
from sluice.rollout.drain import DRAIN, WAITS
from sluice.rollout.terms import deadline_of, soaked_at, terms_of


def status_of(gitops: GitOps) -> dict[str, Any]:
    """
    The environment's status as plain JSON.

    Keys: ``environment, task, commit, stage, since, stable, candidate`` (digests ``sha256:…`` or null),
    ``stable_weight, candidate_weight, mirror_percent`` (percent), ``held`` (digests), ``holds``, ``waits`` (null
    between rollouts, else ``for``: approval, evidence, or the route where a rollout is over and its candidate's server
    runs on, ``until``: the event time at which the stage times out, or null, ``not_before``: the end of its soak, or
    null, and ``expected``: the event time by which a shadow has probably shown that an equal candidate is no worse, or
    null), ``freezes`` (the policy's: first, last, reason),
    ``decisions`` (the last one of each stage: id, action, verdict, candidate, now), ``promoted_from`` (by side, stable
    and candidate: the environment that it was promoted from, with the decision and the commit that confirmed it there;
    left out where a pipeline run proposed it) and ``break_glass`` (a rollback that Git does not know yet, or null;
    while there is one, Git is not asked, and the state is the last one seen with the rollback done).
    """
    record = gitops.glass.pending_record()
    snapshot = gitops.serving_snapshot()
    state = snapshot.state.model_dump(mode="json")
    last: dict[str, dict[str, str | None]] = {
        decision.stage: {
            "id": decision.id,
            "action": decision.action,
            "verdict": decision.verdict.value,
            "candidate": decision.candidate,
            "now": decision.now,
        }
        for decision in gitops.latest(snapshot.commit)
    }
    return {
        **{key: state[key] for key in ("environment", "task", "stage", "since", "stable", "candidate", "holds")},
        **{key: state[key] for key in ("stable_weight", "candidate_weight", "mirror_percent")},
        "commit": snapshot.commit,
        "held": [hold["digest"] for hold in state["holds"]],
        "waits": _waits(gitops, snapshot),
        "freezes": [freeze.model_dump(mode="json") for freeze in snapshot.policy.freeze],
        "decisions": last,
        "promoted_from": _origins(gitops, snapshot),
        "break_glass": record.model_dump(mode="json") if record else None,
    }


def _origins(gitops: GitOps, snapshot: Snapshot) -> dict[str, dict[str, str]]:
    if snapshot.policy.promote_from is None:
        return {}
    trail = gitops.trail(snapshot.commit)
    origins: dict[str, dict[str, str]] = {}
    for side in ("stable", "candidate"):
        steps = trail.about(snapshot.state.environment, getattr(snapshot.state, side))
        decisions = gitops.records_of(list(steps))
        promotions = [decision.run["promoted_from"] for _, _, decision in decisions if "promoted_from" in decision.run]
        origins |= {side: promotions[0]} if promotions else {}
    return origins


def _waits(gitops: GitOps, snapshot: Snapshot) -> dict[str, str | None] | None:
    state, policy = snapshot.state, snapshot.policy
    if state.leftover:
        return _wait(f"the route: {WAITS}")
    if state.rollout is None:
        return None
    if terms_of(state, policy) is None:
        return _wait("its end: the policy has no such stage")
    until, expected = deadline_of(state, policy), _expected(gitops, snapshot)
    if state.paused:
        return _wait("approval", until, expected=expected)
    return _wait("evidence", until, soaked_at(state, policy), expected)


def _wait(
    reason: str, until: str | None = None, not_before: str | None = None, expected: str | None = None
) -> dict[str, str | None]:
    return {"for": reason, "until": until, "not_before": not_before, "expected": expected}


def _expected(gitops: GitOps, snapshot: Snapshot) -> str | None:
    state = snapshot.state
    if state.paused or not state.is_mirrored:
        return None
    proposal = gitops.proposal_of(state, snapshot.commit)
    return expected_end(state, snapshot.policy.online, proposal.evidence) if proposal else None


def describe(status: dict[str, Any]) -> list[str]:
    """The status as lines for a terminal."""
    weights = f"{status['stable_weight']} / {status['candidate_weight']} %, mirror {status['mirror_percent']} %"
    lines = [
        f"[bold]{status['task']}[/] in {status['environment']}: {status['stage']} since {status['since'] or '–'}",
        f"  stable     {status['stable'] or '–'}{_from(status, 'stable')}",
        f"  candidate  {status['candidate'] or '–'}{_from(status, 'candidate')}",
        f"  traffic    {weights}",
    ]
    if waits := status["waits"]:
        lines.append(f"  waits      {_waiting(waits)}")
    if status["stage"] == DRAIN:
        lines.append(f"             where no gate looks, end it: `sluice settle --env {status['environment']}`")
    lines += [
        f"  frozen     from {freeze['first']} to {freeze['last']}  ({escape(freeze['reason'])})"
        for freeze in status["freezes"]
    ]
    if record := status["break_glass"]:
        text = f"{record['digest']} was rolled back at {record['at']} by {record['by']}; Git does not know it yet"
        lines.append(f"  [red]break-glass[/]  {escape(text)}")
    lines += [f"  held       {hold['digest']}  ({escape(hold['reason'])})" for hold in status["holds"]]
    for stage, decision in status["decisions"].items():
        lines.append(f"  {stage:10} {decision['verdict']} → {decision['action']}  {decision['now']}  {decision['id']}")
    return lines


def _from(status: dict[str, Any], side: str) -> str:
    origin = status["promoted_from"].get(side)
    return f"  (from {origin['environment']}, {origin['decision']})" if origin else ""


def _waiting(waits: dict[str, str | None]) -> str:
    approver = " by a person (`sluice approve`)" if waits["for"] == "approval" else ""
    least = f", not before {waits['not_before']}" if waits["not_before"] else ""
    probably = f", probably until {waits['expected']}" if waits["expected"] else ""
    most = f", at most until {waits['until']}" if waits["until"] else ""
    return f"for {waits['for']}{approver}{least}{probably}{most}"
