"""
Lint what every environment deploys, with each option, during a canary: checkov and kube-score.

    python .ci/lint_manifests.py CHECKOV KUBE_SCORE          the programs; .ci/lint installs and names them

Linters know pods but no InferenceService, so each is written as the Deployment that KServe makes of it: its runtime's
container with its own fields on top, and the storage initializer. Ends with exit code 1 and says which:

    a failed check that lint-exceptions.yaml does not name, with a reason
    an exception that nothing needs any more
    a kind that neither a linter knows nor STRICT names: nothing goes unchecked unseen
"""

from __future__ import annotations

import copy
import fnmatch
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from sluice.documents.state import ReleaseState
from sluice.release.file import render_release

ROOT = Path(__file__).parents[1]
DIGESTS = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
Object = dict[str, Any]
Failure = tuple[str, str]
"""A check's name and the object, ``Kind/name``."""
KNOWN = {
    "ClusterRole", "ClusterRoleBinding", "ConfigMap", "CronJob", "DaemonSet", "Deployment", "Job", "LimitRange",
    "Namespace", "NetworkPolicy", "PersistentVolumeClaim", "Pod", "PodDisruptionBudget", "ResourceQuota", "Role",
    "RoleBinding", "Secret", "Service", "ServiceAccount", "StatefulSet",
}  # fmt: skip
"""Kinds that checkov or kube-score have rules for, or that hold nothing to have rules about."""
EXPANDED = {"InferenceService", "ServingRuntime", "ClusterStorageContainer"}
"""Written as pods."""
STRICT = {
    "AppProject", "Application", "ApplicationSet", "HTTPRoute", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding", "PodMonitor", "PrometheusRule", "ServiceMonitor", "Pipeline",
    "PipelineVersion",
}  # fmt: skip
"""No pods in them; judged by the API server alone, strictly (tests/cluster/test_manifests.py)."""


