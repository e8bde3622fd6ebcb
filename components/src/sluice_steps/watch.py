"""Production → whether to train again, and why or why not."""

from typing import NamedTuple

from kfp import dsl

from sluice_steps.step import MIDDLE, Need, step


@step(Need(MIDDLE, retries=2, cached=False, store=True, repository=True))
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
) -> NamedTuple("Watch", [("due", bool), ("reason", str)]):  # type: ignore[valid-type]
    """
    Ask the triggers drift, decay, volume and schedule about the model in production.

    What is not known is INCONCLUSIVE and starts nothing; ``page`` says so.
    """
    from pathlib import Path

    from sluice.steps.ending import EndingKind, say
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.parameters import WatchParameters
    from sluice.steps.patience import patiently
    from sluice.steps.watch import page as page_of
    from sluice.steps.watch import watch as run

    with exit_on_error():
        parameters = WatchParameters.of_step(locals())
        retraining = patiently(lambda: run(parameters, Path(report.path)))
    Path(page.path).write_text(page_of(retraining), "utf-8")
    report.metadata.update(retrain=retraining.retrain, reason=retraining.reason)
    say(EndingKind.DONE if retraining.retrain else EndingKind.NOT_DUE, retraining.reason)
    return retraining.retrain, retraining.reason
