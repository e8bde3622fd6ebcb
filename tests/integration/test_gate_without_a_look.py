"""What a gate commits without evidence: the next environment's candidate, and an approval by pull request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sluice.git.command import git
from sluice.gitops.writer import GitOps
from sluice.operations.ledger import verify
from tests.support.approval import approval_text, january, look_on, merge_approval, write_waiting_rollout
from tests.support.cluster_documents import Cluster
from tests.support.environments import Environments, evaluation, write_chained_checkout
from tests.support.gate import gate_of
from tests.support.release import A, B, failing


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return write_chained_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def town(tmp_path: Path, checkout: Path) -> Environments:
    """Nothing is released yet."""
    return Environments(tmp_path, checkout)


@pytest.fixture
def gitops(tmp_path: Path) -> GitOps:
    """A rollout in it waits for a person."""
    return GitOps(write_waiting_rollout(tmp_path / "home"), "dev")


def gate(gitops: GitOps, now: str) -> dict[str, Any]:
    """One run of the gate; the cluster does what Git says."""
    state = gitops.snapshot().state
    return gate_of(gitops, Cluster(state, state.since or now), now).look()


def put_in_place(gitops: GitOps, sequence: int) -> str:
    """What docs/bring-your-own-prometheus.md asks Git: the decision by which a server's line has its sequence."""
    place = f"manifests/overlays/{gitops.environment}/release"
    asked = ["log", f'-S"sequence={sequence}"', "--format=%(trailers:key=Sluice-Decision,valueonly)", "--", place]
    return git(Path(gitops.remote), *asked).decode().split()[-1]


def test_what_dev_confirmed_is_proposed_in_staging_once(town: Environments) -> None:
    told = gate(town.staging, town.now())
    assert (told["action"], told["reasons"][0]["rule"]) == ("wait", "promote")
    assert told["reasons"][0]["text"] == "dev has no stable model that a decision confirmed"

    town.release(A)
    told = gate(town.staging, town.now())
    begun = town.staging.snapshot()
    assert (told["action"], told["commit"]) == ("bootstrap", begun.commit)
    assert told["decision"] == town.staging.decisions()[-1].id
    assert (told["rollout"], told["sequence"]) == (begun.state.rollout, begun.state.sequence)
    assert put_in_place(town.staging, begun.state.sequence) == told["decision"]
    assert begun.state.candidate == A

    told = gate(town.prod, town.now())
    assert told["reasons"][0]["text"] == "staging has no stable model that a decision confirmed"
    town.confirm(town.staging)
    assert gate(town.prod, town.now())["action"] == "bootstrap"
    town.confirm(town.prod)
    told = gate(town.staging, town.now())
    assert (told["action"], told["decision"]) == ("wait", None)
    verify(town.prod, None).require_intact()


def test_what_this_environment_refused_is_refused_once(town: Environments) -> None:
    town.release(A)
    assert town.promote(town.staging).decision
    town.confirm(town.staging)
    town.release(B, evaluation(gain=-0.1))
    first = gate(town.staging, town.now())
    again = gate(town.staging, town.now())
    assert first["action"] == again["action"] == "refuse"
    assert (first["decision"], first["commit"]) == (again["decision"], again["commit"])
    released = town.staging.snapshot().state
    assert (first["sequence"], put_in_place(town.staging, released.sequence)) == (
        released.sequence,
        town.staging.decisions()[-2].id,
    ), "a refusal puts nothing in place"
    assert town.staging.snapshot().state.stable == A


def test_a_merged_approval_goes_on_without_evidence(gitops: GitOps, tmp_path: Path) -> None:
    merge_approval(gitops, approval_text(gitops), tmp_path)
    told = gate(gitops, january(5))
    assert (told["action"], told["commit"]) == ("approve", gitops.snapshot().commit)
    assert gitops.snapshot().state.candidate_weight == 50


@pytest.mark.parametrize("text", ["pause: [\n", "pause: another\nby: lee\nreason: fine\n"])
def test_an_approval_that_is_none_keeps_no_candidate_alive(gitops: GitOps, tmp_path: Path, text: str) -> None:
    merge_approval(gitops, text, tmp_path)
    assert gate(gitops, january(5))["action"] == "wait"
    assert gitops.snapshot().state.paused
    assert gate(gitops, january(28))["action"] == "time-out"
    assert look_on(gitops, 29, failing) is None
