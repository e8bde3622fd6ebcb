"""Features into the online store, as a recurring run."""

from kfp import dsl, kubernetes

from components.materialize import materialize as step

SETTINGS = {"SLUICE_REDIS": "SLUICE_REDIS", "SLUICE_FEATURES": "SLUICE_FEATURES"}
STORE = {name: name for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")}
KEYS = {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


@dsl.pipeline(
    name="sluice-materialize",
    description="Bring the online store up to date: the newest row of every key, watermark last. Safe to repeat.",
)
def materialize(
    task: str,
    feature_repo: str = "/app/feature_repo",
    until: str = "",
    since: str = "",
    tables: bool = True,
) -> int:
    """
    Materialize the features of one task.

    Args:
        task: name of a module of ``sluice.tasks``.
        feature_repo: folder of the Feast definitions in the steps' image.
        until: event time up to which rows may be used, ISO 8601; empty: the time of the run.
        since: write what came after this time again, corrected rows too; empty: go on from the watermark.
        tables: also build the task's tables and put them into the shared place; off where another job writes them.
    """
    done = step(task=task, feature_repo=feature_repo, until=until, since=since, tables=tables)
    done.set_caching_options(False)  # it is about what it writes elsewhere
    done.set_retry(3, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="300s")
    done.set_cpu_request("500m").set_cpu_limit("2").set_memory_request("2Gi").set_memory_limit("4Gi")
    kubernetes.use_config_map_as_env(done, "features", SETTINGS)
    kubernetes.use_config_map_as_env(done, "features", STORE, optional=True)
    kubernetes.use_secret_as_env(done, "redis", {"password": "SLUICE_REDIS_PASSWORD"}, optional=True)
    kubernetes.use_secret_as_env(done, "feature-storage", KEYS, optional=True)
    kubernetes.set_timeout(done, 3600)
    keys: int = done.outputs["Output"]
    return keys
