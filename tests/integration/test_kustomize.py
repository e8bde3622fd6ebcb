"""The commit of every stage renders to objects that say what the release state says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision
from sluice.gates.policy import parse_policy
from sluice.gitops.writer import GitOps, Snapshot
from sluice.release.file import render_holds, render_release, renderings
from sluice.rollout.advance import look, propose
from sluice.rollout.drain import remove_server
from sluice.targets.binary import Binary
from sluice.targets.kind import TargetKind
from sluice.targets.registry import target_of
from sluice.targets.regression import Regression
from tests.support.release import GOOD, A, B, C, applied_of, failing, passing, sample_checkout, state_in, unclear

ROOT = Path(__file__).parents[2]
RELEASE = "manifests/overlays/dev/release/kustomization.yaml"
EVERY_PATH = {"type": "PathPrefix", "value": "/"}
SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
SCRAPED = {"scrape": "true", "path": "/metrics", "port": "8080"}
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="NOT CHECKED: kubectl is missing, so nothing proves that the manifests render what the release state says",
)
pytestmark = needs_kubectl


def _render(directory: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns"
    for sentinel in ("set-by-release", "setbyrelease", "setbyenvironment", "999999"):
        assert sentinel not in done.stdout
    return [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]


def _of(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def _digests(objects: list[dict[str, Any]]) -> dict[str, str]:
    """Name of the InferenceService → the digest it serves; its address, argument and readiness probe must agree."""
    found = {}
    for name, service in _of(objects, "InferenceService").items():
        metadata, predictor = service["metadata"], service["spec"]["predictor"]
        assert metadata["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
        assert metadata["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
        assert metadata["labels"]["networking.kserve.io/visibility"] == "cluster-local"
        assert predictor["minReplicas"] == 1
        assert predictor["deploymentStrategy"] == SURGE
        arguments = dict(argument.removeprefix("--").split("=", 1) for argument in predictor["model"]["args"])
        task = name.rpartition("-")[0]
        assert arguments["model_name"] == task
        digest = arguments["digest"]
        assert predictor["model"]["storageUri"] == f"sluice+s3://models/{task}/{digest.replace(':', '-')}"
        assert predictor["model"]["readinessProbe"]["httpGet"]["path"] == f"/-/serves/{digest}"
        found[name] = digest
    return found


def _assert_objects_say(objects: list[dict[str, Any]], state: ReleaseState) -> None:
    task = state.task
    served = {f"{task}-stable": state.stable, f"{task}-candidate": state.candidate or state.leftover}
    assert _digests(objects) == {name: digest for name, digest in served.items() if digest}
    routes = _of(objects, "HTTPRoute")
    _assert_preview(routes.pop(f"{task}-preview", None), state)
    assert set(routes) == (set() if state.stage == "empty" else {task})
    for route in routes.values():
        (rule,) = route["spec"]["rules"]
        weights = {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}
        planned = {
            f"{task}-stable-predictor": state.stable_weight,
            f"{task}-candidate-predictor": state.candidate_weight,
        }
        assert {name: weight for name, weight in planned.items() if weight} == {k: w for k, w in weights.items() if w}
        assert all(type(weight) is int for weight in weights.values())
        mirrors = [entry["requestMirror"] for entry in rule.get("filters", [])]
        shadow = {"group": "", "kind": "Service", "name": f"{task}-candidate-predictor", "port": 80}
        wanted = {"backendRef": shadow, "percent": state.mirror_percent}
        assert mirrors == ([wanted] if state.mirror_percent else [])


def _assert_preview(route: dict[str, Any] | None, state: ReleaseState) -> None:
    """The candidate has a host of its own before the switch, and at no other time."""
    backend = {"group": "", "kind": "Service", "name": f"{state.task}-candidate-predictor", "port": 80, "weight": 100}
    host, rule = "preview-flights.dev.example.com", {"matches": [{"path": EVERY_PATH}], "backendRefs": [backend]}
    spec = route and {key: route["spec"][key] for key in ("hostnames", "rules")}
    assert spec == ({"hostnames": [host], "rules": [rule]} if state.stage == "preview" else None)


def test_every_commit_of_a_release_renders_what_git_decided(tmp_path: Path) -> None:
    gitops = GitOps(tmp_path / "gitops.git", "dev")
    commits = [gitops.seed(sample_checkout())]

    def step(candidate: str | None, make: Any = passing) -> None:
        day = f"2020-01-{len(commits):02d}T00:00:00Z"

        def decide(snapshot: Snapshot) -> Decision | None:
            if candidate:
                return propose(snapshot, candidate, GOOD, {}, {}, day)
            return look(snapshot, make(snapshot.state, day), day, {})

        written = gitops.commit(decide)
        assert written is not None
        commits.append(written.commit)

    for candidate in (A, None, B, None, None, None, None, C):
        step(candidate)
    step(None, failing)
    removed = gitops.commit(
        lambda snapshot: remove_server(snapshot, applied_of(snapshot.state), "2020-02-01T00:00:00Z")
    )
    assert removed is not None
    commits.append(removed.commit)
    stages = []
    for number, commit in enumerate(commits):
        gitops.export(tmp_path / str(number), commit)
        decided = gitops.decisions()[:number]
        state = ReleaseState.model_validate(decided[-1].after) if decided else gitops_empty()
        _assert_objects_say(_render(tmp_path / str(number)), state)
        stages.append(f"{state.stage}{state.step}")
    assert stages == [
        "empty0",
        "bootstrap0",
        "drain0",
        "shadow0",
        "canary0",
        "canary1",
        "confirm0",
        "drain0",
        "shadow0",
        "drain0",
        "stable0",
    ]


def gitops_empty() -> ReleaseState:
    """What the checkout's release file says."""
    return ReleaseState.empty("flights", "dev")


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("stage", ["bootstrap", "shadow", "preview", "canary", "confirm", "drain", "stable"])
def test_the_task_names_the_objects(tmp_path: Path, stage: str, *, paused: bool) -> None:
    state = state_in(stage, task="two-words", paused=paused and stage not in ("bootstrap", "drain", "stable"))
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    (tmp_path / "manifests/overlays/dev/release/kustomization.yaml").write_bytes(render_release(state))
    objects = _render(tmp_path / "manifests/overlays/dev")
    _assert_objects_say(objects, state)
    assert set(_of(objects, "HTTPRoute")) == {"two-words", *(["two-words-preview"] if stage == "preview" else [])}


