"""How numbers, moments, digests and the field's words are written for people."""

from __future__ import annotations

from datetime import UTC, datetime

from sluice.documents.verdict import Verdict
from sluice.stages.registry import STAGES

MINUS = "−"
METRIC_NAMES = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log loss",
    "ece": "calibration error (ECE)",
    "precision": "precision",
    "recall": "recall",
    "rmse": "root mean squared error",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "pinball": "pinball loss",
    "coverage": "interval coverage",
    "width": "interval width",
}
MARKS = {Verdict.PASS: "✓", Verdict.FAIL: "✕", Verdict.INCONCLUSIVE: "?"}
ACTIONS = {stage.action: stage.label for stage in STAGES.values() if stage.action} | {
    "refuse": "refused",
    "propose": "proposed",
    "pause": "waits for approval",
    "approve": "approved",
    "rollback": "rolled back",
    "time-out": "timed out",
    "hold": "hold placed",
    "release-hold": "hold lifted",
    "wait": "waits",
}
_THIN = "\u202f"


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return f"{round(value):,}".replace(",", _THIN)


def number(value: float | None) -> str:
    """A measured value, with as many decimals as its size carries; a dash where there is none."""
    if value is None:
        return "–"
    size = abs(value)
    decimals = 0 if size >= 100 else 2 if size >= 1 else 3 if size >= 0.01 or size == 0 else 4
    text = f"{value:,.{decimals}f}".replace(",", _THIN).replace("-", MINUS)
    return "0" if value == 0 else "< 0.0001" if 0 < value < 0.00005 else text


def signed(value: float | None) -> str:
    """A difference, always with its sign."""
    if value is None:
        return "–"
    text = f"{value:+.4f}" if abs(value) < 1 else f"{value:+.2f}"
    return text.replace("-", MINUS)


def interval(low: float | None, high: float | None, *, difference: bool = False) -> str:
    """Both ends of an interval, or a dash."""
    if low is None and high is None:
        return "–"
    write = signed if difference else number
    left = "…" if low is None else write(low)
    right = "…" if high is None else write(high)
    return f"{left} to {right}"


def share(value: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * value:.1f}{_THIN}%"


def size(value: float) -> str:
    """Bytes in B, kB or MB (powers of ten)."""
    if value < 1000:
        return f"{value:.0f}{_THIN}B"
    unit, scaled = ("kB", value / 1e3) if value < 1e6 else ("MB", value / 1e6)
    return f"{scaled:.0f}{_THIN}{unit}" if scaled >= 10 else f"{scaled:.1f}{_THIN}{unit}"


def moment(text: str) -> datetime:
    """The instant that an ISO 8601 text names, in UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def day(value: datetime, *, year: bool = False) -> str:
    """``3 Aug``, or ``3 Aug 2013``."""
    return f"{value.day} {value:%b}" + (f" {value.year}" if year else "")


def clock(text: str) -> str:
    """``3 Aug 2013, 05:00``; the text itself where it is no moment."""
    try:
        value = moment(text)
    except ValueError:
        return text
    return f"{day(value, year=True)}, {value:%H:%M}"


def window(ends: tuple[str, str]) -> str:
    """``3 Aug to 1 Sep 2013``."""
    try:
        first, last = moment(ends[0]), moment(ends[1])
    except ValueError:
        return f"{ends[0]} to {ends[1]}"
    return f"{day(first, year=first.year != last.year)} to {day(last, year=True)}"


def short_digest(digest: str | None) -> str:
    """The first 12 digits of a digest, without the name of its algorithm."""
    return "none" if not digest else digest.removeprefix("sha256:")[:12]


def metric_name(metric: str) -> str:
    """What people call a metric."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def action_name(action: str) -> str:
    """What an action did, as a past or present form."""
    return ACTIONS.get(action, action.replace("-", " "))
