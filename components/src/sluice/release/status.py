"""What is in production, what is on its way, and what is held: for people and for scripts."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from sluice.release.gitops import GitOps


def status_of(gitops: GitOps) -> dict[str, Any]:
    """
    The environment's status as plain JSON.

    Keys: ``environment, task, commit, stage, since, stable, candidate`` (digests ``sha256:…`` or null),
    ``stable_weight, candidate_weight, mirror_percent`` (percent), ``held`` (digests), ``holds``, ``decisions`` (the
    last one of each stage: id, action, verdict, candidate, now) and ``break_glass`` (a rollback that Git does not know
    yet, or null; while there is one, Git is not asked, and the state is the last one seen with the rollback done).
    """
    record = gitops.glass.standing()
    snapshot = gitops.served()
    state = snapshot.state.model_dump(mode="json")
    last: dict[str, dict[str, str | None]] = {
        made.stage: {
            "id": made.id,
            "action": made.action,
            "verdict": made.verdict.value,
            "candidate": made.candidate,
            "now": made.now,
        }
        for made in gitops.latest(snapshot.commit)
    }
    return {
        **{key: state[key] for key in ("environment", "task", "stage", "since", "stable", "candidate", "holds")},
        **{key: state[key] for key in ("stable_weight", "candidate_weight", "mirror_percent")},
        "commit": snapshot.commit,
        "held": [hold["digest"] for hold in state["holds"]],
        "decisions": last,
        "break_glass": record.model_dump(mode="json") if record else None,
    }


def describe(status: dict[str, Any]) -> list[str]:
    """The status as lines for a terminal."""
    weights = f"{status['stable_weight']} / {status['candidate_weight']} %, mirror {status['mirror_percent']} %"
    lines = [
        f"[bold]{status['task']}[/] in {status['environment']}: {status['stage']} since {status['since'] or '–'}",
        f"  stable     {status['stable'] or '–'}",
        f"  candidate  {status['candidate'] or '–'}",
        f"  traffic    {weights}",
    ]
    if record := status["break_glass"]:
        told = f"{record['digest']} was rolled back at {record['at']} by {record['by']}; Git does not know it yet"
        lines.append(f"  [red]break-glass[/]  {escape(told)}")
    lines += [f"  held       {hold['digest']}  ({escape(hold['reason'])})" for hold in status["holds"]]
    for stage, made in status["decisions"].items():
        lines.append(f"  {stage:10} {made['verdict']} → {made['action']}  {made['now']}  {made['id']}")
    return lines
