"""Are served features distributed as those of training?"""

from __future__ import annotations

from sluice.documents.verdict import Reason
from sluice.gates.reasons import no_evidence, rule_name, share_reason
from sluice.gates.rule_kind import Question, RuleKind

FAST_N = 200
"""Served vectors from which broken features are called broken, without waiting for ``minimum_n``."""


def _judge(question: Question) -> tuple[Reason, ...]:
    evidence, limit = question.evidence, question.rule.limit or 0.0
    if not evidence.skew:
        return (no_evidence(question, "skew", "no served feature vector to compare"),)
    name, worst = max(evidence.skew.items(), key=lambda item: (item[1], item[0]))
    text = f"served {name!r} lies {worst:.3f} from its training profile, the farthest of {len(evidence.skew)} features"
    text += f"; at most {limit:g} is allowed"
    return (share_reason(question, rule_name("skew", name), worst, evidence.skew_n, text, minimum_n=FAST_N),)


KIND = RuleKind(
    metric="skew",
    about="Jensen-Shannon divergence (base 2) of each served feature from its training profile; the worst feature "
    "counts. Seasons move it, so it suits short stages.",
    unit="divergence, 0 to 1",
    judge=_judge,
    roles=("quality",),
    interval=False,
    counted=False,
)
