"""Validated bundle → one commit that starts its rollout."""

from kfp import dsl

from components.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def release(
    gitops: str,
    environment: str,
    now: str,
    digest: str,
    record: str,
    report: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    proposal: dsl.Output[dsl.Artifact],
) -> str:
    """Propose the digest, which passed gate and server, to the environment; returns the decision's action."""
    from pathlib import Path

    from sluice.stages.release import propose_release

    made = propose_release(
        gitops,
        environment,
        now,
        digest,
        Path(decision.path),
        Path(report.path),
        Path(proposal.path),
        Path(record),
    )
    proposal.metadata.update(action=made.action, id=made.id)
    return made.action
