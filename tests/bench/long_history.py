"""
What months leave behind: ``python -m tests.bench.long_history [--decisions 10000] [--days 60]``.

``why`` about a digest of so many decisions beside the same with every one of them, and labels of so many days read as
they came beside those that were put together.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from sluice.feedback.batch import Batch, label_schema
from sluice.feedback.compaction import LabelCompaction
from sluice.feedback.store import PredictionStore
from sluice.gitops.writer import GitOps
from sluice.object_store import open_location
from sluice.operations.why import why
from sluice.rollout.advance import look, propose
from sluice.targets.registry import BINARY
from tests.support.ledger import lengthen
from tests.support.release import GOOD, A, B, passing, sample_checkout

_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_AN_HOUR = 60
"""Objects of labels that come in an hour."""


def long_ledger(folder: Path, decisions: int) -> GitOps:
    """A ledger whose candidate walks the weights of a canary."""
    gitops = GitOps(folder / "gitops.git", "dev")
    gitops.seed(sample_checkout())
    gitops.commit(lambda snapshot: propose(snapshot, A, GOOD, {"auc": 0.8}, {"id": "run-1"}, _day(1)))
    gitops.commit(lambda snapshot: look(snapshot, passing(snapshot.state, _day(2)), _day(2), {}))
    gitops.commit(lambda snapshot: propose(snapshot, B, GOOD, {"auc": 0.8}, {"id": "run-2"}, _day(3)))
    gitops.commit(lambda snapshot: look(snapshot, passing(snapshot.state, _day(4)), _day(4), {}))
    lengthen(gitops, decisions)
    return gitops


def _day(number: int) -> str:
    return f"2020-01-{number:02d}T00:00:00Z"


def labels_of(folder: Path, days: int) -> PredictionStore:
    """Labels of so many days, one object a minute."""
    store = PredictionStore(open_location(str(folder)), "tiny", "dev")
    schema = dict(label_schema(BINARY))
    for minute in range(days * 24 * _AN_HOUR):
        moment = _BEGIN + timedelta(minutes=minute)
        known = {"example_id": f"q{minute}", "label": minute % 2}
        row = {name: known.get(name, moment if kind.is_temporal() else None) for name, kind in schema.items()}
        store.put("labels", Batch.of(moment, str(minute).encode()), pl.DataFrame([row], schema=schema))
    return store


def read(store: PredictionStore) -> int:
    """Rows of all labels."""
    return sum(store.read("labels", batch).height for batch in store.batches("labels", _BEGIN))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=60)
    options = parser.parse_args()
    _say(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="sluice-history-") as folder:
        gitops = long_ledger(Path(folder), options.decisions)
        short = _timed(f"why on {options.decisions} decisions", lambda: _said(gitops, whole=False))
        _ratio(short, _timed("the same with all of them", lambda: _said(gitops, whole=True)))
        store = labels_of(Path(folder) / "labels", options.days)
        slow = _timed(f"labels of {options.days} days as they came", lambda: f"{read(store)} rows")
        end, compaction = _BEGIN + timedelta(days=options.days + 1), LabelCompaction(store)
        _timed("putting them together", lambda: f"{_compact(compaction, end)} hours")
        _ratio(_timed("labels put together", lambda: f"{read(store)} rows"), slow)


def _compact(compaction: LabelCompaction, now: datetime) -> int:
    hours = 0
    while compaction.advance(now):
        hours += 1
    return hours


def _said(gitops: GitOps, *, whole: bool) -> str:
    text = "\n".join(why(gitops, B, whole=whole).lines())
    return f"{len(text.encode()):,} bytes"


def _timed(name: str, work: Callable[[], str]) -> float:
    started, used = time.perf_counter(), time.process_time()
    made = work()
    spent = time.perf_counter() - started
    _say(f"{name:36} {spent:7.2f} s, {time.process_time() - used:6.2f} s of this process   {made}")
    return spent


def _ratio(ours: float, peer: float) -> None:
    _say(f"{'':36} {ours / peer:7.2f} of the other")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
