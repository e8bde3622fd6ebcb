"""Check a span against its committed schema, and its freshest split against the one that the model learns from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from sluice.content import digest_of_value, write_json
from sluice.data.anomalies import Anomaly, find_anomalies, find_distances
from sluice.data.divergence import FeatureProfile, baseline_masses, jensen_shannon, masses, profiles_of
from sluice.data.schema import Schema, read_schema
from sluice.data.span import read_record, read_span, type_name
from sluice.data.statistics import Statistics, described, statistics
from sluice.documents.model import FrozenDocument
from sluice.errors import BadInput
from sluice.targets.kind import TargetKind
from sluice.tasks.task import Task

BASELINE, FRESH = "train", "test"
REPORT_FILE = "validation.json"
CONTRACT_SUFFIX = ".pbtxt"


class Comparison(FrozenDocument):
    """One feature in the fresh split against the training split."""

    feature: str
    divergence: float
    limit: float
    bins: tuple[str, ...]
    """Names of the bins, the nulls first."""
    baseline: tuple[float, ...]
    fresh: tuple[float, ...]
    """Share of the rows in each bin; each sums to 1."""


class ValidationReport(FrozenDocument):
    """What validation saw. ``passed`` is true when there is no anomaly."""

    task: str
    passed: bool
    span: str
    """Digest of the span."""
    schema_digest: str
    rows: int
    anomalies: tuple[Anomaly, ...]
    comparisons: tuple[Comparison, ...]
    statistics: dict[str, Statistics]
    """Of the splits ``train`` and ``test``."""


def validate(task: Task, span_dir: Path, out: Path) -> ValidationReport:
    """
    Check the span in ``span_dir`` and write ``out/validation.json``; anomalies are reported, not raised.

    Images and texts are looked at by their summaries (``described``): that each is of its size, type and range was
    required when the span was made. Rules hold for all rows; distances are those of the split test against the split
    train. Where TFDV's schema lies beside the committed one, with the same name and the ending .pbtxt, the span is held
    against it too, the split train as the span before: an anomaly's rule is then TFDV's name of it.

    Raises:
        BadInput: the span or a schema is missing or unreadable, or the report cannot be written.
        BadArtifact: the span is not what its record says.
    """
    frame, record = described(read_span(span_dir), task.inputs), read_record(span_dir)
    schema = read_schema(task.schema_file)
    splits = {name: frame.filter(pl.col("split") == name) for name in (BASELINE, FRESH)}
    profiles = _profiles(splits, schema)
    anomalies = [
        *find_anomalies(frame, schema, None, window=(task.splits.train, task.splits.live)),
        *_class_anomalies(frame, task.target),
        *_fresh_anomalies(splits, schema, profiles),
        *_contract_anomalies(task.schema_file.with_suffix(CONTRACT_SUFFIX), frame, splits[BASELINE]),
    ]
    report = ValidationReport(
        task=task.name,
        passed=not anomalies,
        span=record.digest,
        schema_digest=digest_of_value(schema.model_dump(mode="json")),
        rows=frame.height,
        anomalies=tuple(anomalies),
        comparisons=_comparisons(splits[FRESH], schema, profiles),
        statistics={name: statistics(rows) for name, rows in splits.items()},
    )
    try:
        write_json(out / REPORT_FILE, report.model_dump(mode="json"))
    except OSError as error:
        raise BadInput(
            str(out), f"cannot be written ({error.strerror})", "make room or choose another folder"
        ) from error
    return report


def require_valid(report: ValidationReport) -> None:
    """
    Let a valid span pass.

    Raises:
        BadInput: it has anomalies; names the first and says how many there are.
    """
    if report.passed:
        return
    first, count = report.anomalies[0], len(report.anomalies)
    raise BadInput(
        f"span {report.span[:19]} of task {report.task!r}, feature {first.feature!r}",
        f"{first.text.rstrip('.')} (rule {first.rule}; {count} {'anomaly' if count == 1 else 'anomalies'} in all)",
        "mend the source, or change the committed schema if the data is right",
    )


def _profiles(splits: dict[str, pl.DataFrame], schema: Schema) -> dict[str, FeatureProfile]:
    """Profiles of the training split, of the features that both sides have with the right type."""
    if any(rows.is_empty() for rows in splits.values()):
        return {}
    train = splits[BASELINE]
    names = [
        name
        for name, rule in schema.features.items()
        if rule.max_divergence is not None and name in train.columns and type_name(train.schema[name]) == rule.type
    ]
    return profiles_of(train, names)


def _fresh_anomalies(
    splits: dict[str, pl.DataFrame], schema: Schema, profiles: dict[str, FeatureProfile]
) -> list[Anomaly]:
    """Too few rows on a side, and distances."""
    anomalies = []
    for name, rows in splits.items():
        if rows.height < schema.minimum_rows:
            text = f"Split {name!r} has {rows.height} rows, fewer than {schema.minimum_rows}."
            expected = f"at least {schema.minimum_rows}"
            anomalies.append(
                Anomaly(feature=f"split={name}", rule="rows", observed=str(rows.height), expected=expected, text=text)
            )
    return [*anomalies, *find_distances(splits[FRESH], schema, profiles)]


def _contract_anomalies(path: Path, frame: pl.DataFrame, baseline: pl.DataFrame) -> Iterator[Anomaly]:
    """What TFDV's schema finds, if the task has one; its messages are not imported where it has none."""
    if not path.is_file():
        return
    from sluice.data.census.census import census_of
    from sluice.data.census.messages import statistics_of
    from sluice.data.contract.check import check_statistics
    from sluice.data.contract.schema_file import opaque_columns, read_schema_message
    from sluice.data.contract.view import DatasetView

    schema = read_schema_message(path)
    here, before = (statistics_of(census_of([rows]), opaque_columns(schema)) for rows in (frame, baseline))
    view = DatasetView(here.datasets[0], controls={"previous": DatasetView(before.datasets[0])})
    for finding in check_statistics(schema, view).findings:
        observed = ", ".join(finding.examples) or finding.text
        yield Anomaly(
            feature=finding.name,
            rule=finding.kind,
            observed=observed,
            expected=f"as {path.name} says",
            text=finding.text,
        )


