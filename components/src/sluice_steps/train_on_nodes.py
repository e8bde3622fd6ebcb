"""Frame → teacher, trained over several nodes by a TrainJob or TFJob that this step submits and follows."""

from kfp import dsl

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, retries=3, cached=False, store=True, hours=72))
def train_on_nodes(
    task: str,
    recipe: str,
    run: str,
    operator: str,
    nodes: int,
    accelerators: int,
    checkpoints: str,
    checkpoint_every: int,
    placement: str,
    claim: str,
    frame: dsl.Input[dsl.Dataset],
    teacher: dsl.Output[dsl.Model],
    learning: dsl.Output[dsl.Metrics],
) -> None:
    """
    Train over ``nodes`` nodes with ``accelerators`` devices each at ``placement`` (JSON, ``train_job.Placement``).

    The nodes share the volume ``claim``, which is mounted into this step at the placement's mount. The namespace is
    the step's own where the placement names none. ``operator`` is ``TrainJob`` or ``TFJob``. A retry follows the job
    that is already there.
    """
    import json
    from pathlib import Path

    from sluice.steps.error_boundary import exit_on_error
    from sluice.tasks.recipe import Recipe
    from sluice.training.train_job import job_of, placement_of
    from sluice_cluster.train_job import own_namespace, train_over_nodes

    with exit_on_error():
        place = placement_of(json.loads(placement), claim, own_namespace)
        snapshots = checkpoints, checkpoint_every
        job = job_of(json.loads(run), task, Recipe.model_validate_json(recipe), (nodes, accelerators), snapshots, place)
        record = train_over_nodes(job, place, operator, Path(frame.path), Path(teacher.path))
    Path(learning.path).touch()  # KFP's local cache takes an artifact without a file for lost
    for name, value in record.figures.items():
        learning.log_metric(name, value)
