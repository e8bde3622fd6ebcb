"""Training jobs as Kubernetes documents: accepted by the operators' schemas, and found by the workers they start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sluice.errors import BadInput
from sluice.training.distribution import Distribution, read_cluster, strategy_for, tf_config
from sluice.training.loop import PREEMPTED
from sluice.training.teacher import TrainingSetup
from sluice.training.train_job import TrainingJob, outcome, tf_job, train_job, training_runtime
from sluice.training.worker import cluster_variables, main
from tests.support.train_job import JOB, PLACE

CRDS = Path(os.environ.get("SLUICE_CRDS", Path(__file__).parents[3] / "shared/cluster/crds"))
DOCUMENTS = {
    "trainer-trainingruntimes.yaml": training_runtime(PLACE),
    "trainer-trainjobs.yaml": train_job(JOB, PLACE),
    "trainer-tfjobs.yaml": tf_job(JOB, PLACE),
}
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": (int, float),
}


def faults(value: Any, schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """Where a value breaks a structural schema as the API server's strict field validation sees it."""
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, (int, str)):
            yield f"{at}: neither a number nor a string"
        return
    wanted = TYPES.get(schema.get("type", ""), object)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is int):
        yield f"{at}: not of type {schema.get('type')}"
    elif isinstance(value, dict):
        yield from _faults_of_object(value, schema, at)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(item, schema.get("items", {}), f"{at}[{index}]")
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{at}: not one of {schema['enum']}"
    elif isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
        yield f"{at}: too long"


def _faults_of_object(value: dict[str, Any], schema: dict[str, Any], at: str) -> Iterator[str]:
    known, other = schema.get("properties", {}), schema.get("additionalProperties")
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at}.{name}: missing"
    for name, item in value.items():
        if name in known:
            yield from faults(item, known[name], f"{at}.{name}")
        elif isinstance(other, dict):
            yield from faults(item, other, f"{at}.{name}")
        elif not (other or schema.get("x-kubernetes-preserve-unknown-fields")):
            yield f"{at}.{name}: unknown"


def schema_of(name: str, document: dict[str, Any]) -> dict[str, Any]:
    if not CRDS.is_dir():
        pytest.skip(f"NOT CHECKED against the operators' schemas: no folder {CRDS}; name it in SLUICE_CRDS")
    found = yaml.safe_load((CRDS / name).read_text())["spec"]
    assert found["names"]["kind"] == document["kind"]
    group, _, version = document["apiVersion"].partition("/")
    assert found["group"] == group
    schemas = {each["name"]: each["schema"]["openAPIV3Schema"] for each in found["versions"] if each["served"]}
    schema: dict[str, Any] = schemas[version]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return schema


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_follow_the_operators_schemas_strictly(name: str) -> None:
    assert list(faults(DOCUMENTS[name], schema_of(name, DOCUMENTS[name]))) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"trainerr": {}}, ".spec.trainerr: unknown"),
        ({"runtimeRef": {}}, ".spec.runtimeRef.name: missing"),
        ({"trainer": {"numNodes": "3"}}, ".spec.trainer.numNodes: not of type integer"),
        ({"trainer": {"env": [{"nam": "A"}]}}, ".spec.trainer.env[0].name: missing"),
    ],
)
def test_the_check_sees_what_the_api_server_would_refuse(change: dict[str, Any], named: str) -> None:
    document = DOCUMENTS["trainer-trainjobs.yaml"]
    broken = document | {"spec": document["spec"] | change}
    assert named in list(faults(broken, schema_of("trainer-trainjobs.yaml", broken)))


def test_documents_are_plain_json_that_stays_the_same() -> None:
    for document in DOCUMENTS.values():
        assert json.loads(json.dumps(document)) == document
    assert train_job(JOB, PLACE) == DOCUMENTS["trainer-trainjobs.yaml"]


def test_workers_of_a_train_job_find_each_other() -> None:
    trainer = train_job(JOB, PLACE)["spec"]["trainer"]
    given = {variable["name"]: variable["value"] for variable in trainer["env"]}
    clusters = [read_cluster(cluster_variables(given | {"JOB_COMPLETION_INDEX": str(index)})) for index in range(3)]
    assert [cluster.task.index for cluster in clusters] == [0, 1, 2]
    assert [cluster.chief for cluster in clusters] == [True, False, False]
    assert {cluster.size for cluster in clusters} == {trainer["numNodes"]}
    expected = tuple(f"flights-7-node-0-{index}.flights-7:2222" for index in range(3))
    assert clusters[2].cluster == {"worker": expected}
    runtime = training_runtime(PLACE)["spec"]["template"]["spec"]["replicatedJobs"][0]
    assert runtime["name"] == "node"
    assert runtime["template"]["spec"]["completionMode"] == "Indexed"


@pytest.mark.parametrize("name", ["trainer-trainingruntimes.yaml", "trainer-tfjobs.yaml"])
def test_pods_are_admitted_under_restricted_and_placed_as_asked(name: str) -> None:
    text = json.dumps(DOCUMENTS[name])
    spec = DOCUMENTS[name]["spec"]
    if name == "trainer-tfjobs.yaml":
        pod = spec["tfReplicaSpecs"]["Worker"]["template"]["spec"]
    else:
        pod = spec["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["nodeSelector"] == PLACE.node_selector
    assert pod["tolerations"] == list(PLACE.tolerations)
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]  # noqa: S108
    assert pod["terminationGracePeriodSeconds"] == 60
    storage = {"name": "object-storage", "optional": True}
    assert container["envFrom"] == [{"configMapRef": storage}, {"secretRef": storage}]
    assert "hostPath" not in text


