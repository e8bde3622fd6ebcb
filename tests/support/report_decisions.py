"""Made-up but realistic decisions and looks at live traffic, for a report to draw."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from sluice.content import digest_of_value
from sluice.documents.evaluation import Evaluation
from sluice.documents.verdict import Decision, Reason, Verdict, overall, unanimous
from tests.support.report_evaluations import digest

PASS, FAIL, WAIT = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
PLANS = {
    1: [("bootstrap", 100, 3)],
    2: [("shadow", 0, 4), ("canary", 10, 5), ("canary", 50, 5), ("confirm", 100, 6)],
    4: [("shadow", 0, 2)],
}
"""(stage, weight, looks), by chapter."""
ACTIONS = {"shadow": "start-shadow", "canary": "set-weight", "confirm": "promote", "bootstrap": "bootstrap"}


def offline_decision(number: int, evaluation: Evaluation) -> Decision:
    """What the offline gate said about a chapter's candidate."""
    gain, n = evaluation.metrics["auc"].value - 0.689, evaluation.n
    reasons = [
        _reason("success auc vs best-baseline", PASS, (gain, 0.004), 0.0, n),
        _reason("guardrail log_loss vs production", PASS, (0.031, 0.004), -0.01, n),
        _reason("limit ece", PASS, (0.031, 0.006), 0.1, n),
    ]
    if number == 3:
        reasons.append(_reason("deterioration log_loss vs production[carrier=VX]", FAIL, (-0.12, 0.037), -0.05, 900))
    if number > 1:
        reasons.append(_reason("deterioration log_loss vs production[slices]", PASS, (0.011, 0.04), -0.05, 54_000))
    action = "refuse" if number == 3 else "propose"
    return _decision(("offline", action, "2013-08-01T05:00:00Z"), None, reasons)


def rollout(rng: random.Random, number: int, offline: Decision) -> tuple[list[dict[str, Any]], list[Decision]]:
    """Looks twice a day, and the decisions between them; the first is the offline gate's, which starts the rollout."""
    at = datetime(2013, 8, 1, 5, tzinfo=UTC) + timedelta(days=16 * (number - 1))
    candidate, stable = digest(f"model {number}"), {1: None, 2: digest("model 1"), 4: digest("model 2")}[number]
    looks: list[dict[str, Any]] = []
    decisions: list[Decision] = []
    before: dict[str, Any] = {"stage": "empty" if number == 1 else "stable", "stable": stable, "holds": []}
    come_from, why = "offline", list(offline.reasons)
    for stage, weight, many in PLANS[number]:
        after: dict[str, Any] = {
            "stage": stage,
            "stable": stable,
            "candidate": candidate,
            "candidate_weight": weight,
            "holds": [],
        }
        decisions.append(_decision((come_from, ACTIONS[stage], _iso(at)), candidate, why, (before, after)))
        before, come_from = after, stage
        for index in range(1, many + 1):
            at += timedelta(hours=12)
            looks.append(_look(rng, (stage, weight, index), _iso(at), last=index == many, broken=number == 4))
        why = [Reason.model_validate(item) for item in looks[-1]["reasons"]]
    return looks, [*decisions, _end(number, looks[-1], before)]


def _end(number: int, look: dict[str, Any], before: dict[str, Any]) -> Decision:
    reasons = [Reason.model_validate(item) for item in look["reasons"]]
    candidate, now = before["candidate"], look["now"]
    if number == 4:
        hold = {"digest": candidate, "reason": "skew[airport_delay_mean] failed in shadow", "by": "sluice", "at": now}
        after = before | {"stage": "stable", "candidate": None, "candidate_weight": 0, "holds": [hold]}
        return _decision(("shadow", "rollback", now), candidate, reasons, (before, after))
    after = before | {"stage": "stable", "stable": candidate, "candidate": None, "candidate_weight": 0}
    return _decision((before["stage"], "confirm", now), candidate, reasons, (before, after))


def refused_by_hold(last: Decision) -> Decision:
    """The last digest, proposed again."""
    text = "The digest is held: skew failed in shadow."
    reason = Reason(rule="hold", verdict=FAIL, observed=None, bound=None, n=0, text=text)
    step = ("propose", "refuse", "2013-09-20T05:00:00Z")
    return _decision(step, last.candidate, [reason], (last.after, last.after))


def _look(rng: random.Random, step: tuple[str, int, int], now: str, *, last: bool, broken: bool) -> dict[str, Any]:
    stage, weight, index = step
    n = round((weight or 100) * 4.4 * index)
    width, tell = 1 / math.sqrt(n), PASS if last else WAIT
    drift = (0.81, 0.0) if broken else (0.05 + rng.gauss(0, 0.01), 0.0)
    size = _reason("minimum_n", PASS, (n, 0.0), 150, n)
    if stage == "bootstrap":
        reasons = [size.model_copy(update={"verdict": tell}), _reason("errors", PASS, (0, 0.0), 0, n)]
    else:
        reasons = [
            _reason("split", PASS, (weight / 100, 0.0), weight / 100, n),
            size,
            _reason("error_rate", PASS, (0.0, 0.0), 0.01, n).model_copy(update={"high": min(1.0, 4 / n)}),
            _reason("skew[airport_delay_mean]", FAIL if broken else PASS, drift, 0.3, n),
            _reason("mismatch", PASS, (0.0, 0.0), 0.01, n),
            _reason("log_loss", tell, (-0.03 + rng.gauss(0, width / 8), 1.6 * width), 0.05, n),
        ]
    verdict = overall(reasons)
    action = {PASS: "promote", FAIL: "rollback", WAIT: "wait"}[verdict]
    record = {"now": now, "stage": stage, "weight": weight, "action": action, "verdict": verdict, "n": n}
    return record | {"reasons": [reason.model_dump(mode="json") for reason in reasons]}


def _reason(rule: str, verdict: Verdict, seen: tuple[float, float], bound: float, n: int) -> Reason:
    value, half = seen
    text = f"The measured {rule} is {value:.4f}, give or take {half:.4f}; the bound is {bound:g}."
    return Reason(
        rule=rule, verdict=verdict, observed=value, low=value - half, high=value + half, bound=bound, n=n, text=text
    )


def _decision(
    step: tuple[str, str, str],
    candidate: str | None,
    reasons: list[Reason],
    states: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
) -> Decision:
    stage, action, now = step
    texts = [reason.text for reason in reasons]
    return Decision(
        id=f"{stage}-{digest_of_value([stage, action, candidate, now, texts])[7:19]}",
        task="flights",
        environment="dev",
        stage=stage,
        action=action,
        verdict=unanimous(reason.verdict for reason in reasons),
        candidate=candidate,
        stable=None,
        reasons=tuple(reasons),
        now=now,
        evidence_digest=digest(f"evidence {stage} {now}"),
        policy_digest=digest("policy"),
        before=states[0],
        after=states[1],
    )


def _iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
