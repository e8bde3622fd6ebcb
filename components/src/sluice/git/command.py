"""
The git command line, alone with itself.

No user or system configuration reaches it, no hook of a parent process, no terminal: the same call gives the same
commit everywhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, NoReturn, cast

from sluice.errors import SluiceError

_IDENTITY = {"NAME": "Sluice", "EMAIL": "sluice@localhost"}
KEY = "SLUICE_REPOSITORY_KEY"
"""Environment variable: folder of the deploy key, as a Secret's volume has it."""
KEY_FILES = ("ssh-privatekey", "known_hosts")
COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A whole one, as SHA-1 and SHA-256 repositories have it."""
_SSH_SAID_WHY = "fatal: Could not read from remote repository."
_OF_THE_NETWORK = re.compile(
    r"no answer within|timed out|Could(n't| not) (resolve|connect)|Temporary failure in name resolution"
    r"|Connection (refused|reset|closed)|No route to host|Network is unreachable|Operation too slow"
    r"|hung up unexpectedly|unexpected disconnect|early EOF|RPC failed|Broken pipe|Failed to connect"
    r"|returned error: (429|5\d\d)|gnutls_handshake|SSL_ERROR_SYSCALL|Empty reply from server",
    re.IGNORECASE,
)
"""What git, ssh and curl say where the same may be answered a little later."""
_TOGETHER = 64
"""Names on their way to ``cat-file``: few enough that writing them never waits for its answers to be read."""


class GitFailed(SluiceError):
    """A git command ended with an error; ``reason`` is the line that tells why, a network's or the remote's."""

    def __init__(self, directory: Path, arguments: Sequence[str], output: str) -> None:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        telling = [line for mark in ("!", "fatal:", "error:") for line in lines if line.startswith(mark)]
        self.reason = (telling or lines or ["no reason given"])[0]
        if self.reason == _SSH_SAID_WHY and lines.index(self.reason):
            self.reason = lines[lines.index(self.reason) - 1]
        self.output = output
        self.is_of_the_network = bool(_OF_THE_NETWORK.search(output))
        super().__init__(str(directory), f"`git {arguments[0]}` failed ({self.reason})", "mend it and run again")


def git(directory: Path, *arguments: str, data: bytes | None = None, timeout_s: float | None = None) -> bytes:
    """
    Standard output of ``git --git-dir=<directory> <arguments>``.

    Raises:
        GitFailed: git ended with another status than 0, or not within ``timeout_s``.
    """
    command = ["git", f"--git-dir={directory}", *arguments]
    try:
        process = subprocess.run(
            command, input=data, env=environment(), capture_output=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise GitFailed(directory, arguments, f"no answer within {timeout_s:g} s") from error
    if process.returncode:
        raise GitFailed(directory, arguments, (process.stderr + process.stdout).decode(errors="replace"))
    return process.stdout


def environment() -> dict[str, str]:
    """The environment variables of every git process: ours without git's own, Sluice as author and committer."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    identity = {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER") for key, value in _IDENTITY.items()}
    alone = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    return inherited | identity | alone | _deploy_key(os.environ.get(KEY, ""))


def _deploy_key(folder: str) -> dict[str, str]:
    """
    ssh with this key alone, to hosts that are known; nothing where there is no key.

    The key is used where it is mounted, though its group may read it: ssh minds that of the file's owner alone
    (``sshkey_perm_ok``), a Secret's files are root's, and no pod of ours runs as root.
    """
    key, known = (Path(folder) / name for name in KEY_FILES)
    if not folder or not key.exists():
        return {}
    options = ["-F /dev/null", "-o BatchMode=yes", "-o IdentitiesOnly=yes", "-o StrictHostKeyChecking=yes"]
    files = [f"-i {shlex.quote(str(key))}", f"-o UserKnownHostsFile={shlex.quote(str(known))}"]
    return {"GIT_SSH_COMMAND": " ".join(["ssh", *options, *files])}


def create_bare(directory: Path) -> None:
    """An empty bare repository with the branch ``main``; an existing one stays as it is. Many may call it at once."""
    directory.mkdir(parents=True, exist_ok=True)
    with _held(directory):  # of two at once git lets one fail
        git(directory, "init", "--quiet", "--bare", "--initial-branch=main")


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    folder = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


class GitObject(NamedTuple):
    """An object of the repository."""

    id: str
    kind: str
    """blob, tree or commit."""
    data: bytes


class Reader:
    """One ``git cat-file`` that answers any number of names, one after the other, until it is closed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._inode = directory.stat().st_ino
        command = ["git", f"--git-dir={directory}", "cat-file", "--batch"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe)
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._questions, self._answers, self._complaints = (cast("IO[bytes]", stream) for stream in streams)

    def is_of_another(self, directory: Path) -> bool:
        """Whether it answers from a folder that is there no more, or that another one took the place of."""
        try:
            return directory.stat().st_ino != self._inode
        except OSError:
            return True

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def find(self, names: Sequence[str]) -> list[GitObject | None]:
        """
        The objects called ``names`` (``<commit>:<path>``, a ref or an object id); ``None`` where there is none.

        Raises:
            GitFailed: an object is there and cannot be read.
        """
        objects: list[GitObject | None] = []
        for start in range(0, len(names), _TOGETHER):
            together = names[start : start + _TOGETHER]
            self._ask("".join(f"{name}\n" for name in together).encode())
            objects.extend(self._answer() for _ in together)
        return objects

    def _ask(self, lines: bytes) -> None:
        try:
            self._questions.write(lines)
            self._questions.flush()
        except BrokenPipeError:
            self._fail()

    def _answer(self) -> GitObject | None:
        head = self._answers.readline().split()
        if not head:
            self._fail()
        if head[-1] in (b"missing", b"ambiguous"):
            return None
        data = self._answers.read(int(head[-1]) + 1)
        if len(data) != int(head[-1]) + 1:
            self._fail()
        return GitObject(head[0].decode(), head[1].decode(), data[:-1])

    def _fail(self) -> NoReturn:
        raise GitFailed(self._directory, ["cat-file"], self._complaints.read().decode(errors="replace"))
