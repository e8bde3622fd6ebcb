"""The watch over production, which starts a training when a trigger says so; made to be run on a schedule."""

from typing import Any

from kfp import dsl

from sluice_pipelines.accelerators import Devices
from sluice_pipelines.candidate import candidate, checked, trained_here
from sluice_pipelines.placing import on_cluster
from sluice_pipelines.training import DEV
from sluice_steps.exit_note import exit_note
from sluice_steps.watch import watch


def monitoring_pipeline(name: str, devices: Devices | None = None) -> Any:
    """The pipeline that asks the triggers, and trains if one fires; arguments as of ``training_pipeline``."""
    place = on_cluster(devices)

    @dsl.pipeline(name=name, description="Watch production for drift, decay, new labels and age; train if due.")  # type: ignore[untyped-decorator]
    def monitor_and_retrain(  # noqa: PLR0917  KFP passes by name
        task: str = DEV.task,
        environment: str = DEV.environment,
        gitops: str = "",
        bundles: str = "",
        predictions: str = "",
        days: float = 14.0,
        limits: str = "",
        recipe: str = "",
        policy: str = "",
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
        Ask whether the model in production is due for a training, say why or why not, and train if it is.

        Args:
            predictions: store of the collector, such as s3://predictions, as its --store says (credentials are Secret
                model-storage); empty leaves drift, decay and volume INCONCLUSIVE.
            days: how many days of predictions are read, up to 3650.
            limits: JSON object of the limits that differ from sluice.retraining.triggers.Limits.
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
        with dsl.ExitHandler(note, name="watch-and-train"):
            settled = checked(asked, place)
            named = ("task", "gitops", "environment", "bundles", "predictions", "days", "limits", "now")
            watched = place(watch(**{name: settled[name] for name in named}), "watch")
            with dsl.If(watched.outputs["Output"] == True, name="due"):  # noqa: E712  KFP reads the comparison
                candidate(settled, place, trained_here(place))

    return monitor_and_retrain
