"""What is exposed of a document: as many series as the document has parts, however many requests it counts."""

from __future__ import annotations

from collections import Counter

from sluice.documents.evidence import LABEL_DELAY_BOUNDS_S, LabelDelays
from sluice.prometheus.exporter import in_text
from sluice.prometheus.exposition import samples_of
from tests.support.release import A, B, arm, evidence_of, state_in

_BINS = len(LABEL_DELAY_BOUNDS_S) + 1


def exposed(n: int) -> list[str]:
    """Lines of a stage in which ``n`` labels came within an hour, and one after a year."""
    counts = (0, 0, 0, n) + (0,) * (_BINS - 5) + (1,)
    delays = LabelDelays(counts=counts, seconds=600.0 * n + 365 * 86400)
    ours, theirs = (arm(digest, 4000).model_copy(update={"delays": delays}) for digest in (B, A))
    evidence = evidence_of(state_in("canary"), candidate=ours, stable=theirs)
    return [line for line in in_text(samples_of(evidence)).decode().splitlines() if "label_delay" in line]


def test_label_delays_are_a_histogram_of_as_many_series_whatever_was_labelled() -> None:
    lines = [line for line in exposed(7) if not line.startswith("#")]
    assert len(lines) == 2 * (_BINS + 2)
    assert len(exposed(7_000_000)) == len(exposed(7))
    names = Counter(line.partition("{")[0] for line in lines)
    assert names == {
        f"sluice_label_delay_seconds_{part}": n for part, n in (("bucket", 2 * _BINS), ("count", 2), ("sum", 2))
    }
    stable = {
        line.partition('le="')[2].partition('"')[0]: float(line.split()[-1])
        for line in lines
        if 'route="stable",le' in line
    }
    assert [stable[end] for end in ("900", "3600", "2592000", "+Inf")] == [0, 7, 7, 8]


def test_a_document_without_labels_has_no_delays() -> None:
    text = in_text(samples_of(evidence_of(state_in("canary")))).decode()
    assert "sluice_labels_due" in text
    assert "label_delay" not in text
