"""Everything that the loop acts on: repository, feature store, servers, splitter, traffic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from sluice.features.publish import FeaturePublisher
from sluice.gitops.writer import GitOps
from sluice.installation import FEATURE_REPO, INSTALLATION
from sluice.predictions.windows import list_windows
from sluice.tasks.answers import source_digest
from sluice.tasks.task import Task, load_task
from sluice.workspace import Workspace
from sluice_local.events import LoopEvents
from sluice_local.reconciler import Reconciler
from sluice_local.story import Story
from sluice_local.traffic import RequestsAlone, TrafficReplay


@dataclass
class LocalWorld:
    """One environment on one machine. Serving starts when it is first asked for."""

    workspace: Workspace
    story: Story
    task: Task
    gitops: GitOps
    events: LoopEvents
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @classmethod
    @contextlib.contextmanager
    def open(cls, workspace: Workspace, story: Story, events: LoopEvents) -> Iterator[LocalWorld]:
        """The world of a story; its processes end with the block."""
        gitops = GitOps(workspace.gitops, story.environment)
        if any(workspace.home.glob("runs/*/start.json")):
            gitops.snapshot()  # runs rest on its history: one that is lost must not be begun anew beside them
        else:
            gitops.seed(Path(story.checkout) if story.checkout else INSTALLATION)
        with contextlib.ExitStack() as stack:
            yield cls(workspace, story, load_task(story.task), gitops, events, stack)

    @property
    def feature_repo(self) -> Path:
        """The Feast definitions of the story's task."""
        return Path(self.story.feature_repo) if self.story.feature_repo else FEATURE_REPO

    @property
    def clock(self) -> datetime:
        """
        Where event time stands between rollouts: the end of the last window of traffic, or the start of live.

        Not the release's ``since``: a person's command is dated with the wall clock, years after the replay.
        """
        windows = list_windows(self.workspace.predictions / self.story.environment)
        return max([self.task.splits.live, *(window.end for window in windows)])

    @cached_property
    def source(self) -> str:
        """Digest of the task's raw files."""
        return source_digest(self.task)

    @cached_property
    def publisher(self) -> FeaturePublisher | RequestsAlone:
        """Moves the online store through event time, where the task has one."""
        if self.task.feature_service is None:
            return RequestsAlone()
        self.events.emit("step", name="publish features")
        return FeaturePublisher(self.task, self.workspace.features, self.feature_repo)

    @cached_property
    def reconciler(self) -> Reconciler:
        """The stand-in for Argo CD, with the servers and the splitter that it started."""
        self.publisher  # noqa: B018  servers open the store that it makes
        return self._open.enter_context(Reconciler(self.workspace, self.gitops, self.task.name))

    @cached_property
    def traffic(self) -> TrafficReplay:
        """The replay of the months after training."""
        splitter, environment = self.reconciler.splitter_url, self.story.environment
        return TrafficReplay(self.workspace, self.task, self.publisher, splitter, environment)
