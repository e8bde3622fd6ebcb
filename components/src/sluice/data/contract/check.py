"""All checks of a schema against statistics, at once; and the schema that would accept what they find."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from sluice.data.contract.comparison_checks import check_comparisons
from sluice.data.contract.dataset_checks import check_dataset
from sluice.data.contract.domain_checks import check_domain
from sluice.data.contract.finding import FeatureLook, Finding, Severity
from sluice.data.contract.group_checks import check_groups
from sluice.data.contract.infer import feature_at, infer_feature
from sluice.data.contract.language_checks import check_images, check_language
from sluice.data.contract.lifecycle import deprecate, is_required, is_resting
from sluice.data.contract.presence_checks import (
    check_derived,
    check_environment,
    check_presence,
    check_shape,
    check_type,
    check_unique,
    check_valency,
)
from sluice.data.contract.self_checks import check_itself
from sluice.data.contract.view import DatasetView, FeatureView

_OF_VALUES = (
    check_environment,
    check_valency,
    check_shape,
    check_presence,
    check_type,
    check_domain,
    check_images,
    check_language,
    check_unique,
    check_comparisons,
    check_derived,
)


@dataclass(frozen=True)
class SchemaVerdict:
    """What was found, and the ``Schema`` message that finds none of it."""

    findings: tuple[Finding, ...]
    accepting: Any

    @property
    def clean(self) -> bool:
        """Whether nothing of severity error was found."""
        return all(finding.severity != "error" for finding in self.findings)


def check_statistics(
    schema: Any,
    dataset: DatasetView,
    severities: Mapping[str, Severity] | None = None,
    accept: Collection[str] | None = None,
) -> SchemaVerdict:
    """
    Hold statistics against a schema, which stays as it is.

    Args:
        schema: a ``Schema`` message.
        dataset: the statistics, with those that they are compared to.
        severities: by TFDV's name of an anomaly; error where it is left out.
        accept: names of features (``Finding.name``) whose changes the schema of the verdict takes; all if ``None``.
    """
    changed = schema_pb2.Schema()
    changed.CopyFrom(schema)
    if dataset.examples == 0:
        text = "There are no rows, so nothing else was looked at."
        empty = Finding("NO_DATA_IN_SPAN", (), "No data", text, 0)
        return SchemaVerdict(_with_severities([empty], severities), changed)
    findings = [*check_dataset(changed, dataset), *check_groups(changed, dataset)]
    findings += _missing(changed, dataset)
    domains = {domain.name: domain for domain in changed.string_domain}
    tops = {(feature.name,): feature for feature in changed.feature}
    for view in dataset.features():
        feature = tops.get(view.path) if len(view.path) == 1 else feature_at(changed, view.path)
        findings += _new(changed, view) if feature is None else _check_feature(changed, feature, view, domains)
    findings += _unseen(changed, dataset, domains)
    accepting = changed if accept is None else _with_parts(schema, changed, accept)
    return SchemaVerdict(_with_severities(findings, severities), accepting)


def _check_feature(schema: Any, feature: Any, view: FeatureView, domains: Mapping[str, Any]) -> list[Finding]:
    look = FeatureLook(schema, feature, view, domains)
    if is_resting(feature):
        return []
    check_itself(look)
    if is_resting(feature):
        return look.findings
    if view.present == 0:
        if is_required(schema, feature, view.dataset.environment):
            look.report("FEATURE_TYPE_NOT_PRESENT", "Column dropped", "No row has the feature.", count=0)
            deprecate(feature)
        return look.findings
    for check in _OF_VALUES:
        check(look)
    return look.findings


def _new(schema: Any, view: FeatureView) -> list[Finding]:
    """A column that the schema does not know; what lies in a new structure comes with it."""
    around = schema if len(view.path) == 1 else feature_at(schema, view.path[:-1])
    if around is None or (around is not schema and is_resting(around)):
        return []
    groups = {each.name for each in (*schema.sparse_feature, *schema.weighted_feature)}
    if view.path[0] in groups:
        return []
    text = f"The column, of {view.kind}, is not in the schema."
    findings = Finding("SCHEMA_NEW_COLUMN", view.path, "New column", text, view.present)
    inside = schema.feature if around is schema else around.struct_domain.feature
    infer_feature(schema, inside.add(), view, {domain.name for domain in schema.string_domain})
    return [findings]


def _missing(schema: Any, dataset: DatasetView) -> list[Finding]:
    there = {view.path for view in dataset.features()}
    findings: list[Finding] = []

    def walk(features: Any, above: tuple[str, ...]) -> None:
        for feature in features:
            path = (*above, feature.name)
            if feature.HasField("name") and path not in there and is_required(schema, feature, dataset.environment):
                findings.append(Finding("SCHEMA_MISSING_COLUMN", path, "Column dropped", "The column is missing.", 0))
                deprecate(feature)
            if not is_resting(feature) and feature.WhichOneof("domain_info") == "struct_domain":
                walk(feature.struct_domain.feature, path)

    walk(schema.feature, ())
    return findings


def _unseen(schema: Any, dataset: DatasetView, domains: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with features by themselves that the statistics do not have."""
    there = {view.path for view in dataset.features()}
    nowhere = FeatureView(None, dataset)
    findings: list[Finding] = []
    for feature in schema.feature:
        if (feature.name,) not in there and not is_resting(feature):
            look = _FeatureSelfLook(schema, feature, nowhere, domains)
            check_itself(look)
            findings += look.findings
    return findings


class _FeatureSelfLook(FeatureLook):
    """A look at a feature that has no statistics."""

    def report(self, kind: str, short: str, text: str, **_: Any) -> None:
        """Keep an anomaly of this feature, or of the place of one without a name."""
        self.findings.append(Finding(kind, (self.feature.name,) if self.feature.name else (), short, text))


def _with_parts(schema: Any, changed: Any, accept: Collection[str]) -> Any:
    """The schema with the changes to some features only, and to the domains that these name."""
    result = schema_pb2.Schema()
    result.CopyFrom(schema)
    if "(table)" in accept:
        result.dataset_constraints.CopyFrom(changed.dataset_constraints)
    tops = {name.partition(".")[0] for name in accept}
    for group in ("feature", "sparse_feature", "weighted_feature"):
        old = {each.name: each for each in getattr(result, group)}
        for each in getattr(changed, group):
            if each.name in tops and (each.name in accept or group == "feature"):
                (old[each.name] if each.name in old else getattr(result, group).add()).CopyFrom(each)
    domains = {feature.domain for feature in result.feature if feature.name in tops and feature.domain}
    known = {domain.name: domain for domain in result.string_domain}
    for domain in changed.string_domain:
        if domain.name in domains:
            (known[domain.name] if domain.name in known else result.string_domain.add()).CopyFrom(domain)
    return result


def _with_severities(findings: list[Finding], severities: Mapping[str, Severity] | None) -> tuple[Finding, ...]:
    levels = severities or {}
    return tuple(replace(finding, severity=levels.get(finding.kind, finding.severity)) for finding in findings)
