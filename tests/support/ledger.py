"""A long ledger, made with git's plumbing instead of as many pushes, and histories rewritten with changed files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from sluice.content import digest_of_bytes
from sluice.documents.state import state_of
from sluice.documents.verdict import Decision
from sluice.git.command import git
from sluice.gitops.writer import GitOps
from sluice.ledger.record import encode_record, record_path
from sluice.release.file import render_release
from sluice.rollout.message import commit_message

OVERLAY = "manifests/overlays/dev"
_DATA = re.compile(rb"data (\d+)\n")


def lengthen(gitops: GitOps, count: int) -> None:
    """
    Append decisions until there are ``count``, each as ``GitOps.commit`` would have written it.

    They walk the weights of a canary; the last decision so far must be a step of one.
    """
    records = gitops.records()
    stream = b"".join(_commits(gitops.decisions()[-1], records[-1][1], len(records) + 1, count))
    git(Path(gitops.remote), "fast-import", "--quiet", data=stream)


def _commits(last: Decision, previous: bytes, start: int, count: int) -> Iterator[bytes]:
    for number in range(start, count + 1):
        weight = 1 + number % 90
        moved = {"sequence": last.after["sequence"] + 1, "candidate_weight": weight, "stable_weight": 100 - weight}
        after = last.after | moved
        decision = last.model_copy(update={"id": f"canary-{number:012x}", "before": last.after, "after": after})
        record = encode_record(number, previous, decision)
        files = {
            record_path(OVERLAY, number, decision): record,
            f"{OVERLAY}/release/kustomization.yaml": render_release(state_of(after, "after")),
        }
        yield commit_text(commit_message(decision, digest_of_bytes(record)).encode(), files, first=number == start)
        last, previous = decision, record


def commit_text(message: bytes, files: dict[str, bytes], *, first: bool = True, tree: bytes = b"") -> bytes:
    """One commit on ``main`` for ``git fast-import``; ``first`` of a stream names its parent, a root its ``tree``."""
    head = b"commit refs/heads/main\ncommitter Sluice <sluice@localhost> 1577836800 +0000\n"
    parent = b"from refs/heads/main^0\n" if first else b""
    rows = [b'M 040000 %s ""\n' % tree] if tree else []
    rows += [b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data) for path, data in files.items()]
    return head + b"data %d\n%s\n%s" % (len(message), message, parent) + b"".join(rows)


def rewritten(source: GitOps, directory: Path, change: Callable[[bytes], bytes]) -> GitOps:
    """
    A repository with the same history, but for what ``change`` does to files and messages.

    Args:
        change: asked for the bytes of every file and every commit message; all ids follow from its answers.
    """
    git(directory, "init", "--quiet", "--bare", "--initial-branch=main")
    stream = git(Path(source.remote), "fast-export", "main")
    git(directory, "fast-import", "--quiet", data=b"".join(_changed(stream, change)))
    return GitOps(directory, "dev")


def _changed(stream: bytes, change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    place = 0
    while found := _DATA.search(stream, place):
        yield stream[place : found.start()]
        end = found.end() + int(found[1])
        data = change(stream[found.end() : end])
        yield b"data %d\n%s" % (len(data), data)
        place = end
    yield stream[place:]
