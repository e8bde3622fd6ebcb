"""
What one look at live traffic says, rule by rule.

The order matters: a wrong traffic split makes every comparison worthless, so it is asked first and, when it fails,
alone. All intervals are confidence sequences, so the rules may be asked again after every window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from sluice.gates.policy import ConfirmStage, GatePolicy, OnlineRules
from sluice.gates.sequential import Interval, Sample, difference, mean_interval, proportion_interval, sample_ratio
from sluice.gates.verdict import Reason, Verdict
from sluice.monitoring.evidence import Arm, Evidence, Moments
from sluice.release.state import ReleaseState

FAST_N = 200
"""Served vectors from which broken features are called broken, without waiting for ``minimum_n``."""
_ARM_N = 30
"""Observations an arm below which an asymptotic interval means nothing."""
_LOSSLESS = 0.995
"""Planned share where the plan says all: a mirror is fire-and-forget and may lose a few."""
_Rule = Callable[[Evidence, OnlineRules, GatePolicy], Reason | None]


def judge_look(evidence: Evidence, rules: OnlineRules, policy: GatePolicy, state: ReleaseState) -> tuple[Reason, ...]:
    """One reason for each rule that ``rules`` asks; a failed split alone where there is one."""
    split = _split(evidence, rules, state)
    if split and split.verdict is Verdict.FAIL:
        return (split,)
    asked: tuple[_Rule, ...] = (
        _size,
        _foreign,
        _errors,
        _skew,
        _mismatch,
        _score_shift,
        _log_loss,
        _latency,
        _coverage,
    )
    found: Iterable[Reason | None] = (rule(evidence, rules, policy) for rule in asked)
    return tuple(reason for reason in (split, *found) if reason is not None)


def judge_bootstrap(evidence: Evidence, policy: GatePolicy) -> tuple[Reason, ...]:
    """A first model has no peer: enough requests, and not one failure."""
    arm, needed = evidence.candidate, policy.bootstrap.minimum_n
    n, errors = (arm.n, arm.errors) if arm else (0, 0)
    size = Reason(
        rule="minimum_n",
        verdict=Verdict.PASS if n >= needed else Verdict.INCONCLUSIVE,
        observed=n,
        bound=needed,
        n=n,
        text=f"{n} live requests of the {needed} that a first model needs",
    )
    failures = Reason(
        rule="errors",
        verdict=Verdict.FAIL if errors else Verdict.PASS if n else Verdict.INCONCLUSIVE,
        observed=errors,
        bound=0,
        n=n,
        text=f"{errors} of {n} requests failed; a first model may fail none",
    )
    return tuple(reason for reason in (size, _foreign(evidence, policy.online.confirm, policy), failures) if reason)


def _split(evidence: Evidence, rules: OnlineRules, state: ReleaseState) -> Reason | None:
    if rules.split_alpha is None:
        return None
    other, candidate = evidence.split
    n = other + candidate
    weight = state.mirror_percent if state.stage == "shadow" else state.candidate_weight
    planned = min(weight / 100, _LOSSLESS)
    share = candidate / n if n else None
    above = weight == 100 and share is not None and share >= planned
    evidence_against = sample_ratio(candidate, other, planned) if n and not above else -math.inf
    bound = -math.log(rules.split_alpha)
    broken = evidence_against >= bound
    what = "mirrored to the candidate" if state.stage == "shadow" else "sent to the candidate"
    return Reason(
        rule="split",
        verdict=Verdict.FAIL if broken else Verdict.PASS if n else Verdict.INCONCLUSIVE,
        observed=share,
        bound=weight / 100,
        n=n,
        text=f"{candidate} of {n} requests were {what}, {weight} % were planned"
        + ("; the traffic is not split as decided, so nothing else is read" if broken else ""),
    )


def _size(evidence: Evidence, rules: OnlineRules, _: GatePolicy) -> Reason:
    n = evidence.candidate.n if evidence.candidate else 0
    return Reason(
        rule="minimum_n",
        verdict=Verdict.PASS if n >= rules.minimum_n else Verdict.INCONCLUSIVE,
        observed=n,
        bound=rules.minimum_n,
        n=n,
        text=f"{n} requests reached the candidate, {rules.minimum_n} are needed",
    )


def _foreign(evidence: Evidence, _: OnlineRules, __: GatePolicy) -> Reason | None:
    if not evidence.foreign:
        return None
    return Reason(
        rule="digest",
        verdict=Verdict.INCONCLUSIVE,
        observed=evidence.foreign,
        bound=0,
        n=evidence.foreign,
        text=f"{evidence.foreign} answers came from a digest that is not released on their route",
    )


def _errors(evidence: Evidence, rules: OnlineRules, policy: GatePolicy) -> Reason | None:
    bound, arm = rules.maximum_error_rate, evidence.candidate
    if bound is None:
        return None
    if arm is None or arm.n == 0:
        return _unknown("error_rate", bound, "no request reached the candidate")
    interval = proportion_interval(arm.errors, arm.n, policy.online.alpha)
    return _bounded("error_rate", interval, bound, arm.n, f"{arm.errors} of {arm.n} answers failed")


def _skew(evidence: Evidence, rules: OnlineRules, _: GatePolicy) -> Reason | None:
    bound = rules.maximum_skew
    if bound is None:
        return None
    if not evidence.skew:
        return _unknown("skew", bound, "no served feature vector to compare")
    name, worst = max(evidence.skew.items(), key=lambda item: (item[1], item[0]))
    enough = evidence.skew_n >= FAST_N
    return Reason(
        rule=f"skew[{name}]",
        verdict=(Verdict.FAIL if worst > bound else Verdict.PASS) if enough else Verdict.INCONCLUSIVE,
        observed=worst,
        bound=bound,
        n=evidence.skew_n,
        text=f"served {name!r} lies {worst:.3f} from its training profile, the farthest of {len(evidence.skew)} "
        f"features; at most {bound:g} is allowed",
    )


def _mismatch(evidence: Evidence, rules: OnlineRules, _: GatePolicy) -> Reason | None:
    bound, cells = rules.maximum_mismatch, evidence.cells
    if bound is None:
        return None
    if cells is None or cells.compared == 0:
        return _unknown("mismatch", bound, "no served cell was read again offline")
    share = cells.different / cells.compared
    worst = f", most of all {cells.worst!r}" if cells.different and cells.worst else ""
    return Reason(
        rule="mismatch",
        verdict=Verdict.FAIL if share > bound else Verdict.PASS,
        observed=share,
        bound=bound,
        n=cells.compared,
        text=f"{cells.different} of {cells.compared} served feature cells differ from the training path's{worst}",
    )


def _score_shift(evidence: Evidence, rules: OnlineRules, policy: GatePolicy) -> Reason | None:
    bound, shift = rules.score_shift, evidence.pairs.shift
    if bound is None:
        return None
    if shift is None or shift.n < _ARM_N:
        return _unknown("score_shift", bound, "too few requests that both sides answered")
    interval = mean_interval(shift.mean, shift.variance, shift.n, policy.online.alpha, rules.minimum_n)
    return _bounded("score_shift", interval, bound, shift.n, "mean distance of the paired scores")


def _log_loss(evidence: Evidence, rules: OnlineRules, policy: GatePolicy) -> Reason | None:
    bound = rules.log_loss_margin
    if bound is None:
        return None
    alpha, tuned_at = policy.online.alpha, rules.minimum_n
    if evidence.stage == "shadow":
        loss = evidence.pairs.loss
        if loss is None or loss.n < _ARM_N:
            return _unknown("log_loss", bound, "too few paired requests with labels")
        interval = mean_interval(loss.mean, loss.variance, loss.n, alpha, tuned_at)
        return _bounded("log_loss", interval, bound, loss.n, "log loss against stable on the same requests")
    pairs = [(_sample(stratum.candidate), _sample(stratum.stable)) for stratum in evidence.strata]
    sizes = [sum(side.n for side in sides) for sides in zip(*pairs, strict=True)] or [0, 0]
    if min(sizes) < _ARM_N:
        return _unknown("log_loss", bound, "too few labelled requests of both sides in the same windows")
    interval = difference(pairs, alpha, 2 * tuned_at)
    return _bounded("log_loss", interval, bound, sum(sizes), "log loss against stable in the same windows")


def _latency(evidence: Evidence, rules: OnlineRules, policy: GatePolicy) -> Reason | None:
    """
    Fails only what is surely slower; unsure passes, so that no decision hangs on the noise of a stopwatch.

    Bound on the ratio as a contrast: mean(candidate) − ratio · mean(stable) surely above 0.
    """
    bound, candidate, stable = rules.latency_ratio, evidence.timings.candidate, evidence.timings.stable
    if bound is None or candidate is None or stable is None or min(candidate.n, stable.n) < _ARM_N:
        return None if bound is None else _unknown("latency", bound, "too few timings")
    scaled = Sample(stable.n, bound * stable.mean, bound * bound * stable.variance)
    interval = difference([(_sample(candidate), scaled)], policy.online.alpha, 2 * rules.minimum_n)
    return Reason(
        rule="latency",
        verdict=Verdict.FAIL if interval.low > 0 else Verdict.PASS,
        observed=candidate.mean / stable.mean if stable.mean > 0 else None,
        bound=bound,
        n=candidate.n + stable.n,
        text=f"answers take {candidate.mean:.2f} ms, stable's {stable.mean:.2f} ms; at most {bound:g} times is allowed",
    )


def _coverage(evidence: Evidence, rules: OnlineRules, _: GatePolicy) -> Reason | None:
    if not isinstance(rules, ConfirmStage):
        return None
    needed, arm = rules.minimum_label_coverage, evidence.candidate
    if arm is None or arm.due < rules.minimum_n:
        due = arm.due if arm else 0
        return _unknown("label_coverage", needed, f"{due} requests are old enough for labels, {rules.minimum_n} needed")
    share = arm.labelled / arm.due
    return Reason(
        rule="label_coverage",
        verdict=Verdict.PASS if share >= needed else Verdict.INCONCLUSIVE,
        observed=share,
        bound=needed,
        n=arm.due,
        text=f"labels are in for {arm.labelled} of {arm.due} mature requests ({share:.1%}); {needed:.0%} are needed"
        + _beside(evidence.stable),
    )


def _beside(stable: Arm | None) -> str:
    return f"; stable's cohort has {stable.labelled} of {stable.due}" if stable and stable.due else ""


def _bounded(rule: str, interval: Interval, bound: float, n: int, what: str) -> Reason:
    """An upper bound on a mean: PASS when the whole interval keeps it, FAIL when the whole interval breaks it."""
    low, high = interval.low, interval.high
    verdict = Verdict.FAIL if low > bound else Verdict.PASS if high <= bound else Verdict.INCONCLUSIVE
    text = f"{what}: {interval.estimate:.4f} (between {low:.4f} and {high:.4f}), at most {bound:g} is allowed"
    return Reason(
        rule=rule, verdict=verdict, observed=interval.estimate, low=low, high=high, bound=bound, n=n, text=text
    )


def _unknown(rule: str, bound: float, text: str) -> Reason:
    return Reason(rule=rule, verdict=Verdict.INCONCLUSIVE, observed=None, bound=bound, n=0, text=text)


def _sample(moments: Moments) -> Sample:
    return Sample(moments.n, moments.mean, moments.variance)
