"""Which rung of the compression ladder ships."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sluice.documents.evaluation import VariantMeasurement
from sluice.errors import BadInput
from sluice.gates.policy import HIGHER_IS_BETTER, SelectPolicy

TEACHER = "teacher_f32"


@dataclass(frozen=True)
class VariantSelection:
    """The variant that ships, and one sentence for every variant."""

    name: str
    reasons: tuple[str, ...]


def select_variant(measurements: Sequence[VariantMeasurement], policy: SelectPolicy) -> VariantSelection:
    """
    The smallest file whose whole interval of the loss against the teacher stays within the policy's margin.

    Latency only has to stay under a generous maximum: it differs from run to run, so it must not rank. Of equal sizes
    the first name wins. When nothing qualifies, the teacher ships.

    Raises:
        BadInput: the teacher is not among the measurements.
    """
    ordered = sorted(measurements, key=lambda variant: (variant.bytes, variant.name))
    if TEACHER not in [variant.name for variant in ordered]:
        raise BadInput("the ladder", f"has no variant {TEACHER}", "measure the teacher beside its variants")
    verdicts = {variant.name: _verdict(variant, policy) for variant in ordered}
    qualified = [name for name, (holds, _) in verdicts.items() if holds]
    reasons = tuple(text for _, text in verdicts.values())
    if not qualified:
        return VariantSelection(TEACHER, (*reasons, f"No variant qualifies, so {TEACHER} ships as it is."))
    return VariantSelection(qualified[0], (*reasons, f"{qualified[0]} is the smallest that qualifies."))


def _verdict(variant: VariantMeasurement, policy: SelectPolicy) -> tuple[bool, str]:
    size = f"{variant.name} ({variant.bytes:,} bytes)"
    if variant.latency_p99_us > policy.maximum_latency_p99_us:
        return False, f"{size} takes longer than the allowed {policy.maximum_latency_p99_us:g} µs a row (p99)."
    if variant.name == TEACHER:
        return True, f"{size} is the teacher itself."
    difference = variant.versus_teacher.get(policy.metric)
    if difference is None or not all(map(math.isfinite, (difference.low, difference.high))):
        return False, f"{size}: its {policy.metric} could not be compared with the teacher's."
    worst = -difference.low if policy.metric in HIGHER_IS_BETTER else difference.high
    holds = worst <= policy.margin
    outcome = "qualifies" if holds else "does not qualify"
    return holds, (
        f"{size} {outcome}: its {policy.metric} is at worst {max(worst, 0.0):.4f} worse than the teacher's "
        f"(end of the 95 % interval); allowed is {policy.margin:g}."
    )
