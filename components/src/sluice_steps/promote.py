"""A digest that was judged before → its rollout in an environment."""

from kfp import dsl

from sluice_steps.image import STEPS_IMAGE


@dsl.component(base_image=STEPS_IMAGE, install_kfp_package=False)
def promote(
    gitops: str,
    bundles: str,
    digest: str,
    environment: str,
    now: str,
    name: str,
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """
    Propose ``digest`` to ``environment``, on the evidence that it was proposed on there before.

    The bundle is read from the store and verified first. Without a digest, what the environment before confirmed is
    proposed. Returns the decision's action, or ``wait``.
    """
    import os
    from pathlib import Path

    from sluice.errors import Refused
    from sluice.models.store import read_bundle
    from sluice.steps.promote import parse_promotion, promote_digest
    from sluice.steps.release import released
    from sluice.steps.told import told

    given = {"gitops": gitops, "bundles": bundles, "digest": digest, "environment": environment}
    with told():
        asked = parse_promotion({**given, "now": now})
        if asked.digest:
            read_bundle(asked.bundles, asked.digest, os.environ)
        found = promote_digest(asked, name)
        text = released(found.decision, asked.bundles) if found.decision else f"Nothing was proposed: {found.text}"
        Path(summary.path).write_text(text, "utf-8")
        print(text)  # noqa: T201  the step's log
        if found.forbidden:
            raise Refused(f"environment {asked.environment}", found.text, "see `sluice why`")
    return found.decision.action if found.decision else "wait"
