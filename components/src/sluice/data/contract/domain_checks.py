"""Whether values lie in the domain that the schema gives them."""

from __future__ import annotations

import math
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from sluice.data.contract.finding import FeatureLook, plain
from sluice.data.contract.infer import is_whole, take_semantic_domain

_NO_BYTES_DOMAIN = {None, "natural_language_domain", "image_domain", "url_domain"}
_OUT_OF_RANGE, _INVALID, _NOT_FLAGS = "Out-of-range values", "Invalid values", "Non-boolean values"
_INT64 = 2.0**63


def check_domain(look: FeatureLook) -> None:
    """The check of the feature's domain; bytes have but few."""
    feature = look.feature
    domain = feature.WhichOneof("domain_info")
    if look.view.kind == "BYTES" and domain not in _NO_BYTES_DOMAIN:
        text = f"Values are BYTES, which have no {domain}."
        look.report("DOMAIN_INVALID_FOR_TYPE", "Invalid domain type", text)
        feature.ClearField(domain)
        return
    if domain == "domain":
        if feature.domain in look.domains:
            _check_texts(look, look.domains[feature.domain])
    elif domain == "string_domain":
        _check_texts(look, feature.string_domain)
    elif domain == "bool_domain":
        _check_flags(look)
    elif domain == "int_domain":
        _check_ints(look)
    elif domain == "float_domain":
        _check_floats(look)
    elif domain is None and take_semantic_domain(feature, look.view):
        text = f"The statistics say that the values are of {feature.WhichOneof('domain_info')}."
        look.report("SEMANTIC_DOMAIN_UPDATE", "Updated semantic domain", text)


def _check_texts(look: FeatureLook, domain: Any) -> None:
    view = look.view
    if view.invalid_utf8:
        count = view.message.string_stats.invalid_utf8_count
        text = f"{count} values are no UTF-8, so they are in no domain."
        look.report("ENUM_TYPE_INVALID_UTF8", "Invalid UTF8 strings", text, count=count)
        look.feature.ClearField(look.feature.WhichOneof("domain_info"))
        return
    known = set(domain.value)
    unseen = {text: count for text, count in view.counts().items() if text not in known}
    constraints = look.feature.distribution_constraints
    allowed = 1 - constraints.min_domain_mass if constraints.HasField("min_domain_mass") else 0.0
    outside = sum(unseen.values())
    if not unseen or (allowed > 0 and view.values and outside / view.values <= allowed):
        return
    by_count = sorted(unseen, key=lambda text: (-unseen[text], text))
    listed = ", ".join(f"{text!r} ({_share(unseen[text], view.values)})" for text in by_count[:10])
    text = f"{plain(outside)} of {plain(view.values)} values are not in the domain: {listed}."
    look.report(
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES", "Unexpected string values", text, count=outside, examples=by_count
    )
    domain.value.extend(sorted(unseen))


def _share(count: float, total: float) -> str:
    if not total:
        return "?"
    return "<1%" if count / total < 0.01 else f"~{math.floor(100 * count / total)}%"


def _check_flags(look: FeatureLook) -> None:
    view, domain = look.view, look.feature.bool_domain
    domain_of_schema = domain.HasField("true_value") or domain.HasField("false_value")
    if view.kind in ("INT", "FLOAT") and domain_of_schema:
        text = f"Values are {view.kind}: true_value and false_value are of texts."
        look.report("BOOL_TYPE_INVALID_CONFIG", "Invalid bool_domain", text)
        look.feature.bool_domain.CopyFrom(schema_pb2.BoolDomain())
    if view.kind == "STRING" and not domain_of_schema:
        text = "Values are texts: a bool_domain without true_value and false_value has none of them."
        look.report("BOOL_TYPE_INVALID_CONFIG", "Invalid bool_domain", text)
        look.feature.ClearField("bool_domain")
    elif view.kind == "STRING":
        words = [word for word in (domain.true_value, domain.false_value) if word]
        odd = [text for text in view.counts() if text not in words]
        if odd:
            text = f"Values such as {odd[0]!r} are neither of {words}."
            look.report("BOOL_TYPE_UNEXPECTED_STRING", _NOT_FLAGS, text, count=_count(look, odd), examples=odd)
            look.feature.ClearField("bool_domain")
    elif view.kind == "INT":
        _check_int_flags(look)
    elif view.kind == "FLOAT" and (odd_number := _odd_flag(view)) is not None:
        text = f"Numbers such as {odd_number:g} are neither 0 nor 1."
        look.report("BOOL_TYPE_UNEXPECTED_FLOAT", _NOT_FLAGS, text, examples=[odd_number])
        stats = view.message.num_stats
        look.feature.float_domain.min, look.feature.float_domain.max = stats.min, stats.max


