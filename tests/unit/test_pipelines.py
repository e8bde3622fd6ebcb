"""The compiled pipelines are what the sources say, and what a cluster needs is on every step."""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import sluice_steps
from sluice.errors import BadInput
from sluice.steps.parameters import TrainingParameters
from sluice.training.train_job import placement_of, training_runtime
from sluice_pipelines.accelerators import ALLOWED, devices
from sluice_pipelines.catalogue import CATALOGUE
from sluice_pipelines.compile import COMPILED, MANIFESTS, PAGE, main
from sluice_steps.check import check
from sluice_steps.image import image
from sluice_steps.step import PipelineStep

NVIDIA = ALLOWED["nvidia"]
MODULES = [importlib.import_module(f"sluice_steps.{one.name}") for one in pkgutil.iter_modules(sluice_steps.__path__)]
NEEDS = {one.name: one.need for module in MODULES for one in vars(module).values() if isinstance(one, PipelineStep)}
ON_DEVICES = {"train", "compress"}
"""Steps that train: the teacher; the student and the quantization-aware one."""


def documents(path: Path) -> list[Any]:
    return list(yaml.load_all(path.read_text("utf-8"), yaml.CSafeLoader))


@functools.cache
def document(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pipeline spec, and platform settings by executor."""
    spec, platform = documents(COMPILED / f"{name}.yaml")
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def step_of(label: str) -> str:
    """The step of an executor: KFP numbers those of one that is in a graph twice."""
    return re.sub(r"^exec-|-\d+$", "", label)


def tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every task that runs an executor, by the executor's name."""
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    labels = {name: one.get("executorLabel") for name, one in spec["components"].items()}
    found = {labels[task["componentRef"]["name"]]: task for dag in dags for task in dag["tasks"].values()}
    return {label: task for label, task in found.items() if label}


def test_committed_files_are_what_the_sources_compile_to() -> None:
    """Byte for byte, and another process on another day wrote them."""
    assert main(["--check"]) == 0


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_no_step_installs_anything_and_every_image_is_ours(name: str) -> None:
    text = (COMPILED / f"{name}.yaml").read_text("utf-8")
    assert "pip install" not in text
    spec, settings = document(name)
    executors = spec["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} <= {image("steps"), image("steps-gpu")}
    assert settings.keys() == executors.keys()


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_step_has_requests_limits_a_user_a_label_and_a_deadline(name: str) -> None:
    spec, settings = document(name)
    executors = spec["deploymentSpec"]["executors"]
    assert executors
    for label, executor in executors.items():
        wanted = {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"}
        assert wanted <= executor["container"]["resources"].keys(), label
        own = settings[label]
        assert own["securityContext"] == {"runAsUser": "65532", "runAsGroup": "65532", "runAsNonRoot": True}
        assert own["podMetadata"]["labels"]["sluice.dev/step"] == step_of(label)
        assert int(own["activeDeadlineSeconds"]) > 0
        assert {"volumeName": "tmp", "mountPath": "/tmp", "sizeLimit": "16Gi"} in own["emptyDirMounts"]  # noqa: S108


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_devices_are_asked_for_by_the_steps_that_train_and_by_no_other(name: str) -> None:
    spec, settings = document(name)
    asked = set()
    for label, executor in spec["deploymentSpec"]["executors"].items():
        container, own = executor["container"], settings[label]
        if device := container["resources"].get("accelerator"):
            asked.add(label.removeprefix("exec-"))
            assert (device["resourceType"], device["resourceCount"]) == (NVIDIA.resource, "1")
            assert container["image"] == image("steps-gpu")
            assert own["nodeSelector"]["labels"] == NVIDIA.node_selector
            assert own["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
            shm = {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "2Gi"}  # noqa: S108
            assert shm in own["emptyDirMounts"]
        else:
            assert "nodeSelector" not in own
            assert "tolerations" not in own
    assert asked == {"training-on-nodes": {"compress"}}.get(name, ON_DEVICES if name.endswith("-gpu") else set())


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_retries_back_off_and_caching_is_for_what_follows_from_its_inputs(name: str) -> None:
    spec, settings = document(name)
    for label, task in tasks(spec).items():
        need = NEEDS[step_of(label)]
        assert bool(task["cachingOptions"].get("enableCache")) == need.cached, label
        assert task.get("retryPolicy", {}).get("maxRetryCount", 0) == need.retries, label
        if need.retries:
            whole = int(task["retryPolicy"]["backoffMaxDuration"].removesuffix("s"))
            assert task["retryPolicy"]["backoffDuration"] == "30s"
            # From the start of the first try to the end of the last one.
            assert whole > (need.retries + 1) * int(settings[label]["activeDeadlineSeconds"])
    uncached = {step_of(label) for label, task in tasks(spec).items() if not task["cachingOptions"]}
    never = {
        "check",
        "gate",
        "release",
        "promote",
        "watch",
        "materialize",
        "refused",
        "not-due",
        "exit-note",
        "train-on-nodes",
    }
    assert uncached <= never


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_what_may_come_from_the_cache_is_asked_for_by_nothing_that_every_run_has_anew(name: str) -> None:
    spec, _ = document(name)
    cached = {step_of(label): task for label, task in tasks(spec).items() if task["cachingOptions"].get("enableCache")}
    anew = {"run", "now", "job_name", "job_id"}
    given = {step: set(task.get("inputs", {}).get("parameters", {})) for step, task in cached.items()}
    assert {step: anew & names for step, names in given.items() if anew & names} == {}
    if name == "training":
        assert {"train", "evaluate", "bundle", "infra-validate"} <= cached.keys()


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_no_two_steps_of_a_graph_make_an_artifact_of_one_name(name: str) -> None:
    spec, _ = document(name)
    made: dict[str, set[str]] = {}
    for one in spec["components"].values():
        for artifact in one.get("outputDefinitions", {}).get("artifacts", {}) if "executorLabel" in one else ():
            made.setdefault(artifact, set()).add(step_of(one["executorLabel"]))
    assert {artifact: steps for artifact, steps in made.items() if len(steps) > 1} == {}


def test_a_verdict_is_not_asked_for_twice() -> None:
    once = {name for name, need in NEEDS.items() if not need.retries}
    assert once == {"check", "validate", "gate", "promote", "refused", "not-due", "exit-note"}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_parameter_says_what_it_is_and_most_have_a_default(name: str) -> None:
    spec, _ = document(name)
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert [key for key, one in parameters.items() if not one.get("description")] == []
    needed = {key for key, one in parameters.items() if "defaultValue" not in one}
    assert needed == {"promotion": {"gitops", "bundles"}, "training-on-nodes": {"claim"}}.get(name, set())


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_an_exit_handler_covers_everything(name: str) -> None:
    spec, _ = document(name)
    (handler,) = [task for task in spec["root"]["dag"]["tasks"].values() if task.get("triggerPolicy")]
    assert handler["taskInfo"]["name"] == "exit-note"
    assert len(spec["root"]["dag"]["tasks"]) == 2


def test_the_first_step_of_a_training_is_the_check_and_all_others_wait_for_it() -> None:
    spec, _ = document("training")
    graph = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    (first,) = [name for name, task in graph.items() if not task.get("dependentTasks")]
    assert first == "check"


def test_the_nodes_of_a_training_get_their_storage_from_where_the_steps_get_it() -> None:
    spec, platform = document("training-on-nodes")
    given = tasks(spec)["exec-train-on-nodes"]["inputs"]["parameters"]
    placement = given["placement"]["runtimeValue"]["constant"]
    place = placement_of(json.loads(placement), "claim", lambda: "runs")
    (job,) = training_runtime(place)["spec"]["template"]["spec"]["replicatedJobs"]
    (node,) = job["template"]["spec"]["template"]["spec"]["containers"]
    (settings,), (credentials,) = (platform["exec-train-on-nodes"][kind] for kind in ("configMapAsEnv", "secretAsEnv"))
    assert node["envFrom"] == [
        {"configMapRef": {"name": settings["configMapName"], "optional": settings["optional"]}},
        {"secretRef": {"name": credentials["secretName"], "optional": credentials["optional"]}},
    ]


def conditions(name: str) -> dict[str, tuple[str, set[str]]]:
    """Of each box of a pipeline that may be skipped: its condition, and what is in it, by its name in the graph."""
    spec, _ = document(name)
    graphs = {key: one["dag"]["tasks"] for key, one in spec["components"].items() if "dag" in one}
    return {
        "/".join([task["taskInfo"]["name"], *sorted(graphs[task["componentRef"]["name"]])]): (
            task["triggerPolicy"]["condition"],
            {re.sub(r"-\d+$", "", one) for one in graphs[task["componentRef"]["name"]]},
        )
        for tasks_of in graphs.values()
        for task in tasks_of.values()
        if "condition" in task.get("triggerPolicy", {})
    }


@pytest.mark.parametrize("name", ["training", "training-gpu", "training-on-nodes", "monitor-and-retrain"])
def test_what_follows_a_refusal_is_skipped_on_a_boolean_alone_and_the_other_branch_says_why(name: str) -> None:
    found = conditions(name)
    answers = {"passed": "gate-passed", "served": "infra-validate-passed"}
    answers |= {"due": "watch-due"} if name.startswith("monitor") else {}
    for box, answer in answers.items():
        (taken,) = [one for key, one in found.items() if key.startswith(f"{box}/")]
        assert taken[0].endswith(f"['pipelinechannel--{answer}'] == true")
        other = f"!({taken[0]})"
        assert [inside for condition, inside in found.values() if condition == other] == [
            {"not-due" if box == "due" else "refused"}
        ]
    (passed,) = [inside for key, (_, inside) in found.items() if key.startswith("passed/")]
    assert {"bundle", "infra-validate"} <= passed
    (served,) = [inside for key, (_, inside) in found.items() if key.startswith("served/")]
    assert served == {"release"}
    assert len(found) == 2 * len(answers)


@pytest.mark.parametrize(("name", "count"), [("tpu", 1), ("nvidia", 0), ("nvidia-l4", 9)])
def test_an_accelerator_that_is_not_listed_or_too_many_are_refused(
    name: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=f"accelerator '{name}'"):
        devices(name, count)
    assert main(["--accelerator", name, "--count", str(count), "--into", str(tmp_path / "own")]) == 2
    assert capsys.readouterr().err.startswith(f"compile: accelerator '{name}': ")
    assert not (tmp_path / "own").exists()


def test_pipelines_for_other_devices_are_compiled_elsewhere(tmp_path: Path) -> None:
    assert main(["--accelerator", "nvidia-l4", "--count", "2", "--into", str(tmp_path)]) == 0
    _, platform = documents(tmp_path / "training-gpu.yaml")
    train = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    assert train["nodeSelector"]["labels"] == ALLOWED["nvidia-l4"].node_selector


def test_a_version_is_named_by_what_it_runs() -> None:
    kinds = []
    for path in sorted(MANIFESTS.glob("[!k]*.yaml")):
        pipeline, version = documents(path)
        kinds += [pipeline["kind"], version["kind"]]
        assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
        assert version["metadata"]["name"].startswith(f"{pipeline['metadata']['name']}-")
        spec, platform = documents(COMPILED / path.name)
        assert version["spec"]["pipelineSpec"]["root"] == spec["root"]
        assert version["spec"]["platformSpec"] == platform
    assert kinds == ["Pipeline", "PipelineVersion"] * len(CATALOGUE)


def test_the_first_step_checks_every_parameter_of_a_training_that_it_does_not_only_pass_on() -> None:
    inputs = set(check.component.component_spec.inputs)
    assert TrainingParameters.model_fields.keys() - inputs == {"server", "record"}
    assert inputs - TrainingParameters.model_fields.keys() == {"job_name", "job_id"}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_range_is_in_the_description_too(name: str) -> None:
    fields = CATALOGUE[name].parameters.model_fields
    limited = {key: bound.le for key, field in fields.items() for bound in field.metadata if hasattr(bound, "le")}
    assert [key for key, most in limited.items() if str(most) not in str(fields[key].description)] == []


def test_the_page_has_every_parameter_of_every_pipeline() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    places = [(name, field) for name, pipeline in CATALOGUE.items() for field in pipeline.parameters.model_fields]
    assert {name for name, _ in places} == set(CATALOGUE)

    def described(name: str, field: str) -> bool:
        rows = [line for line in lines if line.startswith(f"| `{field}` |")]
        return any(f"`{name.removesuffix('-gpu')}`" in row.split("|")[-2] for row in rows)

    assert [place for place in places if not described(*place)] == []
