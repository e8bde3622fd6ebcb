"""Asked of every look: did enough requests reach the candidate?"""

from __future__ import annotations

from sluice.documents.evidence import Arm
from sluice.documents.verdict import Reason, Verdict


def enough(arm: Arm | None, needed: int, whose: str = "") -> Reason:
    """PASS from ``needed`` requests on; ``whose``: for whom they are needed, where that is not the policy's stage."""
    n = arm.n if arm else 0
    return Reason(
        rule="minimum_n",
        verdict=Verdict.PASS if n >= needed else Verdict.INCONCLUSIVE,
        observed=n,
        bound=needed,
        n=n,
        text=f"{n} requests reached the candidate, {needed} are needed{whose}",
    )
