"""The rollout's timeline: traffic, what each look measured with its confidence band, and when something was decided."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from sluice.charts import BOUND, NOTE, Rows, Specification, by_verdict, channel, chart, mark
from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.targets.registry import LOSS_NAMES
from sluice_local.report.charts import ChartRow, Section, chart_of
from sluice_local.report.inputs import LookRecord, ReportChapter
from sluice_local.report.wording import action_name, clock, count, metric_name, moment

_STRIP, _PANEL, _GAP, _MOST = 16, 68, 44, 7
_NAMES = {name: f"{metric_name(name)}, candidate minus stable (lower is better)" for name in LOSS_NAMES} | {
    "errors": "failed answers",
    "error_rate": "share of failed answers",
    "refusal_rate": "share of refused requests, candidate minus stable",
    "skew": "farthest served feature from its training profile (divergence, 0 to 1)",
    "parity": "share of feature cells that differ online and offline",
    "freshness": "share of answers made with a missing or stale feature",
    "score_shift": "mean distance of paired predictions",
    "agreement": "share of requests that both sides decide the same",
    "restarts": "restarts of the candidate's servers per server hour",
    "latency": "mean latency, as a multiple of stable's",
    "label_coverage": "share of mature requests whose label is in",
}
_COUNTERS = frozenset({"minimum_n", "maximum_hours", "split", "digest", "evidence", "applied", "soak"})
"""Rules about the look itself; the table of looks tells them."""
_COLOURS = {Verdict.PASS: "var(--pass)", Verdict.FAIL: "var(--fail)", Verdict.INCONCLUSIVE: "var(--wait)"}
_DAYS = "utcFormat(datum.value, utchours(datum.value) ? '%H:%M' : '%-d %b')"


@chart_of(Section.ROLLOUT, 1000, 400)
def timeline(chapter: ReportChapter, width: int) -> Iterator[Specification]:
    """
    Time runs to the right. On top, the candidate's share of real answers; below, what each look at live traffic
    measured, with a band that stays honest however often one looks. Upright lines are decisions: a measure whose band
    clears its bound lets the rollout go on, one that breaks it ends it.
    """
    online = [decision for decision in chapter.decisions if decision.candidate and decision.action != "refuse"]
    times = [_at(now) for now in (*(look.now for look in chapter.looks), *(decision.now for decision in online))]
    if not chapter.looks or len(set(times)) < 2:
        return
    span, names = max(times) - min(times), measures(chapter.looks)
    domain = (min(times) - 0.02 * span, max(times) + 0.04 * span)
    frame = Frame(domain, width - 76, _STRIP + (len(names) + 1) * (_PANEL + _GAP))
    panels = [
        _head(_stages(chapter.looks, online), _marks(chapter, online, frame), frame),
        _traffic(_weights(chapter, online), frame),
        *(_measure(chapter.looks, rule, frame) for rule in names),
    ]
    ticks = {"tickCount": 11 if width > 600 else 4, "labelExpr": _DAYS, "title": "event time (UTC)"}
    panels[-1]["encoding"]["x"]["axis"] = ticks
    yield {"description": "Timeline of the rollout", "vconcat": panels, "spacing": _GAP, "bounds": "flush"}


class Frame(NamedTuple):
    """Time from left to right (epoch milliseconds), and how many pixels all panels take."""

    domain: tuple[float, float]
    width: int
    height: int

    def at(self, time: float) -> float:
        """Pixels from the left."""
        return self.width * (time - self.domain[0]) / (self.domain[1] - self.domain[0])

    def panel(self, rows: Rows, layers: Sequence[Specification], title: str) -> Specification:
        """One of the panels; the strip of stages has no title."""
        size = {"width": self.width, "height": _PANEL if title else _STRIP}
        x = channel("at:T", axis=None, scale={"domain": self.domain, "clamp": True, "nice": False})
        return chart("", rows, layers, size | ({"title": {"text": title, "frame": "group"}} if title else {}), x=x)


def measures(looks: Sequence[LookRecord]) -> list[str]:
    """Rules with a number and a bound, in the order of first sight; counters are left to the table."""
    rules = (base_rule(reason.rule) for look in looks for reason in look.reasons if reason.observed is not None)
    return list(dict.fromkeys(rule for rule in rules if rule not in _COUNTERS))[:_MOST]


def base_rule(rule: str) -> str:
    """A rule's name without the feature or slice that it speaks of."""
    return re.sub(r"\[.*\]$", "", rule).strip()


