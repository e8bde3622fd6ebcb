"""With Git down, real servers behind a real splitter go back to stable at once; Git hears of it when it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.errors import BadInput
from sluice.operations.operator import break_the_glass
from sluice.workspace import Workspace
from sluice_local.reconciler import Reconciler
from tests.support.release_repository import STAGES, commit_state, seed_workspace
from tests.support.tiny_bundle import write_tiny_bundle

NOW = "2024-04-06T05:00:00Z"


def test_servers_go_back_at_once_and_git_follows(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    first, second = write_tiny_bundle(workspace.bundles), write_tiny_bundle(workspace.bundles, 0.4)
    gitops = seed_workspace(workspace)
    with Reconciler(workspace, gitops, "tiny") as reconciler:
        commit_state(gitops, stable=first, candidate=second, since="2024-04-05T05:00:00Z", **STAGES["canary"])
        assert reconciler.sync().candidate_weight == 30
        gone = workspace.gitops.rename(tmp_path / "gone.git")
        with pytest.raises(BadInput, match="cannot be read"):
            reconciler.sync()
        break_the_glass(gitops, "wrong scores", "kim", NOW)
        for _ in range(2):
            applied = reconciler.sync()
            assert (applied.stable, applied.candidate) == (first, None)
            assert (applied.stable_weight, applied.candidate_weight) == (100, 0)
        assert gitops.glass.pending_record() is not None
        gone.rename(workspace.gitops)
        reconciler.sync()
        assert gitops.glass.pending_record() is None
        state = gitops.snapshot().state
        assert (state.stable, state.candidate, [hold.digest for hold in state.holds]) == (first, None, [second])
        assert state.is_applied(reconciler.sync())
