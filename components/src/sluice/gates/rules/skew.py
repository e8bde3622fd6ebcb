"""Are served features distributed as those of training?"""

from __future__ import annotations

from sluice.documents.verdict import Reason, Verdict
from sluice.gates.rules.answers import titled, unknown
from sluice.gates.rules.kind import Kind, Question

FAST_N = 200
"""Served vectors from which broken features are called broken, without waiting for ``minimum_n``."""


def _judge(question: Question) -> tuple[Reason, ...]:
    evidence, limit = question.evidence, question.rule.limit or 0.0
    if not evidence.skew:
        return (unknown(question, "skew", "no served feature vector to compare"),)
    name, worst = max(evidence.skew.items(), key=lambda item: (item[1], item[0]))
    enough = evidence.skew_n >= FAST_N
    reason = Reason(
        rule=titled("skew", name),
        verdict=(Verdict.FAIL if worst > limit else Verdict.PASS) if enough else Verdict.INCONCLUSIVE,
        observed=worst,
        bound=limit,
        n=evidence.skew_n,
        text=f"served {name!r} lies {worst:.3f} from its training profile, the farthest of {len(evidence.skew)} "
        f"features; at most {limit:g} is allowed",
        role=question.rule.role,
    )
    return (reason,)


KIND = Kind(
    metric="skew",
    about="Jensen-Shannon divergence (base 2) of each served feature from its training profile; the worst feature "
    "counts. Seasons move it, so it suits short stages.",
    unit="divergence, 0 to 1",
    judge=_judge,
    roles=("quality",),
    interval=False,
    counted=False,
)
