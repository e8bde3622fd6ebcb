"""Who shares the error with whom: roles, slices, fixed looks; and what too little evidence may say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sluice.documents.evidence import (
    LATENCY_BOUNDS_MS,
    Evidence,
    Imputed,
    Moments,
    Pairs,
    Share,
    SliceEvidence,
    Stratum,
)
from sluice.documents.verdict import Verdict, overall
from sluice.gates.online import judge_look
from sluice.gates.quantiles import quantile_interval
from sluice.gates.rates import interval_difference, interval_ratio, poisson_interval, proportion_interval
from sluice.gates.sequential import MeanEstimate, critical_value
from tests.support.coverage import ALPHA, allowed
from tests.support.release import A, B, arm, evidence_of, state_in
from tests.support.rules import policy_with, restarts_of, spoken, strata_of, timings_of

_P, _F, _I = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("labelled", "verdict"), [(499, _I), (500, _P)])
def test_too_few_observations_never_pass(labelled: int, verdict: Verdict) -> None:
    found = Pairs(shift=None, loss=Moments(n=labelled, mean=0.0, variance=1e-6))
    (reason,) = spoken("shadow", "metric: log_loss, role: guardrail, margin: 0.1", pairs=found)
    assert reason.verdict is verdict
    (reason,) = spoken("shadow", "metric: log_loss, role: guardrail, margin: 0.1, minimum_n: 400", pairs=found)
    assert reason.verdict is _P


def test_too_few_observations_may_fail() -> None:
    found = Pairs(shift=None, loss=Moments(n=60, mean=5.0, variance=0.1))
    (reason,) = spoken("shadow", "metric: log_loss, role: guardrail, margin: 0.1", pairs=found)
    assert reason.verdict is _F


def test_an_unsure_guardrail_foretells_when_an_equal_candidate_is_through() -> None:
    rule = "metric: log_loss, role: guardrail, margin: 0.05"
    few = Pairs(shift=None, loss=Moments(n=600, mean=0.03, variance=0.5))
    texts = [spoken("shadow", f"{rule}{more}", pairs=few)[0].text for more in ("", ", beta: 0.01")]
    foretold = [int(text.split("shows it by ")[1].split()[0]) for text in texts]
    assert foretold[0] < foretold[1]
    draw, n = np.random.default_rng(3), foretold[0]
    means = draw.normal(0, np.sqrt(0.5 / n), 2000)
    through = [MeanEstimate(mean, 0.5 / n, n).within(critical_value(n, ALPHA, 500)).high <= 0.05 for mean in means]
    assert np.mean(through) == pytest.approx(0.8, abs=0.04)


class TestAlpha:
    """Who shares the error with whom."""

    @pytest.mark.parametrize(
        ("role", "count", "shared"),
        [("success", 1, 0.05), ("success", 2, 0.025), ("deterioration", 2, 0.025), ("guardrail", 2, 0.05)],
    )
    def test_success_and_deterioration_share_it_and_guardrails_do_not(
        self, role: str, count: int, shared: float
    ) -> None:
        rules = ("metric: log_loss", "metric: latency")[:count]
        asked = [f"{rule}, role: {role}, margin: 0.5" for rule in rules]
        found = spoken("canary", *asked, "metric: error_rate, role: limit, limit: 0.1")
        assert [reason.alpha for reason in found] == [shared] * count + [0.05]

    def test_a_rule_that_names_its_own_leaves_the_rest_to_the_others(self) -> None:
        asked = (
            "metric: log_loss, role: success, margin: 0.5",
            "metric: latency, role: success, margin: 1, alpha: 0.01",
        )
        assert [reason.alpha for reason in spoken("canary", *asked)] == [0.05, 0.01]


def test_two_sides_of_a_comparison_have_half_the_error_each() -> None:
    arms: dict[str, Any] = {"candidate": arm(B, 4000, 60), "stable": arm(A, 9000, 90)}
    ours, theirs = proportion_interval(60, 4000, 0.01), proportion_interval(90, 9000, 0.01)
    (gap,) = spoken("canary", "metric: error_rate, role: guardrail, margin: 0.1, alpha: 0.02", **arms)
    assert (gap.observed, gap.low, gap.high) == interval_difference(ours, theirs)
    (times,) = spoken("canary", "metric: error_rate, role: deterioration, relative_margin: 1, alpha: 0.02", **arms)
    assert (times.observed, times.low, times.high) == interval_ratio(ours, theirs)
    counted = restarts_of(30, 20)
    rates = [poisson_interval(count, 100.0, 0.01) for count in (30, 20)]
    (more,) = spoken("canary", "metric: restarts, role: guardrail, margin: 1, alpha: 0.02", **counted)
    assert (more.observed, more.low, more.high) == interval_difference(*rates)
    timings = timings_of(30.0)
    sides = [side.counts for side in (timings.candidate_bins, timings.stable_bins) if side]
    times_of = [quantile_interval(counts, LATENCY_BOUNDS_MS, 0.9, 0.01) for counts in sides]
    (slower,) = spoken("canary", "metric: latency_p90, role: guardrail, margin: 90, alpha: 0.02", timings=timings)
    assert (slower.observed, slower.low, slower.high) == interval_difference(*times_of)


@pytest.mark.parametrize(
    ("loss", "ms", "verdict"),
    [(-0.2, 8.0, _P), (-0.2, 10.0, _P), (0.2, 8.0, _P), (0.2, 10.0, _F), (0.2, 9.0, _I), (0.0, 9.0, _I)],
)
def test_one_success_is_enough_and_none_of_them_is_a_failure(loss: float, ms: float, verdict: Verdict) -> None:
    rules = ("metric: log_loss, role: success, margin: 0", "metric: latency, role: success, relative_margin: 0.1")
    strata, timings = strata_of(loss), timings_of(ms)
    assert overall(spoken("canary", *rules, strata=strata, timings=timings)) is verdict
    held = spoken("canary", *rules, "metric: latency, role: limit, limit: 1", strata=strata, timings=timings)
    assert overall(held) is _F


def _sliced(**sizes: tuple[int, float]) -> dict[str, SliceEvidence]:
    """Slices of n pairs each, and how much worse the candidate is there."""
    return {
        f"colour={name}": SliceEvidence(
            candidate=Share(n=n, hits=0),
            stable=Share(n=n, hits=0),
            strata=strata_of(worse, n),
            pairs=Moments(n=n, mean=worse, variance=0.04),
        )
        for name, (n, worse) in sizes.items()
    }


_SLICED = "metric: log_loss, role: deterioration, margin: 0.1, per_slice: true, minimum_n: 100"


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_one_broken_slice_fails_by_name_and_the_rest_are_told_together(stage: str) -> None:
    found = spoken(stage, _SLICED, slices=_sliced(red=(900, 0.6), blue=(900, 0.0), green=(900, 0.02), grey=(40, 9.0)))
    assert [(reason.rule, reason.verdict) for reason in found] == [
        ("log_loss[colour=red]", _F),
        ("log_loss[slices]", _P),
    ]
    assert "2 of 3 judged slices pass; the worst is log_loss[colour=green]" in found[1].text
    assert "1 slices are too small" in found[1].text


@pytest.mark.parametrize(
    "rule",
    [
        "metric: error_rate, role: limit, limit: 0.1, per_slice: true, minimum_n: 100",
        "metric: error_rate, role: deterioration, margin: 0.1, per_slice: true, minimum_n: 100",
    ],
)
def test_errors_in_one_slice_fail_it(rule: str) -> None:
    slices = _sliced(red=(900, 0.0), blue=(900, 0.0))
    slices["colour=red"] = slices["colour=red"].model_copy(update={"candidate": Share(n=900, hits=400)})
    assert [reason.verdict for reason in spoken("canary", rule, slices=slices)] == [_F, _P]


def test_no_slice_to_judge_is_inconclusive_and_said() -> None:
    (none,) = spoken("shadow", _SLICED, slices={})
    (small,) = spoken("shadow", _SLICED, slices=_sliced(red=(40, 0.0)))
    assert (none.verdict, small.verdict) == (_I, _I)
    assert "has no slices" in none.text
    assert "none of 1 has 100" in small.text


@pytest.mark.parametrize("count", [1, 2, 7])
def test_slices_share_alpha_so_that_more_of_them_later_cost_no_more(count: int) -> None:
    slices = _sliced(**{f"c{number}": (900, 0.6) for number in range(count)})
    alphas = [reason.alpha for reason in spoken("shadow", _SLICED, slices=slices)]
    assert alphas == pytest.approx([0.05 / (count * (count + 1))] * count)


def test_slices_that_must_all_pass_do_so_at_the_whole_alpha_and_fail_at_their_share() -> None:
    slices = _sliced(**{f"c{number}": (900, 0.09) for number in range(5)})
    rule = _SLICED.replace("deterioration", "guardrail")
    found, (alone,) = spoken("shadow", rule, slices=slices), spoken("shadow", rule, slices=dict([*slices.items()][:1]))
    shared = spoken("shadow", _SLICED, slices=slices)[0]
    assert [reason.verdict for reason in found] == [_I] * 5
    assert {(reason.alpha, reason.high) for reason in found} == {(0.05, alone.high)}
    assert {reason.low for reason in found} == {shared.low}
    assert shared.high is not None
    assert alone.high is not None
    assert alone.high < shared.high


def test_false_alarms_over_all_slices_and_looks_keep_alpha_while_slices_grow() -> None:
    """Slices of very different traffic, so that K grows from look to look; each is exactly at the margin."""
    draw, runs, rule = np.random.default_rng(41), 120, f"{_SLICED}, alpha: 0.2"
    shares = 1 / np.arange(1, 13)
    policy, state = policy_with("shadow", rule), state_in("shadow")
    evidence, stage = evidence_of(state), policy.online.stages["shadow"]
    alarms = 0
    for _ in range(runs):
        values = [draw.normal(0.1, 0.5, int(3000 * share)) for share in shares]
        alarms += any(
            Verdict.FAIL in [reason.verdict for reason in judge_look(_at(evidence, values, look), stage, policy, state)]
            for look in np.geomspace(0.02, 1, 24)
        )
    assert alarms / runs <= allowed(runs, 0.2)


def _at(evidence: Evidence, values: list[np.ndarray], part: float) -> Evidence:
    """The slices after this part of the requests."""
    seen = {f"s={index}": one[: max(2, int(part * len(one)))] for index, one in enumerate(values)}
    slices = {
        name: SliceEvidence(
            candidate=None,
            stable=None,
            pairs=Moments(n=len(one), mean=float(one.mean()), variance=float(one.var(ddof=1))),
        )
        for name, one in seen.items()
    }
    return evidence.model_copy(update={"slices": slices})


class TestFixedLooks:
    """Three looks in 72 hours: at 24, 48 and 72."""

    MORE = "looks: 3,"
    RULES = ("metric: log_loss, role: guardrail, margin: 0.1", "metric: error_rate, role: limit, limit: 0.05")

    @pytest.mark.parametrize(
        ("now", "asked"),
        [
            ("2020-01-01T12:00:00Z", False),
            ("2020-01-02T00:00:00Z", True),
            ("2020-01-02T11:00:00Z", True),
            ("2020-01-02T12:00:00Z", False),
            ("2020-01-03T00:00:00Z", True),
            ("2020-01-04T00:00:00Z", True),
        ],
    )
    def test_means_are_asked_at_them_and_counts_at_every_look(self, now: str, asked: bool) -> None:
        loss, errors = spoken("shadow", *self.RULES, more=self.MORE, now=now)
        assert loss.verdict is (_P if asked else _I)
        assert ("is asked at 3 looks" in loss.text) != asked
        assert errors.verdict is _P

    def test_the_bound_falls_from_look_to_look_and_ends_below_the_sequences(self) -> None:
        nows = ("2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z", "2020-01-04T00:00:00Z")
        found = [spoken("shadow", self.RULES[0], more=self.MORE, now=now)[0] for now in nows]
        widths = [reason.high - reason.low for reason in found if reason.high is not None and reason.low is not None]
        standard_errors = [width / 2 / np.sqrt(0.04 / 4000) for width in widths]
        assert standard_errors == pytest.approx([3.710, 2.511, 1.993], abs=2e-3)
        (anytime,) = spoken("shadow", self.RULES[0])
        assert anytime.high is not None
        assert found[2].high is not None
        assert found[2].high < anytime.high


def test_missing_labels_are_told_and_predictions_narrow_the_interval() -> None:
    labelled = Moments(n=1000, mean=0.4, variance=0.2)
    imputed = Imputed(
        every=Moments(n=4000, mean=0.39, variance=0.15), rectifier=Moments(n=1000, mean=0.01, variance=0.05)
    )
    plain = Stratum(window="1", candidate=labelled, stable=labelled)
    helped = plain.model_copy(update={"candidate_imputed": imputed, "stable_imputed": imputed})
    partial: dict[str, Any] = {
        side: arm(digest, 4000).model_copy(update={"labelled": 1000})
        for side, digest in (("candidate", B), ("stable", A))
    }
    rule = "metric: log_loss, role: guardrail, margin: 0.1"
    (alone,) = spoken("confirm", rule, strata=(plain,), **partial)
    (together,) = spoken("confirm", rule, strata=(helped,), **partial)
    assert alone.high is not None
    assert together.high is not None
    assert 0 < together.high < 0.8 * alone.high
    assert "1000 of 4000 of the candidate's and 1000 of 4000 of stable's" in together.text
