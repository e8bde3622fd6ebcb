"""A deploy key as ssh wants it: a Secret's volume is readable for a group, and such a key is refused by ssh."""

from __future__ import annotations

import os
from pathlib import Path

from sluice.errors import BadInput
from sluice.release.git import KEY

_FILES = ("ssh-privatekey", "known_hosts")


def use_deploy_key(folder: Path, private: Path) -> None:
    """
    From now on every git of this process uses the key in ``folder``, and believes the hosts that it lists alone.

    Args:
        private: an empty directory that nobody else may read; gets copies with mode 0600.

    Raises:
        BadInput: one of the two files is missing or empty. No message has anything of what is in them.
    """
    for name in _FILES:
        try:
            text = (folder / name).read_bytes().strip()
        except OSError as error:
            fix = "give the Secret release-repository both keys: ssh-privatekey and known_hosts"
            raise BadInput(str(folder / name), f"cannot be read ({error.strerror})", fix) from error
        if not text:
            raise BadInput(str(folder / name), "is empty", "see docs/gitops.md for how the Secret is made")
        copy = os.open(private / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(copy, "wb") as stream:
            stream.write(text + b"\n")  # ssh refuses a key whose last line does not end
    os.environ[KEY] = str(private)
