"""How a chapter ends: as its story tells it, and as the ledger has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sluice.documents.verdict import Decision, Verdict
from sluice.errors import SluiceError
from sluice.stages.registry import STAGES

_GATE = {"propose": "the proposal", "rollback": "a person's word", "offline": "the offline gate"} | {
    name: f"the {name} gate" for name, stage in STAGES.items() if stage.judge
}


class ToldOtherwise(SluiceError):
    """A story ended otherwise than it tells."""

    exit_code = 1


@dataclass(frozen=True)
class Ending:
    """
    The last decision about a chapter's candidate.

    Attributes:
        action: what followed, such as ``confirm``, ``refuse`` or ``rollback``.
        stage: whose gate decided.
        rules: the rules that gave its verdict, as reasons name them. A story names those that have to be among them;
            of what passed there are none.
    """

    action: str
    stage: str
    rules: tuple[str, ...] = ()

    @classmethod
    def of(cls, decision: Decision) -> Ending:
        """What a decision of the ledger says."""
        stopped = decision.verdict is not Verdict.PASS
        rules = tuple(reason.rule for reason in decision.reasons if stopped and reason.verdict is decision.verdict)
        return cls(decision.action, decision.stage, rules)

    def __str__(self) -> str:
        rules = f" by {', '.join(self.rules)}" if self.rules else ""
        return f"{self.action} at {gate_called(self.stage)}{rules}"

    def is_as_told(self, told: Ending) -> bool:
        """Whether a story that tells this much of it is right."""
        return (self.action, self.stage) == (told.action, told.stage) and set(told.rules) <= set(self.rules)


ENTERED = Ending("confirm", "bootstrap")
"""A first model, by live requests without a failure."""
PROMOTED = Ending("confirm", "confirm")
"""By labels."""


def gate_called(stage: str) -> str:
    """What people call the gate of a stage."""
    return _GATE.get(stage, stage)


def require_as_told(contradictions: Sequence[str]) -> None:
    """
    Raise the first contradiction between a story and what happened, if there is any.

    Raises:
        ToldOtherwise: it says how many more there are.
    """
    if contradictions:
        first, *more = contradictions
        fix = "read the report for why; then mend the model, its policy or the story, and play it with --fresh"
        raise ToldOtherwise("the story", f"{first}{f'; {len(more)} more are above' if more else ''}", fix)
