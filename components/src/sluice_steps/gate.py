"""Evaluation → verdict of the offline gate; anything but PASS stops the pipeline and leaves a decision record."""

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
) -> bool:
    """
    Judge the evaluation by the policy at the GitOps branch's tip, or by ``policy`` where ``gitops`` is empty; ``run``
    (JSON) names the candidate's origin, and its documents are copied to the folder ``record``, if one is named.
    """
    from pathlib import Path

    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.gate import decide_offline

    with exit_on_error():
        outcome = decide_offline(
            gitops, environment, now, run, policy, Path(evaluation.path), Path(decision.path), record
        )
    decision.metadata.update(verdict=outcome.verdict, id=outcome.id)
    return True
