"""A new number is one file and its entry: counted, exposed, read back, simulated and asked by a rule."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sluice.documents.event_time import iso
from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Verdict
from sluice.evidence.collect import collect_evidence
from sluice.evidence.measurements.registry import MEASUREMENTS
from sluice.gates.policy import GatePolicy, parse_policy
from sluice.gates.registry import KINDS
from sluice.predictions.log import WINDOW_SCHEMA
from sluice.prometheus.api import PrometheusApi
from sluice.prometheus.exposition import EvidenceCollector
from sluice.prometheus.source import PrometheusSource
from sluice.rollout.advance import advance
from sluice.simulation.blocks import LossBlocks
from sluice.simulation.counting import Road
from sluice.simulation.evidence import evidence_of
from sluice.simulation.play import first_state
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.watch import Stretch, Watch, glance
from sluice.simulation.worlds import scale_of, worlds_named
from tests.support.release import A, B, applied_of, state_in
from tests.support.scripted_prometheus import HOUR_AGO, ScriptedPrometheus

NUMBER = '''
"""How often does a model hesitate?"""

from __future__ import annotations

import polars as pl

from sluice.documents.evidence import ArmMoments, Evidence, Moments
from sluice.evidence.measurements.measurement import arm_measurement


def _simulated(evidence: Evidence) -> ArmMoments:
    sides = {side: Moments(n=arm.n, mean=0.25, variance=0.1875) for side, arm in evidence.arms.items() if arm.n}
    return ArmMoments(candidate=sides.get("candidate"), stable=sides.get("stable"))


MEASUREMENT = arm_measurement(
    "hesitation",
    "Share of scores between 0.4 and 0.6.",
    pl.col("score").is_between(0.4, 0.6).cast(pl.Float64),
    simulated=_simulated,
)
'''
RULE = '''
"""Does the candidate hesitate too often?"""

from __future__ import annotations

from sluice.documents.verdict import Reason
from sluice.gates.reasons import no_evidence, share_reason
from sluice.gates.rule_kind import Question, RuleKind


def _judge(question: Question) -> tuple[Reason, ...]:
    arms = question.evidence.measurements.get("hesitation")
    if arms is None or arms.candidate is None:
        return (no_evidence(question, "hesitation", "nobody counted it"),)
    share, n = arms.candidate.mean, arms.candidate.n
    return (share_reason(question, "hesitation", share, n, f"{share:.0%} of {n} scores"),)


KIND = RuleKind(
    metric="hesitation", about="Share of scores between 0.4 and 0.6.", unit="share", judge=_judge, roles=("quality",)
)
'''
_POLICY = b"""
apiVersion: sluice.dev/v1
kind: GatePolicy
task: toy
environment: dev
select: {}
offline: [{metric: auc, role: success, against: best-baseline}]
online:
  design_effect: 1
  look_every_hours: 1
  evidence_hours: 2.5   # the tests run a while after the hour was taken
  canary:
    minimum_n: 100
    maximum_hours: 72
    steps: [25]
    rules: [{metric: hesitation, role: quality, limit: 0.3}]
  confirm: {minimum_n: 100, maximum_hours: 72, rules: [{metric: error_rate, role: limit, limit: 0.1}]}
