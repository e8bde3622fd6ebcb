"""Both gates decide alike: every role, at every place of the interval, whichever way is better, as the page says."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, cast

import pytest

from sluice.documents.evaluation import Curves, Estimate, Evaluation, Peer
from sluice.documents.evidence import LATENCY_BOUNDS_MS, Histogram, Moments, Pairs, Timings
from sluice.documents.verdict import Decision, Reason, Verdict, unanimous
from sluice.errors import BadInput
from sluice.gates.offline import judge
from sluice.gates.online import judge_look
from sluice.gates.policy import OfflineRule, parse_policy
from sluice.gates.roles import margin_bound, verdict_of
from sluice.gates.sequential import Interval
from sluice.rollout.advance import propose
from sluice.stages.section import OnlineRole
from sluice.steps.evaluate import EVALUATION
from sluice.steps.gate import decide_offline, decided, read_decision, refusal
from sluice.steps.select import SELECTION
from tests.support.release import NOW, POLICY, POLICY_TEXT, A, B, arm, evidence_of, snapshot_of, state_in
from tests.support.rules import pairs_of, policy_with, spoken

PAGE = (Path(__file__).parents[2] / "docs" / "gates.md").read_text()
INF, NAN = math.inf, math.nan
_P, _F, _I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
_ROLES: tuple[OnlineRole, ...] = ("success", "guardrail", "limit", "deterioration")
_EDGES: dict[str, tuple[tuple[float, float], dict[str, Verdict]]] = {
    "all of it is better than the bound": ((-2, -1), dict(zip(_ROLES, (_P, _P, _P, _P), strict=True))),
    "its worse end is on the bound": ((-1, 0), dict(zip(_ROLES, (_I, _P, _P, _P), strict=True))),
    "the bound is inside": ((-1, 1), dict(zip(_ROLES, (_I, _I, _I, _P), strict=True))),
    "its better end is on the bound": ((0, 1), dict(zip(_ROLES, (_F, _I, _I, _P), strict=True))),
    "it is one point, better than the bound": ((-1, -1), dict(zip(_ROLES, (_P, _P, _P, _P), strict=True))),
    "it is one point, on the bound": ((0, 0), dict(zip(_ROLES, (_F, _P, _P, _P), strict=True))),
    "it is one point, worse than the bound": ((1, 1), dict(zip(_ROLES, (_F, _F, _F, _F), strict=True))),
    "all of it is worse than the bound": ((1, 2), dict(zip(_ROLES, (_F, _F, _F, _F), strict=True))),
    "open at both ends": ((-INF, INF), dict(zip(_ROLES, (_I, _I, _I, _P), strict=True))),
    "open at its worse end, the other better than the bound": (
        (-1, INF), dict(zip(_ROLES, (_I, _I, _I, _P), strict=True)),
    ),
    "open at its worse end, the other worse than the bound": (
        (1, INF), dict(zip(_ROLES, (_F, _F, _F, _F), strict=True)),
    ),
    "open at its better end, the other on the bound": (
        (-INF, 0), dict(zip(_ROLES, (_I, _P, _P, _P), strict=True)),
    ),
    "a number of it is NaN": ((NAN, NAN), dict(zip(_ROLES, (_I, _I, _I, _I), strict=True))),
}  # fmt: skip
"""By what the page says: ends in steps from the bound, more is worse; verdict by role."""
_CASES = [
    pytest.param(role, ends, verdicts[role], id=f"{role}: {words}")
    for words, (ends, verdicts) in _EDGES.items()
    for role in _ROLES
]


def test_the_page_has_this_table() -> None:
    rows = [
        f"| {words} | {by['success']} | {by['guardrail']} | {by['deterioration']} |"
        for words, (_, by) in _EDGES.items()
    ]
    head = "| the interval | `success` | `guardrail`, `limit` | `deterioration` |\n|---|---|---|---|\n"
    assert head + "\n".join(rows) + "\n\n" in PAGE
    assert all(by["guardrail"] is by["limit"] for _, by in _EDGES.values())


def _placed(ends: tuple[float, float], bound: float, *, higher: bool, step: float = 0.015625) -> tuple[float, float]:
    """Low and high end in the metric's own direction; on the bound it is the bound, to the last bit."""
    sign = -1 if higher else 1
    places = [bound if end == 0 else bound + sign * end * step for end in ends]
    return (places[1], places[0]) if higher else (places[0], places[1])


