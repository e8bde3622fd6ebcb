"""Validated bundle → the store, and one commit that starts its rollout."""

from kfp import dsl

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, retries=3, cached=False, store=True, repository=True))
def release(
    gitops: str,
    environment: str,
    now: str,
    digest: str,
    bundles: str,
    record: str,
    packed: dsl.Input[dsl.Model],
    served: dsl.Input[dsl.Artifact],
    decision: dsl.Input[dsl.Artifact],
    proposal: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """
    Store the bundle in ``bundles`` and propose its digest, which passed gate and server, to the environment.

    Returns the decision's action, ``refuse`` too. Where ``gitops`` is empty nothing is released: the action is
    ``not-released``, and ``summary`` says so.
    """
    import os
    from pathlib import Path

    from sluice.models.store import read_bundle
    from sluice.steps.ending import EndingKind, say
    from sluice.steps.error_boundary import exit_on_error
    from sluice.steps.gate import refusal
    from sluice.steps.patience import patiently
    from sluice.steps.release import keep_report, not_released, propose_release, released

    with exit_on_error():
        if record:
            keep_report(Path(served.path), Path(record))
        candidate = read_bundle(packed.path, digest, os.environ)
        where = gitops, environment, now
        documents = Path(decision.path), Path(proposal.path)
        outcome = patiently(lambda: propose_release(*where, candidate, bundles, *documents))
    text = released(outcome, bundles) if outcome else not_released(digest, bundles)
    Path(proposal.path).mkdir(parents=True, exist_ok=True)
    Path(summary.path).write_text(text, "utf-8")
    action = outcome.action if outcome else "not-released"
    proposal.metadata.update(action=action, digest=digest)
    print(text)  # noqa: T201  the step's log
    reason = refusal(outcome) if outcome else ""
    say(EndingKind.REFUSED if reason else EndingKind.DONE, reason or f"{action}: {digest}")
    return action
