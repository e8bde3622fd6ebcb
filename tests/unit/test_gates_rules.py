"""Every kind of rule in every role it takes: what passes, fails, cannot tell, and what it says without evidence."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.documents.evidence import (
    Cells,
    Pairs,
    Timings,
)
from sluice.documents.verdict import Verdict
from sluice.gates.online import judge_bootstrap, judge_look
from sluice.gates.registry import KINDS
from sluice.gates.rules import loss
from tests.support.release import POLICY, A, B, arm, evidence_of, state_in
from tests.support.rules import pairs_of, policy_with, refusing, restarts_of, spoken, strata_of, timings_of

_P, _F, _I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
_Case = tuple[str, str, list[tuple[dict[str, Any], Verdict]]]
_CASES: list[_Case] = [
    ("canary", "metric: split, role: quality, alpha: 0.001", [({}, _P), ({"split": (9000, 2000)}, _F)]),
    (
        "canary",
        "metric: parity, role: quality, limit: 0.01",
        [({}, _P), ({"cells": Cells(compared=900, different=90)}, _F), ({"cells": None}, _I)],
    ),
    (
        "canary",
        "metric: parity, role: quality, limit: 0.01",
        [
            ({"cells": Cells(compared=900, different=0, excluded=900)}, _P),
            ({"cells": Cells(compared=900, different=90, excluded=900)}, _F),
            ({"cells": Cells(compared=900, different=0, excluded=901)}, _I),
            ({"cells": Cells(compared=0, different=0, excluded=9)}, _I),
            ({"cells": Cells(compared=0, different=0)}, _I),
            ({"cells": Cells(compared=0, different=0, excluded=9, other_tables=True)}, _I),
        ],
    ),
    (
        "canary",
        "metric: freshness, role: quality, limit: 0.02",
        [
            ({}, _P),
            ({"candidate": arm(B, 4000).model_copy(update={"stale": 400})}, _I),
            ({"candidate": arm(B, 400)}, _I),
            ({"candidate": arm(B, 0)}, _I),
        ],
    ),
    (
        "shadow",
        "metric: skew, role: quality, limit: 0.2",
        [({}, _P), ({"skew": {"speed": 0.5}}, _F), ({"skew": {}}, _I), ({"skew_n": 100}, _I)],
    ),
    (
        "confirm",
        "metric: label_coverage, role: quality, limit: 0.9",
        [({}, _P), ({"candidate": arm(B, 4000).model_copy(update={"labelled": 3000})}, _I), ({"n": 40}, _I)],
    ),
    (
        "canary",
        "metric: error_rate, role: limit, limit: 0.05",
        [({}, _P), ({"candidate": arm(B, 4000, 400)}, _F), ({"candidate": arm(B, 4000, 190)}, _I), ({"n": 0}, _I)],
    ),
    (
        "canary",
        "metric: error_rate, role: guardrail, margin: 0.05",
        [
            ({}, _P),
            ({"candidate": arm(B, 4000, 800), "stable": arm(A, 4000, 200)}, _F),
            ({"candidate": arm(B, 900, 60), "stable": arm(A, 900, 20)}, _I),
            ({"stable": arm(A, 0)}, _I),
        ],
    ),
    (
        "canary",
        "metric: error_rate, role: deterioration, relative_margin: 0.5",
        [
            ({}, _P),
            ({"candidate": arm(B, 4000, 800), "stable": arm(A, 4000, 200)}, _F),
            ({"candidate": arm(B, 4000, 3), "stable": arm(A, 4000, 0)}, _P),
            ({"candidate": arm(B, 4000, 400), "stable": arm(A, 4000, 0)}, _F),
        ],
    ),
    (
        "canary",
        "metric: error_rate, role: limit, limit: 0.1",
        [({"candidate": refusing(B, 4000, 3000)}, _P), ({"candidate": refusing(B, 4000, 3600)}, _I)],
    ),
    (
        "shadow",
        "metric: error_rate, role: limit, limit: 0.05",
        [
            ({"candidate": refusing(B, 4000, 400, alone=100)}, _P),
            ({"candidate": refusing(B, 4000, 400, alone=400)}, _F),
        ],
    ),
    (
        "canary",
        "metric: refusal_rate, role: deterioration, margin: 0.01",
        [
            ({}, _P),
            ({"candidate": refusing(B, 4000, 400), "stable": refusing(A, 4000, 400)}, _P),
            ({"candidate": refusing(B, 4000, 800), "stable": refusing(A, 4000, 400)}, _F),
            ({"candidate": refusing(B, 4000, 400), "stable": refusing(A, 4000, 800)}, _P),
            ({"stable": arm(A, 0)}, _I),
            ({"n": 0}, _I),
        ],
    ),
    (
        "canary",
        "metric: refusal_rate, role: guardrail, margin: 0.05",
        [
            ({}, _P),
            ({"candidate": refusing(B, 4000, 800), "stable": refusing(A, 4000, 400)}, _F),
            ({"candidate": refusing(B, 900, 60), "stable": refusing(A, 900, 20)}, _I),
        ],
    ),
    (
        "confirm",
        "metric: refusal_rate, role: limit, limit: 0.05",
        [({}, _P), ({"candidate": refusing(B, 4000, 400)}, _F), ({"candidate": refusing(B, 4000, 190)}, _I)],
    ),
    (
        "canary",
        "metric: freshness, role: quality, limit: 0.02",
        [({"candidate": refusing(B, 4000, 3000).model_copy(update={"stale": 100})}, _I)],
    ),
    (
        "canary",
        "metric: log_loss, role: guardrail, margin: 0.1",
        [({}, _P), ({"strata": strata_of(0.2)}, _F), ({"strata": strata_of(0.1)}, _I), ({"strata": ()}, _I)],
    ),
    (
        "canary",
        "metric: log_loss, role: success, margin: 0.05",
        [({"strata": strata_of(-0.15)}, _P), ({}, _F), ({"strata": strata_of(-0.05)}, _I)],
    ),
    (
        "canary",
        "metric: log_loss, role: deterioration, margin: 0.1",
        [
            ({}, _P),
            ({"strata": strata_of(0.2)}, _F),
            ({"strata": strata_of(0.1)}, _P),
            ({"strata": strata_of(0.0, 100)}, _I),
        ],
    ),
    (
        "shadow",
        "metric: log_loss, role: guardrail, margin: 0.1",
        [({}, _P), ({"pairs": pairs_of(worse=0.2)}, _F), ({"pairs": Pairs(shift=None, loss=None)}, _I)],
    ),
    (
        "shadow",
        "metric: score_shift, role: limit, limit: 0.2",
        [({}, _P), ({"pairs": pairs_of(shift=0.3)}, _F), ({"pairs": Pairs(shift=None, loss=None)}, _I)],
    ),
    (
        "shadow",
        "metric: agreement, role: limit, limit: 0.9, direction: higher",
        [
            ({"pairs": pairs_of()}, _P),
            ({"pairs": pairs_of(same=3200)}, _F),
            ({"pairs": pairs_of(same=3610)}, _I),
            ({}, _I),
        ],
    ),
    (
        "canary",
        "metric: latency, role: guardrail, relative_margin: 0.2",
        [({"timings": timings_of(10.0)}, _P), ({"timings": timings_of(14.0)}, _F), ({"timings": timings_of(12.0)}, _I)],
    ),
    (
        "canary",
        "metric: latency, role: deterioration, relative_margin: 0.2",
        [({"timings": timings_of(12.0)}, _P), ({"timings": timings_of(14.0)}, _F), ({"timings": Timings()}, _I)],
    ),
    (
        "canary",
        "metric: latency, role: guardrail, margin: 1",
        [({"timings": timings_of(10.0)}, _P), ({"timings": timings_of(12.0)}, _F), ({"timings": timings_of(11.0)}, _I)],
    ),
    (
        "shadow",
        "metric: latency, role: guardrail, margin: 1",
        [({"timings": timings_of(50.0, paired=0.2)}, _P), ({"timings": timings_of(10.0, paired=1.5)}, _F)],
    ),
    (
        "canary",
        "metric: latency, role: limit, limit: 15",
        [({"timings": timings_of(10.0)}, _P), ({"timings": timings_of(20.0)}, _F), ({"timings": Timings()}, _I)],
    ),
    (
        "canary",
        "metric: latency, role: success, relative_margin: 0.1",
        [({"timings": timings_of(8.0)}, _P), ({"timings": timings_of(10.0)}, _F), ({"timings": timings_of(9.0)}, _I)],
    ),
    (
        "canary",
        "metric: latency_p50, role: guardrail, relative_margin: 0.7",
        [({"timings": timings_of(10.0)}, _P), ({"timings": timings_of(40.0)}, _F), ({"timings": Timings()}, _I)],
    ),
    (
        "canary",
        "metric: latency_p95, role: deterioration, margin: 20",
        [({"timings": timings_of(10.0)}, _P), ({"timings": timings_of(10.0, slow=80.0)}, _F)],
    ),
    (
        "canary",
        "metric: latency_p99, role: limit, limit: 100",
        [
            ({"timings": timings_of(10.0)}, _P),
            ({"timings": timings_of(10.0, slow=900.0)}, _F),
            ({"timings": timings_of(10.0, n=100)}, _I),
            ({"timings": Timings()}, _I),
        ],
    ),
    ("canary", "metric: latency_p90, role: limit, limit: 100", [({"timings": timings_of(10.0)}, _P)]),
    (
        "canary",
        "metric: restarts, role: limit, limit: 0.2",
        [(restarts_of(2), _P), (restarts_of(80), _F), (restarts_of(15), _I), ({}, _I)],
    ),
    (
        "canary",
        "metric: restarts, role: guardrail, margin: 0.5",
        [(restarts_of(2), _P), (restarts_of(120), _F), ({}, _I)],
    ),
    (
        "canary",
        "metric: restarts, role: deterioration, relative_margin: 1",
        [(restarts_of(2), _P), (restarts_of(80), _F), (restarts_of(1, 0), _P)],
    ),
]


@pytest.mark.parametrize(
    ("stage", "rule", "changed", "verdict"),
    [(stage, rule, changed, verdict) for stage, rule, rows in _CASES for changed, verdict in rows],
)
def test_each_rule_in_each_role(stage: str, rule: str, changed: dict[str, Any], verdict: Verdict) -> None:
    (reason,) = spoken(stage, rule, **changed)
    assert (reason.verdict, reason.rule.partition("[")[0]) == (
        verdict,
        rule.split(",", maxsplit=1)[0].removeprefix("metric: "),
    )
    assert reason.role == rule.split("role: ")[1].split(",", maxsplit=1)[0]
    assert reason.text
    assert reason.bound is not None
    if reason.low is not None and reason.high is not None:
        assert reason.observed is not None
        assert reason.low <= reason.observed <= reason.high


def test_every_kind_and_every_role_of_it_is_in_the_table_above() -> None:
    seen = {(rule.split(",")[0][8:], rule.split("role: ")[1].split(",")[0]) for _, rule, _ in _CASES}
    quantiles = {("latency_p50", "guardrail"), ("latency_p95", "deterioration"), ("latency_p99", "limit")}
    others = {kind.metric for kind in loss.KINDS} - {"log_loss"}
    kinds = [kind for kind in KINDS.values() if kind.metric not in others]
    every = {(kind.metric, role) for kind in kinds for role in kind.roles if "latency_p" not in kind.metric}
    assert every | quantiles <= seen
    assert {kind.metric for kind in kinds} == {metric for metric, _ in seen}, "a loss has a name a kind, and one rule"


def test_a_broken_split_is_asked_first_wherever_it_stands_and_then_alone() -> None:
    rules = ("metric: error_rate, role: limit, limit: 0.05", "metric: split, role: quality, alpha: 0.001")
    assert [reason.rule for reason in spoken("canary", *rules)] == ["split", "error_rate"]
    assert [reason.rule for reason in spoken("canary", *rules, split=(9000, 2000))] == ["split"]


def test_only_answered_requests_count_towards_the_minimum() -> None:
    state, policy = state_in("canary"), policy_with("canary", "metric: error_rate, role: limit, limit: 0.05")
    stage = policy.online.stages["canary"]
    found = {
        (n, refused): next(
            one
            for one in judge_look(evidence_of(state, candidate=refusing(B, n, refused)), stage, policy, state)
            if one.rule == "minimum_n"
        )
        for n, refused in ((500, 0), (501, 1), (600, 200))
    }
    assert [one.verdict for one in found.values()] == [_P, _P, _I]
    last = found[600, 200]
    assert (last.n, last.text) == (
        400,
        "the candidate answered 400 requests, 500 are needed; of 600 it refused 200 and failed 0 more",
    )


def test_a_first_model_that_refuses_all_is_never_confirmed() -> None:
    evidence = evidence_of(state_in("bootstrap"), candidate=refusing(B, 4000, 3950))
    assert [(one.rule, one.verdict, one.n) for one in judge_bootstrap(evidence, POLICY)] == [
        ("minimum_n", _I, 50),
        ("errors", _P, 50),
    ]
