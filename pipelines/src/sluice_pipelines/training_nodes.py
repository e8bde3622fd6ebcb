"""The training pipeline whose training is spread over several nodes by a training operator."""

from typing import Any

from kfp import dsl

from sluice_pipelines.accelerators import Devices
from sluice_pipelines.candidate import candidate, checked, trained_on_nodes
from sluice_pipelines.placing import on_cluster
from sluice_pipelines.training import DESCRIPTION, DEV
from sluice_steps.exit_note import exit_note


def training_on_nodes_pipeline(name: str, devices: Devices | None = None) -> Any:
    """
    As ``training_pipeline``, with the training in a TrainJob or TFJob.

    Args:
        devices: of each node; without them it trains on processors.
    """
    place = on_cluster(devices)

    @dsl.pipeline(name=name, description=DESCRIPTION)  # type: ignore[untyped-decorator]
    def training_on_nodes(  # noqa: PLR0917  KFP passes by name
        claim: str,
        operator: str = "TrainJob",
        nodes: int = 2,
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
        checkpoints: str = "",
        checkpoint_every: int = 200,
        feature_repo: str = "/app/feature_repo",
        overlays: str = "/app/manifests/overlays",
        server: str = "sluice_serving.predictor",
        record: str = "",
    ) -> None:
        """
        Train one candidate over several nodes, judge it, and propose it where there is a repository.

        Args:
            claim: PersistentVolumeClaim (ReadWriteMany) that the nodes share: frame in, teacher out.
            operator: TrainJob (Kubeflow Trainer) or TFJob (Training Operator).
            nodes: how many, 1 to 64.
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
            checkpoints: folder or URL of this training's own, from which a retry goes on; empty keeps none.
            checkpoint_every: steps between two checkpoints, 1 to 1000000.
            feature_repo: folder of the Feast definitions.
            overlays: folder of the gate policies that the image brings.
            server: the model server's module.
            record: folder that the run's documents are copied to; empty for nowhere.
        """
        asked = {**locals(), "distribution": "single"}
        note = place(exit_note(run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER), "exit_note")
        with dsl.ExitHandler(note, name="candidate"):
            candidate(checked(asked, place), place, trained_on_nodes(place, devices))

    return training_on_nodes