def _check_int_flags(look: FeatureLook) -> None:
    stats = look.view.message.num_stats
    for odd, kind, number in ((stats.min < 0, "SMALL", stats.min), (stats.max > 1, "BIG", stats.max)):
        if odd:
            text = f"Integers such as {plain(number)} are neither 0 nor 1."
            look.report(f"BOOL_TYPE_{kind}_INT", _NOT_FLAGS, text, examples=[plain(number)])
            look.feature.int_domain.min, look.feature.int_domain.max = int(stats.min), int(stats.max)


def _odd_flag(view: Any) -> float | None:
    """A number that is neither 0 nor 1, as far as statistics show one."""
    stats = view.message.num_stats
    for number in (stats.min, stats.max):
        if number not in (0, 1):
            return float(number)
    for histogram in stats.histograms:
        if histogram.num_nan:
            return math.nan
        quantiles = type(histogram).HistogramType.Name(histogram.type) == "QUANTILES"
        for bucket in histogram.buckets if quantiles else ():
            if bucket.sample_count > 0 and bucket.low_value > 0 and bucket.high_value < 1:
                return float(bucket.high_value)
    return None


def _check_ints(look: FeatureLook) -> None:
    view, domain, texts = look.view, look.feature.int_domain, list(look.view.counts())
    if view.kind == "FLOAT":
        return
    if view.kind == "INT" and not texts:
        stats = view.message.num_stats
        if not (stats.min >= -_INT64 and stats.max < _INT64) and (domain.HasField("min") or domain.HasField("max")):
            text = f"Integers from {stats.min:g} to {stats.max:g} do not fit into 64 bits."
            look.report("DOMAIN_INVALID_FOR_TYPE", _INVALID, text)
            look.feature.ClearField("int_domain")
            return
        low, high = stats.min, stats.max
    else:
        odd = [text for text in texts if not is_whole(text)]
        if odd:
            text = f"Texts such as {odd[0]!r} are no integers."
            look.report("INT_TYPE_NOT_INT_STRING", _INVALID, text, count=_count(look, odd), examples=odd)
            look.feature.ClearField("int_domain")
            return
        if not texts:
            return
        low, high = min(map(int, texts)), max(map(int, texts))
    _check_range(look, domain, "INT_TYPE_{}_INT", int(low), int(high))


def _check_floats(look: FeatureLook) -> None:
    view, domain, texts = look.view, look.feature.float_domain, list(look.view.counts())
    if view.kind == "FLOAT":
        stats = view.message.num_stats
        nan = max((histogram.num_nan for histogram in stats.histograms), default=0)
        low, high = stats.min, stats.max
        known = stats.common_stats.tot_num_values > nan
    elif view.kind in ("STRING", "BYTES"):
        odd = [text for text in texts if not _is_number(text)]
        numbers = [float(text) for text in texts if _is_number(text)]
        nan = sum(map(math.isnan, numbers))
        if odd:
            text = f"Texts such as {odd[0]!r} are no numbers."
            look.report("FLOAT_TYPE_STRING_NOT_FLOAT", _INVALID, text, count=_count(look, odd), examples=odd)
            look.feature.ClearField("float_domain")
            return
        there = [number for number in numbers if not math.isnan(number)]
        low, high, known = min(there, default=0.0), max(there, default=0.0), bool(there)
    else:
        return
    if nan and domain.disallow_nan:
        look.report("FLOAT_TYPE_HAS_NAN", _INVALID, f"{plain(nan)} values are NaN.", count=nan, examples=["nan"])
        domain.disallow_nan = False
    if known:
        if domain.disallow_inf and (math.isinf(low) or math.isinf(high)):
            odd_ends = [end for end in (low, high) if math.isinf(end)]
            look.report("FLOAT_TYPE_HAS_INF", _INVALID, "Some values are infinite.", examples=odd_ends)
            domain.disallow_inf = False
        _check_range(look, domain, "FLOAT_TYPE_{}_FLOAT", low, high)


def _check_range(look: FeatureLook, domain: Any, kind: str, low: float, high: float) -> None:
    """Bounds that the smallest and the largest value break; a bound of 0 is one. Floats are compared as float32."""
    if domain.HasField("min") and low < domain.min and not _same(low, domain.min):
        text = f"The smallest value is {plain(low)}, below {plain(domain.min)}."
        look.report(kind.format("SMALL"), _OUT_OF_RANGE, text, examples=[plain(low)])
        domain.min = low
    if domain.HasField("max") and high > domain.max and not _same(high, domain.max):
        text = f"The largest value is {plain(high)}, above {plain(domain.max)}."
        look.report(kind.format("BIG"), _OUT_OF_RANGE, text, examples=[plain(high)])
        domain.max = high


def _same(value: float, bound: float) -> bool:
    """Whether a float is a schema's bound, which is kept as float32."""
    return isinstance(value, float) and math.isclose(value, bound, rel_tol=2.0**-24)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _count(look: FeatureLook, texts: list[str]) -> float:
    counts = look.view.counts()
    return sum(counts[text] for text in texts)
