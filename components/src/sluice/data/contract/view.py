"""Statistics as the checks look at them: by weight where the table was weighted, and with what they are compared to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from sluice.data.census.files import path_of, stats_of

ControlSide = Literal["previous", "serving", "version"]


@dataclass(frozen=True)
class DatasetView:
    """
    Statistics of a table.

    Args:
        message: a ``DatasetFeatureStatistics``.
        environment: in which the table is to be used; ``None``: in all.
        controls: statistics that it is compared with: of the span before, of the serving side, of the version before.
    """

    message: Any
    environment: str | None = None
    controls: Mapping[ControlSide, DatasetView] = field(default_factory=dict)

    @property
    def weighted(self) -> bool:
        """Whether rows are looked at by their weight."""
        return bool(self.message.weighted_num_examples)

    @property
    def examples(self) -> float:
        """Rows, or their weight."""
        message = self.message
        return float(message.weighted_num_examples if self.weighted else message.num_examples)

    def features(self) -> Iterator[FeatureView]:
        """All features that have statistics."""
        for each in self.message.features:
            if stats_of(each) is not None:
                yield FeatureView(each, self)

    def feature(self, path: tuple[str, ...]) -> FeatureView | None:
        """The feature of that path."""
        return self._by_path.get(path)

    @cached_property
    def _by_path(self) -> dict[tuple[str, ...], FeatureView]:
        return {each.path: each for each in self.features()}


@dataclass(frozen=True)
class FeatureView:
    """Statistics of one feature: ``message`` is a ``FeatureNameStatistics``."""

    message: Any
    dataset: DatasetView

    @property
    def path(self) -> tuple[str, ...]:
        """Steps to the feature."""
        return path_of(self.message)

    @property
    def kind(self) -> str:
        """INT, FLOAT, STRING, BYTES or STRUCT."""
        return str(type(self.message).Type.Name(self.message.type))

    @property
    def common(self) -> Any:
        """Presence and valency."""
        return stats_of(self.message).common_stats

    @property
    def present(self) -> float:
        """Rows that have the feature, or their weight."""
        common = self.common
        return float(common.weighted_common_stats.num_non_missing if self.dataset.weighted else common.num_non_missing)

    @property
    def missing(self) -> float:
        """Rows that have it not, or their weight."""
        common = self.common
        return float(common.weighted_common_stats.num_missing if self.dataset.weighted else common.num_missing)

    @property
    def values(self) -> float:
        """Values of all rows, or their weight."""
        common = self.common
        return float(common.weighted_common_stats.tot_num_values if self.dataset.weighted else common.tot_num_values)

    def valencies(self) -> list[tuple[int, int]]:
        """Least and most values at each level of nesting."""
        levels = self.common.presence_and_valency_stats or [self.common]
        return [(int(level.min_num_values), int(level.max_num_values)) for level in levels]

    def missing_by_level(self) -> list[float]:
        """What is missing at each level of nesting."""
        common, weighted = self.common, self.dataset.weighted
        levels = common.weighted_presence_and_valency_stats if weighted else common.presence_and_valency_stats
        return [float(level.num_missing) for level in levels] or [self.missing]

    def counts(self) -> dict[str, float]:
        """Texts and how often each occurs, or its weight; by text."""
        stats = self.message.string_stats
        ranks = stats.weighted_string_stats.rank_histogram if self.dataset.weighted else stats.rank_histogram
        return dict(sorted((bucket.label, bucket.sample_count) for bucket in ranks.buckets))

    def histogram(self, kind: Literal["STANDARD", "QUANTILES"]) -> Any | None:
        """The histogram of that kind; ``None`` without one."""
        if self.message.WhichOneof("stats") != "num_stats":
            return None
        stats = self.message.num_stats
        histograms = stats.weighted_numeric_stats.histograms if self.dataset.weighted else stats.histograms
        return next((each for each in histograms if type(each).HistogramType.Name(each.type) == kind), None)

    @property
    def invalid_utf8(self) -> bool:
        """Whether some text is no UTF-8."""
        return bool(self.message.string_stats.invalid_utf8_count)

    def custom(self, name: str) -> Any | None:
        """The custom statistic of that name."""
        return next((each for each in self.message.custom_stats if each.name == name), None)
