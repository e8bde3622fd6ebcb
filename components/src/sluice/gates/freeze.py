"""
Days on which nothing goes forward in an environment.

A freeze stops steps that bring a candidate further, and the clock of the stage that waits, so that no rollout times out
because of it. It stops no rollback: evidence that fails a candidate, and a person who goes back, act at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

_SOME_YEAR = "2001-"
"""Without a leap day: a freeze of every year names days that every year has."""
Day = Annotated[str, Field(pattern=r"^([1-9]\d{3}-)?\d\d-\d\d$")]


class Freeze(BaseModel):
    """Whole days in UTC, the first and the last one included: of one year, or of every year where none is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: Day
    """The first day: ``12-24`` of every year, ``2026-11-27`` of one."""
    last: Day
    """The last day, written in the same way; of every year it may be one of the next year."""
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Freeze:
        if len(self.first) != len(self.last):
            raise ValueError(f"first is {self.first} and last is {self.last}; name the year in both or in neither")
        for day in (self.first, self.last):
            try:
                date.fromisoformat(day if self.has_year else _SOME_YEAR + day)
            except ValueError:
                raise ValueError(f"{day} is not a day of {'the calendar' if self.has_year else 'every year'}") from None
        if self.has_year and self.last < self.first:
            raise ValueError(f"last is {self.last}, before first, {self.first}")
        return self

    @property
    def has_year(self) -> bool:
        """Whether it is of one year."""
        return len(self.first) > len("12-24")

    def spans(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Begin and end (exclusive) of each time that it stands, of those that may touch ``since`` to ``until``."""
        if self.has_year:
            yield _midnight(self.first), _midnight(self.last) + timedelta(days=1)
            return
        wraps = self.last < self.first
        for year in range(max(since.year - 1, 1000), min(until.year, 9998) + 1):
            end = _midnight(f"{year + wraps:04d}-{self.last}") + timedelta(days=1)
            yield _midnight(f"{year:04d}-{self.first}"), end


def standing(freezes: Sequence[Freeze], now: datetime) -> tuple[Freeze, datetime] | None:
    """The freeze of this moment that ends last, and when; ``None`` where nothing is frozen."""
    candidates = [(end, freeze) for freeze in freezes for begin, end in freeze.spans(now, now) if begin <= now < end]
    if not candidates:
        return None
    end, freeze = max(candidates, key=lambda each: each[0])
    return freeze, end


def frozen_hours(freezes: Sequence[Freeze], since: datetime, until: datetime) -> float:
    """Hours between two moments on which something was frozen; what overlaps counts once."""
    spans = sorted(span for freeze in freezes for span in freeze.spans(since, until))
    hours, reached = 0.0, since
    for begin, end in spans:
        start, stop = max(begin, reached), min(end, until)
        if start < stop:
            hours += (stop - start).total_seconds() / 3600
            reached = stop
    return hours


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)
