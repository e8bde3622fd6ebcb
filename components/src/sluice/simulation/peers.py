"""
How other tools decide a canary, one small function each, on the same requests.

A rule reads what is measured in one canary step and says ``pass`` (the next step, or promoted), ``fail`` (rolled back)
or ``wait``. All are given the policy's own margins as their thresholds, the policy's canary steps (the fixed-n test:
its last step only; 50 % where there is no canary), its look interval, and as a deadline for each step the
``maximum_hours`` of all its stages together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sluice.arrays import Floats
from sluice.gates.policy import GatePolicy
from sluice.simulation.counting import Road, Side, Sums, Tally
from sluice.simulation.play import Outcome
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.watch import Stretch, Watch, share_of

RuleAnswer = Literal["pass", "fail", "wait"]
_LEAST = 2


class ArmPoints(NamedTuple):
    """Mean losses and error rates of one arm, one value a time bin, without the bins where it has none."""

    losses: Floats
    errors: Floats


_NOTHING = Tally(Side(), Side())
_NONE = ArmPoints(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class StepThresholds:
    """What a rule is told before the first request."""

    margin: float
    error_rate: float
    alpha: float
    looks: int
    """Checks that a step must pass."""
    failures: int
    """Checks that may fail."""
    usual_loss: float
    """Stable's mean log loss before the rollout: where an absolute threshold starts from."""
    needed: int
    """Labelled requests an arm that the fixed-n test was planned for."""


@dataclass
class StepMeasurements:
    """What is measured in the step that is going on."""

    thresholds: StepThresholds
    looks: list[Tally] = field(default_factory=list)
    """One tally a look, as it was then."""
    whole: Callable[[], Tally] = field(default=lambda: _NOTHING)
    """All windows together as they are known now; made only for a rule that asks."""
    failed_before: int = 0
    """Failed checks of earlier steps."""
    points: Callable[[], tuple[ArmPoints, ArmPoints]] = field(default=lambda: (_NONE, _NONE))
    """Candidate's and stable's points of the step; likewise."""


Rule = Callable[[StepMeasurements], RuleAnswer]


def argo(step: StepMeasurements) -> RuleAnswer:
    """
    Threshold analysis on each interval's point values: candidate <= stable + margin; too many failures abort.

    Argo Rollouts 1.9, docs/features/analysis.md: ``successCondition``, ``count``, ``failureLimit``; an interval without
    data is Inconclusive and counts for neither.
    """
    checks = [_near(look, step.thresholds) for look in step.looks]
    if checks.count(False) > step.thresholds.failures:
        return "fail"
    return "pass" if len(checks) - checks.count(None) >= step.thresholds.looks else "wait"


def flagger(step: StepMeasurements) -> RuleAnswer:
    """
    Absolute thresholds on each interval's point values; ``iterations`` good checks step on, ``threshold`` bad ones end.

    Flagger 1.44, docs/gitbook/usage/metrics.md (``thresholdRange.max``) and deployment-strategies.md. A threshold
    cannot name the primary (#739), so it is set from what stable did before; no data reads as 0 and passes (#1098).
    """
    checks = [_below(look, step.thresholds) for look in step.looks]
    if step.failed_before + checks.count(False) > step.thresholds.failures:
        return "fail"
    return "pass" if checks.count(True) >= step.thresholds.looks else "wait"


def kayenta(step: StepMeasurements) -> RuleAnswer:
    """
    Rank test on the step's points at each look; one metric called High scores 50 of 100 and fails the canary.

    Kayenta, NetflixACAJudge-v1.0, MannWhitneyClassifier.scala: High when the 98 % Mann-Whitney interval of the shift
    lies above 0.25 times the Hodges-Lehmann estimate and the ratio of means is at least 1. No data passes.
    """
    candidate, stable = step.points()
    if _high(candidate.losses, stable.losses) or _high(candidate.errors, stable.errors):
        return "fail"
    return "pass" if len(step.looks) >= step.thresholds.looks else "wait"