@pytest.mark.parametrize("bound", [0.0, 0.3, -0.3])
@pytest.mark.parametrize("higher", [False, True])
@pytest.mark.parametrize(("role", "ends", "verdict"), _CASES)
def test_the_function(
    role: OnlineRole, ends: tuple[float, float], verdict: Verdict, higher: bool, bound: float
) -> None:
    low, high = _placed(ends, bound, higher=higher)
    assert verdict_of(role, Interval(low, low, high), bound, higher=higher) is verdict


@pytest.mark.parametrize("role", _ROLES)
def test_what_is_no_interval_is_inconclusive(role: OnlineRole) -> None:
    broken = ((NAN, -2.0, -1.0), (-1.5, NAN, -1.0), (-1.5, -2.0, NAN), (-1.5, -1.0, -2.0), (1.5, 2.0, 1.0))
    for interval in broken:
        assert verdict_of(role, Interval(*interval), 0.0, higher=False) is _I
    assert verdict_of(role, Interval(-1.5, -2.0, -1.0), NAN, higher=False) is _I


@pytest.mark.parametrize(
    ("role", "higher", "equal", "bound"),
    [
        ("success", False, 0.0, -0.25),
        ("success", True, 0.0, 0.25),
        ("guardrail", False, 0.0, 0.25),
        ("guardrail", True, 0.0, -0.25),
        ("deterioration", False, 0.0, 0.25),
        ("deterioration", True, 0.0, -0.25),
        ("success", False, 1.0, 0.75),
        ("success", True, 1.0, 1.25),
        ("guardrail", False, 1.0, 1.25),
        ("deterioration", True, 1.0, 0.75),
    ],
)
def test_the_bound_lies_on_its_side_of_an_equal_candidate(
    role: OnlineRole, higher: bool, equal: float, bound: float
) -> None:
    assert margin_bound(role, 0.25, higher=higher, equal=equal) == bound


def _evaluation(*, n: int = 1000, limit: Estimate | None = None, difference: Estimate | None = None) -> Evaluation:
    """An evaluation of which every metric is ``limit``, and its difference to production ``difference``."""
    metrics = ("auc", "log_loss", "ece")
    peer = Peer(name="production", metrics={}, difference=dict.fromkeys(metrics, difference) if difference else {})
    return Evaluation(
        model="m", window=(NOW, NOW), n=n, positives=200, threshold=0.3, slices=(), baselines=(), best_baseline=None,
        metrics=dict.fromkeys(metrics, limit) if limit else {}, teacher=None, production=peer,
        curves=Curves(roc=(), precision_recall=(), reliability=()), bootstrap={"resamples": 1, "days": 31, "seed": 1},
    )  # fmt: skip


def _offline(role: str, metric: str, ends: tuple[float, float], *, n: int = 1000, margin: float = 0.25) -> Reason:
    """The offline gate's reason for an interval that lies so to the rule's bound."""
    higher = metric == "auc"
    bound = 0.75 if role == "limit" else margin * (1 if (role == "success") == higher else -1)
    low, high = _placed(ends, bound, higher=higher)
    estimate = Estimate(value=low if math.isfinite(low) else high, low=low, high=high, n=n)
    values = {"limit": bound} if role == "limit" else {"margin": margin, "against": "production"}
    rule = OfflineRule.model_validate({"metric": metric, "role": role, **values})
    key = "limit" if role == "limit" else "difference"
    evaluation = _evaluation(n=n, **cast("dict[str, Any]", {key: estimate}))
    (reason,) = judge(evaluation, POLICY.model_copy(update={"offline": (rule,)}))
    return reason


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
@pytest.mark.parametrize(("role", "ends", "verdict"), _CASES)
def test_the_offline_gate(metric: str, role: str, ends: tuple[float, float], verdict: Verdict) -> None:
    reason = _offline(role, metric, ends)
    measured = all(map(math.isfinite, ends))
    assert reason.verdict is (verdict if measured else _I)
    assert (reason.role, reason.alpha) == (role, 0.05 if measured else None)
    assert (reason.low is None) == (not measured)


@pytest.mark.parametrize("ends", [(-2, -1), (-1, 1), (1, 2)])
@pytest.mark.parametrize("role", _ROLES)
def test_too_few_rows_offline_say_nothing(role: str, ends: tuple[float, float]) -> None:
    assert _offline(role, "log_loss", ends, n=499).verdict is _I
    assert _offline(role, "log_loss", ends, n=500).verdict is _EDGES_BY_ENDS[ends][role]


_EDGES_BY_ENDS = dict(_EDGES.values())


