"""The commands that this package adds to ``sluice``: ``gate``, ``apply`` and ``settle``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sluice.errors import BadInput
from sluice.terminal import EnvironmentOption, JsonOption, ReasonOption, clock, release_history, show, who


def gate() -> None:
    """
    Look once at one environment from inside its cluster, and commit what that decides; a CronJob runs it.

    Prints one line of JSON: what was decided, or why it waits. Exits with 0 for both, with 2 where a setting is wrong
    or the repository does not answer, with 4 where the effect differs from Git for longer than a step takes, or the
    stable model fails what a candidate must keep.

    Settings are environment variables (docs/gitops.md): SLUICE_REPOSITORY, SLUICE_REPOSITORY_KEY, SLUICE_ENVIRONMENT,
    SLUICE_NAMESPACE, SLUICE_ARGOCD_NAMESPACE, SLUICE_EVIDENCE_SOURCE, SLUICE_PROMETHEUS_URL and more about a source.

    Example: SLUICE_ENVIRONMENT=dev SLUICE_NAMESPACE=sluice-dev … sluice gate
    """
    from sluice_cluster.api import KubernetesCluster
    from sluice_cluster.cluster import Alarm
    from sluice_cluster.gate import look_once
    from sluice_cluster.settings import Settings

    settings = Settings.of(os.environ)
    message = look_once(settings, KubernetesCluster(settings.argocd))
    sys.stdout.write(json.dumps(message, ensure_ascii=False) + "\n")
    if alarm := message["alarm"]:
        thing, fix = f"environment {settings.environment}", "see SluiceGateFails in docs/runbook.md"
        raise Alarm(thing, f"is not as it should be: {alarm}", fix)


def apply(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIRECTORY", help="A kustomization; left out, the environment's overlay.")
    ] = None,
    env: Annotated[str | None, typer.Option("--env", help="Environment, as in manifests/overlays/<env>.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for the servers of one wave to get ready.")] = 600,
) -> None:
    """
    Apply an environment by hand, wave by wave as Argo CD does: a route moves when the servers that it names are ready.

    With SLUICE_REPOSITORY the overlay is that of its newest commit, else that of the current directory. It asks the
    cluster of kubectl's context. Exits with 1 when a server does not get ready, and leaves the route as it is then.

    Example: sluice apply --env dev

    Example: sluice apply manifests/quickstart/canary
    """
    from sluice.release.snapshot import overlay_of
    from sluice_cluster.waves import apply_in_waves

    if (directory is None) == (env is None):
        raise BadInput("sluice apply", "takes a directory or an environment", "give one of DIRECTORY and --env")

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as scratch:
        root = Path()
        if env is not None and os.environ.get("SLUICE_REPOSITORY"):
            root = Path(scratch) / "checkout"
            say(f"commit {release_history(env).export(root)}")
        overlay = directory if env is None or directory is not None else root / overlay_of(env)
        if overlay is None or not (overlay / "kustomization.yaml").is_file():
            fix = "run this in a checkout, set SLUICE_REPOSITORY, or name a directory"
            raise BadInput(str(overlay), "has no kustomization.yaml", fix)
        apply_in_waves(overlay, timeout, say)


def settle(
    reason: ReasonOption,
    env: EnvironmentOption = "dev",
    namespace: Annotated[str | None, typer.Option(help="Of the environment; sluice-<env> when left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Let the server of a rollout that is over be taken away, in one commit; for environments that no gate looks at.

    It asks the cluster of kubectl's context whether the route names stable alone and stable serves what Git says. Exits
    with 3 where that is not so, or no such server runs; apply the environment afterwards.

    Example: sluice settle --env dev --reason "no gate here"
    """
    from sluice.operations.operator import settle as end
    from sluice_cluster.by_hand import read_by_hand

    history = release_history(env)
    with history.without_policy():
        state = history.snapshot().state
    decision = end(history, read_by_hand(state, namespace or f"sluice-{env}"), reason, who(), clock())
    show(decision.model_dump(mode="json"), as_json, [f"{decision.candidate} is not released any more; now stable"])
