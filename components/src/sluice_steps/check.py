"""Parameters → the same, each in its range and each default settled; stores and repository answer. Before all else."""

from typing import NamedTuple

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, cached=False, store=True, repository=True, hours=0.5))
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
    "Settled",
    [("source", str), ("recipe", str), ("policy", str), ("production", str), ("now", str), ("run", str), ("code", str)],
):
    """Refuse what is out of range in one line; settle time, recipe, policy and production for all later steps."""
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.parameters import TrainingParameters
    from sluice.steps.patience import patiently
    from sluice.steps.settlement import settle

    with exit_on_error():
        parameters = TrainingParameters.of_step(locals())
        return patiently(lambda: settle(parameters, (job_name, job_id)))
