"""Features into the online store, as a recurring run."""

from typing import Any

from kfp import dsl, kubernetes

from sluice_pipelines.placing import on_cluster
from sluice_pipelines.training import DEV
from sluice_steps.exit_note import exit_note
from sluice_steps.materialize import materialize as step

SETTINGS = {"SLUICE_REDIS": "SLUICE_REDIS", "SLUICE_FEATURES": "SLUICE_FEATURES"}
STORE = {name: name for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")}
KEYS = {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


def materialize_pipeline(name: str) -> Any:
    """The materialization: one step."""
    place = on_cluster()

    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name=name,
        description="Bring the online store up to date: the newest row of every key, watermark last. Safe to repeat.",
    )
    def materialize(
        task: str = DEV.task,
        feature_repo: str = "/app/feature_repo",
        until: str = "",
        since: str = "",
        tables: bool = True,
    ) -> None:
        """
        Materialize the features of one task.

        Args:
            task: name of a module of ``sluice.tasks``.
            feature_repo: folder of the Feast definitions in the steps' image.
            until: event time up to which rows may be used, ISO 8601; empty: the time of the run.
            since: write what came after this time again, corrected rows too; empty: go on from the watermark.
            tables: also build the task's tables and put them into the shared place; off where another job writes them.
        """
        note = place(exit_note(run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER), "exit_note")
        with dsl.ExitHandler(note, name="materialize"):
            asked = {"task": task, "feature_repo": feature_repo, "until": until, "since": since, "tables": tables}
            done = place(step(**asked), "materialize")
            kubernetes.use_config_map_as_env(done, "features", SETTINGS)
            kubernetes.use_config_map_as_env(done, "features", STORE, optional=True)
            kubernetes.use_secret_as_env(done, "redis", {"password": "SLUICE_REDIS_PASSWORD"}, optional=True)
            kubernetes.use_secret_as_env(done, "feature-storage", KEYS, optional=True)

    return materialize
