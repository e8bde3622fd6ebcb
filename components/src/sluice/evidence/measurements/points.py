"""Numbers on their way through a store of metrics: a name, labels, a value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sluice.documents.evidence import Moments, Share
from sluice.evidence.moments import rounded

IDENTITY = ("route", "window", "slice", "feature")
"""Labels that tell points of one name apart; all others say where they come from and what they are about."""
Identity = tuple[str, ...]


class DataPoint(NamedTuple):
    """One number with its name and labels."""

    name: str
    labels: Mapping[str, str]
    value: float

    @property
    def identity(self) -> Identity:
        """Name and the labels in ``IDENTITY``, empty where it has none."""
        return _identity(self.name, self.labels)


class PointIndex:
    """The points of one stage, to be read back."""

    def __init__(self, points: Iterable[DataPoint] = ()) -> None:
        """All must be about the same stage."""
        self._values = {point.identity: point.value for point in points}

    def value(self, name: str, **labels: str) -> float | None:
        """Of the point with exactly these labels."""
        return self._values.get(_identity(name, labels))

    def count(self, name: str, **labels: str) -> int:
        """A whole number; 0 where there is none."""
        return round(self.value(name, **labels) or 0)

    def moments(self, name: str, **labels: str) -> Moments | None:
        """
        From count, sum and sum of squares; ``None`` unless all three are there.

        Raises:
            ValueError: the count is no count.
        """
        n, total, squares = (self.value(f"{name}_{part}", **labels) for part in ("count", "sum", "squares"))
        if n is None or total is None or squares is None:
            return None
        if n < 1:
            raise ValueError(f"{name}_count is {n:g}, at least 1 is meant")
        variance = max(squares - total * total / n, 0.0) / (n - 1) if n > 1 else 0.0
        return Moments(n=round(n), mean=rounded(total / n), variance=rounded(variance))

    def share(self, whole: str, hits: str, **labels: str) -> Share | None:
        """From two counts; ``None`` of nothing."""
        n = self.count(whole, **labels)
        return Share(n=n, hits=self.count(hits, **labels)) if n else None

    def values_of(self, label: str, name: str, **labels: str) -> list[str]:
        """The values, sorted, that a label has among the points of a name that have these other labels."""
        place, others = 1 + IDENTITY.index(label), {1 + IDENTITY.index(key): value for key, value in labels.items()}
        return sorted(
            {
                key[place]
                for key in self._values
                if key[0] == name and key[place] and all(key[at] == value for at, value in others.items())
            }
        )


def sums(name: str, labels: Mapping[str, str], moments: Moments | None) -> Iterator[DataPoint]:
    """Count, sum and sum of squares, as ``PointIndex.moments`` reads them: they add up over arms and windows."""
    if moments:
        n, mean = moments.n, moments.mean
        yield DataPoint(f"{name}_count", labels, n)
        yield DataPoint(f"{name}_sum", labels, n * mean)
        yield DataPoint(f"{name}_squares", labels, (n - 1) * moments.variance + n * mean**2)


def _identity(name: str, labels: Mapping[str, str]) -> Identity:
    return (name, *(labels.get(key, "") for key in IDENTITY))
