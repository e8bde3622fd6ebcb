"""Raw data to a proposed release, with the offline gate between: for the dashboard, and for one machine."""

from typing import Any

from kfp import dsl

from sluice.gates.policy import read_policy
from sluice.installation import MANIFESTS
from sluice_pipelines.accelerators import Devices
from sluice_pipelines.candidate import candidate, checked, trained_here
from sluice_pipelines.placing import locally, on_cluster
from sluice_steps.exit_note import exit_note

DEV = read_policy(MANIFESTS / "overlays/dev/gate-policy.yaml")[0]
"""Whose environment and task a run has where nobody names others."""
DESCRIPTION = "Ingest, validate, train, compress, evaluate, gate, bundle, release."


def training_pipeline(name: str, devices: Devices | None = None) -> Any:
    """
    The training pipeline as KFP runs it.

    Args:
        name: the pipeline's.
        devices: of the steps that train; without them everything runs on processors.
    """
    place = on_cluster(devices)

    @dsl.pipeline(name=name, description=DESCRIPTION)
    def training(
        task: str = DEV.task,
        environment: str = DEV.environment,
        recipe: str = "",
        policy: str = "",
        gitops: str = "",
        bundles: str = "",
        production: str = "stable",
        now: str = "",
        run: str = "",
        source: str = "",
        distribution: str = "single",
        checkpoints: str = "",
        checkpoint_every: int = 200,
        feature_repo: str = "/app/feature_repo",
        overlays: str = "/app/manifests/overlays",
        server: str = "sluice_serving.predictor",
        record: str = "",
    ) -> None:
        """
        Train one candidate, judge it, and propose it where there is a repository.

        Args:
            task: name of a module of sluice.tasks.
            environment: whose gate policy judges, and whose release file is written.
            recipe: the candidate as JSON (sluice.tasks.recipe.Recipe); empty is the task's own.
            policy: text of the gate policy; empty is the repository's, or without one the image's.
            gitops: URL of the GitOps repository, without a password (the key is Secret release-repository); empty
                releases nothing, and the last step says so.
            bundles: bundle store that servers fetch from, such as s3://models/TASK (credentials are Secret
                model-storage); empty leaves the bundle an artifact of the run.
            production: digest to compare with, sha256:...; stable is the repository's, empty is none.
            now: time of the run, ISO 8601 in UTC; empty is the clock's.
            run: JSON object that names the run in every decision; empty is made of the run's name and id.
            source: digest that the raw files must have; empty takes them as they are.
            distribution: single, or mirrored over all devices of one node.
            checkpoints: folder or URL of this training's own, from which a retry goes on; empty keeps none.
            checkpoint_every: steps between two checkpoints, 1 to 1000000.
            feature_repo: folder of the Feast definitions.
            overlays: folder of the gate policies that the image brings.
            server: the model server's module.
            record: folder that the run's documents are copied to; empty for nowhere.
        """
        asked = locals()
        note = place(exit_note(run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER), "exit_note")
        with dsl.ExitHandler(note, name="candidate"):
            candidate(checked(asked, place), place, trained_here(place))

    return training


@dsl.pipeline(name="sluice-training", description=DESCRIPTION)
def local_training(
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
    feature_repo: str,
    server: str,
    record: str,
) -> str:
    """The same graph on one machine; parameters as of ``training_pipeline``, all paths of this machine."""
    unused = {"distribution": "single", "checkpoints": "", "checkpoint_every": 200, "overlays": ""}
    asked = {**locals(), **unused}
    action: str = candidate(checked(asked, locally), locally, trained_here(locally))
    return action
