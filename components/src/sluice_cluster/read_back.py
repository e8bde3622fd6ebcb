"""
What is in effect in one environment, as one line of JSON; runs in a pod.

    python -m sluice_cluster.read_back

Environment: SLUICE_TASK, SLUICE_ENVIRONMENT, SLUICE_NAMESPACE, and SLUICE_ARGOCD_NAMESPACE where it is not ``argocd``.
Ends with 0; while the cluster is on its way, the line is ``{"waiting": "…"}``. Ends with 2 where a setting is missing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from sluice.errors import BadInput, SluiceError
from sluice_cluster.api import KubernetesCluster
from sluice_cluster.applied import NotApplied, read_applied


def _wanted(environment: Mapping[str, str], name: str) -> str:
    if value := environment.get(name):
        return value
    raise BadInput(f"environment variable {name}", "is not set", "see the option manifests/options/gate")


def main(environment: Mapping[str, str]) -> int:
    """Entry point."""
    try:
        cluster = KubernetesCluster(environment.get("SLUICE_ARGOCD_NAMESPACE", "argocd"))
        names = [_wanted(environment, name) for name in ("SLUICE_ENVIRONMENT", "SLUICE_NAMESPACE", "SLUICE_TASK")]
        applied = read_applied(cluster, f"sluice-{names[0]}", names[1], names[2])
    except NotApplied as error:
        sys.stdout.write(json.dumps({"waiting": str(error)}) + "\n")
        return 0
    except SluiceError as error:
        sys.stderr.write(f"read-back: {error}\n")
        return error.exit_code
    sys.stdout.write(applied.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
