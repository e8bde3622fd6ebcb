"""A step of one new file takes part in a pipeline: compiled for a cluster, and run on this machine."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl, local

from sluice.steps.parameters import TrainingParameters
from sluice_pipelines.accelerators import devices
from sluice_pipelines.candidate import Parameters, settle
from sluice_pipelines.catalogue import CATALOGUE
from sluice_pipelines.inputs import with_inputs
from sluice_pipelines.platforms import Platform
from sluice_steps.image import image
from sluice_steps.step import PipelineStep
from tests.support.tiny_run import ROOT
from tests.support.tiny_story import STORY

FILE = '''
"""A verdict → one line for who waits for it."""

from sluice_steps.step import SMALL, Need, step


@step(Need(SMALL, retries=1, store=True))
def announce(task: str, now: str, reason: str) -> str:
    """Say why a candidate was refused, or that it was not."""
    return f"{task}: {reason or 'passed'} at {now}"
'''


@pytest.fixture
def announce(tmp_path: Path) -> PipelineStep:
    """The step, from its file."""
    path = tmp_path / "announce.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("announce", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    step: PipelineStep = module.announce
    return step


def test_it_is_compiled_into_the_training_with_all_that_its_pod_needs(announce: PipelineStep, tmp_path: Path) -> None:
    training = CATALOGUE["training-gpu"]

    def graph(parameters: Parameters, place: Platform) -> None:
        place(announce, parameters, reason=training.graph(parameters, place))

    built = dataclasses.replace(training, graph=graph).build("sluice-training", devices("nvidia"))
    compiler.Compiler().compile(built, str(tmp_path / "training.yaml"))
    spec, platform = yaml.safe_load_all((tmp_path / "training.yaml").read_text("utf-8"))
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert {"check", "train", "gate", "announce"} <= tasks.keys()
    assert tasks["announce"]["dependentTasks"] == ["gate"]
    assert tasks["announce"]["retryPolicy"]["maxRetryCount"] == 1
    container = spec["deploymentSpec"]["executors"]["exec-announce"]["container"]
    assert container["image"] == image("steps")
    assert container["resources"]["resourceCpuLimit"] == "1"
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-announce"]
    assert pod["podMetadata"]["labels"]["sluice.dev/step"] == "announce"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert [one["secretName"] for one in pod["secretAsEnv"]] == ["model-storage"]


def test_it_runs_under_kfps_own_runner_after_the_steps_before_it(announce: PipelineStep, tmp_path: Path) -> None:
    def graph(parameters: Parameters) -> Any:
        place = Platform()
        return place(announce, settle(parameters, place), reason="").outputs["Output"]

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    overlays = str(ROOT / "tests/support/tiny_checkout/manifests/overlays")
    given = {"task": STORY.task, "environment": "dev", "overlays": overlays, "now": "2026-01-01T00:00:00Z"}
    finished = dsl.pipeline(with_inputs(TrainingParameters, graph, returns=str), name="announced")(**given)
    assert finished.output == f"{STORY.task}: passed at 2026-01-01T00:00:00Z"