def fixed_n(step: StepMeasurements) -> RuleAnswer:
    """
    One non-inferiority z test when the planned number of labels is in (Chow, Shao, Wang 2008, chapter 3).

    Planned on stable's variance for the margin, at alpha one-sided and power 0.8; errors by the same test of rates.
    """
    candidate, stable, *_ = step.whole()
    if min(candidate.loss.n, stable.loss.n) < step.thresholds.needed:
        return "wait"
    z = NormalDist().inv_cdf(1 - step.thresholds.alpha)
    first, second = _mean_and_error(candidate.loss), _mean_and_error(stable.loss)
    loss_high = first[0] - second[0] + z * math.hypot(first[1], second[1])
    rates = [(side.errors / side.n, side.n) for side in (candidate, stable)]
    spread = math.sqrt(sum(rate * (1 - rate) / n for rate, n in rates))
    error_high = rates[0][0] - rates[1][0] + z * spread
    return "pass" if loss_high < step.thresholds.margin and error_high < step.thresholds.error_rate else "fail"


@dataclass(frozen=True)
class PeerRule:
    """A rule with its parameters."""

    name: str
    rule: Rule
    looks: int
    """Checks a step; for the fixed-n test a factor on the planned n."""
    failures: int
    last_step_only: bool = False
    told: str = ""
    """Its parameters in words."""


PEERS: tuple[PeerRule, ...] = (
    PeerRule("argo", argo, 5, 1, told="count 5, failureLimit 1; candidate <= stable + margin each look"),
    PeerRule("flagger", flagger, 5, 2, told="5 iterations a step, threshold 3; below a fixed maximum each look"),
    PeerRule(
        "kayenta", kayenta, 5, 0, told="points of 2 h, 98 % interval, tolerance 0.25, all points of the step each look"
    ),
    PeerRule("fixed-n", fixed_n, 1, 0, last_step_only=True, told="planned n, power 0.8, one-sided alpha of the policy"),
)


def play_peer(
    traffic: SimulatedTraffic, policy: GatePolicy, peer: PeerRule, budget: int = 1, slack: float | None = None
) -> Outcome:
    """
    Play one rollout by a peer's rule.

    Args:
        budget: multiplies its looks (its n) and the deadline.
        slack: share of the checks that may fail, in place of the peer's own number.
    """
    hours, (steps, longest) = traffic.scale.look_hours, _canary(policy)
    watch = Watch(traffic, policy.online.label_maturity_hours)
    looks, exposed, failed = 0, 0, 0
    deadline = max(1, math.ceil(longest / hours)) * budget
    for weight in steps[-1:] if peer.last_step_only else steps:
        thresholds = thresholds_of(traffic, policy, peer, budget, slack, weight)
        measurements = StepMeasurements(thresholds, failed_before=failed)
        answer: RuleAnswer = "wait"
        step = Stretch(looks, looks, Road(shadow=False, share=share_of(traffic, weight)))
        while answer == "wait" and looks - step.first < deadline:
            looks += 1
            step = step._replace(end=looks)
            measurements.looks.append(watch.tally(step._replace(first=looks - 1), looks))
            measurements.whole = partial(watch.tally, step, looks)
            measurements.points = partial(_points, traffic, step)
            answer = peer.rule(measurements)
        exposed += watch.exposed(step)
        failed += [_below(look, thresholds) for look in measurements.looks].count(False)
        if answer != "pass":
            end: Literal["rolled back", "timed out"] = "rolled back" if answer == "fail" else "timed out"
            return Outcome(end, f"{weight} %", answer == "fail", traffic.requests(looks), looks * hours, exposed)
    return Outcome("promoted", "confirm", False, traffic.requests(looks), looks * hours, exposed)


def _canary(policy: GatePolicy) -> tuple[Sequence[int], float]:
    """Steps, and the hours that one may last."""
    longest = sum(stage.maximum_hours for stage in policy.online.stages.values())
    return policy.online.canary.steps if policy.online.canary else (50,), longest


