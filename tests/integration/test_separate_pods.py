"""Every step of a training with nothing but its own inputs, as in pods: what another step left on a disk is gone."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from sluice.compression import student
from sluice.gitops.writer import GitOps
from sluice.models.bundle import load_bundle
from sluice_steps.build_features import build_features
from sluice_steps.bundle import bundle
from sluice_steps.check import check
from sluice_steps.compress import compress
from sluice_steps.evaluate import evaluate
from sluice_steps.gate import gate
from sluice_steps.infra_validate import infra_validate
from sluice_steps.ingest import ingest
from sluice_steps.release import release
from sluice_steps.select import select
from sluice_steps.step import PipelineStep
from sluice_steps.train import train
from sluice_steps.validate import validate
from tests.support.tiny_run import ROOT
from tests.support.tiny_story import STORY

RECIPE = STORY.chapters[0].recipe


class Pods:
    """Runs steps one after the other; artifacts live in a storage, and a pod's disk goes with the pod."""

    def __init__(self, root: Path, before: Pods | None = None) -> None:
        self._storage, self._disk, self._number = root / "storage", root / "disk", 0
        self.values: dict[str, Any] = {}
        self._metadata: dict[str, dict[str, Any]] = dict(before._metadata) if before else {}
        if before:
            shutil.copytree(before._storage, self._storage)

    def run(self, step: PipelineStep, **given: Any) -> Any:
        """Parameters and input artifacts by name from earlier steps, unless given; returns what the step returns."""
        self._number += 1
        disk = self._disk / str(self._number)
        function = step.function
        asked: dict[str, Any] = {}
        artifacts: dict[str, dsl.Artifact] = {}
        for name, kind in inspect.get_annotations(function).items():
            if not hasattr(kind, "__metadata__"):
                asked |= {name: given.get(name, self.values.get(name))} if name != "return" else {}
                continue
            path = disk / name
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata: dict[str, Any] = {}
            if (self._storage / name).exists() and name in step.component.component_spec.inputs:
                self._copy(self._storage / name, path)
                metadata = dict(self._metadata[name])
            artifacts[name] = _artifact(kind, name, path, metadata)
        returned = function(**asked, **artifacts)
        for name, artifact in artifacts.items():
            if name not in (step.component.component_spec.inputs or {}):
                self._copy(disk / name, self._storage / name)
                self._metadata[name] = artifact.metadata
        shutil.rmtree(disk, ignore_errors=True)
        return returned

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)

    def stored(self, name: str) -> Path:
        """Where an artifact is."""
        return self._storage / name


def _artifact(kind: Any, name: str, path: Path, metadata: dict[str, Any]) -> dsl.Artifact:
    made: dsl.Artifact = kind.__origin__(name=name, uri=str(path), metadata=metadata)
    return made


def _policy(loss_margin: float, select_margin: float) -> str:
    """The tiny task's, with rules about the loss of whichever kind."""
    text = (ROOT / "tests/support/tiny_checkout/manifests/overlays/dev/gate-policy.yaml").read_text()
    before, after = text.partition("select:\n")[0], text.partition("bootstrap:\n")[2]
    chosen = f"select:\n  margin: {select_margin}\n  maximum_latency_p99_us: 50000\n"
    judged = f"offline:\n  - {{metric: loss, role: guardrail, against: best-baseline, margin: {loss_margin}}}\n"
    return before + chosen + judged + "bootstrap:\n" + after.replace("metric: log_loss", "metric: loss")


def _begin(pods: Pods, **places: str) -> None:
    pods.values = {
        **dict.fromkeys(("policy", "gitops", "bundles", "now", "run", "source", "checkpoints", "record"), ""),
        "task": STORY.task,
        "environment": "dev",
        "recipe": RECIPE.model_dump_json() if RECIPE else "",
        "production": "stable",
        "distribution": "single",
        "checkpoint_every": 200,
        "feature_repo": STORY.feature_repo,
        "overlays": str(ROOT / "tests/support/tiny_checkout/manifests/overlays"),
        "server": "sluice_serving.predictor",
        **places,
    }
    pods.values |= pods.run(check, job_name="by-hand", job_id="1")._asdict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Pods:
    """After the steps that know of no release."""
    pods = Pods(tmp_path_factory.mktemp("trained"))
    _begin(pods)
    for step in (ingest, validate, build_features, train, compress):
        pods.run(step)
    return pods