@pytest.mark.parametrize("stage", ["bootstrap", "shadow", "preview", "canary", "confirm", "stable"])
def test_a_release_file_of_an_older_version_builds_the_same_objects(tmp_path: Path, stage: str) -> None:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    written = []
    for text in renderings(state_in(stage)):
        (tmp_path / "manifests/overlays/dev/release/kustomization.yaml").write_bytes(text)
        written.append(_render(tmp_path / "manifests/overlays/dev"))
    former = [each for each in written[0] if each["metadata"]["name"] != "toy-preview"]
    assert all(objects == former for objects in written[1:]), "but for a host that they did not have"


BEFORE = {"bootstrap": "first", "stable": "plain", "canary": "weighted"}
"""Folders of strategies, and what older versions called them."""


def _older_checkout(tmp_path: Path) -> Path:
    """The checkout with strategies by their old names alone."""
    checkout = tmp_path / "older"
    shutil.copytree(ROOT / "manifests", checkout / "manifests")
    shutil.copy(ROOT / "kustomization.yaml", checkout)
    strategies = checkout / "manifests/strategies"
    for name in ("preview", "blue-green", "drain"):
        shutil.rmtree(strategies / name)
    for name, former in BEFORE.items():
        shutil.rmtree(strategies / former)
        (strategies / name).rename(strategies / former)
    return checkout


