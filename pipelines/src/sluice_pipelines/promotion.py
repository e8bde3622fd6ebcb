"""A digest that was judged before, on its way into an environment."""

from typing import Any

from kfp import dsl

from sluice_pipelines.placing import on_cluster
from sluice_steps.exit_note import exit_note
from sluice_steps.promote import promote


def promotion_pipeline(name: str) -> Any:
    """The promotion pipeline: one step, since it is one commit."""
    place = on_cluster()

    @dsl.pipeline(name=name, description="Verify a bundle of the store and propose it to an environment.")  # type: ignore[untyped-decorator]
    def promotion(gitops: str, bundles: str, digest: str = "", environment: str = "staging", now: str = "") -> None:
        """
        Propose a digest again: the policy and the live traffic of today judge it.

        Args:
            gitops: URL of the GitOps repository, without a password (the key is Secret release-repository).
            bundles: bundle store that servers fetch from, such as s3://models/TASK.
            digest: the bundle, sha256:...; empty: what the environment before has confirmed.
            environment: whose release file is written.
            now: time of the proposal, ISO 8601 in UTC; empty is the clock's.
        """
        asked = {"gitops": gitops, "bundles": bundles, "digest": digest, "environment": environment, "now": now}
        note = place(exit_note(run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER), "exit_note")
        with dsl.ExitHandler(note, name="promotion"):
            place(promote(**asked, name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER), "promote")

    return promotion