@pytest.mark.parametrize("released", [False, True], ids=["nowhere", "to a repository"])
def test_a_training_needs_no_disk_but_its_own(
    released: bool, trained: Pods, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pods, gitops = Pods(tmp_path, trained), tmp_path / "gitops.git"
    if released:
        GitOps(gitops, "dev").seed(ROOT / "tests/support/tiny_checkout")
    _begin(pods, **({"gitops": str(gitops), "bundles": f"file://{tmp_path}/bundles"} if released else {}))
    for step in (select, evaluate):
        pods.run(step)
    assert pods.run(gate) == (True, "")
    pods.values["digest"] = pods.run(bundle)
    assert pods.run(infra_validate) == (True, "")
    action = pods.run(release)
    digest = pods.values["digest"]
    if released:
        assert action == "bootstrap"
        assert GitOps(gitops, "dev").snapshot().state.candidate == digest
        assert (tmp_path / "bundles" / digest.replace(":", "-") / "model.tflite").exists()
    else:
        assert action == "not-released"
        assert f"Bundle `{digest}` passed gate and server" in pods.stored("summary").read_text()
        assert (pods.stored("packed") / digest.replace(":", "-") / "bundle.json").exists()
    assert json.loads((pods.stored("decision") / "decision.json").read_bytes())["verdict"] == "PASS"
    evaluation = json.loads((pods.stored("evaluation") / "evaluation.json").read_bytes())
    thresholds = [point["confidenceThreshold"] for point in pods._metadata["quality"]["confidenceMetrics"]]
    assert thresholds == evaluation["curves"]["roc_thresholds"]
    assert evaluation["threshold"] in thresholds
    rows = pods._metadata["quality"]["confusionMatrix"]["rows"]
    assert sum(sum(row["row"]) for row in rows) == evaluation["n"]
    assert pods.stored("page").read_text().startswith("<!doctype html>")
    if released:
        assert pods.run(release, now="2030-01-01T00:00:00Z") == "refuse"
        assert f"sluice: Refused: {digest}: FAIL by rule one-rollout: " in capsys.readouterr().err
    else:
        strict = pods.values["policy"].replace("limit: 0.55", "limit: 0.9999")
        passed, reason = pods.run(gate, policy=strict)
        assert (passed, "FAIL by rule limit auc: " in reason) == (False, True)
        assert f"sluice: Refused: {reason}" in capsys.readouterr().err
        assert json.loads((pods.stored("decision") / "decision.json").read_bytes())["verdict"] == "FAIL"
        assert pods.stored("verdict").read_text().startswith("# FAIL: refuse\n")


@pytest.mark.parametrize(
    ("task", "policy", "says"),
    [
        ("OUTCOME", _policy(0.1, 0.05), ("tune_log_loss", "probabilities")),
        ("REVENUE", _policy(60.0, 10.0), ("tune_mse", "value")),
    ],
)
def test_every_kind_of_target_goes_the_same_way(
    task: str, policy: str, says: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RECIPE
    metric, answer = says
    monkeypatch.setattr(student, "_STEPS_PER_EXECUTION", 2)
    sizes = {"variants": ("teacher_f32", "student_int8"), "epochs": 8, "batch_size": 256, "learning_rate": 2e-2}
    recipe = RECIPE.model_copy(update={"features": ("amount", "hour", "shop"), **sizes})
    pods = Pods(tmp_path)
    given = {"task": f"tests.support.kind_tasks:{task}", "recipe": recipe.model_dump_json(), "policy": policy}
    _begin(pods, **given)
    for step in (ingest, validate, build_features, train, compress, select, evaluate):
        pods.run(step)
    assert metric in pods._metadata["learning"]
    peers = json.loads((pods.stored("evaluation") / "evaluation.json").read_bytes())["baselines"]
    assert [peer["name"] for peer in peers][:2] == ["prior", "rate"]
    assert pods.run(gate) == (True, "")
    pods.values["digest"] = pods.run(bundle)
    assert pods.run(infra_validate) == (True, "")
    assert pods.run(release) == "not-released"
    served = load_bundle(pods.stored("packed") / pods.values["digest"].replace(":", "-"))
    predictions = served.predict({"amount": [20.0, 80.0], "hour": [9, 9], "shop": ["oak", "oak"]}).reshape(2, -1)
    said = served.target.answer(predictions, None)[answer]
    assert len(said) == 2
    assert said[0] != said[1]
    strict = policy.replace("role: guardrail, against: best-baseline, margin", "role: limit, limit")
    strict = strict.replace("limit: 60.0", "limit: 1.0").replace("limit: 0.1}", "limit: 0.01}")
    passed, reason = pods.run(gate, policy=strict)
    assert (passed, "FAIL by rule limit loss: " in reason) == (False, True), reason
