"""An anomaly in TFDV's words, and what a check has in hand while it looks for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sluice.data.contract.view import DatasetView, FeatureView

Severity = Literal["error", "warning", "note"]
_EXCERPTS = 3


@dataclass(frozen=True)
class Finding:
    """One anomaly. ``kind`` is a name of TFDV's ``AnomalyInfo.Type``."""

    kind: str
    path: tuple[str, ...]
    """Of the feature; empty where it is of the whole table."""
    short: str
    text: str
    """One sentence with the numbers in it."""
    count: float | None = None
    """How many rows or values, where statistics tell."""
    examples: tuple[str, ...] = ()
    """At most three values."""
    severity: Severity = "error"

    @property
    def name(self) -> str:
        """The path as it is written, and as ``--accept`` takes it."""
        return ".".join(self.path) or "(table)"


@dataclass
class FeatureLook:
    """
    What is looked at: ``feature`` is part of ``schema``, a copy that checks change into one without the anomaly.

    Args:
        schema: the ``Schema`` message.
        feature: the ``Feature`` message.
        view: the feature's statistics.
        domains: the schema's ``StringDomain`` messages by name.
    """

    schema: Any
    feature: Any
    view: FeatureView
    domains: Mapping[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def dataset(self) -> DatasetView:
        """Statistics of the table."""
        return self.view.dataset

    def report(
        self, kind: str, short: str, text: str, *, count: float | None = None, examples: Sequence[object] = ()
    ) -> None:
        """Keep an anomaly of this feature."""
        excerpts = tuple(str(example)[:80] for example in examples[:_EXCERPTS])
        self.findings.append(Finding(kind, self.view.path, short, text, count, excerpts))


def plain(number: float) -> str:
    """A number as people write it: whole where it is, else six significant digits."""
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e15 else f"{number:g}"
