"""A digest that was judged before → its rollout in an environment."""

from kfp import dsl

from components.image import STEPS_IMAGE


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

    The bundle is read from the store and verified first. Returns the decision's action.
    """
    import os
    from pathlib import Path

    from sluice.errors import Refused
    from sluice.models.store import read_bundle
    from sluice.stages.promote import parse_promotion, promote_digest
    from sluice.stages.release import released
    from sluice.stages.told import told

    given = {"gitops": gitops, "bundles": bundles, "digest": digest, "environment": environment}
    with told():
        asked = parse_promotion({**given, "now": now})
        read_bundle(asked.bundles, asked.digest, os.environ)
        made = promote_digest(asked, name)
        text = released(made, asked.bundles)
        Path(summary.path).write_text(text, "utf-8")
        print(text)  # noqa: T201  the step's log
        if made.action == "refuse":
            first = next(reason for reason in made.reasons if reason.verdict == made.verdict)
            raise Refused(f"digest {asked.digest}", f"{first.rule}: {first.text}", "see `sluice why`")
    return made.action
