"""Reconciler and traffic: what Git says serves, a window is whole and repeatable, and nothing is left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psutil
import pytest

from sluice.errors import BadInput
from sluice.models.bundle import load_bundle
from sluice.tasks.task import Task
from sluice.workspace import Workspace
from sluice_local.reconciler import Reconciler
from sluice_local.traffic import TrafficReplay
from tests.support import tiny_task
from tests.support.forked import prepare
from tests.support.patience import wait_until
from tests.support.release_repository import STAGES, commit_state, seed_workspace
from tests.support.tiny_bundle import FEATURES, tiny_rows, write_tiny_bundle

START = datetime(2024, 4, 5, 5, 10, tzinfo=UTC)
N = 240


class Clock:
    """A publisher that remembers the event times that it was moved to."""

    def __init__(self) -> None:
        self.moments: list[datetime] = []

    def advance(self, to: datetime) -> None:
        self.moments.append(to)


def visits(start: datetime, end: datetime) -> pl.DataFrame:
    """240 requests, one every 45 seconds, the first one twice; all fields are sent."""
    times = [START + timedelta(seconds=45 * i) for i in range(N)]
    frame = pl.DataFrame(
        [{"example_id": f"v{i:03d}", "event_time": times[i], **row} for i, row in enumerate(tiny_rows(N))],
        schema_overrides={"event_time": pl.Datetime("us", "UTC")},
    )
    frame = pl.concat([frame, frame.head(1)])
    return frame.filter(pl.col("event_time").is_between(start, end, closed="left"))


TASK: Task = dataclasses.replace(
    tiny_task.TASK,
    read_examples=visits,
    entity_keys=(),
    request_inputs={"amount": pl.Float64, "visits": pl.Int64, "colour": pl.String},
)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    prepare("sluice_serving.predictor")
    before = children_of(os.getpid())
    yield Workspace(tmp_path / "home")
    assert set(children_of(os.getpid())) <= set(before)


def children_of(pid: int) -> list[psutil.Process]:
    living = [child for child in psutil.Process(pid).children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in living if "sluice" in " ".join(child.cmdline())]


def test_a_release_goes_from_git_to_answers_and_into_windows(workspace: Workspace) -> None:
    first, second = write_tiny_bundle(workspace.bundles), write_tiny_bundle(workspace.bundles, 0.4)
    gitops = seed_workspace(workspace)
    end = START + timedelta(hours=1)
    with Reconciler(workspace, gitops, "tiny") as reconciler:
        clock, told = Clock(), list[tuple[int, int]]()
        progress = lambda done, total: told.append((done, total))  # noqa: E731
        traffic = TrafficReplay(workspace, TASK, clock, reconciler.splitter_url, "dev", progress=progress)
        empty = gitops.snapshot().state
        assert empty.is_applied(reconciler.sync())

        state = commit_state(gitops, stable=first, candidate=second, since="2024-04-05T05:00:00Z", **STAGES["shadow"])
        with pytest.raises(BadInput, match=r"Reconciler\.sync"):
            TrafficReplay(workspace, TASK, clock, _fresh_splitter(reconciler), "dev").window(START, end, state)
        applied = reconciler.sync()
        assert state.is_applied(applied)
        assert applied.commit == gitops.snapshot().commit
        path = traffic.window(START, end, state)
        check_shadow(path, workspace, first, second)
        grid = [START, START.replace(minute=30), START.replace(hour=6, minute=0)]
        assert clock.moments == grid
        assert told[-1] == (80, 80)

        again = path.read_bytes()
        assert traffic.window(START, end, state).read_bytes() == again
        assert clock.moments == grid
        path.unlink()
        repeated = pl.read_parquet(traffic.window(START, end, state))
        assert repeated.drop("latency_ms").equals(pl.read_parquet(again).drop("latency_ms"))

        state = commit_state(gitops, **STAGES["preview"])
        assert state.is_applied(reconciler.sync())
        check_preview(traffic.window(end - timedelta(minutes=15), end, state), first, second)

        state = commit_state(gitops, **STAGES["canary"])
        assert state.is_applied(reconciler.sync())
        check_canary(traffic.window(end, end + timedelta(hours=1), state), first, second)

        servers = {server.child.pid for server in reconciler._servers.values()}
        state = commit_state(gitops, stable=second, candidate=None, **STAGES["stable"])
        assert state.is_applied(reconciler.sync())
        (left,) = reconciler._servers.values()
        assert left.child.pid in servers, "the promoted server goes on"
        left.child.stop()
        assert not state.is_applied(reconciler._read_back())
        failed = pl.read_parquet(traffic.window(end + timedelta(hours=1), end + timedelta(hours=2), state))
        assert set(failed["status"]) == {503}
        assert failed["score"].null_count() == len(failed) == 80
        assert state.is_applied(reconciler.sync()), "a server that died is started again"


def _fresh_splitter(reconciler: Reconciler) -> str:
    """A splitter that was never told any routes."""
    with Reconciler(reconciler.workspace, reconciler.gitops, "tiny") as other:
        reconciler._children += other._children
        url = other.splitter_url
        reconciler._children += other._children
        other._children.clear()
    return url


def check_shadow(path: Path, workspace: Workspace, first: str, second: str) -> None:
    frame = pl.read_parquet(path)
    assert path.parent == workspace.predictions / "dev"
    assert frame.group_by("route", "digest", "status", "rollout").len().sort("route").rows() == [
        ("shadow", second, 200, "r1", 80),
        ("stable", first, 200, "r1", 80),
    ]
    assert frame.select("event_time", "request_id", "route").rows() == sorted(
        frame.select("event_time", "request_id", "route").rows()
    )
    rows = tiny_rows(80)
    bundle = load_bundle(workspace.bundle(first))
    offline = bundle.predict({name: [row[name] for row in rows] for name in FEATURES.names})
    served = frame.filter(pl.col("route") == "stable")
    assert served["score"].to_list() == pytest.approx(offline.tolist(), abs=1e-9)
    assert served["missing"].to_list() == [sum(value is None for value in row.values()) for row in rows]


def check_preview(path: Path, first: str, second: str) -> None:
    frame = pl.read_parquet(path)
    assert frame.group_by("route", "digest", "status", "rollout").len().sort("route").rows() == [
        ("preview", second, 200, "r1", 20),
        ("stable", first, 200, "r1", 20),
    ]


def check_canary(path: Path, first: str, second: str) -> None:
    frame = pl.read_parquet(path)
    assert frame["request_id"].n_unique() == len(frame) == 80
    assert dict(frame.select("route", "digest").unique().rows()) == {"stable": first, "candidate": second}
    assert 8 <= frame.filter(pl.col("route") == "candidate").height <= 42


def test_a_candidate_that_cannot_start_leaves_the_old_routes(workspace: Workspace) -> None:
    first, second = write_tiny_bundle(workspace.bundles), write_tiny_bundle(workspace.bundles, 0.4)
    gitops = seed_workspace(workspace)
    with Reconciler(workspace, gitops, "tiny") as reconciler:
        stable = commit_state(gitops, stable=first, since="2024-04-05T05:00:00Z", **STAGES["stable"])
        assert stable.is_applied(reconciler.sync())
        damaged = workspace.bundle(second) / "model.tflite"
        damaged.write_bytes(damaged.read_bytes()[:-1])
        state = commit_state(gitops, candidate=second, **STAGES["canary"])
        applied = reconciler.sync()
        assert not state.is_applied(applied)
        assert stable.is_applied(applied)
        assert "model.tflite" in reconciler.problems[0]


PARENT = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from sluice.gitops.writer import GitOps
    from sluice.workspace import Workspace
    from sluice_local.reconciler import Reconciler
    workspace = Workspace(Path(sys.argv[1]))
    reconciler = Reconciler(workspace, GitOps(workspace.gitops, "dev"), "tiny")
    applied = reconciler.sync()
    print("serving", applied.stable, flush=True)
    time.sleep(600)
""")


def test_killing_the_parent_leaves_no_child_and_starting_again_works(workspace: Workspace) -> None:
    digest = write_tiny_bundle(workspace.bundles)
    commit_state(seed_workspace(workspace), stable=digest, since="2024-04-05T05:00:00Z", **STAGES["stable"])
    (workspace.home / "parent.py").write_text(PARENT)
    command = [sys.executable, str(workspace.home / "parent.py"), str(workspace.home)]
    assert [_line_of_a_killed_parent(command) for _ in range(2)] == [f"serving {digest}\n"] * 2


def _line_of_a_killed_parent(command: list[str]) -> str:
    """What it said; its two children do not outlive it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) == 2
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10)
    wait_until("no child outlives its parent", lambda: not any(_lives(child) for child in children), 5)
    return line


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
