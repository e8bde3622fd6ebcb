"""The quickstart's manifests build, name what is there, and its models are those that today's features feed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from sluice.features.store import install_definitions, plan_of
from sluice.installation import FEATURE_REPO
from sluice.models.bundle import Bundle, load_bundle
from sluice.models.store import main, read_bundle
from sluice.release.file import parse_holds, parse_release
from sluice.tasks.flights import TASK
from sluice_local.flights_quickstart import releases, write_quickstart
from tests.support.servers import Server, running, s3_server, use_s3
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "manifests/quickstart"
STEPS = ("stable", "shadow", "canary")
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="NOT CHECKED: kubectl is missing, so nothing proves that the quickstart builds",
)


def rendered(directory: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by kind and name."""
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "set-by" not in done.stdout
    documents = [each for each in yaml.safe_load_all(done.stdout) if each]
    return {
        (each["kind"], f"{each['metadata'].get('namespace', '')}/{each['metadata']['name']}"): each
        for each in documents
    }


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    """By digest, verified."""
    found = [load_bundle(path) for path in sorted((QUICKSTART / "models").iterdir())]
    return {bundle.digest: bundle for bundle in found}


def test_each_step_serves_models_that_are_there(bundles: dict[str, Bundle]) -> None:
    states = [parse_release((QUICKSTART / f"{step}/release/kustomization.yaml").read_bytes(), step) for step in STEPS]
    first, second = states[1].stable, states[1].candidate
    assert first
    assert second
    assert set(bundles) == {first, second}
    assert tuple(states) == releases(first, second)
    assert [parse_holds((QUICKSTART / f"{step}/release/holds.yaml").read_bytes(), step) for step in STEPS] == [
        (),
        (),
        (),
    ]