def render(directory: Path) -> list[Object]:
    """The objects of a kustomization."""
    text = subprocess.run(["kubectl", "kustomize", directory], check=True, capture_output=True, text=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def expand(objects: list[Object], storage: Object) -> list[Object]:
    """InferenceServices as Deployments, the rest as it is; what only they use is left out."""
    runtimes = [document["spec"] for document in objects if document["kind"] == "ServingRuntime"]
    plain = [document for document in objects if document["kind"] not in EXPANDED]
    for service in (document for document in objects if document["kind"] == "InferenceService"):
        first = service["spec"]["predictor"]
        canaries = [first | each["predictor"] for each in service["spec"].get("canary", [])]
        plain += [_deployment(service, each, runtimes[0], storage) for each in (first, *canaries)]
    return plain


def _deployment(service: Object, spec: Object, runtime: Object, storage: Object) -> Object:
    predictor = copy.deepcopy(spec)
    model = predictor.pop("model")
    replicas = predictor.pop("minReplicas")
    pod = {key: value for key, value in predictor.items() if key not in ("maxReplicas", "autoScaling", "name")}
    pod.pop("canaryTrafficPercent", None)
    container = copy.deepcopy(runtime["containers"][0])
    container |= {key: model[key] for key in ("readinessProbe",)} | {"args": [*container["args"], *model["args"]]}
    volume = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
    container["volumeMounts"] = [*container["volumeMounts"], volume | {"readOnly": True}]
    first = copy.deepcopy(storage["spec"]["container"]) | {"args": [model["storageUri"], "/mnt/models"]}
    pod |= {"containers": [container], "initContainers": [first | {"volumeMounts": [volume]}]}
    pod["volumes"] = [*runtime["volumes"], {"name": volume["name"], "emptyDir": {}}]
    name = "-".join([service["metadata"]["name"], *([predictor["name"]] if "name" in predictor else [])])
    labels = service["metadata"]["labels"] | {"app": name}
    metadata = {"name": name, "namespace": service["metadata"]["namespace"], "labels": labels}
    metadata["annotations"] = runtime.get("annotations", {})
    template = {"metadata": {"labels": labels, "annotations": metadata["annotations"]}, "spec": pod}
    whole = {"replicas": replicas, "selector": {"matchLabels": {"app": labels["app"]}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": whole}


def combinations(checkout: Path) -> list[tuple[str, Path]]:
    """Name and directory of everything that is applied; each environment without and with each option."""
    whole = [path for path in (checkout / "manifests").glob("*/kustomization.yaml") if path.parent.name != "base"]
    places = [(path.parent.name, path.parent) for path in sorted(whole) if "kind: Kustomization" in path.read_text()]
    options = sorted(path.parent.name for path in (checkout / "manifests/options").glob("*/kustomization.yaml"))
    for overlay in sorted((checkout / "manifests/overlays").iterdir()):
        _release(overlay)
        places.append((overlay.name, overlay))
        for option in options:
            copied = overlay.with_name(f"{overlay.name}-{option}")
            shutil.copytree(overlay, copied)
            text = (copied / "kustomization.yaml").read_text()
            release = text.replace("[release, ", f"[release, ../../options/{option}, ")
            (copied / "kustomization.yaml").write_text(release)
            places.append((copied.name, copied))
    return places


def _release(overlay: Path) -> None:
    """A canary of two made-up digests."""
    state = ReleaseState.empty("flights", overlay.name).model_dump() | {"stage": "canary", "rollout": "r0001-b"}
    state |= {"since": "2020-01-01T00:00:00Z", "stable": DIGESTS[0], "candidate": DIGESTS[1], "sequence": 1}
    state |= {"stable_weight": 90, "candidate_weight": 10}
    (overlay / "release/kustomization.yaml").write_bytes(render_release(ReleaseState.model_validate(state)))


def write_pods(target: Path) -> tuple[int, list[str]]:
    """Write one file a combination; returns how many documents there are and those that nobody would check."""
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Path(scratch)
        shutil.copytree(ROOT / "manifests", checkout / "manifests")
        _pin(checkout / "manifests/images/kustomization.yaml")
        rendered = [(name, render(directory)) for name, directory in combinations(checkout)]
    every = [each for _, objects in rendered for each in objects]
    storage = next(each for each in every if each["kind"] == "ClusterStorageContainer")
    unchecked = []
    for name, objects in rendered:
        unchecked += [f"{name}: {each['kind']}" for each in objects if each["kind"] not in KNOWN | EXPANDED | STRICT]
        pods = [each for each in expand(objects, storage) if each["kind"] in KNOWN]
        if pods:
            (target / f"{name}.yaml").write_text(yaml.safe_dump_all(pods, sort_keys=False))
    return sum(len(objects) for _, objects in rendered), unchecked


def _pin(path: Path) -> None:
    """Digests, as the release workflow writes them; without one the API server refuses the images anyway."""
    document = yaml.safe_load(path.read_text())
    for image in document["images"]:
        del image["newTag"]
        image["digest"] = DIGESTS[0]
    path.write_text(yaml.safe_dump(document))


def checkov(program: str, directory: Path) -> tuple[int, set[Failure]]:
    """How many checks passed, and what failed."""
    options = ["--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "-o", "json"]
    process = subprocess.run([program, "-d", directory, *options], check=False, capture_output=True, text=True)
    report = json.loads(process.stdout)
    if report["summary"]["parsing_errors"]:
        raise SystemExit(f"checkov could not read {report['summary']['parsing_errors']} documents")
    failed = {(each["check_id"], _object_name(each["resource"])) for each in report["results"]["failed_checks"]}
    return report["summary"]["passed"], failed


def _object_name(resource: str) -> str:
    kind, _, name = resource.split(".", 2)
    return f"{kind}/{name}"


def kube_score(program: str, directory: Path) -> tuple[int, set[Failure]]:
    """The same; a warning is a failure."""
    files = sorted(directory.glob("*.yaml"))
    passed, failed = 0, set()
    for path in files:  # a file each: names repeat between combinations
        process = subprocess.run([program, "score", "-o", "json", path], check=False, capture_output=True, text=True)
        for document in json.loads(process.stdout) or []:  # null where it has nothing to score
            name = f"{document['type_meta']['kind']}/{document['object_meta']['name']}"
            checks = [each for each in document["checks"] if not each["skipped"]]
            passed += sum(each["grade"] >= PASSED for each in checks)
            failed |= {(each["check"]["id"], name) for each in checks if each["grade"] < PASSED}
    return passed, failed


PASSED = 7
"""kube-score's grades: 1 critical, 5 warning, 7 almost, 10 good."""


def judge(failed: set[Failure]) -> tuple[list[str], list[str]]:
    """Failures without an exception, and exceptions without a failure; one line each."""
    exceptions = yaml.safe_load((ROOT / ".ci/lint-exceptions.yaml").read_text())
    needed, open_ = set(), []
    for check, thing in sorted(failed):
        fitting = [e["check"] for e in exceptions if e["check"] == check and fnmatch.fnmatch(thing, e["objects"])]
        needed |= set(fitting)
        open_ += [] if fitting else [f"{check}: {thing}"]
    return open_, [f"{each['check']} ({each['objects']})" for each in exceptions if each["check"] not in needed]


def main(programs: list[str]) -> int:
    """0 only if every document was checked and everything that failed has a reason."""
    with tempfile.TemporaryDirectory() as scratch:
        documents, unchecked = write_pods(Path(scratch))
        results = [checkov(programs[0], Path(scratch)), kube_score(programs[1], Path(scratch))]
    failures, stale = judge(results[0][1] | results[1][1])
    for title, lines in (("FAILED", failures), ("NOT CHECKED", unchecked), ("EXCEPTION NOT NEEDED", stale)):
        for line in lines:
            sys.stderr.write(f"{title}: {line}\n")
    passed = f"checkov passed {results[0][0]} checks, kube-score {results[1][0]}"
    sys.stdout.write(f"{documents} documents, {len(unchecked)} unchecked; {passed}, {len(failures)} failures\n")
    return 1 if failures or unchecked or stale or not all(passed for passed, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
