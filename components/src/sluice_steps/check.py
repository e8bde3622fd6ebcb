"""Parameters → the same, each in its range and each default settled; nothing else starts before."""

from typing import NamedTuple

from kfp import dsl

from sluice_steps.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def check(
    task: str,
    environment: str,
    recipe: str,
    policy: str,
    gitops: str,
    bundles: str,
    production: str,
    now: str,
    run: str,
    source: str,
    distribution: str,
    checkpoints: str,
    checkpoint_every: int,
    feature_repo: str,
    overlays: str,
    job_name: str,
    job_id: str,
) -> NamedTuple(  # type: ignore[valid-type]
    "Started", [("source", str), ("recipe", str), ("policy", str), ("production", str), ("now", str), ("run", str)]
):
    """Refuse what is out of range in one line; settle time, recipe, policy and production for all later steps."""
    from pathlib import Path

    from sluice.steps.start import parse_asked, start
    from sluice.steps.told import told

    with told():
        asked = parse_asked(
            {
                "task": task,
                "environment": environment,
                "recipe": recipe,
                "policy": policy,
                "gitops": gitops,
                "bundles": bundles,
                "production": production,
                "now": now,
                "source": source,
                "distribution": distribution,
                "checkpoints": checkpoints,
                "checkpoint_every": checkpoint_every,
            }
        )
        return start(asked, run, (job_name, job_id), (Path(feature_repo), Path(overlays)))