def test_todays_features_feed_the_models(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """When this fails: ``python -m sluice_local.flights_quickstart``."""
    feast = install_definitions(FEATURE_REPO, tmp_path / "store", TASK.known_later)
    plan = plan_of(feast, TASK.service)
    assert {bundle.manifest.features.service_digest for bundle in bundles.values()} == {plan.digest}


def test_releases_are_written_beside_the_models(tmp_path: Path) -> None:
    first, second = (load_bundle(next((write(tmp_path, number)).glob("sha256-*"))) for number in (1, 2))
    write_quickstart(first, second, tmp_path / "quickstart")
    canary = parse_release((tmp_path / "quickstart/canary/release/kustomization.yaml").read_bytes(), "canary")
    assert (canary.stable, canary.candidate, canary.candidate_weight) == (first.digest, second.digest, 10)
    assert load_bundle(tmp_path / "quickstart/models" / second.digest.replace(":", "-")).digest == second.digest


def write(folder: Path, number: int) -> Path:
    write_tiny_bundle(folder / str(number), threshold=0.1 * number)
    return folder / str(number)


@needs_kubectl
def test_stores_servers_and_jobs_find_each_other() -> None:
    objects = rendered(QUICKSTART)
    services = {
        f"{service['metadata']['name']}.{service['metadata']['namespace']}:{service['spec']['ports'][0]['port']}"
        for (kind, _), service in objects.items()
        if kind == "Service"
    }
    assert services == {"store.sluice-quickstart:9000", "redis.sluice-quickstart:6379"}
    settings = objects["ConfigMap", "sluice-dev/model-storage"]["data"]
    assert settings["AWS_ENDPOINT_URL"].removeprefix("http://") in services
    assert objects["ConfigMap", "sluice-dev/environment"]["data"]["redis"] in services
    jobs = objects["ConfigMap", "sluice-quickstart/storage"]["data"]
    assert jobs["AWS_ENDPOINT_URL"] == "http://store:9000"
    keys = [objects["Secret", name]["data"] for name in ("sluice-dev/model-storage", "sluice-quickstart/storage")]
    assert keys[0] == keys[1]
    assert "-s3.port=9000" in container(objects, "Deployment", "store")["args"]
    store = container(objects, "Job", "models")["command"]
    assert store[:3] == ["python", "-m", "sluice.models.store"]
    assert (ROOT / store[3].removeprefix("/app/")).is_dir(), "the image has the checkout's manifests in /app"
    bucket = settings_of(objects)["bucket"]
    assert store[4] == f"s3://{bucket}/flights"
    assert jobs["SLUICE_FEATURES"].startswith(f"s3://{bucket}/")


def container(objects: dict[tuple[str, str], dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = objects[kind, f"sluice-quickstart/{name}"]["spec"]["template"]["spec"]["containers"][0]
    return found


def settings_of(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = objects["ConfigMap", "sluice-dev/environment"]["data"]
    return found


@needs_kubectl
def test_images_of_others_are_pinned_and_pods_are_restricted() -> None:
    objects = rendered(QUICKSTART / "store")
    images = {name: container(objects, kind, name)["image"] for kind, name in WORKLOADS}
    assert images["store"].startswith("docker.io/chrislusf/seaweedfs:4.48@sha256:")
    assert images["redis"].startswith("docker.io/valkey/valkey:8.1-alpine@sha256:")
    assert images["models"] == images["features"]
    for kind, name in WORKLOADS:
        context = container(objects, kind, name)["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})
        assert objects[kind, f"sluice-quickstart/{name}"]["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]


WORKLOADS = (("Deployment", "store"), ("Deployment", "redis"), ("Job", "models"), ("Job", "features"))


@needs_kubectl
def test_a_canary_is_two_steps_further() -> None:
    shadow, canary = (rendered(QUICKSTART / step) for step in ("shadow", "canary"))
    names = {f"sluice-dev/flights-{role}" for role in ("stable", "candidate")}
    served = [
        {name: one["spec"] for (kind, name), one in each.items() if kind == "InferenceService"}
        for each in (shadow, canary)
    ]
    assert served[0] == served[1], "the second step moves weights and restarts nothing"
    assert set(served[0]) == names
    (rule,) = canary["HTTPRoute", "sluice-dev/flights"]["spec"]["rules"]
    assert [ref["weight"] for ref in rule["backendRefs"]] == [90, 10]
    (mirrored,) = shadow["HTTPRoute", "sluice-dev/flights"]["spec"]["rules"]
    assert [ref["weight"] for ref in mirrored["backendRefs"]] == [100]


@needs_kubectl
@pytest.mark.parametrize("overlay", ["overlays/dev", "quickstart/canary"])
def test_a_gateway_of_another_name_is_two_keys(tmp_path: Path, overlay: str) -> None:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    release = tmp_path / "manifests" / overlay / "release/kustomization.yaml"
    shutil.copy(QUICKSTART / "canary/release/kustomization.yaml", release)
    path = tmp_path / "manifests" / overlay / "kustomization.yaml"
    keys = "- {name: environment, behavior: merge, literals: [gateway=public, gateway-namespace=edge]}\n"
    path.write_text(path.read_text().replace("configMapGenerator:\n", f"configMapGenerator:\n{keys}"))
    (parent,) = rendered(path.parent)["HTTPRoute", "sluice-dev/flights"]["spec"]["parentRefs"]
    assert (parent["name"], parent["namespace"]) == ("public", "edge")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An S3 protocol server without a bucket."""
    with running(s3_server()) as server:
        use_s3(monkeypatch, server)
        yield server


def test_bundles_go_into_a_bucket_that_is_made_for_them(s3: Server, tmp_path: Path) -> None:
    digests = [write_tiny_bundle(tmp_path / "models", threshold) for threshold in (0.3, 0.4)]
    where = [str(tmp_path / "models"), "s3://models/tiny"]
    assert main(where) == 1, "there is no such bucket yet"
    assert [main([*where, "--make-bucket"]) for _ in range(2)] == [0, 0]
    assert [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]] == ["models"]
    assert [read_bundle(where[1], digest, dict(os.environ)).digest for digest in digests] == digests


def test_a_folder_without_bundles_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), str(tmp_path / "store")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
