"""The GitOps repository as a step meets it: a folder, a URL, or none at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sluice.content import digest_of_bytes
from sluice.documents.state import ReleaseState
from sluice.gates.policy import parse_policy
from sluice.gitops.writer import GitOps
from sluice.release.snapshot import Snapshot


def open_repository(gitops: str, environment: str) -> GitOps:
    """
    The repository at a path or URL; the private clone of a URL lies in the temporary folder, which a pod has to itself.

    Raises:
        BadInput: the environment's name is none.
    """
    scratch = Path(tempfile.gettempdir()) / "sluice-release"
    return GitOps(gitops, environment, clone=None if Path(gitops).exists() else scratch / "repository.clone")


def without_repository(environment: str, policy: str) -> Snapshot:
    """
    What a gate judges by where there is no repository: nothing is released, and the policy is this text.

    Raises:
        BadInput: the policy is wrong.
    """
    text = policy.encode()
    parsed = parse_policy(text, "gate policy")
    return Snapshot("", ReleaseState.empty(parsed.task, environment), parsed, digest_of_bytes(text))
