"""
Every kind of online rule, by metric. A new one is a file in ``rules`` and a line here.

A name that a policy has used keeps its meaning: old decisions are read again with the code of today.
"""

from __future__ import annotations

from sluice.gates.rule_kind import RuleKind
from sluice.gates.rules import (
    agreement,
    error_rate,
    freshness,
    label_coverage,
    latency,
    latency_quantile,
    loss,
    parity,
    refusal_rate,
    restarts,
    score_shift,
    skew,
    split,
)

KINDS: dict[str, RuleKind] = {
    kind.metric: kind
    for kind in (
        split.KIND,
        parity.KIND,
        freshness.KIND,
        skew.KIND,
        label_coverage.KIND,
        error_rate.KIND,
        refusal_rate.KIND,
        *loss.KINDS,
        score_shift.KIND,
        agreement.KIND,
        latency.KIND,
        *latency_quantile.KINDS,
        restarts.KIND,
    )
}
