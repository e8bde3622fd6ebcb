"""Simulated requests written out as prediction rows, as a server would have logged them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from sluice.gates.simulation.evidence import BEGIN
from sluice.gates.simulation.play import CANDIDATE, STABLE
from sluice.gates.simulation.traffic import Traffic


def rows_of(traffic: Traffic, roads: list[tuple[bool, float]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predictions and labels of the first windows; ``roads``: is a window mirrored, and the candidate's share."""
    people, frames, labels = traffic.population, [], []
    for index, (shadow, share) in enumerate(roads):
        window = traffic.window(index)
        names = np.array([f"{index}-{number}" for number in range(window.n)])
        ours = window.draw < share
        everyone = np.ones(window.n, dtype=bool)
        arms = [
            ("shadow" if shadow else "candidate", CANDIDATE, ours, window.candidate_fails, people.candidate_scores),
            ("stable", STABLE, everyone if shadow else ~ours, window.stable_fails, people.stable_scores),
        ]
        for route, digest, chosen, fails, scores in arms:
            good = ~fails[chosen]
            frames.append(
                pl.DataFrame(
                    {
                        "request_id": names[chosen],
                        "event_time": [BEGIN + timedelta(hours=float(hour)) for hour in window.at[chosen]],
                        "route": route,
                        "digest": digest,
                        "score": np.where(good, scores[window.row[chosen]], np.nan),
                        "status": np.where(good, 200, 500),
                        "latency_ms": 3.0,
                        "features": "{}",
                        "window": f"{window.start:010.3f}",
                    }
                )
            )
        came = np.isfinite(window.label_at)
        labels.append(
            pl.DataFrame(
                {
                    "example_id": names[came],
                    "label": people.labels[window.row[came]],
                    "label_time": [BEGIN + timedelta(hours=float(hour)) for hour in window.label_at[came]],
                }
            )
        )
    return pl.concat(frames), pl.concat(labels)
