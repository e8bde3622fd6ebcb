"""Feature tables → the newest row of every key in the cluster's online store."""

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=3, cached=False))
def materialize(
    task: str,
    feature_repo: str,
    until: str,
    since: str,
    tables: bool,
    metrics: dsl.Output[dsl.Metrics],
) -> int:
    """Write into Redis what has become true until ``until``; returns how many keys. May be repeated at any time."""
    import os
    from datetime import UTC, datetime
    from pathlib import Path

    from sluice.features.materialize import materialize as run
    from sluice.features.materialize import moment
    from sluice.steps.ending import EndingKind, say
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.patience import patiently
    from sluice.tasks.task import load_task

    with exit_on_error():
        subject, times = load_task(task), (moment(until) or datetime.now(UTC), moment(since))
        views = patiently(lambda: run(subject, Path(feature_repo), os.environ, *times, tables))
    Path(metrics.path).touch()  # KFP's local cache takes an artifact without a file for lost
    for view in views:
        metrics.log_metric(f"{view.view}_keys", view.rows)
    keys = sum(view.rows for view in views)
    line = f"{keys} keys are up to date" if subject.feature_service else f"task {task} has no feature service: skipped"
    say(EndingKind.DONE, line)
    return keys
