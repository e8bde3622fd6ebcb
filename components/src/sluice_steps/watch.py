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
    retraining: dsl.Output[dsl.Artifact],
    triggers: dsl.Output[dsl.HTML],
) -> NamedTuple("Watch", [("due", bool), ("reason", str)]):  # type: ignore[valid-type]
    """
    Ask the triggers drift, decay, volume and schedule about the model in production.

    What is not known is INCONCLUSIVE and starts nothing; ``triggers`` says so.
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
        answer = patiently(lambda: run(parameters, Path(retraining.path)))
    Path(triggers.path).write_text(page_of(answer), "utf-8")
    retraining.metadata.update(retrain=answer.retrain, reason=answer.reason)
    say(EndingKind.DONE if answer.retrain else EndingKind.NOT_DUE, answer.reason)
    return answer.retrain, answer.reason
