"""Labels of what users were answered: the join that reads them, and a user who sends them."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from pathlib import Path
from typing import Any

import yaml

from tests.support import tiny_task
from tests.support.cluster.checkout import Checkout
from tests.support.cluster.kubectl import Refused, kubectl
from tests.support.cluster.serving import ask


def use_join(checkout: Checkout) -> None:
    """Dev has the option `collector` too, whose join knows the tests' task, which no image has."""
    path = checkout.overlay("dev") / "kustomization.yaml"
    files = {"tiny_task.py": Path(tiny_task.__file__).read_text(), "tiny_schema.json": "{}"}
    task = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tiny-task"}, "data": files}
    path.with_name("tiny-task.yaml").write_text(yaml.safe_dump(task))
    document = yaml.safe_load(path.read_text())
    document["components"].insert(1, "../../options/collector")
    document["resources"].append("tiny-task.yaml")
    join = "/spec/template/spec/containers/0"
    added = {
        "/spec/template/spec/volumes/-": {"name": "task", "configMap": {"name": "tiny-task"}},
        f"{join}/volumeMounts/-": {"name": "task", "mountPath": "/task"},
        f"{join}/env/-": {"name": "PYTHONPATH", "value": "/task"},
    }
    changes = [{"op": "add", "path": place, "value": value} for place, value in added.items()]
    changes += [
        {"op": "add", "path": f"{join}/command/-", "value": each}
        for each in ("--task=tiny_task:TASK", "--every=2", "--settle=2")
    ]
    target = {"kind": "Deployment", "name": "exposition"}
    document["patches"].append({"target": target, "patch": yaml.safe_dump(changes)})
    path.write_text(yaml.safe_dump(document))


class LabellingUser(threading.Thread):
    """Asks all the time, and tells the collector what became of each request."""

    def __init__(self, gateway: str, host: str) -> None:
        super().__init__(daemon=True)
        self._gateway, self._host, self._end = gateway, host, threading.Event()
        self._labels: list[dict[str, Any]] = []
        self.wrong = ""
        """The digest that is wrong from now on."""
        self.answers: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        for number in itertools.count():
            if self._end.wait(0.05):
                return
            try:
                digest = ask(self._gateway, host=self._host, **{"x-request-id": f"user-{number}"})
            except OSError as error:
                self.failures.append(str(error))
                continue
            self.answers.append(digest)
            label = digest == self.wrong or number % 4 == 0
            self._labels.append({"request_id": f"user-{number}", "label": int(label)})
            if len(self._labels) >= 50:
                self._tell()

    def _tell(self) -> None:
        path = "/api/v1/namespaces/sluice-dev/services/collector:8080/proxy/v1/feedback"
        with contextlib.suppress(Refused):  # told again with the next ones
            kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps({"labels": self._labels}))
            self._labels = []

    def stop(self) -> None:
        """End, and wait for the last answer."""
        self._end.set()
        self.join(30)
