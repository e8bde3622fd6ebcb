"""A digest that was judged before → its rollout in an environment."""

from kfp import dsl

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, cached=False, store=True, repository=True))
def promote(
    gitops: str,
    bundles: str,
    digest: str,
    environment: str,
    now: str,
    job_name: str,
    job_id: str,
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """
    Propose ``digest`` to ``environment``, on the evidence that it was proposed on there before.

    The bundle is read from the store and verified first. Without a digest, what the environment before confirmed is
    proposed. Returns the decision's action, ``refuse`` where a rule forbids it, or ``wait``.
    """
    import os
    from pathlib import Path

    from sluice.models.store import read_bundle
    from sluice.steps.ending import EndingKind, say
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.parameters import PromotionParameters
    from sluice.steps.patience import patiently
    from sluice.steps.promote import promote_digest
    from sluice.steps.release import released

    with exit_on_error():
        parameters = PromotionParameters.of_step(locals())
        if parameters.digest:
            patiently(lambda: read_bundle(parameters.bundles, parameters.digest, os.environ))
        promotion = patiently(lambda: promote_digest(parameters, (job_name, job_id)))
    decision = promotion.decision
    text = released(decision, bundles) if decision else f"Nothing was proposed: {promotion.text}"
    Path(summary.path).write_text(text, "utf-8")
    print(text)  # noqa: T201  the step's log
    say(EndingKind.REFUSED if promotion.forbidden else EndingKind.DONE, promotion.text)
    return "refuse" if promotion.forbidden else decision.action if decision else "wait"