def test_a_job_names_the_runtime_of_its_own_placement() -> None:
    elsewhere = PLACE.model_copy(update={"storage": "other-storage"})
    names = [training_runtime(place)["metadata"]["name"] for place in (PLACE, elsewhere)]
    assert names[0] != names[1]
    assert [train_job(JOB, place)["spec"]["runtimeRef"]["name"] for place in (PLACE, elsewhere)] == names
    assert all(name.startswith("sluice-tensorflow-") and len(name) < 40 for name in names)


def test_both_kinds_start_one_command_on_the_same_devices() -> None:
    trainer = train_job(JOB, PLACE)["spec"]["trainer"]
    container = tf_job(JOB, PLACE)["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    assert (trainer["command"], trainer["args"]) == (container["command"], container["args"])
    assert trainer["resourcesPerNode"] == container["resources"]
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "2"
    assert container["name"] == "tensorflow"
    on_processors = train_job(JOB.model_copy(update={"accelerators": 0}), PLACE)["spec"]["trainer"]
    assert "nvidia.com/gpu" not in on_processors["resourcesPerNode"]["limits"]


def test_what_can_go_on_is_started_again_and_wrong_input_is_not() -> None:
    assert tf_job(JOB, PLACE)["spec"]["tfReplicaSpecs"]["Worker"]["restartPolicy"] == "ExitCode"
    assert 127 < PREEMPTED < 256
    template = training_runtime(PLACE)["spec"]["template"]["spec"]
    codes = template["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert {BadInput("", "", "").exit_code} <= set(codes["values"])
    assert PREEMPTED not in codes["values"]
    assert template["failurePolicy"]["rules"][0]["action"] == "FailJobSet"


@pytest.mark.parametrize(
    "change",
    [
        {"frame": "/etc"},
        {"out": "../other"},
        {"nodes": 0},
        {"name": "Flights"},
        {"accelerators": -1},
        {"every": 0},
        {"pods": 2},
    ],
)
def test_a_job_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        TrainingJob.model_validate(JOB.model_dump() | change)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], (None, "waiting for the operator")),
        ([("Running", "True", "2 pods")], (None, "Running: 2 pods")),
        ([("Running", "False", ""), ("Succeeded", "True", "done")], (True, "Succeeded: done")),
        ([("Complete", "True", "done")], (True, "Complete: done")),
        ([("Complete", "False", ""), ("Failed", "True", "wrong input")], (False, "Failed: wrong input")),
    ],
)
def test_the_operators_conditions_tell_how_a_job_stands(
    conditions: list[tuple[str, str, str]], expected: tuple[bool | None, str]
) -> None:
    told = [{"type": kind, "status": status, "message": message} for kind, status, message in conditions]
    assert outcome({"status": {"conditions": told}}) == expected
    assert outcome({}) == (None, "waiting for the operator")


CLUSTER = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
BAD = {
    "": "is not set",
    "{": "Invalid JSON",
    json.dumps(CLUSTER | {"task": {"type": "worker", "index": 2}}): "no worker number 2",
    json.dumps(CLUSTER | {"task": {"type": "chief", "index": 0}}): "no chief number 0",
    json.dumps(CLUSTER | {"cluster": {"ps": ["a:1"]}}): "cluster",
}


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_tf_config_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=f"TF_CONFIG.*{BAD[text]}"):
        read_cluster({"TF_CONFIG": text})


@pytest.mark.parametrize(("role", "chief"), [("chief", True), ("worker", False)])
def test_a_chief_beside_workers_is_the_one_that_writes(role: str, *, chief: bool) -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1"]}
    text = json.dumps({"cluster": cluster, "task": {"type": role, "index": 0}})
    assert read_cluster({"TF_CONFIG": text}).chief is chief


def test_the_operators_own_tf_config_comes_first() -> None:
    assert cluster_variables({"TF_CONFIG": tf_config(("a:1",), 0), "SLUICE_NODES": "b:1"}) == {}
    assert cluster_variables({}) == {}


@pytest.mark.parametrize("index", ["", "2", "-1", "one"])
def test_a_pod_without_a_place_among_the_nodes_is_refused(index: str) -> None:
    with pytest.raises(BadInput, match="JOB_COMPLETION_INDEX"):
        cluster_variables({"SLUICE_NODES": "a:1,b:1", "JOB_COMPLETION_INDEX": index})


def test_a_model_is_cut_on_jax_only() -> None:
    with pytest.raises(BadInput, match="KERAS_BACKEND=jax"):
        strategy_for(Distribution(kind="model_parallel"), {})


def test_at_least_one_step_lies_between_checkpoints() -> None:
    with pytest.raises(BadInput, match="checkpoint interval"):
        TrainingSetup(every=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"recipe": "{"}, "--recipe"),
        ({"task": "nowhere"}, "task 'nowhere'"),
        ({"distribution": "multi_worker"}, "TF_CONFIG: is not set"),
        ({"every": "0"}, "checkpoint interval"),
    ],
)
def test_a_worker_says_in_one_line_what_is_wrong(
    arguments: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = {"task": "flights", "recipe": JOB.recipe.model_dump_json(), "frame": str(tmp_path), "out": str(tmp_path)}
    given = frame | {"distribution": "single"} | arguments
    if "distribution" in arguments:
        from tests.support.tiny_training import RECIPE, sample, write_frame

        write_frame(tmp_path, sample())
        given["recipe"] = RECIPE.model_dump_json()
    assert main([f"--{name}={value}" for name, value in given.items()]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1


def test_a_document_is_made_without_tensorflow() -> None:
    program = "import sys, sluice.training.train_job; raise SystemExit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
