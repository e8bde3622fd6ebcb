"""Stand-in for Argo CD and KServe's controller: makes running processes what the release file in Git says."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Self

from sluice.child_process import ChildServer
from sluice.documents.state import Applied, ReleaseState
from sluice.errors import SluiceError
from sluice.gitops.writer import GitOps
from sluice.workspace import Workspace
from sluice_local.processes import READY_TIMEOUT_S, ask, start_predictor, start_splitter
from sluice_local.routes import Routes


@dataclass(frozen=True)
class _Server:
    child: ChildServer
    url: str

    def digest(self) -> str | None:
        """The digest that the process itself says it serves; ``None`` from one that is dead or hangs."""
        if not self.child.alive:
            return None
        try:
            digest = ask(self.url, "/-/sluice", timeout_s=5).get("digest")
        except SluiceError:
            return None
        return digest if isinstance(digest, str) else None


class Reconciler:
    """
    Owns the splitter and one model server a digest, as children that cannot outlive this process.

    Nothing about them is stored: after a crash a new reconciler starts them again from Git.

    Args:
        workspace: where bundles, features and logs are.
        gitops: the environment's repository.
        task_name: name of the model on the endpoint path.
    """

    def __init__(self, workspace: Workspace, gitops: GitOps, task_name: str) -> None:
        self.workspace, self.gitops, self.task_name = workspace, gitops, task_name
        self.problems: tuple[str, ...] = ()
        """Why the last sync could not be applied; empty when it was."""
        self._servers: dict[str, _Server] = {}
        self._children: list[ChildServer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def splitter_url(self) -> str:
        """Where requests go; starts the splitter."""
        return self._adopt(start_splitter(self.workspace)).wait_ready(READY_TIMEOUT_S)

    def sync(self) -> Applied:
        """
        Make it so, then read back what is so.

        New servers are started and ready before routes move; old ones stop after. When a server cannot be started,
        routes stay as they are, ``problems`` says why, and the answer shows what still serves. A break-glass rollback
        is brought about before Git is asked, then told to Git.
        """
        snapshot = self.gitops.serving_snapshot()
        state = snapshot.state
        digests = [digest for digest in (state.stable, state.candidate, state.leftover) if digest]
        self.problems = self._start_missing(state, digests)
        if not self.problems:
            routes = self._routes(snapshot.commit, state)
            ask(self.splitter_url, "/-/routes", "PUT", routes.model_dump())
            self._stop_others(digests)
        with contextlib.suppress(SluiceError):  # Git may still be down; the record stands until it is not
            self.gitops.reconcile()
        return self._read_back()

    def close(self) -> None:
        """Stop everything that was started."""
        for child in self._children:
            child.ask_to_stop()
        for child in self._children:
            child.stop()
        self._children.clear()
        self._servers.clear()

    def _adopt(self, child: ChildServer) -> ChildServer:
        self._children.append(child)
        return child

    def _start_missing(self, state: ReleaseState, digests: list[str]) -> tuple[str, ...]:
        """Start what is wanted and does not run, all at once; the reasons of those that did not get ready."""
        starting = {}
        for digest in digests:
            if digest in self._servers and self._servers[digest].child.alive:
                continue
            role = "stable" if digest == state.stable else "candidate"
            child = start_predictor(self.workspace, state.environment, self.task_name, digest, role)
            starting[digest] = self._adopt(child)
        problems = []
        for digest, child in starting.items():
            try:
                server = _Server(child, child.wait_ready(READY_TIMEOUT_S))
                ask(server.url, "/-/sluice")
                self._servers[digest] = server
            except SluiceError as error:
                problems.append(f"{digest}: {error}")
                child.stop()
        return tuple(problems)

    def _stop_others(self, digests: list[str]) -> None:
        for digest in [digest for digest in self._servers if digest not in digests]:
            self._servers.pop(digest).child.ask_to_stop()

    def _routes(self, commit: str, state: ReleaseState) -> Routes:
        return Routes(
            commit=commit,
            rollout=state.rollout or "",
            stable=self._servers[state.stable].url if state.stable else None,
            candidate=self._servers[state.candidate].url if state.candidate else None,
            stable_weight=state.stable_weight,
            candidate_weight=state.candidate_weight,
            mirror_percent=state.mirror_percent,
        )

    def _read_back(self) -> Applied:
        """What the splitter and the servers say themselves."""
        routes = Routes.model_validate(ask(self.splitter_url, "/-/routes"))
        says = {server.url: server.digest() for server in self._servers.values()}
        return Applied(
            commit=routes.commit,
            stable=says.get(routes.stable or ""),
            candidate=says.get(routes.candidate or ""),
            stable_weight=routes.stable_weight,
            candidate_weight=routes.candidate_weight,
            mirror_percent=routes.mirror_percent,
        )
