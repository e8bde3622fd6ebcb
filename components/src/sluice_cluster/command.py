"""The command that this package adds to ``sluice``: ``gate``."""

from __future__ import annotations

import json
import os
import sys


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
