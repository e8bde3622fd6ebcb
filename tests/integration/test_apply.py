"""
``sluice apply``: a route moves when the servers that it names are ready, and what is no longer named goes last.

The cluster is a program called ``kubectl`` that keeps what it is told, and renders with the real one. A real cluster is
asked in tests/cluster/test_quickstart.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import Unavailable
from sluice_cluster import waves as module
from sluice_cluster.waves import apply_in_waves, hindrance, waves
from tests.support import command as commands

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "manifests/quickstart"
KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="NOT CHECKED: kubectl is missing, so nothing renders")
STAND_IN = """#!{python}
import json, subprocess, sys, yaml
from pathlib import Path
home, arguments = Path({home!r}), sys.argv[1:]
if arguments[0] == "kustomize":
    raise SystemExit(subprocess.run([{kubectl!r}, *arguments]).returncode)
told = [json.loads(line) for line in (home / "told").read_text().splitlines()]
def keep(*row):
    with (home / "told").open("a") as log:
        log.write(json.dumps(row) + "\\n")
if arguments[0] == "apply":
    for each in yaml.safe_load_all(sys.stdin):
        keep("apply", each["kind"], each["metadata"]["name"])
elif "delete" in arguments:
    keep("delete", "InferenceService", arguments[-1])
elif "-l" in arguments:
    names = (home / "running").read_text().split()
    print(json.dumps({{"items": [{{"metadata": {{"name": name}}}} for name in names]}}))