def measure_name(rule: str) -> str:
    """What people call a rule of the online gate."""
    if quantile := re.fullmatch(r"latency_p(\d+)", rule):
        return f"{quantile[1]} % of the answers come within, as a multiple of stable's"
    return _NAMES.get(rule, rule.replace("_", " "))


def _head(stages: Sequence[ChartRow], marks: Sequence[ChartRow], frame: Frame) -> Specification:
    """The strip of stages, and above it the decisions' words, whose lines run through all panels."""
    roomy = [row for row in stages if frame.at(row["end"]) - frame.at(row["at"]) > 7 * len(row["stage"])]
    layers = []
    for row in marks:
        rule = {"strokeWidth": 1.1, "opacity": 0.75, "strokeDash": row["dash"]}
        layers.append(mark("rule", rule, rows=[row], y=row["top"], y2=frame.height, color="colour", description="hint"))
    layers += [
        mark("rect", {"stroke": "var(--rule)"}, x2="end", y=0, y2=_STRIP, color="colour", description="stage"),
        mark("text", {**NOTE, "fontWeight": 600, "stroke": "none"}, roomy, x="middle:T", y=_STRIP / 2, text="stage"),
    ]
    for row in marks:
        if row["verdict"]:
            layers.append(mark("point", rows=[row], y=row["top"], description="hint", **by_verdict()))
        words = {"fontWeight": 600, "align": row["align"], "dx": row["shift"]}
        layers.append(mark("text", words, rows=[row], y=row["top"], text="words", color="colour", description="hint"))
    return frame.panel(stages, layers, "")


def _stages(looks: Sequence[LookRecord], online: Sequence[Decision]) -> list[ChartRow]:
    """Each stage from the one before to its last look."""
    start = min(_at(now) for now in (looks[0].now, *(decision.now for decision in online[:1])))
    rows: list[ChartRow] = []
    for stage, mine in groupby(looks, key=lambda look: look.stage):
        end = _at(list(mine)[-1].now)
        colour = "var(--grid)" if len(rows) % 2 else "var(--panel)"
        rows.append({"stage": stage, "at": start, "end": end, "middle": (start + end) / 2, "colour": colour})
        start = end
    return rows


def _marks(chapter: ReportChapter, online: Sequence[Decision], frame: Frame) -> list[ChartRow]:
    """Decisions and the kill, each in the lowest row above the strip where its words do not touch their neighbours."""
    marks: list[ChartRow] = [_decision_mark(decision) for decision in online]
    if killed := chapter.interruption:
        hint = f"killed with SIGKILL, {count(killed.done)} requests into the window from {clock(killed.window[0])}"
        row: ChartRow = {"at": _at(killed.window[0]), "words": "killed, went on", "hint": hint}
        marks.append({**row, "colour": "var(--ink)", "dash": [2, 3], "verdict": None})
    ends: list[float] = []
    for row in sorted(marks, key=lambda row: row["at"]):
        at, length = frame.at(row["at"]), 6.3 * len(row["words"]) + 26
        leftward = at + length > frame.width + 8
        left = at - length if leftward else at
        place = next((place for place, end in enumerate(ends) if end + 6 <= left), len(ends))
        ends[place : place + 1] = [left + length]
        row |= {"top": -14 - 15 * place, "shift": -9 if leftward else 9, "align": "right" if leftward else "left"}
    return marks


def _decision_mark(decision: Decision) -> ChartRow:
    words = action_name(decision.action)
    if decision.action == "set-weight" and decision.after:
        words = f"{decision.after.get('candidate_weight', '?')} % of traffic"
    hint = f"{clock(decision.now)}: {decision.stage}, {words}, {decision.verdict}"
    row = {"at": _at(decision.now), "words": words, "hint": hint, "verdict": decision.verdict}
    return {**row, "colour": _COLOURS[decision.verdict], "dash": []}


def _traffic(weights: Sequence[tuple[float, float]], frame: Frame) -> Specification:
    rows = [{"at": at, "weight": weight} for at, weight in (*weights, (frame.domain[1], weights[-1][1]))]
    axis = {"title": None, "values": [0, 50, 100], "labelExpr": "datum.value + ' %'"}
    y, step = channel("weight:Q", axis=axis, scale={"domain": [0, 100]}), {"interpolate": "step-after"}
    layers = [mark("area", {**step, "color": "var(--main-soft)"}, y=y), mark("line", step, y=y)]
    return frame.panel(rows, layers, "share of answers that come from the candidate")


