"""Which rung of the compression ladder ships."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sluice.documents.evaluation import VariantMeasurement
from sluice.errors import BadInput
from sluice.gates.policy import SelectPolicy
from sluice.targets.metric import Metric, MetricList
from sluice.targets.yardstick import Yardstick

TEACHER = "teacher_f32"
_BINARY = Yardstick().metrics


@dataclass(frozen=True)
class VariantSelection:
    """The variant that ships, and one sentence for every variant."""

    name: str
    reasons: tuple[str, ...]


def select_variant(
    measurements: Sequence[VariantMeasurement], policy: SelectPolicy, metrics: MetricList = _BINARY
) -> VariantSelection:
    """
    The smallest file whose whole interval of the loss against the teacher stays within the policy's margin.

    Latency only has to stay under a generous maximum: it differs from run to run, so it must not rank. Of equal sizes
    the first name wins. When nothing qualifies, the teacher ships.

    Raises:
        BadInput: the teacher is not among the measurements, or the policy's metric is none of the target's.
    """
    ordered = sorted(measurements, key=lambda variant: (variant.bytes, variant.name))
    if TEACHER not in [variant.name for variant in ordered]:
        raise BadInput("the ladder", f"has no variant {TEACHER}", "measure the teacher beside its variants")
    metric = metrics.find(policy.metric)
    if metric is None:
        rule = f"is {policy.metric!r}, which the task does not have"
        raise BadInput("gate policy: select.metric", rule, f"choose from {', '.join(metrics.names)}")
    verdicts = {variant.name: _verdict(variant, policy, metric) for variant in ordered}
    qualified = [name for name, (holds, _) in verdicts.items() if holds]
    reasons = tuple(text for _, text in verdicts.values())
    if not qualified:
        return VariantSelection(TEACHER, (*reasons, f"No variant qualifies, so {TEACHER} ships as it is."))
    return VariantSelection(qualified[0], (*reasons, f"{qualified[0]} is the smallest that qualifies."))


def _verdict(variant: VariantMeasurement, policy: SelectPolicy, metric: Metric) -> tuple[bool, str]:
    size = f"{variant.name} ({variant.bytes:,} bytes)"
    if variant.latency_p99_us > policy.maximum_latency_p99_us:
        return False, f"{size} takes longer than the allowed {policy.maximum_latency_p99_us:g} µs a row (p99)."
    if variant.name == TEACHER:
        return True, f"{size} is the teacher itself."
    difference = variant.versus_teacher.get(metric.name)
    if difference is None or not all(map(math.isfinite, (difference.low, difference.high))):
        return False, f"{size}: its {metric.name} could not be compared with the teacher's."
    worst = -difference.low if metric.higher else difference.high
    holds = worst <= policy.margin
    outcome = "qualifies" if holds else "does not qualify"
    return holds, (
        f"{size} {outcome}: its {metric.name} is at worst {max(worst, 0.0):.4f} worse than the teacher's "
        f"(end of the 95 % interval); allowed is {policy.margin:g}."
    )
