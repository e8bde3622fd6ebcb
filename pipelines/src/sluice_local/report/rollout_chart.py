"""The rollout's timeline: traffic, what each look measured with its confidence band, and when something was decided."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from sluice.documents.verdict import Decision, Reason, Verdict
from sluice_local.report.inputs import Interruption, Look
from sluice_local.report.scales import Scale, spanning, tick_labels, time_ticks
from sluice_local.report.svg import VERDICT_CLASSES, Plot, element, line, path, picture, rect, text, verdict_mark
from sluice_local.report.wording import action_name, clock, count, moment, number

_PANEL, _GAP, _MOST = 84.0, 28.0, 7
_NAMES = {
    "log_loss": "log loss, candidate minus stable (lower is better)",
    "errors": "failed answers",
    "error_rate": "share of failed answers",
    "skew": "farthest served feature from its training profile (divergence, 0 to 1)",
    "parity": "share of feature cells that differ online and offline",
    "freshness": "share of answers made with a missing or stale feature",
    "score_shift": "mean distance of paired scores",
    "agreement": "share of requests that both sides decide the same",
    "restarts": "restarts of the candidate's servers per server hour",
    "latency": "mean latency, as a multiple of stable's",
    "label_coverage": "share of mature requests whose label is in",
}
_COUNTERS = frozenset({"minimum_n", "maximum_hours", "split", "digest", "evidence", "applied", "soak"})
"""Rules about the look itself; the table of looks tells them."""


@dataclass(frozen=True)
class Mark:
    """An upright line with a label: a decision, or the kill. ``at`` in epoch seconds."""

    at: float
    words: str
    hint: str
    verdict: Verdict | None


@dataclass(frozen=True)
class Timeline:
    """One rollout, ready to be drawn at any width. Times in epoch seconds."""

    looks: tuple[Look, ...]
    decisions: tuple[Decision, ...]
    marks: tuple[Mark, ...]
    candidate: str | None
    low: float
    high: float

    @property
    def measures(self) -> list[str]:
        """Rules with a number and a bound, in the order of first sight; counters are left to the table."""
        seen = [
            base_rule(reason.rule)
            for look in self.looks
            for reason in look.reasons
            if reason.observed is not None and base_rule(reason.rule) not in _COUNTERS
        ]
        return list(dict.fromkeys(seen))[:_MOST]


def base_rule(rule: str) -> str:
    """A rule's name without the feature or slice that it speaks of."""
    return re.sub(r"\[.*\]$", "", rule).strip()


def timeline_of(
    looks: Sequence[Look], decisions: Sequence[Decision], candidate: str | None, killed: Interruption | None
) -> Timeline | None:
    """The rollout, or nothing when it never began."""
    online = tuple(decision for decision in decisions if decision.candidate and decision.action != "refuse")
    times = [_at(now) for now in (*(look.now for look in looks), *(decision.now for decision in online))]
    if not looks or len(set(times)) < 2:
        return None
    spread = max(times) - min(times)
    marks = [_decision_mark(decision) for decision in online]
    if killed:
        hint = f"killed with SIGKILL, {count(killed.done)} requests into the window from {clock(killed.window[0])}"
        marks.append(Mark(_at(killed.window[0]), "killed, went on", hint, None))
    marks.sort(key=lambda mark: mark.at)
    low, high = min(times) - 0.02 * spread, max(times) + 0.04 * spread
    return Timeline(tuple(looks), online, tuple(marks), candidate, low, high)


def draw_timeline(timeline: Timeline, width: float) -> Markup:
    """Stages, traffic share, one panel a measure, decisions as lines through all of them."""
    labels = _label_rows(timeline, width)
    head = 26 + 15.0 * (1 + max((row for _, row in labels), default=0))
    measures = timeline.measures
    height = head + 34 + _PANEL + (_GAP + _PANEL) * len(measures) + 46
    frame = Plot(width, height, left=60, right=16, top=head, bottom=46)
    x = Scale(timeline.low, timeline.high, frame.left, frame.x1)
    parts = [*_mark_lines(x, frame, labels), *_stages(timeline, x, head)]
    parts += _traffic(timeline, x, _panel(frame, head + 34))
    for place, rule in enumerate(measures, start=1):
        top = head + 34 + (_PANEL + _GAP) * place
        parts += _measure(timeline, rule, x, _panel(frame, top))
    parts.append(x_axis_of_time(frame, x, width))
    return picture(frame, "Timeline of the rollout", parts, "chart timeline")


