"""
A private bare copy of the GitOps repository's ``main``: read here, written from here, thrown away at will.

    .gitops.git.clone        the copy; its own ``main`` is the newest commit that was seen
    .gitops.git.clone.seen   the same commit once more, for when the copy was thrown away
    .gitops.git.clone.lock   one process at a time

``main`` only ever moves forward. A fetched tip that does not descend from the last one seen means that somebody
rewrote the history or put an older copy back, and is refused until a person accepts it.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from sluice.content import write_bytes
from sluice.documents.event_time import moment_of
from sluice.errors import BadArtifact
from sluice.git.command import GitFailed, GitObject, Reader, create_bare, git

_STALE_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_MAIN = "refs/heads/main"
_PENDING = "refs/sluice/pending"
_NEAR = 32
"""Commits that are looked through one by one before git is asked for all of them."""
_TIDY = "00"
"""One commit in 256 is the occasion to pack what the others left."""
_LOST_RACE = ("fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref", "reference already exists")


class HistoryRewrittenError(BadArtifact):
    """The remote's newest commit does not descend from the newest one that was seen before."""


class Clone:
    """
    Args:
        remote: path or URL.
        directory: of the copy; its folder must exist or be creatable.
        patience_s: how long to wait for the remote to answer, and for another process to let go of the copy; then
            what is here has to do. By default a minute for the one, and for ever for the other.
    """

    def __init__(self, remote: str, directory: Path, patience_s: float | None = None) -> None:
        self.remote, self.directory, self._patience_s = remote, directory, patience_s
        self._reader: Reader | None = None
        self._keeps_reader = False
        self.is_held = False
        """Whether this process may write; else it only reads what is here."""

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the lock file, which goes with its holder; without it where ``patience_s`` ran out."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self.directory.with_suffix(".lock").open("w") as lock:
            self.is_held = self._locked(lock)
            if self._reader and self._reader.is_of_another(self.directory):
                self._close()
            try:
                yield
            finally:
                self.is_held = False
                if not self._keeps_reader:
                    self._close()

    @contextlib.contextmanager
    def one_reader(self) -> Iterator[None]:
        """All locks that are held in the block, one after the other, read through one process of git."""
        self._keeps_reader = True
        try:
            yield
        finally:
            self._keeps_reader = False
            self._close()

    @contextlib.contextmanager
    def without_lock(self) -> Iterator[None]:
        """Reads what is here without waiting for anybody."""
        try:
            yield
        finally:
            self._close()

    def _locked(self, lock: IO[str]) -> bool:
        if self._patience_s is None:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return True
        end = time.monotonic() + self._patience_s
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.05)

    def fetch(self) -> str:
        """
        The remote's newest commit.

        A clone that a killed process left broken is replaced by a new one, once; it stays while the remote cannot be
        read, since it may then be all that is left of the history.

        Raises:
            GitFailed: the remote cannot be read, or has no ``main``.
            HistoryRewrittenError: see above; the clone keeps what it had.
        """
        if not self.is_held:
            raise GitFailed(self.directory, ["fetch"], "fatal: another process is busy with it")
        try:
            return self._fetch()
        except GitFailed:
            return self.replace()

    def replace(self) -> str:
        """Fetch everything anew; returns the newest commit. Raises as ``fetch``."""
        fresh = Clone(self.remote, self.directory.with_name(f"{self.directory.name}.new"), self._patience_s)
        self._close()
        shutil.rmtree(fresh.directory, ignore_errors=True)
        try:
            commit = fresh._fetch(self.newest_seen())
            fresh._close()
            shutil.rmtree(self.directory, ignore_errors=True)
            fresh.directory.rename(self.directory)
        finally:
            fresh._close()
            shutil.rmtree(fresh.directory, ignore_errors=True)
            fresh._memory.unlink(missing_ok=True)
        self.remember(commit)
        return commit

    def _fetch(self, newest: str | None = None) -> str:
        if not (self.directory / "HEAD").exists():
            create_bare(self.directory)
        before, newest = self.last_known(), newest or self.newest_seen()
        # without + : git itself refuses a tip that does not descend from ours
        options = ("--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
        try:
            self.run("fetch", *options, self.remote, f"{_MAIN}:{_MAIN}", timeout_s=self._patience_s or _ANSWER_SECONDS)
        except GitFailed as failed:
            if "non-fast-forward" in failed.output:
                self._refuse(before or "")
            raise
        tip = self.last_known()
        if tip is None:
            raise GitFailed(self.directory, ["fetch"], f"fatal: {_MAIN} cannot be read")
        if newest not in (None, before, tip) and not self.descends(tip, str(newest)):
            self._refuse(str(newest))
        if newest != tip:
            self.remember(tip)
        if before != tip and tip.startswith(_TIDY):
            self.run("gc", "--auto", "--quiet")
        return tip

    def _refuse(self, newest: str) -> None:
        rule = f"its history was rewritten: the newest commit does not descend from {newest}, seen here before"
        fix = "restore that history, or take the new one with `sluice ledger accept --reason …`"
        raise HistoryRewrittenError(self.remote, rule, fix)

    def descends(self, tip: str, ancestor: str) -> bool:
        """Whether ``ancestor`` is ``tip`` or in its history."""
        if ancestor in self._newest_ones(tip):
            return True
        try:
            self.run("merge-base", "--is-ancestor", ancestor, tip)
        except GitFailed:  # no, or there is no such commit here
            return False
        return True

    def _newest_ones(self, tip: str) -> Iterator[str]:
        """``tip`` and the first parents before it, a few: they are read without a further process."""
        for _ in range(_NEAR):
            yield tip
            commit = self._objects([tip])[0]
            head, _, parent = (commit.data if commit else b"").partition(b"\nparent ")
            if not parent or b"\n" in head:  # only the tree stands before the first parent
                return
            tip = parent.partition(b"\n")[0].decode()

    @property
    def _memory(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}.seen")

    def newest_seen(self) -> str | None:
        """The newest commit that was ever seen here, whatever became of the copy."""
        try:
            return self._memory.read_text().strip() or None
        except (OSError, ValueError):
            return None

    def remember(self, tip: str) -> None:
        """Let a commit be the newest one that was seen here."""
        write_bytes(self._memory, f"{tip}\n".encode())

    def accept(self) -> tuple[str | None, str]:
        """
        Take the remote's history whatever was seen before, and keep the one that is given up below ``refs/sluice/``.

        Returns:
            the newest commit that was seen before, and the newest one now.
        """
        known, newest = self.last_known(), self.newest_seen()
        for commit in {known, newest} - {None}:
            with contextlib.suppress(GitFailed):  # seen, and thrown away with an older copy
                self.run("update-ref", f"refs/sluice/given-up/{commit}", str(commit))
        if known:
            self.run("update-ref", "-d", _MAIN)
        self._memory.unlink(missing_ok=True)
        self.trail.unlink(missing_ok=True)
        return newest or known, self._fetch()

    def last_known(self) -> str | None:
        """The newest commit that was seen; the remote is not asked."""
        tip = self._objects([_MAIN])[0] if (self.directory / "HEAD").exists() else None
        return tip.id if tip and tip.kind == "commit" else None

    def is_whole(self) -> bool:
        """Whether every commit is here, and every file of the newest one."""
        try:
            self.run("rev-list", "--quiet", _MAIN)
            self.run("rev-list", "--quiet", "--objects", "--no-walk", _MAIN)
        except GitFailed:
            return False
        return True

    @property
    def trail(self) -> Path:
        """Where ``trail`` keeps what it read of the commits."""
        return self.directory / "sluice-trail"

    def run(self, *arguments: str, data: bytes | None = None, timeout_s: float | None = None) -> bytes:
        """A git command in the clone."""
        return git(self.directory, *arguments, data=data, timeout_s=timeout_s)

    def _objects(self, names: Sequence[str]) -> list[GitObject | None]:
        if self._reader is None:
            self._reader = Reader(self.directory)
        return self._reader.find(names)

    def _close(self) -> None:
        if self._reader:
            self._reader.close()
            self._reader = None

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """The blobs called ``names`` (``<commit>:<path>`` or an object id); ``None`` where absent."""
        return [each.data if each and each.kind == "blob" else None for each in self._objects(names)]

    def entries(self, name: str) -> dict[str, str]:
        """Name → object id of what lies in a tree (``<commit>:<folder>``); a folder's name ends with ``/``."""
        tree = self._objects([name])[0]
        listed: dict[str, str] = {}
        data, place = (tree.data, 0) if tree and tree.kind == "tree" else (b"", 0)
        size = len(tree.id) // 2 if tree else 0
        while place < len(data):
            end = data.index(b"\0", place)
            mode, _, entry = data[place:end].partition(b" ")
            place = end + 1 + size
            listed[entry.decode(errors="replace") + "/" * (mode == b"40000")] = data[end + 1 : place].hex()
        return listed

    def check_out(self, commit: str, directory: Path) -> None:
        """Lay the files of a commit into a directory."""
        with tarfile.open(fileobj=io.BytesIO(self.run("archive", "--format=tar", commit))) as archive:
            archive.extractall(directory, filter="data")

    def commit(self, base: str | None, files: Mapping[str, bytes], message: str, when: str) -> str:
        """The id of a new commit: ``files`` over ``base``; ``when`` (ISO 8601, UTC) is both its dates. One process."""
        (self.directory / f"{_PENDING}.lock").unlink(missing_ok=True)  # of a process that was killed
        who = f"Sluice <sluice@localhost> {int(moment_of(when).timestamp())} +0000"
        text = message.encode()
        head = f"commit {_PENDING}\nmark :1\nauthor {who}\ncommitter {who}\ndata {len(text)}\n".encode()
        parent = f"from {base}\n".encode() if base else b""
        rows = [b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data) for path, data in files.items()]
        stream = head + text + b"\n" + parent + b"".join(rows) + b"\nget-mark :1\ndone\n"
        return self.run("fast-import", "--quiet", "--force", "--done", data=stream).decode().strip()

    def push(self, commit: str) -> bool:
        """
        Compare-and-swap: ``main`` becomes ``commit`` if it still is ``commit``'s parent. False when it is not.

        Raises:
            GitFailed: the push failed for another reason than a lost race.
        """
        self._clear_stale_locks()
        try:
            self.run(
                "push", "--porcelain", self.remote, f"{commit}:{_MAIN}", timeout_s=self._patience_s or _ANSWER_SECONDS
            )
        except GitFailed as failed:
            if any(reason in failed.output for reason in _LOST_RACE):
                return False
            raise
        self.remember(commit)
        return True

    def may_push(self) -> None:
        """
        Ask the remote whether it takes a commit from us; nothing is changed.

        Raises:
            GitFailed: it does not.
        """
        options = "--dry-run", "--porcelain"
        self.run("push", *options, self.remote, f"{_MAIN}:{_MAIN}", timeout_s=self._patience_s or _ANSWER_SECONDS)

    def _clear_stale_locks(self) -> None:
        # git holds these locks for milliseconds; an older one belongs to a process that was killed inside the update,
        # which locks HEAD too where that names the branch
        for name in (_MAIN, "HEAD"):
            lock = Path(self.remote) / f"{name}.lock"
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > _STALE_SECONDS:
                    lock.unlink()
