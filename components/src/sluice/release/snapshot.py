"""All that a decision about one environment starts from, read from one commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

from sluice.content import digest_of_bytes
from sluice.documents.state import ReleaseState
from sluice.errors import BadArtifact, BadInput, SluiceError
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.release.file import parse_holds, parse_release
from sluice.release.mode import options_of, require_expressible

OVERLAYS, STRATEGY_MANIFESTS = "manifests/overlays", "manifests/strategies"
RELEASE, HOLDS, POLICY = "release/kustomization.yaml", "release/holds.yaml", "gate-policy.yaml"
OVERLAY = "kustomization.yaml"


class UnreadablePolicy:
    """In the policy's place where a person goes back all the same; asked anything, it is refused as it was read."""

    def __init__(self, error: SluiceError) -> None:
        self.error = error

    def __getattr__(self, name: str) -> NoReturn:
        raise self.error


@dataclass(frozen=True)
class Snapshot:
    """The state and the policy at a commit."""

    commit: str
    state: ReleaseState
    policy: GatePolicy
    policy_digest: str

    @property
    def policy_problem(self) -> SluiceError | None:
        """Why the policy cannot be read, for who does without."""
        policy: object = self.policy
        return policy.error if isinstance(policy, UnreadablePolicy) else None


def overlay_of(environment: str) -> str:
    """The environment's folder in the GitOps repository."""
    return f"{OVERLAYS}/{environment}"


def paths_of(environment: str) -> tuple[str, str, str]:
    """Release file, holds and policy of an environment."""
    folder = overlay_of(environment)
    return f"{folder}/{RELEASE}", f"{folder}/{HOLDS}", f"{folder}/{POLICY}"


def inputs_of(environment: str) -> tuple[str, ...]:
    """All files that a snapshot is made of; an overlay without a kustomization has no options."""
    return (*paths_of(environment), f"{overlay_of(environment)}/{OVERLAY}")


def parse_snapshot(
    environment: str, commit: str, files: Mapping[str, bytes | None], *, needs_policy: bool = True
) -> Snapshot:
    """
    The snapshot in an environment's files.

    Args:
        files: by path, those of ``inputs_of``; ``None`` where there is none.
        needs_policy: without it a policy that cannot be read is an ``UnreadablePolicy``.

    Raises:
        BadInput: the policy is wrong, another environment's, or has a stage that the overlay's options cannot render.
        BadArtifact: a file is missing, or was edited into nonsense.
    """
    path = paths_of(environment)[2]
    try:
        return _parsed(environment, commit, files, path)
    except SluiceError as error:
        if needs_policy:
            raise
        state = parse_state(environment, files.get)
        return Snapshot(commit, state, cast("GatePolicy", UnreadablePolicy(error)), digest_of_bytes(files[path] or b""))


def _parsed(environment: str, commit: str, files: Mapping[str, bytes | None], path: str) -> Snapshot:
    text = present(files[path], path)
    policy = parse_policy(text, path)
    state = parse_state(environment, files.get)
    if (policy.task, policy.environment) != (state.task, state.environment):
        rule = f"is for {policy.task} {policy.environment}, the release is {state.task} {state.environment}"
        raise BadInput(path, rule, "give the environment its own policy")
    overlay = f"{overlay_of(environment)}/{OVERLAY}"
    if kustomization := files.get(overlay):
        require_expressible(policy, options_of(kustomization, overlay), path, overlay)
    return Snapshot(commit, state, policy, digest_of_bytes(text))


def parse_state(environment: str, read: Callable[[str], bytes | None]) -> ReleaseState:
    """The release state alone, from what ``read`` answers to a path. Raises as ``parse_snapshot``."""
    release, holds_path, _ = paths_of(environment)
    holds = parse_holds(present(read(holds_path), holds_path), holds_path)
    state = parse_release(present(read(release), release), release, holds)
    if state.environment != environment:
        rule = f"is {state.environment!r} in the overlay of {environment!r}"
        raise BadArtifact(f"{release}: environment", rule, "restore the file from its last commit")
    return state


def present(data: bytes | None, path: str) -> bytes:
    """
    The bytes of a file that must be there.

    Raises:
        BadArtifact: there is no such file.
    """
    if data is None:
        raise BadArtifact(path, "is missing in the GitOps repository", "restore it from an older commit")
    return data


def seed_files(checkout: Path) -> dict[str, bytes]:
    """
    What a new repository begins with: ``manifests/`` and the top-level kustomization of a checkout.

    Raises:
        BadInput: one of the files cannot be read.
    """
    paths = [checkout / "kustomization.yaml", *sorted((checkout / "manifests").rglob("*.yaml"))]
    try:
        return {path.relative_to(checkout).as_posix(): path.read_bytes() for path in paths}
    except OSError as error:
        raise BadInput(
            str(error.filename), f"cannot be read ({error.strerror})", "seed from a whole checkout"
        ) from error