def x_axis_of_time(frame: Plot, x: Scale, width: float) -> Markup:
    """Days at the bottom of all panels."""
    parts = [line(frame.left, frame.y1, frame.x1, frame.y1, "axis")]
    for at, words in time_ticks(x, 11 if width > 600 else 4):
        parts.append(line(x(at), frame.y1, x(at), frame.y1 + 4, "axis"))
        parts.append(text(x(at), frame.y1 + 16, words, "tick", anchor="middle"))
    parts.append(text((frame.left + frame.x1) / 2, frame.y1 + 36, "event time (UTC)", "axis-title", anchor="middle"))
    return Markup("").join(parts)


def _panel(frame: Plot, top: float) -> Plot:
    return Plot(frame.width, top + _PANEL, left=frame.left, right=frame.right, top=top, bottom=0)


def _stages(timeline: Timeline, x: Scale, top: float) -> list[Markup]:
    """A strip that names the stage between its first look and the next stage's."""
    runs = [(stage, list(looks)) for stage, looks in groupby(timeline.looks, key=lambda look: look.stage)]
    starts = [_at(looks[0].now) for _, looks in runs]
    first = min([starts[0], *(_at(decision.now) for decision in timeline.decisions[:1])])
    edges = [first, *(_at(looks[-1].now) for _, looks in runs)]
    parts = []
    for place, (stage, _) in enumerate(runs):
        left, right = x(edges[place]), x(edges[place + 1])
        parts.append(rect(left, top, max(2.0, right - left), 16, f"stage stage-{place % 2}", hint=stage))
        if right - left > 7 * len(stage):
            parts.append(text((left + right) / 2, top + 12, stage, "stage-name", anchor="middle"))
    return parts


def _traffic(timeline: Timeline, x: Scale, plot: Plot) -> list[Markup]:
    y = Scale(0, 100, plot.y1, plot.top + 16)
    steps = _weights(timeline)
    ends = [*(at for at, _ in steps[1:]), timeline.high]
    outline = [(x(at), y(weight)) for (start, weight), end in zip(steps, ends, strict=True) for at in (start, end)]
    area = [(outline[0][0], y(0)), *outline, (outline[-1][0], y(0))]
    parts = [_panel_title(plot, "share of answers that come from the candidate")]
    for value in (0, 50, 100):
        parts.append(line(plot.left, y(value), plot.x1, y(value), "grid"))
        parts.append(text(plot.left - 6, y(value) + 4, f"{value} %", "tick", anchor="end"))
    return [*parts, path(area, "area", closed=True), path(outline, "curve c-main")]


def _weights(timeline: Timeline) -> list[tuple[float, float]]:
    """(time, candidate's share in percent), from the release states of the decisions, else from the looks."""
    states = [
        (_at(decision.now), _weight_of(decision.after, timeline.candidate))
        for decision in timeline.decisions
        if decision.after and timeline.candidate
    ]
    return states or [(_at(look.now), look.weight) for look in timeline.looks]


def _weight_of(state: Mapping[str, Any], candidate: str | None) -> float:
    if state.get("candidate") == candidate:
        return float(state.get("candidate_weight") or 0)
    return 100.0 if state.get("stable") == candidate else 0.0


def _measure(timeline: Timeline, rule: str, x: Scale, plot: Plot) -> list[Markup]:
    seen = [(look, reason) for look in timeline.looks if (reason := _worst(look, rule)) is not None]
    y = _scale_of([reason for _, reason in seen], plot)
    parts = [_panel_title(plot, measure_name(rule))]
    ticks = y.ticks(4)
    for value, words in zip(ticks, tick_labels(ticks), strict=True):
        parts.append(line(plot.left, y(value), plot.x1, y(value), "grid"))
        parts.append(text(plot.left - 6, y(value) + 4, words, "tick", anchor="end"))
    for _, group in groupby(seen, key=lambda pair: (pair[0].stage, pair[0].weight, pair[1].bound)):
        parts += _stretch(list(group), x, y)
    return parts


def _stretch(seen: Sequence[tuple[Look, Reason]], x: Scale, y: Scale) -> list[Markup]:
    """One stage's looks at one measure: band, whiskers, bound, marks."""
    parts = []
    banded = [(x(_at(look.now)), reason) for look, reason in seen if reason.low is not None or reason.high is not None]
    if banded:
        upper = [(at, y(y.high if reason.high is None else reason.high)) for at, reason in banded]
        lower = [(at, y(y.low if reason.low is None else reason.low)) for at, reason in banded]
        parts.append(path([*upper, *reversed(lower)], "band", closed=True))
        parts += [line(at, a, at, b, "whisker thin w-main") for (at, a), (_, b) in zip(upper, lower, strict=True)]
    if (bound := seen[0][1].bound) is not None:
        left, right = x(_at(seen[0][0].now)), x(_at(seen[-1][0].now))
        parts.append(line(left - 8, y(bound), right + 8, y(bound), "bound"))
    for look, reason in seen:
        hint = f"{clock(look.now)}, {look.stage}: {reason.text}"
        parts.append(verdict_mark(x(_at(look.now)), y(reason.observed or 0.0), reason.verdict, hint))
    return parts


