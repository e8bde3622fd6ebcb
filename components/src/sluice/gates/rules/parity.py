"""Are features served as the training path makes them?"""

from __future__ import annotations

from sluice.gates.rules.answers import unknown
from sluice.gates.rules.kind import Kind, Question
from sluice.gates.verdict import Reason, Verdict


def _judge(question: Question) -> tuple[Reason, ...]:
    cells, limit = question.evidence.cells, question.rule.limit or 0.0
    if cells is None or cells.compared == 0:
        return (unknown(question, "parity", "no served cell was read again offline"),)
    share = cells.different / cells.compared
    worst = f", most of all {cells.worst!r}" if cells.different and cells.worst else ""
    reason = Reason(
        rule="parity",
        verdict=Verdict.FAIL if share > limit else Verdict.PASS,
        observed=share,
        bound=limit,
        n=cells.compared,
        text=f"{cells.different} of {cells.compared} served feature cells differ from the training path's{worst}",
        role=question.rule.role,
    )
    return (reason,)


KIND = Kind(
    metric="parity",
    about="Share of served feature cells that differ from the candidate's own training path, asked for the same "
    "requests at the same moments.",
    unit="share of cells",
    judge=_judge,
    roles=("quality",),
    interval=False,
    counted=False,
)
