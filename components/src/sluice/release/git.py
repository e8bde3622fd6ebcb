"""
The git command line, alone with itself.

No user or system configuration reaches it, no hook of a parent process, no terminal: the same call gives the same
commit everywhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sluice.errors import SluiceError

_IDENTITY = {"NAME": "Sluice", "EMAIL": "sluice@localhost"}
_STALE_SECONDS = 5.0


class GitFailed(SluiceError):
    """A git command ended with an error; ``said`` is the line that tells why."""

    def __init__(self, directory: Path, arguments: Sequence[str], output: str) -> None:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "!"))]
        self.said = (telling or lines or ["no reason given"])[0]
        self.output = output
        super().__init__(str(directory), f"`git {arguments[0]}` failed ({self.said})", "mend it and run again")


def git(directory: Path, *arguments: str, data: bytes | None = None, env: Mapping[str, str] | None = None) -> bytes:
    """
    Standard output of ``git --git-dir=<directory> <arguments>``.

    Raises:
        GitFailed: git ended with another status than 0.
    """
    command = ["git", f"--git-dir={directory}", *arguments]
    done = subprocess.run(command, input=data, env=_environment(env or {}), capture_output=True, check=False)
    if done.returncode:
        raise GitFailed(directory, arguments, (done.stderr + done.stdout).decode(errors="replace"))
    return done.stdout


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    identity = {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER") for key, value in _IDENTITY.items()}
    alone = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    return inherited | identity | alone | dict(extra)


def create_bare(directory: Path) -> None:
    """An empty bare repository with the branch ``main``; leaves an existing one as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    git(directory, "init", "--quiet", "--bare", "--initial-branch=main")


class Clone:
    """
    A private bare copy of the remote's ``main``: a cache that may be thrown away at any time.

    One process at a time works in it (``held``); the lock goes with its holder, so SIGKILL leaves nothing behind.
    """

    def __init__(self, remote: str, directory: Path) -> None:
        self.remote, self.directory = remote, directory

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds the clone's lock file."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self.directory.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def fetch(self) -> str:
        """
        The remote's newest commit, with all that it needs at hand.

        A clone that a killed process left broken (a stale lock, half an object) is replaced by a new one, once; it
        stays while the remote cannot be read, since it may then be all that is left of the history.

        Raises:
            GitFailed: the remote cannot be read, or has no ``main``.
        """
        try:
            return self._fetch()
        except GitFailed:
            return self._replaced()

    def _replaced(self) -> str:
        fresh = Clone(self.remote, self.directory.with_name(f"{self.directory.name}.new"))
        shutil.rmtree(fresh.directory, ignore_errors=True)
        try:
            commit = fresh._fetch()
            shutil.rmtree(self.directory, ignore_errors=True)
            fresh.directory.rename(self.directory)
        finally:
            shutil.rmtree(fresh.directory, ignore_errors=True)
        return commit

    def _fetch(self) -> str:
        if not (self.directory / "HEAD").exists():
            create_bare(self.directory)
        git(self.directory, "fetch", "--quiet", "--no-tags", self.remote, "+refs/heads/main:refs/heads/main")
        # a fetch of nothing new checks nothing; readers need every commit, and the files of the newest one
        self.run("rev-list", "--quiet", "refs/heads/main")
        self.run("rev-list", "--quiet", "--objects", "--no-walk", "refs/heads/main")
        return self.run("rev-parse", "--verify", "refs/heads/main^{commit}").decode().strip()

    def run(self, *arguments: str, data: bytes | None = None, env: Mapping[str, str] | None = None) -> bytes:
        """A git command in the clone."""
        return git(self.directory, *arguments, data=data, env=env)

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """The blobs called ``names`` (``<commit>:<path>`` or an object id) by one process; ``None`` where absent."""
        answer = self.run("cat-file", "--batch", "--buffer", data="".join(f"{name}\n" for name in names).encode())
        blobs: list[bytes | None] = []
        position = 0
        for _ in names:
            end = answer.index(b"\n", position)
            head = answer[position:end].split()
            position = end + 1
            if head[-1] in (b"missing", b"ambiguous"):
                blobs.append(None)
                continue
            size = int(head[2])
            blobs.append(answer[position : position + size])
            position += size + 1
        return blobs

    def tree(self, base: str | None, files: Mapping[str, bytes]) -> str:
        """The id of the tree of ``base`` with ``files`` written over it, made in an index of its own."""
        env = self._fresh_index()
        self.run("read-tree", *([base] if base else ["--empty"]), env=env)
        lines = (f"100644 {self._blob(data)}\t{path}\n" for path, data in sorted(files.items()))
        self.run("update-index", "--add", "--index-info", data="".join(lines).encode(), env=env)
        return self.run("write-tree", env=env).decode().strip()

    def check_out(self, commit: str, directory: Path) -> None:
        """Lay the files of a commit into a directory."""
        env = self._fresh_index() | {"GIT_WORK_TREE": str(directory)}
        self.run("read-tree", commit, env=env)
        self.run("checkout-index", "--all", "--force", env=env)

    def _fresh_index(self) -> dict[str, str]:
        index = self.directory / "sluice-index"
        for leftover in (index, index.with_name(index.name + ".lock")):
            leftover.unlink(missing_ok=True)
        return {"GIT_INDEX_FILE": str(index)}

    def _blob(self, data: bytes) -> str:
        return self.run("hash-object", "-w", "--stdin", data=data).decode().strip()

    def commit(self, tree: str, parent: str | None, message: str, when: str) -> str:
        """The id of a new commit; ``when`` (ISO 8601, UTC) is both its dates."""
        env = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        parents = ["-p", parent] if parent else []
        return self.run("commit-tree", tree, *parents, data=message.encode(), env=env).decode().strip()

    def push(self, commit: str) -> bool:
        """
        Compare-and-swap: ``main`` becomes ``commit`` if it still is ``commit``'s parent. False when it is not.

        Raises:
            GitFailed: the push failed for another reason than a lost race.
        """
        self._clear_stale_locks()
        try:
            self.run("push", "--porcelain", self.remote, f"{commit}:refs/heads/main")
        except GitFailed as failed:
            if "[rejected]" in failed.output or "[remote rejected]" in failed.output:
                return False
            raise
        return True

    def _clear_stale_locks(self) -> None:
        # git holds these locks for milliseconds; an older one belongs to a process that was killed inside the update,
        # which locks HEAD too where that names the branch
        for name in ("refs/heads/main.lock", "HEAD.lock"):
            lock = Path(self.remote) / name
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > _STALE_SECONDS:
                    lock.unlink()