else:
    name = arguments[4]
    if arguments[3] == "httproute":
        gateways = (home / "gateways").read_text().split()
        condition = {{"status": "True", "observedGeneration": 1}}
        conditions = [condition | {{"type": kind}} for kind in ("Accepted", "ResolvedRefs")]
        parents = [{{"conditions": conditions}} for _ in gateways]
        print(json.dumps({{"metadata": {{"name": name, "generation": 1}}, "status": {{"parents": parents}}}}))
        raise SystemExit
    asked = [row for row in told if row == ["get", "InferenceService", name]]
    keep("get", "InferenceService", name)
    broken = (home / "broken").read_text()
    ready = name != broken and bool(broken or asked)
    condition = {{"type": "Ready", "status": str(ready), "reason": "CrashLoopBackOff"}}
    status = {{"observedGeneration": 1, "conditions": [condition]}}
    annotations = {{"serving.kserve.io/autoscalerClass": "none"}}
    print(json.dumps({{"metadata": {{"generation": 1, "annotations": annotations}}, "status": status}}))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with the stand-in, and what it keeps; both servers run."""
    program = tmp_path / "bin/kubectl"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable, home=str(tmp_path), kubectl=KUBECTL))
    program.chmod(0o755)
    (tmp_path / "told").touch()
    (tmp_path / "running").write_text("flights-stable flights-candidate")
    (tmp_path / "broken").write_text("")
    (tmp_path / "gateways").write_text("kserve-ingress-gateway")
    return tmp_path


def applied(cluster: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{cluster / 'bin'}:/usr/bin:/bin", "SLUICE_HOME": str(cluster / "home")}
    return commands.sluice("apply", *arguments, env=environment, cwd=ROOT)


@pytest.fixture
def here(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cluster, asked by this very process, and without the pauses of a real one."""
    monkeypatch.setenv("PATH", f"{cluster / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "_SETTLED_S", 0.01)
    return cluster


def told(cluster: Path) -> list[list[str]]:
    return [json.loads(line) for line in (cluster / "told").read_text().splitlines()]


def test_a_route_comes_after_its_servers_are_ready(here: Path) -> None:
    said: list[str] = []
    apply_in_waves(QUICKSTART / "canary", 60, said.append)
    steps = told(here)
    assert steps[0] == ["apply", "Namespace", "sluice-dev"]
    servers = [["apply", "InferenceService", f"flights-{role}"] for role in ("stable", "candidate")]
    looks = [["get", "InferenceService", f"flights-{role}"] for role in ("stable", "candidate")]
    order = [servers[0], looks[0], ["apply", "PodDisruptionBudget", "stable"], servers[1], looks[1]]
    assert [steps.index(step) for step in order] == sorted(steps.index(step) for step in order)
    assert steps[-1] == ["apply", "HTTPRoute", "flights"]
    assert [steps.count(look) for look in looks] == [2, 2], "asked until it is ready"
    assert said[-1] == "applied HTTPRoute/flights"


def test_a_server_that_never_gets_ready_moves_no_route(here: Path) -> None:
    (here / "broken").write_text("flights-candidate")
    says = "sluice-dev/flights-candidate: is not ready after 0.1 s, waits for Ready: CrashLoopBackOff"
    with pytest.raises(Unavailable, match=says):
        apply_in_waves(QUICKSTART / "canary", 0.1, lambda _: None)
    assert ["apply", "HTTPRoute", "flights"] not in told(here)


def test_what_is_no_longer_named_goes_after_the_route(here: Path) -> None:
    apply_in_waves(QUICKSTART / "stable", 60, lambda _: None)
    gone = ["delete", "InferenceService", "flights-candidate"]
    assert told(here)[-2:] == [["apply", "HTTPRoute", "flights"], gone]


def test_a_route_that_no_gateway_takes_over_is_told_and_no_server_goes(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "gateways").write_text("")
    monkeypatch.setattr(module, "_ACCEPTED_S", 0.1)
    says = "sluice-dev/flights: is not taken over by Gateway kserve/kserve-ingress-gateway after 0.1 s"
    with pytest.raises(Unavailable, match=f"{says}, waits for Accepted: no gateway says anything of it"):
        apply_in_waves(QUICKSTART / "stable", 60, lambda _: None)
    assert told(here)[-1] == ["apply", "HTTPRoute", "flights"], "the candidate may still be asked"


def test_an_environment_is_its_overlay(cluster: Path) -> None:
    (cluster / "running").write_text("")
    assert applied(cluster, "--env", "dev").returncode == 0
    steps = told(cluster)
    assert ["apply", "Namespace", "sluice-dev"] in steps
    assert not any("HTTPRoute" in step for step in steps), "nothing is released"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "takes a directory or an environment"),
        (("manifests/quickstart/canary", "--env", "dev"), "takes a directory or an environment"),
        (("--env", "nowhere"), "manifests/overlays/nowhere: has no kustomization.yaml"),
        (("docs",), "docs: has no kustomization.yaml"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(cluster: Path, arguments: tuple[str, ...], says: str) -> None:
    done = applied(cluster, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert says in done.stderr
    assert told(cluster) == []


def test_without_kubectl_it_says_so(cluster: Path) -> None:
    (cluster / "bin/kubectl").unlink()
    environment = {"PATH": str(cluster / "bin"), "SLUICE_HOME": str(cluster / "home")}
    done = commands.sluice("apply", "--env", "dev", env=environment, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "sluice: kubectl: is not on PATH; install kubectl 1.31 or newer\n")


def service(conditions: list[dict[str, str]], observed: int = 2, scaler: str = "none") -> dict[str, Any]:
    metadata = {"generation": 2, "annotations": {"serving.kserve.io/autoscalerClass": scaler}}
    return {"metadata": metadata, "status": {"observedGeneration": observed, "conditions": conditions}}


READY = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("found", "waits"),
    [
        (service([READY]), ""),
        (service([READY], observed=3), ""),
        (service([READY, {"type": "Stopped", "status": "False"}]), ""),
        (service([READY], observed=1), "a status of its newest spec"),
        (service([READY], observed=1, scaler="keda"), ""),
        (service([]), "a status of its newest spec"),
        ({"metadata": {"generation": 1}}, "a status of its newest spec"),
        (service([READY | {"status": "False", "message": "no pods"}]), "Ready: no pods"),
        (service([READY, {"type": "PredictorReady", "status": "Unknown"}]), "PredictorReady: Unknown"),
        (
            service([READY, {"type": "PredictorReady", "status": "True", "reason": "MinimumReplicasAvailable"}]),
            "PredictorReady: MinimumReplicasAvailable",
        ),
    ],
)
def test_ready_is_what_argo_cds_health_check_calls_so(found: dict[str, Any], waits: str) -> None:
    assert hindrance(found) == waits


def test_objects_without_a_wave_come_first() -> None:
    def one(kind: str, wave: str | None) -> dict[str, Any]:
        annotations = {} if wave is None else {"argocd.argoproj.io/sync-wave": wave}
        return {"kind": kind, "metadata": {"name": kind, "annotations": annotations}}

    objects = [one("HTTPRoute", "3"), one("InferenceService", "3"), one("Namespace", None), one("Early", "-1")]
    assert [[each["kind"] for each in wave] for wave in waves(objects)] == [
        ["Early"],
        ["Namespace"],
        ["InferenceService"],
        ["HTTPRoute"],
    ]
