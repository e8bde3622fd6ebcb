"""The materialize step: what it writes and measures, what it says when it cannot, and what its pipeline asks for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl

from sluice.features.materialize import main
from sluice.steps import patience
from sluice_pipelines.catalogue import CATALOGUE
from sluice_steps.materialize import materialize as step
from tests.support.servers import redis_server, running
from tests.support.tiny_task import SHOPS, TASK

_REPO = str(Path(__file__).parents[1] / "support/tiny_feature_repo")
_TASK = "tests.support.tiny_task:TASK"
_APRIL = "2024-04-10T12:00:00Z"


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked again."""
    monkeypatch.setattr(patience, "PAUSES", ())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of the step's pod; its Redis is not there."""
    monkeypatch.setenv("SLUICE_REDIS", "127.0.0.1:1")
    monkeypatch.setenv("SLUICE_FEATURES", str(tmp_path / "features"))
    return str(tmp_path)


def _run(place: str, until: str, since: str = "") -> tuple[int, dict[str, Any]]:
    metrics = dsl.Metrics(name="metrics", uri=f"{place}/metrics", metadata={})
    keys = step.function(task=_TASK, feature_repo=_REPO, until=until, since=since, tables=True, metrics=metrics)
    return keys, metrics.metadata


def test_the_step_says_how_many_keys_it_wrote(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = redis_server(tmp_path)
    monkeypatch.setenv("SLUICE_REDIS", f"127.0.0.1:{server.port}")
    with running(server):
        assert _run(place, _APRIL) == (len(SHOPS), {"shop_history_keys": len(SHOPS)})
        assert _run(place, _APRIL) == (0, {"shop_history_keys": 0})
        later = (TASK.splits.live + timedelta(days=9)).isoformat()
        assert _run(place, later, since=_APRIL)[0] == len(SHOPS)


def test_a_task_without_a_feature_service_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = dsl.Metrics(name="metrics", uri=f"{tmp_path}/metrics", metadata={})
    task, where = "tests.support.digits_task:TASK", str(tmp_path / "no such folder")
    asked = {"feature_repo": where, "until": _APRIL, "since": "", "tables": True}
    assert step.function(task=task, metrics=metrics, **asked) == 0
    assert f"sluice: Done: task {task} has no feature service: skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("until", "end"),
    [
        (_APRIL, (1, "sluice: Unavailable: Redis 127.0.0.1:1: does not answer (")),
        ("soon", (2, "sluice: BadInput: time 'soon': is not ISO 8601; write it like 2013-07-01T05:00:00Z")),
    ],
)
def test_what_is_wrong_is_one_line(place: str, capsys: pytest.CaptureFixture[str], until: str, end: Any) -> None:
    code, says = end
    with pytest.raises(SystemExit) as ended:
        _run(place, until)
    assert ended.value.code == code
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(says)
    assert not (Path(place) / "features").exists(), "nothing was written"


def test_the_command_says_the_same(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--task", _TASK, "--feature_repo", _REPO, "--until", _APRIL, "--tables"]) == 1
    assert capsys.readouterr().err.startswith("materialize: Redis 127.0.0.1:1: does not answer (")


def test_its_pipeline_repeats_caches_nothing_and_holds_no_secret(tmp_path: Path) -> None:
    compiler.Compiler().compile(CATALOGUE["materialize"].build("sluice-materialize"), str(tmp_path / "a.yaml"))
    compiler.Compiler().compile(CATALOGUE["materialize"].build("sluice-materialize"), str(tmp_path / "b.yaml"))
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
    spec, platforms = yaml.safe_load_all((tmp_path / "a.yaml").read_text())
    task = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]["materialize"]
    pod = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-materialize"]
    assert task["retryPolicy"]["maxRetryCount"] == 3
    assert not task["cachingOptions"].get("enableCache")
    assert {entry["secretName"] for entry in pod["secretAsEnv"]} == {"redis", "feature-storage"}
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert all(entry["description"] for entry in inputs.values())
    assert all("defaultValue" in entry for entry in inputs.values())
