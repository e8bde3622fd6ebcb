"""Each anomaly of TFDV on a minimal span; schemas that are read, inferred, changed; comparators as TFDV's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from sluice.data.census.census import census_of
from sluice.data.census.files import path_of, read_statistics
from sluice.data.census.messages import statistics_of
from sluice.data.contract import check as checks
from sluice.data.contract.check import check_statistics
from sluice.data.contract.comparators import Masses, jensen_shannon_of_histograms
from sluice.data.contract.comparison_checks import COMPARATORS, score
from sluice.data.contract.infer import infer_schema_message
from sluice.data.contract.schema_file import parse_schema, read_schema_message, schema_text, write_schema_message
from sluice.data.contract.view import ControlSide, DatasetView
from sluice.errors import BadInput

GOLDEN = Path(__file__).parents[1] / "golden"


def seen(frame: pl.DataFrame, **how: Any) -> DatasetView:
    return DatasetView(statistics_of(census_of([frame]), frozenset(how.pop("opaque", ()))).datasets[0], **how)


def told(feature: str, rows: int = 3) -> DatasetView:
    """Statistics that TFDV counts and we do not, as it writes them: of one feature f."""
    text = f"num_examples: {rows} features {{ path {{ step: 'f' }} {feature} }}"
    return DatasetView(text_format.Parse(text, statistics_pb2.DatasetFeatureStatistics()))


@dataclass(frozen=True)
class Case:
    """A schema of a feature f, or whole, and the statistics that break it."""

    feature: str
    data: DatasetView
    check: str
    whole: str = ""
    keep: Mapping[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> Any:
        text = self.whole or f"feature {{ name: 'f' {self.feature} }}"
        return parse_schema(text, "case")


def ints(*values: int | None) -> DatasetView:
    return seen(pl.DataFrame({"f": pl.Series(values, dtype=pl.Int64)}))


def floats(*values: float | None) -> DatasetView:
    return seen(pl.DataFrame({"f": pl.Series(values, dtype=pl.Float64)}))


def texts(*values: str | None) -> DatasetView:
    return seen(pl.DataFrame({"f": pl.Series(values, dtype=pl.String)}))


def beside(here: DatasetView, side: ControlSide, there: DatasetView, environment: str | None = None) -> DatasetView:
    return DatasetView(here.message, environment, {side: there})


def with_token(constraint: str, statistic: str) -> Case:
    nl = statistics_pb2.NaturalLanguageStatistics()
    text_format.Parse(
        f"token_statistics {{ string_token: 'a' {statistic} }} feature_coverage: 0.5 avg_token_length: 2", nl
    )
    data = told("type: STRING string_stats { common_stats { num_non_missing: 3 } }")
    data.message.features[0].custom_stats.add(name="nl_statistics").any.Pack(nl)
    return Case(f"type: BYTES natural_language_domain {{ {constraint} }}", data, "check_language")


def custom(text: str) -> DatasetView:
    return told(f"type: STRING string_stats {{ common_stats {{ num_non_missing: 3 }} }} custom_stats {{ {text} }}")


ONE = ints(1)
SPARSE = "sparse_feature { name: 'f' index_feature { name: 'i' } value_feature { name: 'v' } }"
WEIGHTED = "weighted_feature { name: 'f' feature { step: 'v' } weight_feature { step: 'w' } }"
LIST = seen(pl.DataFrame({"f": [[1], [1, 2, 3]]}))
TABLE = {
    "BOOL_TYPE_BIG_INT": Case("type: INT bool_domain {}", ints(0, 2), "check_domain"),
    "BOOL_TYPE_SMALL_INT": Case("type: INT bool_domain {}", ints(-1, 1), "check_domain"),
    "BOOL_TYPE_UNEXPECTED_STRING": Case(
        "type: BYTES bool_domain { true_value: 'yes' false_value: 'no' }", texts("yes", "maybe"), "check_domain"
    ),
    "BOOL_TYPE_UNEXPECTED_FLOAT": Case("type: FLOAT bool_domain {}", floats(0, 0.5, 1), "check_domain"),
    "BOOL_TYPE_INVALID_CONFIG": Case("type: INT bool_domain { true_value: 'yes' }", ints(0, 1), "check_domain"),
    "ENUM_TYPE_INVALID_UTF8": Case(
        "type: BYTES string_domain { value: 'a' }", seen(pl.DataFrame({"f": [b"\xff", b"a"]})), "check_domain"
    ),
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES": Case(
        "type: BYTES domain: 'd'",
        texts("a", "b"),
        "check_domain",
        whole="feature { name: 'f' type: BYTES domain: 'd' } string_domain { name: 'd' value: 'a' }",
    ),
    "FEATURE_TYPE_HIGH_NUMBER_VALUES": Case("type: INT value_count { max: 2 }", LIST, "check_valency"),
    "FEATURE_TYPE_LOW_NUMBER_VALUES": Case("type: INT value_count { min: 2 }", LIST, "check_valency"),
    "FEATURE_TYPE_LOW_FRACTION_PRESENT": Case(
        "type: INT presence { min_fraction: 1 }", ints(1, None), "check_presence"
    ),
    "FEATURE_TYPE_LOW_NUMBER_PRESENT": Case("type: INT presence { min_count: 2 }", ints(1, None), "check_presence"),
    "FEATURE_TYPE_NOT_PRESENT": Case("type: INT presence { min_count: 1 }", ints(None, None), "is_required"),
    "FEATURE_TYPE_HIGH_UNIQUE": Case("type: BYTES unique_constraints { max: 1 }", texts("a", "b"), "check_unique"),
    "FEATURE_TYPE_LOW_UNIQUE": Case("type: BYTES unique_constraints { min: 2 max: 9 }", texts("a"), "check_unique"),
    "FEATURE_TYPE_NO_UNIQUE": Case("type: INT unique_constraints { min: 1 max: 9 }", ONE, "check_unique"),
    "FLOAT_TYPE_BIG_FLOAT": Case("type: FLOAT float_domain { max: 0 }", floats(0.1), "check_domain"),
    "FLOAT_TYPE_SMALL_FLOAT": Case("type: FLOAT float_domain { min: 0 }", floats(-0.1), "check_domain"),
    "FLOAT_TYPE_STRING_NOT_FLOAT": Case("type: BYTES float_domain {}", texts("1.5", "x"), "check_domain"),
    "FLOAT_TYPE_HAS_NAN": Case("type: FLOAT float_domain { disallow_nan: true }", floats(1, math.nan), "check_domain"),
    "FLOAT_TYPE_HAS_INF": Case("type: FLOAT float_domain { disallow_inf: true }", floats(1, math.inf), "check_domain"),
    "INT_TYPE_BIG_INT": Case("type: INT int_domain { max: 0 }", ONE, "check_domain"),
    "INT_TYPE_SMALL_INT": Case("type: BYTES int_domain { min: 0 }", texts("-1", "3"), "check_domain"),
    "INT_TYPE_NOT_INT_STRING": Case("type: BYTES int_domain {}", texts("1", "one"), "check_domain"),
    "LOW_SUPPORTED_IMAGE_FRACTION": Case(
        "type: BYTES image_domain { minimum_supported_image_fraction: 0.9 }",
        custom("name: 'image_format_histogram' rank_histogram { buckets { label: 'tiff' sample_count: 3 } }"),
        "check_images",
    ),
    "MAX_IMAGE_BYTE_SIZE_EXCEEDED": Case(
        "type: BYTES image_domain { max_image_byte_size: 2 }",
        seen(pl.DataFrame({"f": [b"\xff\xd8\xff"]}), opaque="f"),
        "check_images",
    ),
    "SCHEMA_MISSING_COLUMN": Case(
        "",
        ONE,
        "_missing",
        whole="feature { name: 'f' type: INT } feature { name: 'g' type: INT presence { min_count: 1 } }",
    ),
    "SCHEMA_NEW_COLUMN": Case("", ONE, "_new", whole="feature { name: 'g' type: INT }"),
    "COMPARATOR_CONTROL_DATA_MISSING": Case(
        "type: INT drift_comparator { jensen_shannon_divergence { threshold: 0.1 } }",
        beside(ONE, "previous", seen(pl.DataFrame({"g": [1]}))),
        "check_comparisons",
    ),
    "COMPARATOR_L_INFTY_HIGH": Case(
        "type: BYTES skew_comparator { infinity_norm { threshold: 0 } }",
        beside(texts("a", "b"), "serving", texts("a")),
        "check_comparisons",
    ),
    "COMPARATOR_NORMALIZED_ABSOLUTE_DIFFERENCE_HIGH": Case(
        "type: BYTES drift_comparator { normalized_abs_difference { threshold: 0.1 } }",
        beside(texts("a", "a"), "previous", texts("a")),
        "check_comparisons",
    ),
    "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH": Case(
        "type: FLOAT drift_comparator { jensen_shannon_divergence { threshold: 0.9 } }",
        beside(floats(1, 2), "previous", floats(3, 4)),
        "check_comparisons",
    ),
    "COMPARATOR_LOW_NUM_EXAMPLES": Case(
        "",
        beside(ONE, "previous", ints(1, 2, 3)),
        "check_dataset",
        whole="feature { name: 'f' type: INT } "
        "dataset_constraints { num_examples_drift_comparator { min_fraction_threshold: 0.5 } }",
    ),
    "COMPARATOR_HIGH_NUM_EXAMPLES": Case(
        "",
        beside(ints(1, 2, 3), "version", ONE),
        "check_dataset",
        whole="feature { name: 'f' type: INT } "
        "dataset_constraints { num_examples_version_comparator { max_fraction_threshold: 2 } }",
    ),
    "DATASET_LOW_NUM_EXAMPLES": Case(
        "", ONE, "check_dataset", whole="feature { name: 'f' type: INT } dataset_constraints { min_examples_count: 2 }"
    ),
    "DATASET_HIGH_NUM_EXAMPLES": Case(
        "", ONE, "check_dataset", whole="feature { name: 'f' type: INT } dataset_constraints { max_examples_count: 0 }"
    ),
    "SPARSE_FEATURE_MISSING_VALUE": Case("", custom("name: 'missing_value' num: 1"), "check_groups", whole=SPARSE),
    "SPARSE_FEATURE_MISSING_INDEX": Case(
        "",
        custom("name: 'missing_index' rank_histogram { buckets { label: 'i' sample_count: 1 } }"),
        "check_groups",
        whole=SPARSE,
    ),
    "SPARSE_FEATURE_LENGTH_MISMATCH": Case(
        "",
        custom("name: 'max_length_diff' rank_histogram { buckets { label: 'i' sample_count: 2 } }"),
        "check_groups",
        whole=SPARSE,
    ),
    "SPARSE_FEATURE_NAME_COLLISION": Case("", ONE, "check_groups", whole="feature { name: 'f' type: INT }" + SPARSE),
    "WEIGHTED_FEATURE_MISSING_VALUE": Case("", custom("name: 'missing_value' num: 1"), "check_groups", whole=WEIGHTED),
    "WEIGHTED_FEATURE_MISSING_WEIGHT": Case(
        "", custom("name: 'missing_weight' num: 1"), "check_groups", whole=WEIGHTED
    ),
    "WEIGHTED_FEATURE_LENGTH_MISMATCH": Case(
        "", custom("name: 'max_weight_length_diff' num: 1"), "check_groups", whole=WEIGHTED
    ),
    "WEIGHTED_FEATURE_NAME_COLLISION": Case(
        "", ONE, "check_groups", whole="feature { name: 'f' type: INT }" + WEIGHTED
    ),
    "SEMANTIC_DOMAIN_UPDATE": Case("type: BYTES", custom("name: 'domain_info' str: 'url_domain {}'"), "check_domain"),
    "VALUE_NESTEDNESS_MISMATCH": Case(
        "type: INT value_count { min: 1 }", seen(pl.DataFrame({"f": [[[1]], [[2, 3]]]})), "check_valency"
    ),
    "DOMAIN_INVALID_FOR_TYPE": Case("type: FLOAT int_domain {}", floats(1), "check_itself"),
    "FEATURE_MISSING_NAME": Case(
        "", ONE, "check_itself", whole="feature { type: INT } feature { name: 'f' type: INT }"
    ),
    "FEATURE_MISSING_TYPE": Case("string_domain { value: 'a' }", texts("a"), "check_itself"),
    "INVALID_SCHEMA_SPECIFICATION": Case("type: INT presence { min_fraction: 2 }", ONE, "check_itself"),
    "INVALID_DOMAIN_SPECIFICATION": Case("type: BYTES domain: 'nowhere'", texts("a"), "check_itself"),
    "UNEXPECTED_DATA_TYPE": Case("type: FLOAT", ONE, "check_type"),
    "SEQUENCE_VALUE_TOO_FEW_OCCURRENCES": with_token(
        "token_constraints { string_value: 'a' min_per_sequence: 2 }", "per_sequence_min_frequency: 1"
    ),
    "SEQUENCE_VALUE_TOO_MANY_OCCURRENCES": with_token(
        "token_constraints { string_value: 'a' max_per_sequence: 2 }", "per_sequence_max_frequency: 3"
    ),
    "SEQUENCE_VALUE_TOO_SMALL_FRACTION": with_token(
        "token_constraints { string_value: 'a' min_fraction_of_sequences: 0.5 }", "fraction_of_sequences: 0.25"
    ),
    "SEQUENCE_VALUE_TOO_LARGE_FRACTION": with_token(
        "token_constraints { string_value: 'a' max_fraction_of_sequences: 0.5 }", "fraction_of_sequences: 0.75"
    ),
    "FEATURE_COVERAGE_TOO_LOW": with_token("coverage { min_coverage: 0.75 }", ""),
    "FEATURE_COVERAGE_TOO_SHORT_AVG_TOKEN_LENGTH": with_token("coverage { min_avg_token_length: 3 }", ""),
    "STATS_NOT_AVAILABLE": Case(
        "type: BYTES natural_language_domain { coverage { min_coverage: 0.5 } }", texts("a"), "check_language"
    ),
    "INVALID_FEATURE_SHAPE": Case("type: INT shape { dim { size: 2 } }", LIST, "check_shape"),
    "DERIVED_FEATURE_BAD_LIFECYCLE": Case(
        "type: INT lifecycle_stage: PRODUCTION validation_derived_source { deriver_name: 'd' }", ONE, "check_derived"
    ),
    "DERIVED_FEATURE_INVALID_SOURCE": Case(
        "type: STRUCT",
        told(
            "type: STRUCT struct_stats { common_stats { num_non_missing: 3 } } "
            "validation_derived_source { deriver_name: 'd' }"
        ),
        "check_derived",
    ),
    "NO_DATA_IN_SPAN": Case("type: INT", seen(pl.DataFrame({"f": pl.Series([], dtype=pl.Int64)})), ""),
}


def kinds(schema: Any, data: DatasetView) -> list[str]:
    return [finding.kind for finding in check_statistics(schema, data).findings]


def test_the_table_has_all_that_tfdv_finds() -> None:
    assert TABLE.keys() <= set(anomalies_pb2.AnomalyInfo.Type.keys())
    assert len(TABLE) >= 62


@pytest.mark.parametrize("kind", TABLE)
def test_each_anomaly_is_found_on_a_minimal_span(kind: str) -> None:
    case = TABLE[kind]
    before = schema_text(case.schema)
    verdict = check_statistics(case.schema, case.data, {kind: "note"})
    found = [finding for finding in verdict.findings if finding.kind == kind]
    assert found, verdict.findings
    assert {finding.severity for finding in found} == {"note"}
    assert all(finding.text.endswith(".") and "\n" not in finding.text for finding in found)
    assert schema_text(case.schema) == before


@pytest.mark.parametrize("kind", [kind for kind, case in TABLE.items() if case.check])
def test_an_anomaly_is_not_found_without_its_check(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = TABLE[kind]
    monkeypatch.setattr(checks, case.check, lambda *_: [])
    monkeypatch.setattr(checks, "_OF_VALUES", [each for each in checks._OF_VALUES if each.__name__ != case.check])
    assert kind not in kinds(case.schema, case.data)


@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind != "NO_DATA_IN_SPAN"])
def test_the_changed_schema_accepts_what_was_found(kind: str) -> None:
    case = TABLE[kind]
    verdict = check_statistics(case.schema, case.data)
    again = check_statistics(verdict.accepting, case.data)
    assert again.findings == ()


def test_a_span_that_keeps_its_schema_has_no_anomaly() -> None:
    frame = pl.DataFrame(
        {"i": [1, 2], "x": [0.5, math.nan], "s": ["a", "b"], "l": [[1], []], "st": [{"a": 1}, None], "b": [True, False]}
    )
    assert kinds(infer_schema_message(seen(frame)), seen(frame)) == []


def test_parts_of_the_change_are_taken_by_name() -> None:
    frame = pl.DataFrame({"f": ["a"], "new": [1], "other": [2]})
    schema = parse_schema("feature { name: 'f' type: BYTES string_domain { value: 'z' } }", "s")
    taken = check_statistics(schema, seen(frame), accept=["new"]).accepting
    assert [feature.name for feature in taken.feature] == ["f", "new"]
    assert list(taken.feature[0].string_domain.value) == ["z"]


def test_a_label_may_be_absent_where_its_environment_is_not() -> None:
    schema = parse_schema(
        "default_environment: 'TRAINING' default_environment: 'SERVING' feature { name: 'f' type: INT } "
        "feature { name: 'label' type: INT presence { min_fraction: 1 } not_in_environment: 'SERVING' }",
        "s",
    )
    assert kinds(schema, ints(1)) == ["SCHEMA_MISSING_COLUMN"]
    assert kinds(schema, DatasetView(ints(1).message, "SERVING")) == []
    both = seen(pl.DataFrame({"f": [1], "label": [1]}))
    assert kinds(schema, DatasetView(both.message, "SERVING")) == ["SCHEMA_NEW_COLUMN"]


def fill(message: Any, choice: int = 0, depth: int = 0) -> None:
    """Give each field a value; of each oneof that whose turn ``choice`` says, so 16 features have all of them."""
    for number, described in enumerate(message.DESCRIPTOR.fields):
        among = described.containing_oneof.fields if described.containing_oneof else [described]
        if described.name != among[choice % len(among)].name or depth > 6:
            continue
        place = getattr(message, described.name)
        if described.message_type is None:
            fill_scalar(message, described, number)
        elif described.message_type.GetOptions().map_entry:
            fill(place["key"], choice, depth + 1)
        elif described.is_repeated:
            for turn in range(16) if depth == 0 else [choice]:
                fill(place.add(), turn, depth + 1)
        else:
            place.SetInParent()
            fill(place, choice, depth + 1)


def fill_scalar(message: Any, described: Any, number: int) -> None:
    value: Any = described.enum_type.values[-1].number if described.enum_type is not None else number + 1
    if described.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        value = f'ä"{number}' if described.type == FieldDescriptor.TYPE_STRING else b"\xff"
    elif described.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        value = True
    if described.is_repeated:
        getattr(message, described.name).append(value)
    else:
        setattr(message, described.name, value)


@pytest.mark.parametrize("name", ["s.pbtxt", "s.pb"])
def test_a_schema_with_every_field_survives_reading_and_writing(tmp_path: Path, name: str) -> None:
    schema = schema_pb2.Schema()
    fill(schema)
    domains = schema_pb2.Feature.DESCRIPTOR.oneofs_by_name["domain_info"].fields
    assert {feature.WhichOneof("domain_info") for feature in schema.feature} == {each.name for each in domains}
    assert len(schema.DESCRIPTOR.fields) == len(schema.ListFields())
    write_schema_message(schema, tmp_path / name)
    assert read_schema_message(tmp_path / name) == schema


def test_fields_of_the_future_are_kept_in_binary_and_refused_in_text(tmp_path: Path) -> None:
    future = b"\xfa\x3e\x03new"  # field 1007
    data = parse_schema("feature { name: 'f' type: INT }", "s").SerializeToString() + future
    (tmp_path / "s.pb").write_bytes(data)
    write_schema_message(read_schema_message(tmp_path / "s.pb"), tmp_path / "t.pb")
    assert (tmp_path / "t.pb").read_bytes().endswith(future)
    with pytest.raises(BadInput, match="is not a schema that this version reads"):
        parse_schema("feature { name: 'f' from_tomorrow: 1 }", "s")


def golden(name: str) -> DatasetView:
    return DatasetView(read_statistics(GOLDEN / f"{name}.pb").datasets[0])


TFDV_NAMES = dict(
    zip(COMPARATORS, ("L_INFTY", "NORMALIZED_ABSOLUTE_DIFFERENCE", "JENSEN_SHANNON_DIVERGENCE"), strict=True)
)


def test_comparators_equal_tfdv() -> None:
    before, after, expected = golden("before"), golden("after"), json.loads((GOLDEN / "scores.json").read_text())
    assert len(expected) == 10
    for name, scores in expected.items():
        there = before.feature((name,))
        here = after.feature((name,))
        assert here is not None
        assert there is not None
        for comparator, called in TFDV_NAMES.items():
            found = score(comparator, here, there)
            assert found is not None
            assert found.size == pytest.approx(scores[called], abs=1e-12), (name, comparator)


def test_nan_of_one_side_never_matches_nan_of_the_other() -> None:
    """As in TFDV: equal shares of NaN still count as different."""
    one = statistics_pb2.Histogram(num_nan=1, buckets=[{"low_value": 0, "high_value": 1, "sample_count": 9}])
    assert jensen_shannon_of_histograms(one, one) == pytest.approx(0.1)
    assert Masses.of(one).nan == 1
    assert jensen_shannon_of_histograms(one, statistics_pb2.Histogram()) is None


def flat(message: Any, above: str = "") -> dict[str, Any]:
    """Scalars of a message by their place in it."""
    found: dict[str, Any] = {}
    for described, value in message.ListFields():
        for number, each in enumerate(value if described.is_repeated else [value]):
            place = f"{above}.{described.name}[{number}]"
            found |= flat(each, place) if hasattr(each, "ListFields") else {place: each}
    return found


def test_statistics_equal_tfdv_field_by_field() -> None:
    """All of them, but what lies in buckets of equal width: we count it, and TFDV infers it from quantiles."""
    ours = statistics_of(census_of([pl.read_parquet(GOLDEN / "before.parquet")])).datasets[0]
    theirs = golden("before").message
    by_path = {path_of(feature): feature for feature in ours.features}
    compared = 0
    for feature in theirs.features:
        mine, other = flat(by_path[path_of(feature)]), flat(feature)
        for place in mine.keys() | other.keys():
            if "histograms[0].buckets" in place and "sample_count" in place:
                assert mine.get(place, 0.0) == pytest.approx(other.get(place, 0.0), abs=3)
                continue
            expected = other.get(place, 0.0)
            close = expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-12, nan_ok=True)
            assert mine.get(place, 0.0) == close, (feature.path, place)
            compared += 1
    assert compared > 1800


def test_the_inferred_schema_equals_tfdv() -> None:
    theirs = read_schema_message(GOLDEN / "schema.pbtxt")
    ours = infer_schema_message(golden("before"))
    assert {each.name: schema_text(each) for each in ours.feature} == {
        each.name: schema_text(each) for each in theirs.feature
    }
    assert {each.name: list(each.value) for each in ours.string_domain} == {
        each.name: list(each.value) for each in theirs.string_domain
    }
