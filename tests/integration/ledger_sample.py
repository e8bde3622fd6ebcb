"""A long ledger, made with git's plumbing instead of as many pushes, and histories rewritten with a changed record."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from sluice.gates.verdict import Decision
from sluice.release.document import render_release
from sluice.release.git import git
from sluice.release.gitops import GitOps
from sluice.release.message import commit_message
from sluice.release.record import encode_record, record_path
from sluice.release.state import state_of
from sluice.content import digest_of_bytes

OVERLAY = "manifests/overlays/dev"
_Rewrite = Callable[[bytes], bytes]


def lengthen(gitops: GitOps, count: int) -> None:
    """
    Append decisions that walk the canary's weights, each as ``GitOps.commit`` would have written it, until there are
    ``count``; the last decision so far must be a step of a canary.
    """
    records = gitops.records()
    stream = b"".join(_commits(gitops.decisions()[-1], records[-1][1], len(records) + 1, count))
    git(Path(gitops.remote), "fast-import", "--quiet", data=stream)


def _commits(last: Decision, previous: bytes, start: int, count: int) -> Iterator[bytes]:
    for number in range(start, count + 1):
        sequence = last.after["sequence"] + 1
        after = last.after | {"sequence": sequence, "candidate_weight": 1 + number % 90, "stable_weight": 99 - number % 90}
        changed = {"id": f"canary-{number:012x}", "before": last.after, "after": after}
        decision = last.model_copy(update=changed)
        record = encode_record(number, previous, decision)
        files = {
            record_path(OVERLAY, number, decision): record,
            f"{OVERLAY}/release/kustomization.yaml": render_release(state_of(after, "after")),
        }
        yield _commit(commit_message(decision, digest_of_bytes(record)).encode(), files, first=number == start)
        last, previous = decision, record


def _commit(message: bytes, files: dict[str, bytes], *, first: bool) -> bytes:
    head = b"commit refs/heads/main\ncommitter Sluice <sluice@localhost> 1577836800 +0000\n"
    parent = b"from refs/heads/main^0\n" if first else b""
    rows = [b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data) for path, data in files.items()]
    return head + b"data %d\n%s\n%s" % (len(message), message, parent) + b"".join(rows)