def thresholds_of(
    traffic: SimulatedTraffic, policy: GatePolicy, peer: PeerRule, budget: int, slack: float | None, weight: int
) -> StepThresholds:
    """What the rule is told at this weight; budget and slack as in ``play_peer``."""
    people, scale, looks = traffic.population(shadow=False), traffic.scale, peer.looks * budget
    z = sum(NormalDist().inv_cdf(p) for p in (1 - policy.online.alpha, 0.8))
    variance, ratio = float(people.stable_losses.var()), weight / (100 - weight)
    needed = math.ceil(budget * z * z * variance * (1 + ratio) / scale.margin**2)
    return StepThresholds(
        margin=scale.margin,
        error_rate=scale.error_rate,
        alpha=policy.online.alpha,
        looks=looks,
        failures=peer.failures * budget if slack is None else math.floor(slack * looks),
        usual_loss=float(people.stable_losses.mean()),
        needed=needed,
    )


def _near(look: Tally, thresholds: StepThresholds) -> bool | None:
    sides = look.candidate, look.stable
    if min(side.n for side in sides) == 0 or min(side.loss.n for side in sides) == 0:
        return None
    loss = [side.loss.total / side.loss.n for side in sides]
    errors = [side.errors / side.n for side in sides]
    return loss[0] <= loss[1] + thresholds.margin and errors[0] <= errors[1] + thresholds.error_rate


def _below(look: Tally, thresholds: StepThresholds) -> bool:
    side = look.candidate
    loss = side.loss.total / side.loss.n if side.loss.n else 0.0
    return loss <= thresholds.usual_loss + thresholds.margin and side.errors <= thresholds.error_rate * side.n


_Z98 = NormalDist().inv_cdf(0.99)
_TOLERANCE = 0.25
_POINT_HOURS = 2.0


def _high(candidate: Floats, stable: Floats) -> bool:
    """The Mann-Whitney interval of the shift from all pairwise differences (Hollander, Wolfe, Chicken 2014, §4.3)."""
    m, n = len(candidate), len(stable)
    if min(m, n) < _LEAST:
        return False
    differences = np.sort(np.subtract.outer(candidate, stable), axis=None)
    below = max(0, math.floor(m * n / 2 - _Z98 * math.sqrt(m * n * (m + n + 1) / 12)))
    estimate = float(np.median(differences))
    return bool(differences[below] > _TOLERANCE * abs(estimate) and candidate.mean() >= stable.mean())


def _points(traffic: SimulatedTraffic, step: Stretch) -> tuple[ArmPoints, ArmPoints]:
    people, hours, now = traffic.population(shadow=False), traffic.scale.look_hours, step.end * traffic.scale.look_hours
    requests = traffic.span(step.first, step.end)
    bins = ((requests.at - requests.at.min(initial=np.inf)) / min(_POINT_HOURS, hours)).astype(np.int64)
    ours, points = requests.draw < step.road.share, []
    worse = people.candidate_losses[requests.row] + traffic.shift(requests.window)
    for members, fails, refuses, losses in (
        (ours, requests.candidate_fails, requests.candidate_refuses, worse),
        (~ours, requests.stable_fails, requests.stable_refuses, people.stable_losses[requests.row]),
    ):
        known = members & ~(fails | refuses) & (requests.label_at <= now)
        rates = _means(bins[members], fails[members].astype(np.float64))
        points.append(ArmPoints(_means(bins[known], losses[known]), rates))
    return points[0], points[1]


def _means(bins: NDArray[np.int64], values: Floats) -> Floats:
    counts = np.bincount(bins)
    return np.asarray(np.bincount(bins, weights=values)[counts > 0] / counts[counts > 0])


def _mean_and_error(sums: Sums) -> tuple[float, float]:
    """Mean and its standard error."""
    moments = sums.moments()
    return (moments.mean, math.sqrt(moments.variance / moments.n)) if moments else (math.nan, math.nan)
