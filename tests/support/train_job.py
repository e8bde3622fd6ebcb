"""A training on nodes: its job, its place, and the step that submits it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace

from sluice.tasks.recipe import Recipe
from sluice.training.train_job import Placement, TrainingJob
from sluice_steps.train_on_nodes import train_on_nodes

JOB = TrainingJob(
    name="flights-7",
    task="flights",
    recipe=Recipe(name="shops", description='a "quoted" one, with $(VARIABLE)', features=("size",)),
    frame="frame",
    out="teacher",
    checkpoints="s3://training/flights-7",
    nodes=3,
    accelerators=2,
)


PLACE = Placement(
    namespace="sluice-train",
    image="ghcr.io/sluice-ml/steps:0.1.0",
    claim="training",
    storage="object-storage",
    node_selector={"cloud.google.com/gke-accelerator": "nvidia-l4"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
)


RUN = "0123456789ab"


class TrainOnNodes:
    """The step in a thread, with the artifacts that KFP would give it."""

    def __init__(self, operator: str, namespace: str, root: Path) -> None:
        self.shared, self.teacher, self.logged, self.error = root / "shared", root / "teacher", {}, None
        (root / "frame").mkdir()
        (root / "frame/frame.parquet").write_bytes(b"rows")
        place = PLACE.model_copy(update={"namespace": namespace, "mount": str(self.shared)})
        self._given = {
            "task": JOB.task,
            "recipe": JOB.recipe.model_dump_json(),
            "run": json.dumps({"id": RUN}),
            "operator": operator,
            "nodes": JOB.nodes,
            "accelerators": JOB.accelerators,
            "checkpoints": JOB.checkpoints,
            "checkpoint_every": JOB.every,
            "placement": place.model_dump_json(),
            "claim": place.claim,
            "frame": SimpleNamespace(path=str(root / "frame")),
            "teacher": SimpleNamespace(path=str(self.teacher)),
            "learning": SimpleNamespace(path=str(root / "metrics"), log_metric=self.logged.__setitem__),
        }
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            train_on_nodes.function(**self._given)
        except (Exception, SystemExit) as error:  # noqa: BLE001  the test looks at it
            self.error = error

    def ends(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    logged: dict[str, float]
    error: BaseException | None
