"""A census as the messages of tensorflow-metadata: what TFDV's own tools open."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
from tensorflow_metadata.proto.v0 import statistics_pb2

from sluice.data.census.census import WHOLE, Census, CensusSlice
from sluice.data.census.column import ColumnCensus
from sluice.data.census.exact_sum import as_fraction, nearest, square_root
from sluice.data.census.histograms import Buckets, equal_counts, equal_widths, quantiles_at
from sluice.data.census.number_table import NumberTable
from sluice.data.census.valency import Valency

TOP, RANKED = 20, 1000
RANK_ERROR, UNIQUE_ERROR, COUNTED_AS = "sluice.rank_error", "sluice.count_error", "sluice.counted_as"
"""Custom statistics that we add: what is not exact, by how much, and what numbers stand for."""
_STANDARD, _QUANTILES = statistics_pb2.Histogram.STANDARD, statistics_pb2.Histogram.QUANTILES
_TYPES = {None: "STRING", "INT": "INT", "FLOAT": "FLOAT", "STRING": "STRING", "STRUCT": "STRUCT"}


def statistics_of(census: Census, opaque: AbstractSet[str] = frozenset()) -> Any:
    """
    The ``DatasetFeatureStatisticsList`` of a census: the whole first, then its slices by name.

    Args:
        census: what was counted.
        opaque: columns whose bytes are not read as text: their type is BYTES.
    """
    result = statistics_pb2.DatasetFeatureStatisticsList()
    for name in sorted(census.parts, key=lambda name: (name != WHOLE, name)):
        part = _completed(census.parts[name], census.parts[WHOLE])
        _dataset(result.datasets.add(name=name), part, census.weight, opaque)
    return result


def _completed(part: CensusSlice, whole: CensusSlice) -> CensusSlice:
    """A slice with all columns of the whole, of their types: it has not seen those of batches without a row of it."""
    columns = {}
    for path, model in whole.columns.items():
        column = part.columns.get(path, ColumnCensus(path))
        levels = column.levels or [Valency() for _ in model.levels]
        columns[path] = replace(column, kind=model.kind, note=model.note, levels=levels)
    return CensusSlice(part.rows, part.weight, columns)


def _dataset(message: Any, part: CensusSlice, weight: str | None, opaque: AbstractSet[str]) -> None:
    message.num_examples = part.rows
    if weight is not None:
        message.weighted_num_examples = nearest(as_fraction(part.weight))
    for path in sorted(part.columns):
        if path == (weight,):
            continue  # a weight weighs the others and is none of them, as in TFDV
        _feature(
            message.features.add(), part, part.columns[path], weighted=weight is not None, opaque=path[0] in opaque
        )


def _feature(message: Any, part: CensusSlice, column: ColumnCensus, *, weighted: bool, opaque: bool) -> None:
    message.path.step.extend(column.path)
    kind = "BYTES" if opaque and column.kind in (None, "STRING") else _TYPES[column.kind]
    message.type = statistics_pb2.FeatureNameStatistics.Type.Value(kind)
    if kind == "BYTES":
        stats = message.bytes_stats
        _bytes(stats, column)
    elif kind == "STRING":
        stats = message.string_stats
        _texts(stats, column, weighted=weighted)
    elif kind == "STRUCT":
        stats = message.struct_stats
    else:
        stats = message.num_stats
        _numbers(stats, column, weighted=weighted)
    _common(stats.common_stats, part, column, weighted=weighted)
    _custom(message, column)


def _common(message: Any, part: CensusSlice, column: ColumnCensus, *, weighted: bool) -> None:
    levels = column.levels or [Valency()]
    above, above_weight = _parent(part, column)
    top, last = levels[0], levels[-1]
    message.num_non_missing, message.num_missing = top.present, above - top.present
    message.tot_num_values = last.values
    lengths = column.innermost.lengths if len(levels) > 1 else top.lengths
    if top.present:
        message.avg_num_values = last.values / top.present
    if lengths.total:
        message.min_num_values, message.max_num_values = int(lengths.minimum), int(lengths.maximum)
        counts = lengths.counts.astype(np.float64)
        _fill(message.num_values_histogram, equal_counts(lengths.numbers(), counts), _QUANTILES)
    if weighted:
        _weighted_common(message.weighted_common_stats, top, last, above_weight)
    if len(levels) > 1:
        for level in levels:
            _level(message.presence_and_valency_stats.add(), level, above)
            if weighted:
                _weighted_common(message.weighted_presence_and_valency_stats.add(), level, level, above_weight)
            above, above_weight = level.values, level.values_weight


def _parent(part: CensusSlice, column: ColumnCensus) -> tuple[int, int]:
    """How many could be present, and what they weigh: rows, or values of the structure around."""
    if len(column.path) == 1:
        return part.rows, part.weight
    around = part.columns[column.path[:-1]].levels[-1]
    return around.values, around.values_weight


def _level(message: Any, level: Valency, above: int) -> None:
    message.num_non_missing, message.num_missing = level.present, above - level.present
    if level.present:
        message.min_num_values, message.max_num_values = int(level.lengths.minimum), int(level.lengths.maximum)
        message.tot_num_values = level.values


def _weighted_common(message: Any, top: Valency, last: Valency, above: int) -> None:
    present, values = nearest(as_fraction(top.present_weight)), nearest(as_fraction(last.values_weight))
    message.num_non_missing, message.num_missing = present, nearest(as_fraction(above - top.present_weight))
    message.tot_num_values = values
    if present:
        message.avg_num_values = values / present


def _numbers(message: Any, column: ColumnCensus, *, weighted: bool) -> None:
    special, table, moments = column.special, column.numbers, column.moments
    known = table.total + special.positive_infinity + special.negative_infinity
    if known == 0:
        if special.nan or special.undefined:
            for kind in (_STANDARD, _QUANTILES):
                _mark(message.histograms.add(type=kind), column)
        return
    low, high = _extremes(column)
    message.num_zeros, message.min, message.max = special.zeros, low, high
    message.mean, message.std_dev = _mean_and_deviation(column, moments.total, moments.squares, Fraction(table.total))
    numbers, counts = _with_infinities(column, table.counts, special.positive_infinity, special.negative_infinity)
    message.median = _median(numbers, counts)
    _histograms(message.histograms, column, numbers, counts, table.counts)
    if weighted:
        twin = message.weighted_numeric_stats
        twin.mean, twin.std_dev = _mean_and_deviation(
            column, moments.weighted_total, moments.weighted_squares, as_fraction(moments.weight)
        )
        numbers, weights = _with_infinities(column, table.weights, special.positive_weight, special.negative_weight)
        if weights.sum() > 0:
            twin.median = _median(numbers, weights)
            _histograms(twin.histograms, column, numbers, weights, table.weights)


def _extremes(column: ColumnCensus) -> tuple[float, float]:
    """Smallest and largest number, infinities among them."""
    special, table = column.special, column.numbers
    low = -np.inf if special.negative_infinity else table.minimum
    high = np.inf if special.positive_infinity else table.maximum
    return float(low), float(high)


def _mean_and_deviation(
    column: ColumnCensus, total: Fraction, squares: Fraction, count: Fraction
) -> tuple[float, float]:
    """Mean and population deviation; with an infinity, what arithmetic with it gives, and 0, as TFDV says."""
    special = column.special
    if special.positive_infinity or special.negative_infinity:
        both = special.positive_infinity and special.negative_infinity
        return (np.nan if both else np.inf if special.positive_infinity else -np.inf), 0.0
    if count == 0:
        return 0.0, 0.0
    mean = total / count
    return nearest(mean), square_root(squares / count - mean * mean)


def _with_infinities(
    column: ColumnCensus, counts: np.ndarray, above: float, below: float
) -> tuple[np.ndarray, np.ndarray]:
    numbers, counts = column.numbers.numbers(), counts.astype(np.float64)
    if below:
        numbers, counts = np.insert(numbers, 0, -np.inf), np.insert(counts, 0, below)
    if above:
        numbers, counts = np.append(numbers, np.inf), np.append(counts, above)
    return numbers, counts


def _median(numbers: np.ndarray, counts: np.ndarray) -> float:
    return float(quantiles_at(numbers, counts, np.array([0.5]))[0][0])


def _histograms(target: Any, column: ColumnCensus, numbers: np.ndarray, counts: np.ndarray, finite: np.ndarray) -> None:
    """Equal widths, with a bucket for each infinity, and equal counts."""
    table: NumberTable = column.numbers
    standard = target.add(type=_STANDARD)
    if numbers[0] == -np.inf:
        standard.buckets.add(low_value=-np.inf, high_value=-np.inf, sample_count=counts[0])
    _fill(standard, equal_widths(table.numbers(), finite.astype(np.float64), table.minimum, table.maximum), _STANDARD)
    if numbers[-1] == np.inf:
        standard.buckets.add(low_value=np.inf, high_value=np.inf, sample_count=counts[-1])
    quantiles = target.add(type=_QUANTILES)
    _fill(quantiles, equal_counts(numbers, counts), _QUANTILES)
    for message in (standard, quantiles):
        _mark(message, column)


def _mark(histogram: Any, column: ColumnCensus) -> None:
    histogram.num_nan, histogram.num_undefined = column.special.nan, column.special.undefined


def _fill(histogram: Any, buckets: Buckets, kind: int) -> None:
    histogram.type = kind
    for low, high, count in zip(buckets.lows, buckets.highs, buckets.counts, strict=True):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)


def _texts(message: Any, column: ColumnCensus, *, weighted: bool) -> None:
    message.unique = column.texts.distinct
    message.invalid_utf8_count = column.lengths.not_utf8
    if column.levels and (values := column.levels[-1].values - column.special.undefined):
        message.avg_length = column.lengths.total / values
    _ranks(message, column.texts.ranked("count"), "count")
    if weighted:
        _ranks(message.weighted_string_stats, column.texts.ranked("weight"), "weight")


def _ranks(message: Any, ranked: pl.DataFrame, by: str) -> None:
    for rank, (value, count) in enumerate(ranked.head(RANKED).select("value", by).iter_rows()):
        if rank < TOP:
            message.top_values.add(value=value, frequency=count)
        message.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=value, sample_count=count)


def _bytes(message: Any, column: ColumnCensus) -> None:
    lengths = column.lengths
    message.unique = column.texts.distinct
    if lengths.shortest is not None and lengths.longest is not None and column.levels:
        message.avg_num_bytes = lengths.total / max(1, column.levels[-1].values - column.special.undefined)
        message.min_num_bytes, message.max_num_bytes = lengths.shortest, lengths.longest
        message.max_num_bytes_int = lengths.longest


def _custom(message: Any, column: ColumnCensus) -> None:
    """Statistics of lengths below the first level, and what the counts here do not say by themselves."""
    for number, level in enumerate(column.levels[1:], start=2):
        if level.lengths.total:
            numbers, counts = level.lengths.numbers(), level.lengths.counts.astype(np.float64)
            name = f"level_{number}_value_list_length"
            _fill(
                message.custom_stats.add(name=f"{name}_quantiles").histogram, equal_counts(numbers, counts), _QUANTILES
            )
            widths = equal_widths(numbers, counts, level.lengths.minimum, level.lengths.maximum)
            _fill(message.custom_stats.add(name=f"{name}_standard").histogram, widths, _STANDARD)
    if error := column.numbers.rank_error:
        message.custom_stats.add(name=RANK_ERROR, num=error)
    if not column.texts.exact:
        message.custom_stats.add(name=UNIQUE_ERROR, num=column.texts.error)
    if column.note:
        message.custom_stats.add(name=COUNTED_AS, str=column.note)