"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GatePolicy:
    """One that asks the rule; number and rule have their entries."""
    (tmp_path / "hesitation.py").write_text(NUMBER)
    (tmp_path / "hesitation_rule.py").write_text(RULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(MEASUREMENTS, "hesitation", importlib.import_module("hesitation").MEASUREMENT)
    monkeypatch.setitem(KINDS, "hesitation", importlib.import_module("hesitation_rule").KIND)
    return parse_policy(_POLICY, "policy")


@pytest.fixture
def scripted() -> Iterator[ScriptedPrometheus]:
    server = ScriptedPrometheus()
    yield server
    server.close()


def rows_of(hesitant: int) -> pl.DataFrame:
    """900 answers of stable that are sure, and 300 of the candidate, of which some are not."""
    rows: list[dict[str, Any]] = [
        {
            "request_id": f"{digest}-{number}",
            "event_time": datetime.fromtimestamp(HOUR_AGO + number, UTC),
            "route": route,
            "digest": digest,
            "score": 0.5 if digest == B and number < hesitant else 0.9,
            "status": 200,
            "latency_ms": 1.0,
            "features": "{}",
            "keys": "{}",
            "rollout": "r0004-b",
        }
        for route, digest, n in (("stable", A, 900), ("candidate", B, 300))
        for number in range(n)
    ]
    return pl.DataFrame(rows, schema=dict(WINDOW_SCHEMA))


def collected(state: ReleaseState, now: datetime, hesitant: int) -> Evidence:
    labels = pl.DataFrame(schema={"example_id": pl.String, "label": pl.Int8, "label_time": pl.Datetime("us", "UTC")})
    frame = rows_of(hesitant)
    return collect_evidence(frame, labels, state, applied_of(state), {}, now=now, label_maturity_hours=6)


def scraped(evidence: Evidence, now: datetime, folder: Path) -> list[dict[str, Any]]:
    """What a Prometheus keeps of the exposition of this document."""
    document = folder / "joined.json"
    document.write_text(evidence.model_dump_json())
    text = generate_latest(EvidenceCollector(document)).decode()
    assert "# HELP sluice_hesitation_count Share of scores between 0.4 and 0.6." in text
    return [
        {"metric": {"__name__": sample.name, **sample.labels}, "value": [now.timestamp(), repr(sample.value)]}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("sluice_")
    ]


@pytest.mark.parametrize(("hesitant", "verdict"), [(60, Verdict.PASS), (120, Verdict.FAIL)])
def test_it_goes_from_rows_by_way_of_a_prometheus_to_a_decision(
    hesitant: int, verdict: Verdict, policy: GatePolicy, scripted: ScriptedPrometheus, tmp_path: Path
) -> None:
    since, now = iso(datetime.fromtimestamp(HOUR_AGO, UTC)), datetime.now(UTC)
    state = state_in("canary", since=since, candidate_weight=25, stable_weight=75)
    logged = collected(state, now, hesitant)
    series = scraped(logged, now, tmp_path)

    def joined(kind: str, document: dict[str, Any]) -> dict[str, Any]:
        if kind == "joined":
            document["data"]["result"] = series
        return document

    scripted.fault = joined
    read = PrometheusSource(PrometheusApi(scripted.url)).read(state, policy, applied_of(state), now)
    assert read.problems == ()
    assert "|slice|hesitation)" in next(one.query for one in read.sources if "joined" in one.query)
    assert read.measurements["hesitation"].candidate == logged.measurements["hesitation"].candidate
    for evidence in (logged, read):
        advice = advance(state, evidence, policy, evidence.now)
        (reason,) = [reason for reason in advice.reasons if reason.rule == "hesitation"]
        assert (reason.observed, reason.n, reason.verdict, advice.verdict) == (hesitant / 300, 300, verdict, verdict)


def test_a_rollout_is_simulated_with_it(policy: GatePolicy) -> None:
    scale, (world,) = scale_of(policy, 900), worlds_named(["equal"])
    watch, stage = Watch(SimulatedTraffic(world, scale, 3, 0), 6.0), Stretch(0, 4, Road(False, 0.25))
    state = first_state(policy)
    evidence = evidence_of(state, watch, glance(watch, stage, [], 4), 4, LossBlocks(4, None))
    arms = evidence.measurements["hesitation"]
    assert evidence.candidate is not None
    assert arms.candidate is not None
    assert arms.candidate.n == evidence.candidate.n > 0


def test_where_nobody_counts_it_nothing_is_said_and_the_rule_waits(policy: GatePolicy) -> None:
    state = state_in("canary", since=iso(datetime.fromtimestamp(HOUR_AGO, UTC)))
    empty = collected(state, datetime.now(UTC), 0).model_copy(update={"measurements": {}})
    assert "measurements" not in json.loads(empty.model_dump_json())
    (reason,) = [one for one in advance(state, empty, policy, empty.now).reasons if one.rule == "hesitation"]
    assert reason.verdict is Verdict.INCONCLUSIVE
