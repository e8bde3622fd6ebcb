"""One remote and its private clone: what is read is read at the newest commit, whatever a kill left of the clone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sluice.errors import BadInput, SluiceError, Unavailable
from sluice.git.clone import Clone
from sluice.git.command import GitFailed

_Read = TypeVar("_Read")


_FAR_AWAY = "try again when the network and its host answer; if they do, mend the address or the key"


class UnreachableError(BadInput):
    """The repository cannot be read or written now."""


class SilentRemoteError(UnreachableError, Unavailable):
    """It is a fault of the network, or of the repository's host: the same may be answered a little later."""


class Repository:
    """
    Args:
        remote: path or URL of the repository that Argo CD (or its stand-in) follows.
        clone: where the private bare copy lives; by default beside a local remote.
        patience_s: as of ``Clone``.
    """

    def __init__(self, remote: Path | str, clone: Path | None = None, patience_s: float | None = None) -> None:
        local = Path(remote).absolute()
        self.remote = str(local) if isinstance(remote, Path) or local.exists() else remote
        self.clone = Clone(self.remote, clone or local.with_name(f".{local.name}.clone"), patience_s)

    def newest(self, read: Callable[[str], _Read]) -> _Read:
        """
        What ``read`` finds at the newest commit; asked again in a new clone when this one has lost objects.

        Raises:
            UnreachableError: the remote cannot be read.
            BadArtifact: its history was rewritten.
        """
        with self.clone.lock():
            tip = self.fetch()
            try:
                return read(tip)
            except SluiceError:
                if self.clone.is_whole():
                    raise
                return read(self.replaced())

    def fetch(self) -> str:
        """The newest commit; the clone must be held. Raises as ``newest``."""
        try:
            return self.clone.fetch()
        except GitFailed as failed:
            raise self.unreachable("read", failed) from failed

    def replaced(self) -> str:
        """The newest commit in a new clone. Raises as ``newest``."""
        try:
            return self.clone.replace()
        except GitFailed as failed:
            raise self.unreachable("read", failed) from failed

    def unreachable(self, what: str, failed: GitFailed) -> UnreachableError:
        """The error that says that the remote cannot be ``read`` or ``written``, and why."""
        kind = SilentRemoteError if failed.is_of_the_network else UnreachableError
        here = Path(self.remote).is_absolute()
        fix = "restore the repository, or begin anew with `sluice run --fresh`" if here else _FAR_AWAY
        return kind(self.remote, f"cannot be {what} ({failed.reason})", fix)

    def require_writable(self) -> str:
        """
        The newest commit, of a remote that would take another one from us; nothing is written.

        Raises: as ``newest``.
        """
        with self.clone.lock():
            tip = self.fetch()
            try:
                self.clone.may_push()
            except GitFailed as failed:
                raise self.unreachable("written", failed) from failed
            return tip

    def accept(self) -> tuple[str | None, str]:
        """
        Take a history that was rewritten: the newest commit seen before, and the newest one now.

        Raises:
            BadInput: the repository cannot be read.
        """
        with self.clone.lock():
            try:
                return self.clone.accept()
            except GitFailed as failed:
                raise self.unreachable("read", failed) from failed

    def recall(self, commit: str) -> None:
        """Let a commit count as the newest one that was seen here, as somebody remembers who keeps no clone."""
        self.clone.remember(commit)

    def has(self, commit: str) -> bool:
        """
        Whether a commit is in the history of now.

        Raises: as ``newest``.
        """
        return self.newest(lambda tip: self.clone.descends(tip, commit))

    def newest_seen(self) -> str | None:
        """The newest commit that was seen here before; the repository is not asked."""
        return self.clone.newest_seen()
