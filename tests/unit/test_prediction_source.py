"""The log as a source of evidence: whole windows only, slices where a rule asks, and where it all is from."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sluice.data.divergence import profile_of
from sluice.documents.evidence import Cells, Evidence
from sluice.documents.state import ReleaseState
from sluice.evidence.prediction_source import PredictionSource, WindowLog
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.models.bundle import BundleManifest
from sluice.predictions.log import WINDOW_SCHEMA, window_path, write_window
from sluice.tasks.task import Slice, Task
from tests.support import tiny_task
from tests.support.release import A, B, applied_of, state_in

START = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
_POLICY = """
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
online:
  design_effect: 1
  label_maturity_hours: 6
  shadow:
    minimum_n: 30
    maximum_hours: 72
    rules: [{metric: log_loss, role: guardrail, margin: 1%s}]
  confirm: {minimum_n: 30, maximum_hours: 72, rules: [{metric: error_rate, role: limit, limit: 0.1}]}
"""


def policy(*, per_slice: bool = False) -> GatePolicy:
    more = ", per_slice: true, minimum_n: 30" if per_slice else ""
    return parse_policy((_POLICY % more).encode(), "policy")


def window(directory: Path, day: int, rollout: str = "r0004-b", n: int = 5) -> None:
    """One day of n pairs; labels come an hour later."""
    start = START + day * DAY
    rows = [
        {
            "request_id": f"d{day}-{number}",
            "event_time": start + timedelta(minutes=number),
            "route": route,
            "digest": digest,
            "score": 0.5,
            "status": 200,
            "latency_ms": 1.0,
            "features": '{"speed": 3.0}',
            "missing": 0,
            "stale": 0,
            "keys": '{"shop": "oak"}',
            "rollout": rollout,
            "as_of": '{"shops": "2020-01-01T00:00:00Z"}',
        }
        for number in range(n)
        for route, digest in (("stable", A), ("shadow", B))
    ]
    write_window(window_path(directory, start, start + DAY), pl.DataFrame(rows, schema=dict(WINDOW_SCHEMA)))


def source(directory: Path, recheck: Any = None) -> PredictionSource:
    def examples(start: datetime, end: datetime) -> pl.DataFrame:
        times = [START + day * DAY + timedelta(minutes=number) for day in range(3) for number in range(5)]
        names = [f"d{day}-{number}" for day in range(3) for number in range(5)]
        labels = [time + timedelta(hours=1) for time in times]
        columns = {"example_id": names, "event_time": times, "label_time": labels, "label": [1] * 15}
        return pl.DataFrame(columns, schema_overrides={"label": pl.Int8})

    task: Task = dataclasses.replace(
        tiny_task.TASK,
        read_examples=examples,
        entity_keys=("shop",),
        request_inputs={},
        slices=(Slice("shop", "shop"),),
    )

    def manifest(digest: str) -> BundleManifest:
        profiles = {"speed": profile_of(pl.Series("speed", [1.0, 2.0, 3.0]))}
        return BundleManifest.model_construct(threshold=0.6 if digest == A else 0.4, profiles=profiles)

    return PredictionSource(WindowLog(directory, task), task, manifest, recheck)


def look(asked: PredictionSource, days: float, state: ReleaseState | None = None, **how: bool) -> Evidence:
    state = state or state_in("shadow")
    return asked.read(state, policy(**how), applied_of(state), START + days * DAY)


def count(evidence: Evidence) -> int:
    assert evidence.candidate is not None
    return evidence.candidate.n


def test_windows_count_once_they_are_whole_and_only_those_of_the_rollout(tmp_path: Path) -> None:
    asked = source(tmp_path)
    assert count(look(asked, 1)) == 0
    window(tmp_path, 1)
    window(tmp_path, 0)
    window(tmp_path, 2, rollout="another")
    assert [count(look(asked, days)) for days in (1, 1.5, 2, 3, 1)] == [5, 5, 10, 10, 5]
    assert [one.window for one in look(asked, 3).strata] == ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"]


def test_a_source_that_looked_before_says_what_a_fresh_one_says(tmp_path: Path) -> None:
    asked = source(tmp_path)
    for day in range(3):
        window(tmp_path, day)
        seen = look(asked, day + 1, per_slice=True)
        assert seen == look(source(tmp_path), day + 1, per_slice=True)
    state = state_in("shadow", rollout="r0009-b")
    assert count(look(asked, 3, state)) == 0, "another rollout has windows of its own"


def test_slices_are_counted_where_a_rule_asks(tmp_path: Path) -> None:
    window(tmp_path, 0)
    asked = source(tmp_path)
    assert look(asked, 1).slices == {}
    assert list(look(asked, 1, per_slice=True).slices) == ["shop=oak"]


def test_thresholds_come_from_both_bundles(tmp_path: Path) -> None:
    window(tmp_path, 0)
    agreement = look(source(tmp_path), 1).pairs.agreement
    assert agreement is not None
    assert (agreement.n, agreement.hits) == (5, 0)


def test_between_rollouts_the_stable_model_is_looked_at(tmp_path: Path) -> None:
    seen: list[int] = []

    def recheck(served: pl.DataFrame, _: BundleManifest) -> Cells:
        seen.append(served.height)
        return Cells(compared=7, different=0)

    window(tmp_path, 0, rollout="r0004-b")
    window(tmp_path, 1, rollout="")
    found = look(source(tmp_path, recheck), 2, state_in("stable"))
    stable = found.stable
    assert found.candidate is None
    assert stable is not None
    assert (stable.digest, stable.n, stable.due, stable.labelled) == (A, 5, 5, 5)
    assert stable.loss is not None
    assert (found.skew_n, list(found.skew)) == (5, ["speed"])
    assert found.skew["speed"] > 0.1
    assert (seen, found.cells) == ([5], Cells(compared=7, different=0))


def test_evidence_says_where_it_is_from(tmp_path: Path) -> None:
    window(tmp_path, 0)
    seen: list[int] = []

    def recheck(served: pl.DataFrame, _: BundleManifest) -> Cells:
        seen.append(served.height)
        return Cells(compared=7, different=0)

    found = look(source(tmp_path, recheck), 1)
    assert [(one.name, one.n) for one in found.sources] == [("prediction-log", 10), ("labels", 15), ("parity", 7)]
    assert (found.sources[0].first, found.sources[0].last) == ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")
    assert seen == [5], "the candidate's rows of the stage"
    assert found.problems == ()
    assert str(tmp_path) not in found.model_dump_json()


def test_the_sample_is_of_the_whole_stage_and_has_its_texts(tmp_path: Path) -> None:
    """What windows keep for it is the same as drawing from all of them at once."""
    window(tmp_path, 0, n=700)
    window(tmp_path, 1, n=100)
    drawn: list[pl.DataFrame] = []

    def recheck(served: pl.DataFrame, _: BundleManifest) -> Cells:
        drawn.append(served)
        return Cells(compared=1, different=0)

    look(source(tmp_path, recheck), 2)
    (served,) = drawn
    names = pl.Series("name", [f"d{day}-{number}" for day, n in ((0, 700), (1, 100)) for number in range(n)])
    lowest = names.to_frame().sort(pl.col("name").hash(seed=0)).head(200)["name"]
    assert served["request_id"].to_list() == lowest.to_list()
    assert set(served["features"]) == {'{"speed": 3.0}'}
    assert set(served["keys"]) == {'{"shop": "oak"}'}
    assert set(served["as_of"]) == {'{"shops": "2020-01-01T00:00:00Z"}'}


@pytest.mark.parametrize("look_at", ["shadow", "confirm"])
def test_nothing_to_recheck_is_not_rechecked(tmp_path: Path, look_at: str) -> None:
    state = state_in(look_at)
    assert look(source(tmp_path, recheck=pytest.fail), 1, state).cells is None