def _worst(look: Look, rule: str) -> Reason | None:
    """
    What one rule says of all requests; of a rule that was asked of features or slices alone, or where one of them
    fails, the one closest to or farthest over its bound.
    """
    mine = [reason for reason in look.reasons if base_rule(reason.rule) == rule and reason.observed is not None]
    failed = [reason for reason in mine if reason.verdict is Verdict.FAIL]
    mine = failed or [reason for reason in mine if reason.rule == rule] or mine
    order = {"FAIL": 0, "INCONCLUSIVE": 1, "PASS": 2}
    return min(mine, key=lambda r: (order[r.verdict], -abs(r.observed or 0.0), r.rule), default=None)


def _scale_of(reasons: Sequence[Reason], plot: Plot) -> Scale:
    """Over values and bounds; early bands are very wide and may run off the panel."""
    values = [value for r in reasons for value in (r.observed, r.bound) if value is not None]
    if not any(values):
        values.append(1.0)
    spread = max(values) - min([0.0, *values])
    low, high = min([0.0, *values]) - spread, max(values) + spread
    ends = [end for r in reasons for end in (r.low, r.high) if end is not None]
    inside = [min(high, max(low, end)) for end in ends]
    return spanning([*values, *inside], plot.y1, plot.top + 16, pad=0.08)


def measure_name(rule: str) -> str:
    """What people call a rule of the online gate."""
    if quantile := re.fullmatch(r"latency_p(\d+)", rule):
        return f"{quantile[1]} % of the answers come within, as a multiple of stable's"
    return _NAMES.get(rule, rule.replace("_", " "))


def _panel_title(plot: Plot, words: str) -> Markup:
    return text(plot.left, plot.top + 6, words, "panel-title")


def _decision_mark(decision: Decision) -> Mark:
    words = action_name(decision.action)
    if decision.action == "set-weight" and decision.after:
        words = f"{decision.after.get('candidate_weight', '?')} % of traffic"
    hint = f"{clock(decision.now)}: {decision.stage}, {words}, {decision.verdict}"
    return Mark(_at(decision.now), words, hint, decision.verdict)


def _label_rows(timeline: Timeline, width: float) -> list[tuple[Mark, int]]:
    """Labels above the lines, each in the lowest row where it does not touch its neighbours."""
    x = Scale(timeline.low, timeline.high, 60, width - 16)
    ends: list[float] = []
    found = []
    for mark in timeline.marks:
        at, length = x(mark.at), _length(mark)
        left = at - length if at + length > width - 8 else at
        row = next((row for row, end in enumerate(ends) if end + 6 <= left), len(ends))
        ends[row : row + 1] = [left + length]
        found.append((mark, row))
    return found


def _length(mark: Mark) -> float:
    return 6.3 * len(mark.words) + 26


def _mark_lines(x: Scale, frame: Plot, labels: Sequence[tuple[Mark, int]]) -> list[Markup]:
    """Upright lines first, so that none crosses another's words."""
    lines, words = [], []
    for mark, row in labels:
        at, height = x(mark.at), frame.top - 12 - 15.0 * row
        cls = VERDICT_CLASSES[mark.verdict] if mark.verdict else "killed"
        lines.append(element("g", line(at, height - 4, at, frame.y1, f"moment {cls}"), element("title", mark.hint)))
        shift, anchor = (-9, "end") if at + _length(mark) > frame.width - 8 else (9, "start")
        shape = verdict_mark(at, height - 4, mark.verdict, mark.hint) if mark.verdict else Markup("")
        words += [shape, text(at + shift, height, mark.words, f"direct {cls}-text", anchor=anchor, hint=mark.hint)]
    return [*lines, *words]


def _at(now: str) -> float:
    return moment(now).timestamp()


def look_rows(looks: Sequence[Look]) -> list[dict[str, str]]:
    """The looks as rows of a table."""
    return [
        {
            "now": clock(look.now),
            "stage": look.stage,
            "weight": f"{number(look.weight)} %",
            "n": count(look.n),
            "verdict": look.verdict.value,
            "action": action_name(look.action),
            "why": " ".join(reason.text for reason in look.reasons if reason.verdict is not look.verdict.PASS) or "",
        }
        for look in looks
    ]
