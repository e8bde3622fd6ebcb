"""
Evidence about simulated requests: what ``collect_evidence`` would say of the same rows, without making rows.

A test holds the two against each other. Documents are built without validation, since thousands are made a second; the
same test validates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from sluice.gates.simulation.population import Floats, Population
from sluice.gates.simulation.traffic import Flags, Traffic, Window
from sluice.monitoring.evidence import Arm, Cells, Evidence, Moments, Pairs, Stratum, Timings
from sluice.release.state import Applied, ReleaseState, iso

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_CELLS = 1000


class Sums(NamedTuple):
    """n, sum and sum of squares: they add up over windows."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def moments(self) -> Moments | None:
        """n, mean and sample variance; ``None`` of nothing."""
        if not self.n:
            return None
        mean = self.total / self.n
        variance = max(self.squares - self.n * mean * mean, 0.0) / (self.n - 1) if self.n > 1 else 0.0
        return Moments.model_construct(n=self.n, mean=mean, variance=variance)


class Side(NamedTuple):
    """One arm in one window."""

    n: int = 0
    errors: int = 0
    due: int = 0
    labelled: int = 0
    loss: Sums = Sums()
    milliseconds: Sums = Sums()

    def plus(self, other: Side) -> Side:
        """Both together."""
        return Side(
            self.n + other.n,
            self.errors + other.errors,
            self.due + other.due,
            self.labelled + other.labelled,
            self.loss.plus(other.loss),
            self.milliseconds.plus(other.milliseconds),
        )


class Tally(NamedTuple):
    """One window as one look sees it."""

    start: float
    requests: int
    candidate: Side
    stable: Side
    pair_loss: Sums = Sums()
    pair_shift: Sums = Sums()


def sums(values: Floats) -> Sums:
    """Of an array of shape (n,)."""
    return Sums(len(values), float(values.sum()), float(values @ values))


def mirrored(window: Window, people: Population, share: float, now: float, maturity: float) -> Tally:
    """A shadow window: stable answers everything, the candidate a copy of ``share`` of it."""
    copied = window.draw < share
    everything = np.ones(window.n, dtype=bool)
    both = window.row[copied & ~window.candidate_fails & ~window.stable_fails]
    known = (window.label_at <= now)[copied & ~window.candidate_fails & ~window.stable_fails]
    return Tally(
        window.start,
        window.n,
        _side(window, copied, window.candidate_fails, people.candidate_losses, window.candidate_ms, now, maturity),
        _side(window, everything, window.stable_fails, people.stable_losses, window.stable_ms, now, maturity),
        sums((people.candidate_losses[both] - people.stable_losses[both])[known]),
        sums(np.abs(people.candidate_scores[both] - people.stable_scores[both])),
    )


def divided(window: Window, people: Population, share: float, now: float, maturity: float) -> Tally:
    """A canary or confirm window: the candidate answers ``share`` of the requests, stable the rest."""
    ours = window.draw < share
    return Tally(
        window.start,
        window.n,
        _side(window, ours, window.candidate_fails, people.candidate_losses, window.candidate_ms, now, maturity),
        _side(window, ~ours, window.stable_fails, people.stable_losses, window.stable_ms, now, maturity),
    )


def share_of(traffic: Traffic, planned: int) -> float:
    """Share of the requests that truly reaches the candidate; a broken road loses some even of all."""
    return planned / 100 * traffic.world.road


class Watch:
    """Looks at one rollout; keeps the tallies of windows whose labels are all in, so that looking again is cheap."""

    def __init__(self, traffic: Traffic, maturity: float) -> None:
        """Nothing is seen yet."""
        self.traffic, self.maturity = traffic, maturity
        self._kept: dict[tuple[int, bool, float], Tally] = {}

    def tally(self, index: int, *, shadow: bool, share: float, now: float) -> Tally:
        """Window ``index`` as it is known at ``now`` (hours)."""
        key = (index, shadow, share)
        if key in self._kept:
            return self._kept[key]
        window = self.traffic.window(index)
        made = (mirrored if shadow else divided)(window, self.traffic.population, share, now, self.maturity)
        outstanding = np.isfinite(window.label_at) & (window.label_at > now)
        if not outstanding.any() and window.end + self.maturity <= now:
            self._kept[key] = made
        return made


