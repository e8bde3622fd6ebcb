"""Many environments of one repository, read together: one fetch, one reading process, one commit for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sluice.errors import SluiceError
from sluice.git.command import GitFailed
from sluice.git.repository import Repository
from sluice.release.snapshot import OVERLAYS, Snapshot, inputs_of, parse_snapshot


@dataclass(frozen=True)
class Fleet:
    """
    Every environment that was asked for, as of one commit.

    Attributes:
        snapshots: by environment.
        problems: of those that cannot be read; they hold nobody else up.
    """

    commit: str
    snapshots: Mapping[str, Snapshot]
    problems: Mapping[str, SluiceError]


def read_fleet(remote: Path | str, environments: Iterable[str] | None = None, *, clone: Path | None = None) -> Fleet:
    """
    The state and the policy of many environments.

    Args:
        environments: by default every overlay.
        clone: as of ``GitOps``; one that is kept between calls makes them cheap.

    Raises:
        BadInput: the repository cannot be read.
        BadArtifact: its history was rewritten.
    """
    repository = Repository(remote, clone)

    def read(tip: str) -> tuple[str, dict[str, bytes | None]]:
        entries = repository.clone.entries(f"{tip}:{OVERLAYS}") if environments is None else ()
        names = [name[:-1] for name in entries if name.endswith("/")] if environments is None else environments
        paths = [path for name in names for path in inputs_of(name)]
        texts = repository.clone.read([f"{tip}:{path}" for path in paths])
        if None in texts and not repository.clone.is_whole():
            raise GitFailed(repository.clone.directory, ["cat-file"], "objects are missing")
        return tip, dict(zip(paths, texts, strict=True))

    commit, files = repository.newest(read)
    snapshots: dict[str, Snapshot] = {}
    problems: dict[str, SluiceError] = {}
    for name in dict.fromkeys(path.split("/")[2] for path in files):
        try:
            snapshots[name] = parse_snapshot(name, commit, files)
        except SluiceError as error:
            problems[name] = error
    return Fleet(commit, snapshots, problems)