@pytest.mark.parametrize(
    ("role", "verdict"), [("success", _F), ("guardrail", _P), ("deterioration", _P)]
)  # fmt: skip
@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_an_identical_candidate_with_margin_0(metric: str, role: str, verdict: Verdict) -> None:
    equal = Estimate(value=0.0, low=0.0, high=0.0, n=1000)
    rule = OfflineRule.model_validate({"metric": metric, "role": role, "against": "production", "margin": 0})
    (reason,) = judge(_evaluation(difference=equal), POLICY.model_copy(update={"offline": (rule,)}))
    assert reason.verdict is verdict
    assert math.copysign(1, cast("float", reason.bound)) == 1
    refused = POLICY_TEXT.replace(b"role: guardrail, margin: 0.1", b"role: guardrail, margin: 0")
    assert refused != POLICY_TEXT
    with pytest.raises(BadInput, match="an equal candidate can never be shown"):
        parse_policy(refused, "policy")


def _rule(role: str, bound: float, more: str = "") -> str:
    """On paired losses, or for a limit on the shift of scores."""
    if role == "limit":
        return f"metric: score_shift, role: limit, limit: {bound!r}{more}"
    margin = -bound if role == "success" else bound
    return f"metric: log_loss, role: {role}, margin: {margin!r}{more}"


def _pairs(role: str, variance: float) -> Pairs:
    mean = -0.25 if role == "success" else 0.25
    moments = Moments(n=4000, mean=mean, variance=variance)
    return pairs_of().model_copy(update={"loss": moments, "shift": moments})


def _online(role: str, ends: tuple[float, float], more: str = "") -> Reason:
    """The online gate's reason where its interval lies so to the bound: the bound is moved, to the last bit."""
    pairs = _pairs(role, 0.0 if ends[0] == ends[1] else 0.04)
    (probe,) = spoken("shadow", _rule(role, -0.3 if role == "success" else 0.3, more), pairs=pairs)
    assert probe.low is not None
    assert probe.high is not None
    bounds = {0: probe.low - 0.01 if ends[0] > 0 else probe.low, -1: probe.high}
    bound = (probe.low + probe.high) / 2 if ends == (-1, 1) else bounds[-1] if ends[1] == 0 else bounds[0]
    bound = probe.high + 0.01 if ends[1] < 0 else bound
    (reason,) = spoken("shadow", _rule(role, bound, more), pairs=pairs)
    assert reason.bound == bound
    return reason


@pytest.mark.parametrize(
    ("role", "ends", "verdict"), [case for case in _CASES if all(map(math.isfinite, cast("Any", case.values[1])))]
)
def test_the_online_gate_where_lower_is_better(role: str, ends: tuple[float, float], verdict: Verdict) -> None:
    reason = _online(role, ends)
    assert reason.verdict is verdict
    assert reason.role == role
    assert reason.low is not None
    assert reason.high is not None
    assert (reason.low == reason.high) == (ends[0] == ends[1])
    few = _online(role, ends, ", minimum_n: 4001")
    assert few.verdict is (_I if verdict is _P else verdict)


@pytest.mark.parametrize("ends", [(-2, -1), (-1, 0), (-1, 1), (0, 1), (1, 2)])
def test_the_online_gate_where_higher_is_better(ends: tuple[float, float]) -> None:
    (probe,) = spoken("shadow", "metric: agreement, role: limit, limit: 0.5", pairs=pairs_of(same=2000))
    assert probe.low is not None
    assert probe.high is not None
    bound = {
        (-2, -1): probe.low - 0.01,
        (-1, 0): probe.low,
        (-1, 1): (probe.low + probe.high) / 2,
        (0, 1): probe.high,
        (1, 2): probe.high + 0.01,
    }[int(ends[0]), int(ends[1])]
    (reason,) = spoken("shadow", f"metric: agreement, role: limit, limit: {bound!r}", pairs=pairs_of(same=2000))
    assert (reason.bound, reason.verdict) == (bound, _EDGES_BY_ENDS[ends]["limit"])


@pytest.mark.parametrize("role", _ROLES)
def test_online_an_end_may_be_open(role: str) -> None:
    rule = _rule(role, -0.1 if role == "success" else 0.1, ", alpha: 0.000000000001")
    (reason,) = spoken("shadow", rule, more="looks: 3,", pairs=_pairs(role, 0.04))
    assert (reason.low, reason.high) == (None, None)
    assert reason.verdict is _EDGES["open at both ends"][1][role]


