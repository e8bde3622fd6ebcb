"""
What a gate remembers from look to look: the newest commit that it saw, in the ConfigMap ``gate-seen``.

Its clone goes with its pod, and without a memory a history that was rewritten meanwhile looks like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from sluice.errors import BadArtifact
from sluice.git.clone import HistoryRewrittenError
from sluice.git.command import COMMIT_ID
from sluice.gitops.writer import GitOps
from sluice_cluster.cluster import NotApplied

_Report = TypeVar("_Report")


class Memory(Protocol):
    """Keeps one commit for each namespace; ``sluice_cluster.api`` does so with the kubernetes package."""

    def recall(self, namespace: str) -> str | None:
        """The newest commit that was seen; ``None`` before the first."""

    def remember(self, namespace: str, commit: str) -> None:
        """Keep a commit instead."""


def look_with_memory(gitops: GitOps, memory: Memory, namespace: str, look: Callable[[], _Report]) -> _Report:
    """
    What ``look`` says, unless the history was rewritten since the last look and nobody accepted that.

    Args:
        gitops: with a clone of its own, through which nothing has been read yet.

    Raises:
        HistoryRewrittenError: as on a machine that keeps its clone; nothing was written, and nothing is forgotten.
        NotApplied: the API server does not say what was seen before.
        BadArtifact: it says what is no commit.
    """
    before = memory.recall(namespace)
    if before:
        if not COMMIT_ID.fullmatch(before):
            raise BadArtifact(f"ConfigMap gate-seen in {namespace}", "holds no commit", "take its data away")
        gitops.recall(before)
    try:
        report = look()
    except HistoryRewrittenError:
        if not _is_accepted(gitops):
            raise
        report = look()
    newest = gitops.newest_seen()
    if newest and newest != before:
        try:
            memory.remember(namespace, newest)
        except NotApplied as error:  # what was decided stands; the next look remembers
            logging.getLogger(__name__).warning("%s", error)
    return report


def _is_accepted(gitops: GitOps) -> bool:
    """Whether the history of now says that a person gave up what was seen; takes it, in this clone alone."""
    given_up, _ = gitops.accept()
    return any(
        decision.action == "accept-history" and decision.evidence.get("given_up") == given_up
        for decision in gitops.decisions()
    )
