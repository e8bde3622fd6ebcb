"""A Git host: a real sshd on a free port that lets one key use Git and nothing else."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.patience import wait_until

_SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True)
class SshHost:
    """
    One that runs.

    Attributes:
        address: host and port.
        keys: folder with ``ssh-privatekey`` and ``known_hosts``, readable for who runs the test alone.
        log: what the sshd said.
    """

    address: str
    keys: Path
    log: Path

    def url(self, repository: Path | str) -> str:
        """Of a bare repository on this machine."""
        return f"ssh://{getpass.getuser()}@{self.address}{repository}"


def new_key(path: Path) -> str:
    """Write a key pair; returns the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


@contextlib.contextmanager
def ssh_host_in(folder: Path, listen: str = "127.0.0.1") -> Iterator[SshHost]:
    """A host that ends with the block; skipped, loudly, where there is no sshd."""
    if not Path(_SSHD).exists():
        pytest.skip(f"NOT CHECKED: {_SSHD} is absent; Debian: apt-get install openssh-server")
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    port, keys = _free_port(listen), folder / "keys"
    keys.mkdir()
    allowed = new_key(folder / "deploy")
    shutil.copy(folder / "deploy", keys / "ssh-privatekey")
    kind, text, _ = new_key(folder / "host").split(maxsplit=2)
    (keys / "known_hosts").write_text(f"[{listen}]:{port} {kind} {text}\n")
    (keys / "ssh-privatekey").chmod(0o400)
    (folder / "authorized").write_text(f'restrict,command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"" {allowed}')
    options = {
        "ListenAddress": f"{listen}:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "PidFile": "none",
        "StrictModes": "no",  # the test's folder lies below one that everybody may write to
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "forced-commands-only",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = folder / "log"
    child = subprocess.Popen([_SSHD, "-D", "-f", folder / "sshd_config", "-E", log])
    try:
        _wait_for(listen, port, log)
        yield SshHost(f"{listen}:{port}", keys, log)
    finally:
        child.terminate()
        child.wait(10)


def _wait_for(host: str, port: int, log: Path) -> None:
    def answers() -> bool:
        socket.create_connection((host, port), timeout=2).close()
        return True

    try:
        wait_until("sshd answers", answers, 20, not_yet=(OSError,))
    except AssertionError as error:
        raise AssertionError(log.read_text() if log.exists() else "sshd wrote no log") from error


def _free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port
