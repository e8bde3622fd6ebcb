"""The watch over production on what a whole run of the loop left: repository, bundles, predictions and labels."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from sluice.errors import BadInput
from sluice.monitoring.triggers import Limits
from sluice.monitoring.windows import list_windows
from sluice.release.gitops import GitOps
from sluice.release.state import iso
from sluice.stages.watch import REPORT, watch
from tests.integration.tiny_run import Ended

TASK = "tests.unit.tiny_task:TASK"


def asked(ended: Ended, out: Path, limits: Limits, predictions: str | None = None) -> tuple[bool, dict[str, str]]:
    """Whether to train, and each trigger's answer, at the end of the last window."""
    log = ended.workspace.predictions / "dev"
    now = iso(list_windows(log)[-1].end + timedelta(minutes=1))
    places = str(ended.workspace.gitops), "dev", str(ended.workspace.bundles), predictions or str(log)
    made = watch(TASK, places, limits, now, 365, out)
    assert json.loads((out / REPORT).read_bytes())["retrain"] == made.retrain
    return made.retrain, {trigger.name: trigger.says.value for trigger in made.triggers}


def test_a_quiet_production_is_known_and_left_alone(ended: Ended, tmp_path: Path) -> None:
    retrain, said = asked(ended, tmp_path, Limits(minimum_n=30, drift=1, decay=5, cooldown_hours=0))
    assert not retrain
    assert said == {"empty": "QUIET", "drift": "QUIET", "decay": "QUIET", "volume": "QUIET", "schedule": "QUIET"}
    known = json.loads((tmp_path / REPORT).read_bytes())["known"]
    assert known["production"] == GitOps(ended.workspace.gitops, "dev").snapshot().state.stable
    assert known["requests"] > 30
    assert 0 < known["holdout_loss"] < 1
    assert known["loss"]["n"] > 30


def test_limits_that_are_passed_start_a_training(ended: Ended, tmp_path: Path) -> None:
    tight = Limits(minimum_n=30, drift=1e-6, decay=5, schedule_days=0.001, cooldown_hours=0)
    retrain, said = asked(ended, tmp_path, tight)
    assert retrain
    assert (said["drift"], said["schedule"]) == ("FIRES", "FIRES")


def test_object_storage_and_a_folder_say_the_same(ended: Ended, tmp_path: Path) -> None:
    limits = Limits(minimum_n=30, cooldown_hours=0)
    url = f"file://{ended.workspace.predictions}/dev"
    assert asked(ended, tmp_path / "a", limits) == asked(ended, tmp_path / "b", limits, url)


def test_an_empty_log_is_inconclusive(ended: Ended, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    retrain, said = asked(ended, tmp_path, Limits(cooldown_hours=0), str(tmp_path / "none"))
    assert not retrain
    assert (said["drift"], said["decay"]) == ("INCONCLUSIVE", "INCONCLUSIVE")


def test_a_log_that_cannot_be_read_is_one_line(ended: Ended, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be"):
        asked(ended, tmp_path, Limits(), "nowhere://bucket/log")


def test_without_a_repository_nothing_is_known(tmp_path: Path) -> None:
    made = watch(TASK, ("", "dev", "", ""), Limits(), "2026-01-01T00:00:00Z", 7, tmp_path)
    assert not made.retrain
    assert made.reason == "no trigger fires; nothing is known of empty, drift, decay, volume, schedule"
