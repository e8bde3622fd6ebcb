"""Are features served as the training path makes them?"""

from __future__ import annotations

from sluice.documents.evidence import Cells, WrongCells
from sluice.documents.verdict import Reason
from sluice.gates.reasons import no_evidence, share_reason
from sluice.gates.rule_kind import Question, RuleKind

_WHY = "none was served yet, or who joins predictions with labels was given no feature store"


_OTHERS = (
    "the feature tables were built by other code than those of the candidate's training frame, so nothing says that "
    "what is served is what it was trained on: train again, or build the tables by that code"
)


def _judge(question: Question) -> tuple[Reason, ...]:
    cells = question.evidence.cells
    if cells is None or cells.compared + cells.excluded == 0:
        return (no_evidence(question, "parity", f"no served cell was read again offline: {_WHY}"),)
    if cells.other_tables:
        return (no_evidence(question, "parity", _OTHERS),)
    if cells.compared < cells.excluded:
        return (no_evidence(question, "parity", _too_few(cells)),)
    worst = f", most of all {_worst(cells)}" if cells.different and (cells.wrong or cells.worst) else ""
    left_out = f"; {cells.excluded} more cannot be compared" if cells.excluded else ""
    text = (
        f"{cells.different} of {cells.compared} served feature cells differ from the training path's{worst}{left_out}"
    )
    share = cells.different / cells.compared
    return (share_reason(question, "parity", share, cells.compared, text),)


def _worst(cells: Cells) -> str:
    """The features that differ most, with how many cells of each, its view and an example where these are known."""
    return "; ".join(map(_named, cells.wrong)) or repr(cells.worst)


def _named(wrong: WrongCells) -> str:
    view = f" of {wrong.view}" if wrong.view else ""
    example = f", for example {wrong.example}" if wrong.example else ""
    return f"{wrong.feature!r}{view} in {wrong.different}{example}"


def _too_few(cells: Cells) -> str:
    """What is left says nothing about the rest."""
    return (
        f"{cells.compared} of {cells.compared + cells.excluded} served feature cells can be compared, half are needed: "
        "of the others the online store had not yet the row that an offline read finds, or it is not known what it had"
    )


KIND = RuleKind(
    metric="parity",
    about="Share of served feature cells that differ from the candidate's own training path, asked for the same "
    "requests at the same moments. Requests whose offline row reached the online store only later are left out; "
    "INCONCLUSIVE where these are more than the others, and where the tables are of other code than those of its "
    "training frame.",
    unit="share of cells",
    judge=_judge,
    roles=("quality",),
    interval=False,
    counted=False,
)
