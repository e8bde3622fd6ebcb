"""Asked of every look: does each side answer with the digest that is released there?"""

from __future__ import annotations

from sluice.documents.evidence import Evidence
from sluice.documents.verdict import Reason, Verdict


def foreign(evidence: Evidence) -> tuple[Reason, ...]:
    """INCONCLUSIVE where another digest answered, else nothing."""
    if not evidence.foreign:
        return ()
    text = f"{evidence.foreign} answers came from a digest that is not released on their route"
    n = evidence.foreign
    return (Reason(rule="digest", verdict=Verdict.INCONCLUSIVE, observed=n, bound=0, n=n, text=text),)
