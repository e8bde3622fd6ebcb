"""A repository with many overlays, each in a stage of its own choice, made with one fast-import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sluice.documents.state import ReleaseState
from sluice.git.command import create_bare, git
from sluice.release.file import render_holds, render_release
from sluice.release.snapshot import paths_of
from tests.support.ledger import commit_text
from tests.support.release import POLICY_TEXT, state_in


def make_fleet(remote: Path, states: Mapping[str, ReleaseState]) -> None:
    """A new repository whose overlays hold ``states``, with the sample's policy for each."""
    files: dict[str, bytes] = {}
    for name, state in states.items():
        release, holds, policy = paths_of(name)
        files[release], files[holds] = render_release(state), render_holds(state.holds)
        files[policy] = POLICY_TEXT.replace(b"environment: dev", f"environment: {name}".encode())
    create_bare(remote)
    git(remote, "fast-import", "--quiet", data=commit_text(b"fleet", files, first=False))


def in_flight(count: int, stages: tuple[tuple[str, int], ...] = (("canary", 0),)) -> dict[str, ReleaseState]:
    """``model-000`` and so on, with a rollout in flight each; ``stages`` in turn."""
    names = [f"model-{number:03d}" for number in range(count)]
    chosen = (stages[number % len(stages)] for number in range(count))
    return {name: state_in(*stage, environment=name) for name, stage in zip(names, chosen, strict=True)}
