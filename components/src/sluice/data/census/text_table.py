"""How often each text occurs: exactly up to a size that is stated, the frequent ones and an estimate beyond it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

CAPACITY = 100_000
"""Distinct texts that are counted exactly."""
FREQUENT = 20_000
"""Texts that are kept beyond that."""
_HASHES = 4096
_SCHEMA = {"value": pl.String, "count": pl.Int64, "weight": pl.Float64}


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema=_SCHEMA)


@dataclass
class TextTable:
    """
    Counts and weights of texts.

    Up to ``CAPACITY`` distinct texts everything is exact, and merged parts equal the whole. Beyond, the most frequent
    are kept as Misra and Gries do: a text that is in the table occurs at least its count and at most ``error`` more,
    and one that is not occurs at most ``error`` times, which is at most rows / ``FREQUENT``. How many differ is then
    estimated from the smallest 4096 of their hashes (standard error 1.6 %), which knows no order of parts.
    """

    counts: pl.DataFrame = field(default_factory=_empty)
    """Columns value (String), count (Int64), weight (Float64); by value."""
    error: int = 0
    smallest: np.ndarray | None = None
    """Ascending hashes (uint64), from the moment on that not all texts are kept."""

    def add(self, values: pl.Series, weights: np.ndarray | None = None) -> None:
        """Count texts (String, no nulls); ``weights`` is float64 of the same length, 1 each where it is left out."""
        if values.is_empty():
            return
        frame = pl.DataFrame({"value": values.alias("value")})
        frame = frame.with_columns(weight=pl.lit(1.0) if weights is None else pl.Series(weights))
        self._take(frame.group_by("value").agg(count=pl.len().cast(pl.Int64), weight=pl.col("weight").sum()))

    def merge(self, other: TextTable) -> None:
        """Count what the other table has counted too."""
        if other.smallest is not None:
            self._hash(self.counts["value"])
            self.smallest = _lowest(self.smallest, other.smallest)
        self.error += other.error
        self._take(other.counts)

    @property
    def exact(self) -> bool:
        """Whether every text is in the table, with its count."""
        return self.smallest is None

    @property
    def distinct(self) -> int:
        """How many texts differ; an estimate where the table is not exact."""
        if self.smallest is None:
            return self.counts.height
        if self.smallest.size < _HASHES:
            return int(self.smallest.size)
        return round((_HASHES - 1) * 2.0**64 / (float(self.smallest[-1]) + 1))

    def ranked(self, by: str = "count") -> pl.DataFrame:
        """The table by ``count`` or ``weight``, the largest first, equal ones by the later value, as TFDV does."""
        return self.counts.sort([by, "value"], descending=[True, True])

    def _take(self, new: pl.DataFrame) -> None:
        if self.smallest is not None:
            self._hash(new["value"])
        both = pl.concat([self.counts, new.select(list(_SCHEMA))])
        summed = both.group_by("value").agg(pl.col("count", "weight").sum()).sort("value")
        if self.smallest is None and summed.height > CAPACITY:
            self._hash(summed["value"])
        if self.smallest is not None and summed.height > FREQUENT:
            summed = self._thinned(summed)
        self.counts = summed

    def _thinned(self, counts: pl.DataFrame) -> pl.DataFrame:
        """Without the rarest: all counts lose what the first one too many has."""
        loss = int(counts["count"].sort(descending=True)[FREQUENT])
        self.error += loss
        remaining = counts.filter(pl.col("count") > loss)
        share = (pl.col("count") - loss) / pl.col("count")
        return remaining.with_columns(weight=pl.col("weight") * share, count=pl.col("count") - loss)

    def _hash(self, values: pl.Series) -> None:
        hashes = _hashes(values)
        self.smallest = hashes if self.smallest is None else _lowest(self.smallest, hashes)


def _hashes(values: pl.Series) -> np.ndarray:
    from pandas.util import hash_array  # the one at hand that stays the same from version to version

    return _lowest(None, hash_array(values.to_numpy(), categorize=False))


def _lowest(one: np.ndarray | None, other: np.ndarray) -> np.ndarray:
    """The smallest hashes of both, each once."""
    lowest: np.ndarray = np.unique(other if one is None else np.concatenate([one, other]))[:_HASHES]
    return lowest