def test_a_repository_is_written_with_the_strategies_that_it_has_and_goes_back_to_them(tmp_path: Path) -> None:
    gitops, work = GitOps(tmp_path / "gitops.git", "dev"), tmp_path / "work"
    gitops.seed(_older_checkout(tmp_path))

    def strategy_of(decide: Any, exported: str) -> str:
        written = gitops.commit(decide)
        assert written is not None
        gitops.export(tmp_path / exported, written.commit)
        release = yaml.safe_load((tmp_path / exported / RELEASE).read_text())
        strategy = str(release["components"][0]).rpartition("/")[2]
        state = ReleaseState.model_validate(written.decision.after)
        _assert_objects_say(_render(tmp_path / exported), without_leftover(state) if strategy == "plain" else state)
        return strategy

    def person(*command: str) -> None:
        author = ("-c", "user.name=kim", "-c", "user.email=kim@localhost")
        subprocess.run(["git", *author, *command], cwd=tmp_path, capture_output=True, check=True)

    def without_leftover(state: ReleaseState) -> ReleaseState:
        return state.model_copy(update={"arms": state.rivals})

    days, late = [f"2020-01-0{day}T00:00:00Z" for day in range(1, 8)], "2020-03-01T00:00:00Z"
    assert strategy_of(lambda seen: propose(seen, A, GOOD, {}, {}, days[0]), "bootstrap") == "first"
    assert strategy_of(lambda seen: look(seen, passing(seen.state, days[1]), days[1], {}), "stable") == "plain"
    person("clone", str(gitops.remote), str(work))
    shutil.copytree(ROOT / "manifests/strategies", work / "manifests/strategies", dirs_exist_ok=True)
    person("-C", str(work), "add", ".")
    person("-C", str(work), "commit", "-m", "strategies of today")
    person("-C", str(work), "push", "origin", "HEAD:main")
    assert strategy_of(lambda seen: propose(seen, B, GOOD, {}, {}, days[2]), "shadow") == "shadow"
    assert strategy_of(lambda seen: look(seen, unclear(seen.state, late), late, {}), "back") == "drain"  # time is over
    person("-C", str(work), "pull", "--rebase", "origin", "main")
    person("-C", str(work), "checkout", "HEAD~3", "--", RELEASE)  # the file as the older version had left it
    person("-C", str(work), "commit", "-am", "back by hand")
    person("-C", str(work), "push", "origin", "HEAD:main")
    snapshot = gitops.snapshot()
    gitops.export(tmp_path / "by-hand", snapshot.commit)
    assert b"strategies/plain" in (tmp_path / "by-hand" / RELEASE).read_bytes()
    _assert_objects_say(_render(tmp_path / "by-hand"), without_leftover(snapshot.state))
    assert snapshot.state.stable == A


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_the_checkout_itself_is_an_empty_release(environment: str) -> None:
    overlay = ROOT / "manifests/overlays" / environment
    assert (overlay / "release/kustomization.yaml").read_bytes() == render_release(
        ReleaseState.empty("flights", environment)
    )
    assert (overlay / "release/holds.yaml").read_bytes() == render_holds(())
    assert len((overlay / "kustomization.yaml").read_text().splitlines()) <= 14
    assert parse_policy((overlay / "gate-policy.yaml").read_bytes(), environment).environment == environment
    objects = _render(overlay)
    assert not {"InferenceService", "HTTPRoute"} & {found["kind"] for found in objects}
    (namespace,) = _of(objects, "Namespace").values()
    assert namespace["metadata"]["name"] == f"sluice-{environment}"
    assert namespace["metadata"]["labels"]["sluice.dev/environment"] == environment


def test_the_top_of_the_checkout_is_dev_and_what_a_cluster_has_once() -> None:
    parts = [_render(ROOT / "manifests/cluster"), _render(ROOT / "manifests/overlays/dev")]
    assert sorted(map(repr, _render(ROOT))) == sorted(repr(found) for part in parts for found in part)


