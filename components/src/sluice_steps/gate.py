"""Evaluation → verdict of the offline gate; anything but PASS leaves a decision record, and nothing follows."""

from typing import NamedTuple

from kfp import dsl

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, cached=False, repository=True))
def gate(
    gitops: str,
    environment: str,
    now: str,
    run: str,
    policy: str,
    record: str,
    evaluation: dsl.Input[dsl.Artifact],
    decision: dsl.Output[dsl.Artifact],
    verdict: dsl.Output[dsl.Markdown],
) -> NamedTuple("Gate", [("passed", bool), ("reason", str)]):  # type: ignore[valid-type]
    """
    Judge the evaluation by the policy at the GitOps branch's tip, or by ``policy`` where ``gitops`` is empty; ``run``
    (JSON) names the candidate's origin, and its documents are copied to the folder ``record``, if one is named.
    """
    from pathlib import Path

    from sluice.steps.ending import EndingKind, say
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.gate import decide_offline, decided, refusal
    from sluice.steps.patience import patiently

    with exit_on_error():
        places = Path(evaluation.path), Path(decision.path), record
        outcome = patiently(lambda: decide_offline(gitops, environment, now, run, policy, *places))
    decision.metadata.update(verdict=outcome.verdict, id=outcome.id)
    Path(verdict.path).write_text(decided(outcome), "utf-8")
    reason = refusal(outcome)
    say(EndingKind.REFUSED if reason else EndingKind.DONE, reason or f"{outcome.verdict}, decision {outcome.id}")
    return not reason, reason
