"""Another source of metrics is one file and a setting: the gate of a cluster decides by a table in DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from sluice.errors import BadInput
from sluice.evidence.source import SETTING, EvidenceSource, source_of
from sluice.prometheus.source import PrometheusSource
from tests.support.cluster_documents import Cluster
from tests.support.gate import gate_of
from tests.support.release import LATE, NOW, POLICY_TEXT, SINCE, B, state_in
from tests.support.release_repository import repository_in

SOURCE = '''
"""Evidence from a table of answers: digest, moment, status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import duckdb

from sluice.documents.event_time import iso, moment_of
from sluice.documents.evidence import SIDES, Evidence, Source
from sluice.documents.state import Applied, ReleaseState
from sluice.evidence.collect import evidence_about
from sluice.evidence.measurements.points import PointIndex
from sluice.evidence.measurements.registry import part_of_points
from sluice.gates.policy import GatePolicy

_QUERY = """
select count(*), count(*) filter (where status >= 500), min(moment), max(moment)
from answers where digest = ? and moment >= ? and moment < ?
"""


class AnswerTable:
    def __init__(self, path: str) -> None:
        self._path = path

    def read(
        self, state: ReleaseState, _: GatePolicy, applied: Applied, now: datetime, synced: datetime | None = None
    ) -> Evidence:
        since = synced or moment_of(state.since or "")
        with duckdb.connect(self._path, read_only=True) as table:
            arms = {side: self._arm(table, getattr(state, side), since, now) for side in SIDES}
        counted = {**arms, "split": (arms["stable"]["n"], arms["candidate"]["n"])}
        origin = Source(
            name="answers", query=_QUERY, first=iso(since), last=iso(now), taken=iso(now), n=sum(counted["split"])
        )
        return evidence_about(state, applied, iso(now), [part_of_points(PointIndex()), counted], sources=(origin,))

    def _arm(self, table: Any, digest: str | None, since: datetime, now: datetime) -> dict[str, Any]:
        n, errors, first, last = table.execute(_QUERY, [digest, since, now]).fetchone()
        return {"n": n, "errors": errors, "first": first and iso(first), "last": last and iso(last)}


def answer_table(variables: Mapping[str, str]) -> AnswerTable:
    return AnswerTable(variables["ANSWERS"])
'''
_RULES = b"[*split, *errors, *skew, *parity, *loss, *latency]"
POLICY = POLICY_TEXT.replace(b"task: toy", b"task: tiny").replace(_RULES, b"[*split, *errors]").decode()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvidenceSource:
    """The table, by its setting alone."""
    (tmp_path / "answers.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return source_of({SETTING: "answers:answer_table", "ANSWERS": str(tmp_path / "answers.db")})


def fill(database: Path, failed: int) -> None:
    """9,000 answers of stable and 1,000 of the candidate, over the day that the canary has lasted."""
    state = state_in("canary")
    with duckdb.connect(str(database)) as table:
        table.execute("create table answers (digest varchar, moment timestamptz, status integer)")
        for digest, n, errors in ((state.stable, 9000, 90), (state.candidate, 1000, failed)):
            table.execute(
                "insert into answers select ?, ?::timestamptz + to_seconds(i * 86400 / ?),"
                " if(i < ?, 503, 200) from range(?) t(i)",
                [digest, SINCE, n, errors, n],
            )


@pytest.mark.parametrize(
    ("failed", "action", "verdict"), [(10, "set-weight", "PASS"), (200, "rollback", "FAIL"), (None, "wait", None)]
)
def test_a_gate_decides_by_a_table(
    failed: int | None, action: str, verdict: str | None, source: EvidenceSource, tmp_path: Path
) -> None:
    state = state_in("canary", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    fill(tmp_path / "answers.db", failed or 0)
    if failed is None:
        with duckdb.connect(str(tmp_path / "answers.db")) as table:
            table.execute("delete from answers")
    message = gate_of(gitops, cluster, NOW, source).look()
    assert (message["action"], message["verdict"]) == (action, verdict or "INCONCLUSIVE")
    assert message["cluster"] is None
    after = gitops.snapshot().state
    assert after.candidate_weight == {"set-weight": 50, "rollback": 0, "wait": 10}[action]
    assert (after.held(B) is not None) is (action == "rollback")
    if verdict:
        (reason,) = [reason for reason in message["reasons"] if reason["rule"] == "error_rate"]
        assert f"{failed} of 1000" in reason["text"]


@pytest.mark.parametrize(("now", "action"), [(NOW, "wait"), (LATE, "time-out")])
def test_a_table_that_is_not_there_is_waited_for_until_the_deadline(
    now: str, action: str, source: EvidenceSource, tmp_path: Path
) -> None:
    state = state_in("canary", task="tiny")
    gitops, cluster = repository_in(tmp_path, state, POLICY), Cluster(state, SINCE)
    message = gate_of(gitops, cluster, now, source).look()
    assert (message["action"], message["verdict"]) == (action, "INCONCLUSIVE")
    assert "AnswerTable: failed with IOException" in [reason["text"] for reason in message["reasons"]]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("datadog", "is 'datadog'; write prediction-log, prometheus, or module:factory"),
        ("no_such_module:factory", "cannot be loaded (No module named 'no_such_module')"),
        ("json:nothing", "cannot be loaded (module 'json' has no attribute 'nothing')"),
        ("builtins:dict", "is 'builtins:dict', which makes a dict"),
        ("prediction-log", "SLUICE_PREDICTIONS: is not set"),
        ("", "SLUICE_PROMETHEUS_URL: is not set"),
    ],
)
def test_a_source_that_cannot_be_is_refused(name: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        source_of({SETTING: name})
    assert says in str(caught.value)


def test_without_a_setting_it_is_the_prometheus() -> None:
    source = source_of({"SLUICE_PROMETHEUS_URL": "http://p", "SLUICE_NAMESPACE": "ours"})
    assert isinstance(source, PrometheusSource)
    assert (source.matchers, source.marked) == ({"namespace": "ours"}, False)
