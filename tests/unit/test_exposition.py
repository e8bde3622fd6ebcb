"""What is exposed of a document: as many series as the document has parts, however many requests it counts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sluice.documents.evidence import LABEL_DELAY_BOUNDS_S, Evidence, LabelDelays
from sluice.prometheus.exposition import EvidenceCollector
from tests.support.release import A, B, arm, evidence_of, state_in

_BINS = len(LABEL_DELAY_BOUNDS_S) + 1


def exposed(n: int) -> list[Sample]:
    """Of a stage in which ``n`` labels came within an hour, and one after a year."""
    counts = (0, 0, 0, n) + (0,) * (_BINS - 5) + (1,)
    delays = LabelDelays(counts=counts, seconds=600.0 * n + 365 * 86400)
    ours, theirs = (arm(digest, 4000).model_copy(update={"delays": delays}) for digest in (B, A))
    evidence = evidence_of(state_in("canary"), candidate=ours, stable=theirs)
    (family,) = [family for family in scraped(evidence) if "label_delay" in family.name]
    assert family.type == "histogram"
    return family.samples


def scraped(evidence: Evidence) -> list[Metric]:
    """What a Prometheus reads, of a document on a disk."""
    with TemporaryDirectory() as folder:
        document = Path(folder) / "joined.json"
        document.write_text(evidence.model_dump_json())
        return list(text_string_to_metric_families(generate_latest(EvidenceCollector(document)).decode()))


def test_label_delays_are_a_histogram_of_as_many_series_whatever_was_labelled() -> None:
    samples = exposed(7)
    assert len(samples) == 2 * (_BINS + 2)
    assert len(exposed(7_000_000)) == len(samples)
    names = Counter(sample.name for sample in samples)
    assert names == {
        f"sluice_label_delay_seconds_{part}": n for part, n in (("bucket", 2 * _BINS), ("count", 2), ("sum", 2))
    }
    stable = {
        sample.labels["le"]: sample.value
        for sample in samples
        if sample.labels["route"] == "stable" and "le" in sample.labels
    }
    assert [stable[end] for end in ("900", "3600", "2592000", "+Inf")] == [0, 7, 7, 8]


def test_a_document_without_labels_has_no_delays() -> None:
    names = {family.name for family in scraped(evidence_of(state_in("canary")))}
    assert "sluice_labels_due" in names
    assert not [name for name in names if "label_delay" in name]
