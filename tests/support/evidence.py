"""Evidence of one stage from two sources: equal to the last count, and with the same verdict."""

from __future__ import annotations

import pytest

from sluice.documents.evidence import Evidence, Moments
from sluice.documents.state import ReleaseState
from sluice.prometheus.source import PrometheusSource
from sluice.rollout.advance import Advice, advance
from tests.support.prometheus_town import POLICY, Town


def source_of(town: Town, *, joined: bool = True) -> PrometheusSource:
    """A town's Prometheus as the gate reads it."""
    return PrometheusSource(town.api, settle_seconds=0, fresh_seconds=20, joined=joined)


def decided(state: ReleaseState, evidence: Evidence) -> Advice:
    return advance(state, evidence, POLICY, evidence.now)


def same_counts(logged: Evidence, scraped: Evidence) -> None:
    assert scraped.problems == ()
    for side in ("candidate", "stable"):
        ours, theirs = getattr(logged, side), getattr(scraped, side)
        for key in ("digest", "n", "errors", "refused", "refused_alone", "stale", "last", "due", "labelled"):
            assert getattr(ours, key) == getattr(theirs, key), (side, key)
        assert getattr(logged.timings, f"{side}_bins") == getattr(scraped.timings, f"{side}_bins")
    assert (logged.split, logged.foreign, logged.skew) == (scraped.split, scraped.foreign, scraped.skew)
    assert logged.pairs.agreement == scraped.pairs.agreement
    assert [one.window for one in logged.strata] == [one.window for one in scraped.strata]
    assert logged.slices.keys() == scraped.slices.keys()
    for mine, other in zip(logged.strata, scraped.strata, strict=True):
        same_moments(mine.candidate, other.candidate)
        same_moments(mine.stable, other.stable)


def same_moments(mine: Moments | None, other: Moments | None) -> None:
    assert mine is not None
    assert other is not None
    assert (other.n, other.mean, other.variance) == pytest.approx((mine.n, mine.mean, mine.variance), rel=1e-8)


def same_verdict(state: ReleaseState, logged: Evidence, scraped: Evidence) -> Advice:
    first, second = decided(state, logged), decided(state, scraped)
    assert (first.action, first.verdict) == (second.action, second.verdict)
    assert [(one.rule, one.verdict) for one in first.reasons] == [(one.rule, one.verdict) for one in second.reasons]
    return second
