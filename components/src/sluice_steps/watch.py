"""Production → whether to train again, and why or why not."""

from kfp import dsl

from sluice_steps.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def watch(
    task: str,
    gitops: str,
    environment: str,
    bundles: str,
    predictions: str,
    days: float,
    limits: str,
    now: str,
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> bool:
    """
    Ask the triggers drift, decay, volume and schedule about the model in production.

    What is not known is INCONCLUSIVE and starts nothing; ``page`` says so.
    """
    from pathlib import Path

    from sluice.steps.told import told
    from sluice.steps.watch import page as page_of
    from sluice.steps.watch import parse_limits, parse_watched
    from sluice.steps.watch import watch as run

    with told():
        places = {"gitops": gitops, "bundles": bundles, "predictions": predictions}
        watched = parse_watched({**places, "days": days, "now": now})
        made = run(task, environment, watched, parse_limits(limits), Path(report.path))
    Path(page.path).write_text(page_of(made), "utf-8")
    report.metadata.update(retrain=made.retrain, reason=made.reason)
    print(f"retrain: {made.retrain}; {made.reason}")  # noqa: T201  the step's log
    return made.retrain
