"""
What only a join with labels knows, in Prometheus' text format: losses by window and slice, coverage, pairs, skew.

    python -m sluice.prometheus.exposition --evidence joined.json --port 9090

Whoever joins predictions with labels writes an evidence document (``collect_evidence``); this exporter renders the
file anew at each scrape, and ``joined_parts`` reads the numbers back. Every series says what it is about (task,
environment, rollout, stage, step, since), so that a stage never reads the numbers of another.

    sluice_joined_now_seconds                               event time of the document
    sluice_loss_{count,sum,squares}{route,window,slice}     log loss; window "" is the arm's whole cohort, slice "" all
    sluice_imputed_…, sluice_rectifier_…{route,window}      parts of the prediction-powered mean
    sluice_pair_loss_…{slice}, sluice_pair_shift_…          candidate against stable on the same request, in shadow
    sluice_label_delay_seconds{route}                       histogram of the labels that are in, anew each time
    sluice_labels_{due,known}{route}, sluice_slice_{requests,errors}{route,slice}, sluice_agreement_{pairs,same}
    sluice_skew{feature}, sluice_skew_rows, sluice_cells_{compared,different,excluded}

Beside them the counts of labels and their rewards, as ``sluice.prometheus.seldon_names`` calls them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from sluice.documents.event_time import moment_of
from sluice.documents.evidence import (
    LABEL_DELAY_BOUNDS_S,
    Evidence,
    Imputed,
    LabelDelays,
    Moments,
    SliceEvidence,
    Stratum,
)
from sluice.documents.state import ReleaseState
from sluice.prometheus.exporter import Sample, expose, in_text
from sluice.prometheus.seldon_names import FEEDBACK, REWARD, identity, reward

ABOUT = ("task", "environment", "rollout", "stage", "step", "since")
SIDES = ("candidate", "stable")


def about(what: Evidence | ReleaseState) -> dict[str, str]:
    """The labels that all series of one stage have."""
    return {key: str(getattr(what, key)) for key in ABOUT}


def samples_of(evidence: Evidence) -> Iterator[Sample]:
    """The joined part of a document; what servers count themselves is left to them."""
    for name, labels, value in _numbers(evidence):
        yield Sample(f"sluice_{name}", about(evidence) | labels, float(value))


_Numbers = Iterator[tuple[str, dict[str, str], float]]


def _numbers(evidence: Evidence) -> _Numbers:
    yield "joined_now_seconds", {}, moment_of(evidence.now).timestamp()
    for side in SIDES:
        if arm := evidence.candidate if side == "candidate" else evidence.stable:
            yield "labels_due", {"route": side}, arm.due
            yield "labels_known", {"route": side}, arm.labelled
            yield from _sums("loss", {"route": side, "window": "", "slice": ""}, arm.loss)
            yield from _delays({"route": side}, arm.delays)
    for stratum in evidence.strata:
        yield from _stratum(stratum, "")
    for name, part in evidence.slices.items():
        yield from _slice(name, part)
    yield from _sums("pair_loss", {"slice": ""}, evidence.pairs.loss)
    yield from _sums("pair_shift", {}, evidence.pairs.shift)
    if same := evidence.pairs.agreement:
        yield "agreement_pairs", {}, same.n
        yield "agreement_same", {}, same.hits
    yield "skew_rows", {}, evidence.skew_n
    for feature, distance in evidence.skew.items():
        yield "skew", {"feature": feature}, distance
    if evidence.cells:
        yield "cells_compared", {}, evidence.cells.compared
        yield "cells_different", {}, evidence.cells.different
        yield "cells_excluded", {}, evidence.cells.excluded


def _stratum(stratum: Stratum, part: str) -> _Numbers:
    for side in SIDES:
        labels = {"route": side, "window": stratum.window}
        losses: Moments = getattr(stratum, side)
        imputed: Imputed | None = getattr(stratum, f"{side}_imputed")
        yield from _sums("loss", labels | {"slice": part}, losses)
        if imputed:
            yield from _sums("imputed", labels, imputed.every)
            yield from _sums("rectifier", labels, imputed.rectifier)


def _slice(name: str, part: SliceEvidence) -> _Numbers:
    for side in SIDES:
        if share := part.candidate if side == "candidate" else part.stable:
            yield "slice_requests", {"route": side, "slice": name}, share.n
            yield "slice_errors", {"route": side, "slice": name}, share.hits
    for stratum in part.strata:
        yield from _stratum(stratum, name)
    yield from _sums("pair_loss", {"slice": name}, part.pairs)


def _delays(labels: dict[str, str], found: LabelDelays | None) -> _Numbers:
    if found:
        ends = (*map(str, LABEL_DELAY_BOUNDS_S), "+Inf")
        for end, below in zip(ends, accumulate(found.counts), strict=True):
            yield "label_delay_seconds_bucket", labels | {"le": end}, below
        yield "label_delay_seconds_count", labels, sum(found.counts)
        yield "label_delay_seconds_sum", labels, found.seconds


def _sums(name: str, labels: dict[str, str], found: Moments | None) -> _Numbers:
    if found:
        yield f"{name}_count", labels, found.n
        yield f"{name}_sum", labels, found.n * found.mean
        yield f"{name}_squares", labels, (found.n - 1) * found.variance + found.n * found.mean**2


def feedback_of(evidence: Evidence) -> Iterator[Sample]:
    """How many answers of each side got a label, and the sum of their rewards; a new stage counts anew."""
    for role, arm in (("stable", evidence.stable), ("candidate", evidence.candidate)):
        if arm and arm.loss:
            labels = identity(evidence.task, role, arm.digest)
            yield Sample(FEEDBACK, labels, arm.loss.n)
            yield Sample(REWARD, labels, reward(arm.loss.n, arm.loss.mean))


def render(path: Path) -> bytes:
    """
    The document at ``path`` as it is now.

    Raises:
        OSError, ValidationError: it cannot be read; the scrape fails, and the gate sees series that end.
    """
    evidence = Evidence.model_validate_json(path.read_bytes())
    return in_text([*samples_of(evidence), *feedback_of(evidence)])


def main() -> None:
    """Serve until killed; prints ``ready http://host:port`` once it listens."""
    parser = argparse.ArgumentParser(description="Expose the joined part of an evidence document to Prometheus.")
    parser.add_argument("--evidence", type=Path, required=True, help="document that is written anew after each join")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a pod")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    options = parser.parse_args()
    expose(lambda: render(options.evidence), options.host, options.port)


if __name__ == "__main__":
    main()
