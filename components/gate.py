"""Evaluation → verdict of the offline gate; anything but PASS stops the pipeline and leaves a decision record."""

from kfp import dsl

from components.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def gate(
    gitops: str,
    environment: str,
    now: str,
    run: str,
    record: str,
    evaluation: dsl.Input[dsl.Artifact],
    decision: dsl.Output[dsl.Artifact],
) -> bool:
    """
    Judge the evaluation by the policy at the GitOps branch's tip; ``run`` (JSON) names the
    candidate's origin, and its documents are copied to the folder ``record``.
    """
    from pathlib import Path

    from sluice.stages.gate import decide_offline

    made = decide_offline(gitops, environment, now, run, Path(evaluation.path), Path(decision.path), Path(record))
    decision.metadata.update(verdict=made.verdict, id=made.id)
    return True