def _weights(chapter: ReportChapter, online: Sequence[Decision]) -> list[tuple[float, float]]:
    """(time, candidate's share in percent), from the release states of the decisions, else from the looks."""
    candidate = chapter.record.candidate
    states = [(_at(each.now), _weight_of(each.after, candidate)) for each in online if each.after and candidate]
    return states or [(_at(look.now), look.weight) for look in chapter.looks]


def _weight_of(state: Mapping[str, Any], candidate: str | None) -> float:
    if state.get("candidate") == candidate:
        return float(state.get("candidate_weight") or 0)
    return 100.0 if state.get("stable") == candidate else 0.0


def _measure(looks: Sequence[LookRecord], rule: str, frame: Frame) -> Specification:
    """One measure: band, whiskers, bound, marks; a stretch for each stage, weight and bound."""
    pairs = [(look, reason) for look in looks if (reason := _worst(look, rule)) is not None]
    domain, rows, bounds = _domain([reason for _, reason in pairs]), [], []
    for stretch, group in groupby(pairs, key=lambda pair: (pair[0].stage, pair[0].weight, pair[1].bound)):
        mine = [_row(look, reason, domain) | {"stretch": str(stretch)} for look, reason in group]
        rows += mine
        bounds.append({**mine[0], "end": mine[-1]["at"]})
    bands = [row for row in rows if row["band"]]
    scale = {"domain": domain, "clamp": True, "nice": False, "zero": False}
    y = channel("value:Q", axis={"title": None, "tickCount": 3}, scale=scale)
    wide = {**BOUND, "xOffset": -8, "x2Offset": 8}
    layers = [
        mark("area", {"color": "var(--main-soft)"}, bands, y="low:Q", y2="high", detail="stretch:N"),
        mark("rule", {"strokeWidth": 1, "opacity": 0.55}, bands, y="low:Q", y2="high"),
        mark("rule", wide, rows=[row for row in bounds if row["bound"] is not None], x2="end", y="bound:Q"),
        mark("point", y=y, description="hint", **by_verdict()),
    ]
    return frame.panel(rows, layers, measure_name(rule))


def _row(look: LookRecord, reason: Reason, domain: tuple[float, float]) -> ChartRow:
    low, high = (domain[place] if end is None else end for place, end in enumerate((reason.low, reason.high)))
    band = reason.low is not None or reason.high is not None
    hint = f"{clock(look.now)}, {look.stage}: {reason.text}"
    row = {"at": _at(look.now), "value": reason.observed or 0.0, "low": low, "high": high, "band": band}
    return {**row, "bound": reason.bound, "hint": hint, "verdict": reason.verdict}


def _worst(look: LookRecord, rule: str) -> Reason | None:
    """
    What one rule says of all requests; of a rule that was asked of features or slices alone, or where one of them
    fails, the one closest to or farthest over its bound.
    """
    mine = [reason for reason in look.reasons if base_rule(reason.rule) == rule and reason.observed is not None]
    failed = [reason for reason in mine if reason.verdict is Verdict.FAIL]
    mine = failed or [reason for reason in mine if reason.rule == rule] or mine
    order = {"FAIL": 0, "INCONCLUSIVE": 1, "PASS": 2}
    return min(mine, key=lambda r: (order[r.verdict], -abs(r.observed or 0.0), r.rule), default=None)


def _domain(reasons: Sequence[Reason]) -> tuple[float, float]:
    """Over values and bounds; early bands are very wide and may run off the panel."""
    values = [value for r in reasons for value in (r.observed, r.bound) if value is not None]
    if not any(values):
        values.append(1.0)
    bottom, top = min([0.0, *values]), max(values)
    spread = top - bottom or abs(top)
    ends = [end for r in reasons for end in (r.low, r.high) if end is not None]
    inside = [*values, *(min(top + spread, max(bottom - spread, end)) for end in ends)]
    pad = 0.08 * (max(inside) - min(inside)) or 0.1 * abs(top)
    return min(inside) - pad, max(inside) + pad


def _at(now: str) -> float:
    return 1000 * moment(now).timestamp()