def _class_anomalies(frame: pl.DataFrame, target: TargetKind) -> Iterator[Anomaly]:
    """Splits in which nothing could be learnt, chosen or judged, since all labels are one."""
    for (name,), rows in frame.select("split", "label").drop_nulls().group_by("split", maintain_order=True):
        labels = rows["label"].unique()
        if len(labels) == 1:
            only = labels.to_list()[0]
            text = f"Split {name!r} has {rows.height} labels, all of them {only}."
            yield Anomaly(
                feature=f"split={name}", rule="classes", observed=f"only {only}", expected=target.variety, text=text
            )


def _comparisons(fresh: pl.DataFrame, schema: Schema, profiles: dict[str, FeatureProfile]) -> tuple[Comparison, ...]:
    comparisons = []
    for name, profile in profiles.items():
        before, after = baseline_masses(profile), masses(profile, fresh.get_column(name))
        comparisons.append(
            Comparison(
                feature=name,
                divergence=jensen_shannon(np.asarray(before), np.asarray(after)),
                limit=schema.features[name].max_divergence or 0.0,
                bins=bin_names(profile),
                baseline=before,
                fresh=after,
            )
        )
    return tuple(comparisons)


def bin_names(profile: FeatureProfile) -> tuple[str, ...]:
    """What to write under the bars of a profile, the nulls first."""
    if profile.kind == "categorical":
        return ("null", *profile.categories, "other")
    if not profile.edges:
        return ("null", "below", "above")
    first, last = f"{profile.edges[0]:g}", f"{profile.edges[-1]:g}"
    inner = (f"{low:g} – {high:g}" for low, high in pairwise(profile.edges))
    return ("null", f"< {first}", *inner, last, f"> {last}")
