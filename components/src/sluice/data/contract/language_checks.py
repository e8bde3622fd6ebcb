"""Texts as language, and images: what TFDV's semantic statistics say of them."""

from __future__ import annotations

from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

from sluice.data.contract.finding import FeatureLook

_IMAGES = {"bmp", "jpeg", "png", "gif"}
"""Formats that TensorFlow decodes."""


def check_language(look: FeatureLook) -> None:
    """Coverage of a vocabulary, and how often tokens occur; needs ``nl_statistics``, which TFDV counts."""
    if look.feature.WhichOneof("domain_info") != "natural_language_domain":
        return
    domain, claim = look.feature.natural_language_domain, look.view.custom("nl_statistics")
    coverage = domain.coverage
    demands = coverage.HasField("min_coverage") or coverage.HasField("min_avg_token_length") or domain.token_constraints
    stats = statistics_pb2.NaturalLanguageStatistics()
    if claim is not None and not claim.any.Unpack(stats):
        return
    if claim is None:
        if demands:
            _no_statistics(look)
        return
    if coverage.HasField("min_coverage") and stats.feature_coverage < coverage.min_coverage:
        text = f"A share of {stats.feature_coverage:g} of the tokens is known, below {coverage.min_coverage:g}."
        look.report("FEATURE_COVERAGE_TOO_LOW", "Feature coverage is too low", text)
        coverage.min_coverage = stats.feature_coverage
    if coverage.HasField("min_avg_token_length") and stats.avg_token_length < coverage.min_avg_token_length:
        least = coverage.min_avg_token_length
        text = f"Tokens are {stats.avg_token_length:g} long on average, below {least:g}."
        look.report("FEATURE_COVERAGE_TOO_SHORT_AVG_TOKEN_LENGTH", "Average token length is too short", text)
        coverage.min_avg_token_length = stats.avg_token_length
    by_token = {_token(each, each.WhichOneof("token")): each for each in stats.token_statistics}
    for constraint in list(domain.token_constraints):
        which = constraint.WhichOneof("value")
        token = None if which is None else getattr(constraint, which)
        if token is not None and token not in by_token:
            _no_statistics(look)
            return
        if token is not None:
            _check_token(look, constraint, by_token[token], token)


def _token(message: Any, which: str | None) -> Any:
    return None if which is None else getattr(message, which)


def _no_statistics(look: FeatureLook) -> None:
    text = "The schema asks for what only statistics of language tell, and these were not counted."
    look.report("STATS_NOT_AVAILABLE", "Natural language stats are not computed", text)
    look.feature.ClearField("natural_language_domain")


def _check_token(look: FeatureLook, constraint: Any, stats: Any, token: object) -> None:
    for bound, statistic, kind, low in (
        ("min_fraction_of_sequences", "fraction_of_sequences", "SEQUENCE_VALUE_TOO_SMALL_FRACTION", True),
        ("max_fraction_of_sequences", "fraction_of_sequences", "SEQUENCE_VALUE_TOO_LARGE_FRACTION", False),
        ("min_per_sequence", "per_sequence_min_frequency", "SEQUENCE_VALUE_TOO_FEW_OCCURRENCES", True),
        ("max_per_sequence", "per_sequence_max_frequency", "SEQUENCE_VALUE_TOO_MANY_OCCURRENCES", False),
    ):
        if not constraint.HasField(bound):
            continue
        limit, value_seen = getattr(constraint, bound), getattr(stats, statistic)
        if (value_seen < limit) if low else (value_seen > limit):
            text = f"{statistic} of the token {token!r} is {value_seen:g}, {'below' if low else 'above'} {limit:g}."
            look.report(kind, "Token out of bounds", text, examples=[token])
            setattr(constraint, bound, type(limit)(value_seen))


def check_images(look: FeatureLook) -> None:
    """Sizes of images, and the share of those that can be decoded, where TFDV has counted their formats."""
    if look.feature.WhichOneof("domain_info") != "image_domain":
        return
    domain, formats = look.feature.image_domain, look.view.custom("image_format_histogram")
    if domain.HasField("minimum_supported_image_fraction") and formats is not None:
        counts = {bucket.label: bucket.sample_count for bucket in formats.rank_histogram.buckets}
        total = sum(counts.values())
        share = sum(count for name, count in counts.items() if name in _IMAGES) / total if total else 1.0
        if share < domain.minimum_supported_image_fraction:
            odd = [name for name in counts if name not in _IMAGES]
            text = f"A share of {share:g} can be decoded, below {domain.minimum_supported_image_fraction:g}."
            look.report("LOW_SUPPORTED_IMAGE_FRACTION", "Low supported image fraction", text, examples=odd)
            domain.minimum_supported_image_fraction = share
    largest = int(look.view.message.bytes_stats.max_num_bytes_int)
    if domain.HasField("max_image_byte_size") and largest > domain.max_image_byte_size:
        text = f"The largest image has {largest} bytes, more than {domain.max_image_byte_size}."
        look.report("MAX_IMAGE_BYTE_SIZE_EXCEEDED", "Image too large", text, examples=[largest])
        domain.max_image_byte_size = largest
