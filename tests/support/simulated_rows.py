"""Simulated requests written out as prediction rows, as a server would have logged them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from sluice.simulation.evidence import BEGIN, name_of
from sluice.simulation.play import CANDIDATE, STABLE
from sluice.simulation.traffic import SimulatedTraffic
from sluice.simulation.watch import Stretch
from sluice.tasks.task import Slice

SLICES = (Slice("part", "part"),)
CARRIED = {"part": pl.String}
THRESHOLDS = {CANDIDATE: 0.5, STABLE: 0.5}


def rows_of(traffic: SimulatedTraffic, stretches: Sequence[Stretch]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predictions and labels of all windows of the stretches."""
    frames, labels = [], []
    for stretch in stretches:
        people = traffic.population(shadow=stretch.road.shadow)
        found = traffic.span(stretch.first, stretch.end)
        names = np.array([f"{stretch.first}-{number}" for number in range(len(found.at))])
        ours = found.draw < stretch.road.share
        everyone = np.ones(len(ours), dtype=bool)
        shadow = stretch.road.shadow
        route, theirs = ("shadow", everyone) if shadow else ("candidate", ~ours)
        status = [
            np.select([refuses, fails], [400, 500], 200)
            for fails, refuses in (
                (found.candidate_fails, found.candidate_refuses),
                (found.stable_fails, found.stable_refuses),
            )
        ]
        arms = [
            (route, CANDIDATE, ours, status[0], people.candidate_scores, found.candidate_ms),
            ("stable", STABLE, theirs, status[1], people.stable_scores, found.stable_ms),
        ]
        for name, digest, chosen, codes, scores, milliseconds in arms:
            good, refused = codes[chosen] == 200, codes[chosen] == 400
            keys = [f'{{"part": "{part:02}"}}' for part in people.parts[found.row[chosen]]]
            columns = {
                "request_id": names[chosen],
                "event_time": [BEGIN + timedelta(hours=float(hour)) for hour in found.at[chosen]],
                "route": name,
                "digest": digest,
                "score": np.where(good, scores[found.row[chosen]], np.nan),
                "status": codes[chosen],
                "latency_ms": milliseconds[chosen],
                "features": "{}",
                "missing": found.stale[chosen].astype(np.int16),
                "stale": 0,
                "keys": np.where(refused, "{}", keys),
                "window": [name_of(window, traffic.scale.look_hours) for window in found.window[chosen]],
            }
            frames.append(pl.DataFrame(columns, schema_overrides={"window": pl.String, "keys": pl.String}))
        came = np.isfinite(found.label_at)
        labels.append(
            pl.DataFrame(
                {
                    "example_id": names[came],
                    "label": people.labels[found.row[came]],
                    "label_time": [BEGIN + timedelta(hours=float(hour)) for hour in found.label_at[came]],
                }
            )
        )
    return pl.concat([frame for frame in frames if frame.height]), pl.concat(labels)