def evidence_of(state: ReleaseState, tallies: Sequence[Tally], earlier: Sequence[Tally], now: float) -> Evidence:
    """
    The document that a look at ``now`` (hours) is given.

    Args:
        tallies: windows of the state's own stage.
        earlier: canary windows, which confirm takes into its cohort.
    """
    live, cohort = _together(tallies), _together([*earlier, *tallies])
    shadow = state.stage == "shadow"
    pair_loss = _added(tally.pair_loss for tally in tallies)
    pair_shift = _added(tally.pair_shift for tally in tallies)
    n = live.candidate.n
    return Evidence.model_construct(
        task=state.task,
        environment=state.environment,
        rollout=state.rollout,
        stage=state.stage,
        step=state.step,
        since=state.since,
        now=clock(now),
        applied=_applied(state),
        candidate=_arm(state.candidate, live.candidate, cohort.candidate, state.since, now),
        stable=_arm(state.stable, live.stable, cohort.stable, state.since, now),
        foreign=0,
        split=(live.requests - n, n) if shadow else (live.stable.n, n),
        strata=tuple(_strata([*earlier, *tallies])),
        pairs=Pairs.model_construct(shift=pair_shift.moments(), loss=pair_loss.moments()),
        skew_n=n,
        skew={"feature": 0.0} if n else {},
        cells=Cells.model_construct(compared=_CELLS, different=0, worst=None) if n else None,
        timings=Timings.model_construct(
            candidate=live.candidate.milliseconds.moments(), stable=live.stable.milliseconds.moments()
        ),
    )


def clock(hours: float) -> str:
    """Hours since the rollout began, as the ISO time that documents carry."""
    return iso(BEGIN + timedelta(hours=hours))


def _side(
    window: Window, ours: Flags, fails: Flags, losses: Floats, milliseconds: Floats, now: float, maturity: float
) -> Side:
    good = ours & ~fails
    known = good & (window.label_at <= now)
    mature = good & (window.at <= now - maturity)
    n = int(np.count_nonzero(ours))
    return Side(
        n=n,
        errors=n - int(np.count_nonzero(good)),
        due=int(np.count_nonzero(mature)),
        labelled=int(np.count_nonzero(mature & known)),
        loss=sums(losses[window.row[known]]),
        milliseconds=sums(milliseconds[ours]) if len(milliseconds) else Sums(),
    )


def _together(tallies: Sequence[Tally]) -> Tally:
    whole = Tally(0.0, 0, Side(), Side())
    for tally in tallies:
        whole = Tally(
            0.0,
            whole.requests + tally.requests,
            whole.candidate.plus(tally.candidate),
            whole.stable.plus(tally.stable),
        )
    return whole


def _added(parts: Iterable[Sums]) -> Sums:
    whole = Sums()
    for part in parts:
        whole = whole.plus(part)
    return whole


def _arm(digest: str | None, live: Side, cohort: Side, since: str | None, now: float) -> Arm:
    return Arm.model_construct(
        digest=digest or "",
        n=live.n,
        first=since if live.n else None,
        last=clock(now) if live.n else None,
        errors=live.errors,
        due=cohort.due,
        labelled=cohort.labelled,
        loss=cohort.loss.moments(),
    )


def _strata(tallies: Iterable[Tally]) -> Iterable[Stratum]:
    for tally in tallies:
        if min(tally.candidate.loss.n, tally.stable.loss.n) > 1:
            candidate, stable = tally.candidate.loss.moments(), tally.stable.loss.moments()
            yield Stratum.model_construct(window=f"{tally.start:010.3f}", candidate=candidate, stable=stable)


def _applied(state: ReleaseState) -> Applied:
    """The servers do at once what Git says."""
    return Applied.model_construct(
        commit="0" * 40,
        stable=state.stable,
        candidate=state.candidate,
        stable_weight=state.stable_weight,
        candidate_weight=state.candidate_weight,
        mirror_percent=state.mirror_percent,
    )