def test_two_strategies_at_once_do_not_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    path = tmp_path / "manifests/overlays/dev/release/kustomization.yaml"
    one, two = "[../../../strategies/shadow]", "[../../../strategies/shadow, ../../../strategies/canary]"
    path.write_text(render_release(state_in("shadow")).decode().replace(one, two))
    done = subprocess.run(
        ["kubectl", "kustomize", tmp_path / "manifests/overlays/dev"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "already registered id" in done.stderr


def _with_option(tmp_path: Path, option: str, state: ReleaseState, *more: str) -> Path:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    overlay = tmp_path / "manifests/overlays" / state.environment
    (overlay / "release/kustomization.yaml").write_bytes(render_release(state))
    path = overlay / "kustomization.yaml"
    options = "".join(f"../../options/{each}, " for each in (option, *more))
    path.write_text(path.read_text().replace("[release, ", f"[release, {options}"))
    return overlay


@pytest.mark.parametrize("option", ["kserve-canary", "knative"])
@pytest.mark.parametrize("stage", ["bootstrap", "canary", "confirm", "drain", "stable"])
def test_one_service_with_a_split_of_its_own_says_what_git_decided(tmp_path: Path, option: str, stage: str) -> None:
    state = state_in(stage, task="toy")
    objects = _render(_with_option(tmp_path, option, state))
    assert not _of(objects, "HTTPRoute")
    (service,) = _of(objects, "InferenceService").values()
    assert service["metadata"]["name"] == "toy"
    assert "sluice.dev/strategy" not in service["metadata"]["labels"]
    predictor, both = service["spec"]["predictor"], stage in ("canary", "confirm")
    if option == "knative":
        assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
        assert predictor.get("canaryTrafficPercent") == (state.candidate_weight if both else None)
        assert "deploymentStrategy" not in predictor, "Knative would ignore it"
        assert predictor["model"]["args"][0] == f"--digest={state.candidate or state.stable}"
        return
    assert predictor["model"]["args"][0] == f"--digest={state.stable or state.candidate}"
    canaries = service["spec"].get("canary", [])
    assert [each["trafficPercent"] for each in canaries] == ([state.candidate_weight] if both else [])
    for each in canaries:
        model = each["predictor"]["model"]
        assert model["args"] == [f"--digest={B}", "--model_name=toy", "--role=candidate"]
        assert model["storageUri"] == f"sluice+s3://models/toy/{B.replace(':', '-')}"
        assert model["readinessProbe"]["httpGet"]["path"] == f"/-/serves/{B}"


@pytest.mark.parametrize(("option", "hosts"), [("kserve-canary", ["preview-flights.dev.example.com"]), ("knative", [])])
def test_one_service_has_a_preview_where_its_candidate_has_a_service(
    tmp_path: Path, option: str, hosts: list[str]
) -> None:
    objects = _render(_with_option(tmp_path, option, state_in("preview", task="toy")))
    routes = list(_of(objects, "HTTPRoute").values())
    assert [name for route in routes for name in route["spec"]["hostnames"]] == hosts
    (service,) = _of(objects, "InferenceService").values()
    assert service["metadata"]["name"] == "toy"
    backends = [ref["name"] for route in routes for ref in route["spec"]["rules"][0]["backendRefs"]]
    predictors = [f"toy-{each['predictor']['name']}-predictor" for each in service["spec"].get("canary", [])]
    assert backends == predictors, "as KServe calls the Service of each canary"


@pytest.mark.parametrize("option", ["gate", "kserve-canary"])
def test_prod_has_two_servers_of_each_side_and_a_drain_leaves_one(tmp_path: Path, option: str) -> None:
    objects = _render(_with_option(tmp_path, option, state_in("confirm", environment="prod")))
    specs = [each["spec"] for each in _of(objects, "InferenceService").values()]
    predictors = [spec["predictor"] for spec in specs]
    predictors += [canary["predictor"] for spec in specs for canary in spec.get("canary", [])]
    assert [each["minReplicas"] for each in predictors] == [2, 2]
    budgets = _of(objects, "PodDisruptionBudget")
    assert {name: budgets[name]["spec"]["maxUnavailable"] for name in ("stable", "candidate")} == {
        "stable": 1,
        "candidate": 1,
    }


@pytest.mark.parametrize("option", ["kserve-canary", "knative"])
def test_what_cannot_mirror_does_not_build_a_shadow(tmp_path: Path, option: str) -> None:
    overlay = _with_option(tmp_path, option, state_in("shadow"))
    done = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"options/{option}': testing value /metadata/name failed" in done.stderr


def _target_of(objects: list[dict[str, Any]]) -> TargetKind:
    """What the collector is started with, its variables filled in as a kubelet does."""
    (container,) = _of(objects, "Deployment")["collector"]["spec"]["template"]["spec"]["containers"]
    values = _of(objects, "ConfigMap")["collector"]["data"]
    assert {"configMapRef": {"name": "collector"}} in container["envFrom"]
    (said,) = (each for each in container["command"] if each.startswith("--target="))
    return target_of(json.loads(said.removeprefix("--target=").replace("$(SLUICE_TARGET)", values["SLUICE_TARGET"])))


def test_a_collector_is_told_the_target(tmp_path: Path) -> None:
    overlay = _with_option(tmp_path, "collector", state_in("canary"))
    assert _target_of(_render(overlay)) == Binary()
    regression = Regression(loss="pinball", quantiles=(0.1, 0.5, 0.9), unit="EUR a day")
    path = overlay / "kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    change = [{"op": "add", "path": "/data/SLUICE_TARGET", "value": regression.model_dump_json()}]
    target = {"kind": "ConfigMap", "name": "collector"}
    document.setdefault("patches", []).append({"target": target, "patch": yaml.safe_dump(change)})
    path.write_text(yaml.safe_dump(document))
    assert _target_of(_render(overlay)) == regression


def test_one_word_points_servers_at_a_collector(tmp_path: Path) -> None:
    overlay = _with_option(tmp_path, "collector", state_in("canary"))
    objects = _render(overlay)
    (server,) = _of(objects, "ServingRuntime")["sluice"]["spec"]["containers"]
    port = _of(objects, "Service")["collector"]["spec"]["ports"][0]["port"]
    assert server["args"][1:] == [f"--collector=http://collector:{port}", "--spool=/spool", "--log_percent=100"]
    assert {mount["name"] for mount in server["volumeMounts"]} == {"tmp", "spool"}
    deployments = _of(objects, "Deployment")
    assert set(deployments) == {"collector", "exposition"}
    for found in deployments.values():
        pod = found["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert {container["image"] for container in pod["containers"]} == {server["image"]}
    join = deployments["exposition"]["spec"]["template"]["spec"]["containers"][0]
    assert join["env"] == [{"name": "SLUICE_MODELS", "value": "s3://models"}]
    assert {"configMapRef": {"name": "features", "optional": True}} in join["envFrom"]
    policy = _of(objects, "ConfigMap")["environment"]["data"]["gate-policy.yaml"]
    assert parse_policy(policy.encode(), "policy").environment == "dev"


def test_one_word_and_what_the_page_adds_have_a_preview_asked(tmp_path: Path) -> None:
    overlay = _with_option(tmp_path, "preview-checks", state_in("preview"))
    page = (ROOT / "docs/gitops.md").read_text()
    (told,) = [each for each in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "preview-checks" in each]
    path = overlay / "kustomization.yaml"
    path.write_text(path.read_text().replace("configMapGenerator:\n", told))
    (overlay / "requests.jsonl").write_text("{}\n")
    objects = _render(overlay)
    pod = _of(objects, "CronJob")["preview-checks"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    maps = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    keys = {mounted[name]: set(_of(objects, "ConfigMap")[of]["data"]) for name, of in maps.items()}
    paths = [argument.partition("=")[2] for argument in container["command"] if "=/etc/" in argument]
    assert "host" in keys[paths[0]]
    assert {"stage", "task"} <= keys[paths[1]]
    folder, _, name = paths[2].rpartition("/")
    assert {name, container["env"][0]["valueFrom"]["configMapKeyRef"]["key"]} == keys[folder]


def _scraped(objects: list[dict[str, Any]]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Labels and annotations of the pods that have metrics, by what makes them."""
    found = {}
    for name, each in _of(objects, "Deployment").items():
        pod = each["spec"]["template"]["metadata"]
        found[name] = pod["labels"], pod.get("annotations", {})
    for name, each in _of(objects, "InferenceService").items():  # its pods have its labels
        found[name] = each["metadata"]["labels"], each["spec"]["predictor"].get("annotations", {})
    return found


@pytest.mark.parametrize("found_by", ["monitoring", "scrape-annotations", "seldon-analytics"])
def test_a_prometheus_finds_servers_collector_and_exposition(tmp_path: Path, found_by: str) -> None:
    objects = _render(_with_option(tmp_path, "collector", state_in("canary", task="toy"), found_by))
    scraped = _scraped(objects)
    assert set(scraped) == {"toy-stable", "toy-candidate", "collector", "exposition"}
    for labels, found in scraped.values():
        if found_by == "monitoring":
            monitor = _of(objects, "PodMonitor")["sluice"]["spec"]
            (selector,) = monitor["selector"]["matchExpressions"]
            assert labels[selector["key"]] in selector["values"]
            assert [each["portNumber"] for each in monitor["podMetricsEndpoints"]] == [8080]
        else:
            assert found == {f"prometheus.io/{key}": value for key, value in SCRAPED.items()}
    for name in ("collector", "exposition"):
        containers = _of(objects, "Deployment")[name]["spec"]["template"]["spec"]["containers"]
        assert [port["containerPort"] for each in containers for port in each.get("ports", [])] == [8080]
        allowed = [rule["ports"] for rule in _of(objects, "NetworkPolicy")[name]["spec"]["ingress"]]
        assert allowed == [[{"protocol": "TCP", "port": 8080}]]


def test_monitored_servers_know_what_is_released_without_starting_anew(tmp_path: Path) -> None:
    objects = _render(_with_option(tmp_path, "monitoring", state_in("canary")))
    spec = _of(objects, "ServingRuntime")["sluice"]["spec"]
    (server,) = spec["containers"]
    (mount,) = [each for each in server["volumeMounts"] if each["name"] == "release"]
    assert f"--release={mount['mountPath']}" in server["args"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "release"]
    assert {"rollout", "sequence"} <= set(_of(objects, "ConfigMap")[volume["configMap"]["name"]]["data"])


@pytest.mark.parametrize("options", [("redis", "tracing"), ("tracing", "redis")])
def test_options_that_set_variables_leave_each_others_alone(tmp_path: Path, options: tuple[str, str]) -> None:
    objects = _render(_with_option(tmp_path, options[0], state_in("canary"), options[1]))
    (server,) = _of(objects, "ServingRuntime")["sluice"]["spec"]["containers"]
    names = [each["name"] for each in server["env"]]
    wanted = {"SLUICE_REDIS", "SLUICE_REDIS_PASSWORD", "OTEL_EXPORTER_OTLP_ENDPOINT"}
    assert wanted | {"OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"} == set(names)
    assert len(names) == 5