@pytest.mark.parametrize(("errors", "verdict"), [(3, _P), (400, _F)])
def test_online_open_at_the_worse_end(errors: int, verdict: Verdict) -> None:
    rule = "metric: error_rate, role: deterioration, relative_margin: 0.5"
    (reason,) = spoken("canary", rule, candidate=arm(B, 4000, errors), stable=arm(A, 4000))
    assert (reason.observed, reason.high, reason.verdict) == (None, None, verdict)


def test_an_estimate_beyond_all_bins_is_left_out_of_the_record() -> None:
    bins = Histogram(counts=(*(0 for _ in LATENCY_BOUNDS_MS), 4000))
    (reason,) = spoken("canary", "metric: latency_p50, role: limit, limit: 100", timings=Timings(candidate_bins=bins))
    assert (reason.observed, reason.high, reason.verdict) == (None, None, _F)
    assert json.dumps(reason.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize("role", _ROLES)
def test_nan_in_evidence_that_nobody_checked_is_inconclusive_online(role: str) -> None:
    state, policy = state_in("shadow"), policy_with("shadow", _rule(role, -0.1 if role == "success" else 0.1))
    moments = Moments.model_construct(n=4000, mean=NAN, variance=0.04)
    pairs = pairs_of().model_copy(update={"loss": moments, "shift": moments})
    evidence = evidence_of(state).model_copy(update={"pairs": pairs})
    reasons = judge_look(evidence, policy.online.stages["shadow"], policy, state)
    assert [reason.verdict for reason in reasons if reason.role == role] == [_I]


def test_offline_every_success_rule_must_pass() -> None:
    rules = tuple(
        OfflineRule.model_validate({"metric": metric, "role": "success", "against": "production"})
        for metric in ("auc", "log_loss")
    )
    evaluation = _evaluation(difference=Estimate(value=0.1, low=0.05, high=0.2, n=1000))
    reasons = judge(evaluation, POLICY.model_copy(update={"offline": rules}))
    assert [reason.verdict for reason in reasons] == [_P, _F]
    decision: Decision = propose(snapshot_of(state_in("stable")), B, reasons, {}, {}, NOW)
    assert (decision.verdict, decision.action, decision.after) == (_F, "refuse", decision.before)
    unsure = (reasons[0], reasons[1].model_copy(update={"verdict": _I}))
    assert propose(snapshot_of(state_in("stable")), B, unsure, {}, {}, NOW).verdict is _I
    assert propose(snapshot_of(state_in("stable")), B, reasons[:1], {}, {}, NOW).action == "start-shadow"


def test_the_offline_step_asks_each_success_rule_too(tmp_path: Path) -> None:
    rules = (
        b"[{metric: auc, role: success, against: production}, {metric: log_loss, role: success, against: production}]"
    )
    policy = re.sub(rb"offline: \[.*\]", b"offline: " + rules, POLICY_TEXT).decode()
    evaluation = _evaluation(difference=Estimate(value=0.1, low=0.05, high=0.2, n=1000))
    (tmp_path / EVALUATION).write_text(evaluation.model_dump_json())
    for name, document in (("span.json", {"digest": A}), ("frame.json", {"digest": A}), (SELECTION, {"name": "m"})):
        (tmp_path / name).write_text(json.dumps(document))
    run = json.dumps({"id": "run-1", "name": "m"})
    decision = decide_offline("", "dev", NOW, run, policy, tmp_path, tmp_path / "out", "")
    assert decision == read_decision(tmp_path / "out")
    assert refusal(decision).startswith("m: FAIL by rule success log_loss vs production: ")
    assert f"\n- FAIL success log_loss vs production: {decision.reasons[1].text}\n" in decided(decision)
    assert [reason.verdict for reason in decision.reasons] == [_P, _F]
    assert (decision.verdict, decision.action, decision.window) == (_F, "refuse", (NOW, NOW))
    assert (decision.before, decision.candidate, decision.stable) == (decision.after, None, None)


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [((), _I), ((_P,), _P), ((_P, _P), _P), ((_P, _I), _I), ((_F, _I, _P), _F), ((_I,), _I), ((_F,), _F)],
)
def test_unanimous(verdicts: tuple[Verdict, ...], verdict: Verdict) -> None:
    assert unanimous(verdicts) is verdict


def test_the_published_schemas_say_what_touching_the_bound_means() -> None:
    schema = (Path(__file__).parents[2] / "docs/schemas/policy.schema.json").read_text()
    text = "exactly on the bound keeps it: PASS as guardrail and limit, not yet success"
    assert re.sub(r"\\n|\s+", " ", schema).count(text) == 2
