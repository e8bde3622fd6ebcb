"""Made-up but realistic evaluations and variants, for a report to draw."""

from __future__ import annotations

import math
import random

from sluice.content import digest_of_value
from sluice.documents.evaluation import (
    CalibrationBin,
    Curves,
    Estimate,
    Evaluation,
    Peer,
    SliceEvaluation,
    VariantMeasurement,
)

SLICES = {
    "carrier": {
        "AA": 5400,
        "B6": 9100,
        "DL": 8300,
        "EV": 9000,
        "MQ": 4300,
        "UA": 9900,
        "US": 3500,
        "VX": 900,
        "HA": 60,
    },
    "origin": {"EWR": 19900, "JFK": 18500, "LGA": 17200},
    "hour_band": {"night": 900, "morning": 19000, "midday": 15200, "evening": 20500},
    "distance_band": {"short": 14100, "medium": 25300, "long": 16200},
}


def digest(name: str) -> str:
    """A digest that looks real."""
    return digest_of_value(name)


def _about(value: float, half: float, n: int) -> Estimate:
    return Estimate(value=round(value, 5), low=round(value - half, 5), high=round(value + half, 5), n=n)


def variants(rng: random.Random) -> list[VariantMeasurement]:
    rows = [
        ("teacher_f32", 61_441, 249_800, 0.0, 41.0),
        ("student_f32", 7_297, 33_100, 0.0021, 11.0),
        ("student_int8", 7_297, 12_400, 0.0028, 9.0),
        ("student_pruned_int8", 7_297, 12_300, 0.0124, 9.2),
        ("student_qat_int8", 7_297, 12_900, 0.0035, 9.4),
    ]
    return [
        VariantMeasurement(
            name=name,
            parameters=parameters,
            bytes=size,
            gzip_bytes=round(size * (0.55 if "pruned" in name else 0.91)),
            metrics={"auc": _about(0.741 - 1.6 * loss, 0.011, 28_796), "log_loss": _about(0.455 + loss, 0.012, 28_796)},
            versus_teacher={"log_loss": _about(loss, 0.0 if name == "teacher_f32" else 0.0018, 28_796)},
            latency_p50_us=latency + rng.random(),
            latency_p99_us=2.4 * latency,
            format="onnx" if name == "teacher_f32" else "litert",
        )
        for name, parameters, size, loss, latency in rows
    ]


def selection_reasons() -> list[str]:
    return [
        "student_pruned_int8 (12,300 bytes) does not qualify: its log_loss is at worst 0.0142 worse.",
        "student_int8 (12,400 bytes) qualifies: its log_loss is at worst 0.0046 worse.",
        "student_int8 is the smallest that qualifies.",
    ]


def evaluation_of(rng: random.Random, number: int) -> Evaluation:
    auc, n = {1: 0.704, 2: 0.741, 3: 0.744, 4: 0.742}[number], 55_600
    peers = [_peer("prior", 0.5, 0.52, auc), _peer("rate", 0.634, 0.489, auc), _peer("logistic", 0.689, 0.474, auc)]
    return Evaluation(
        model="student_int8",
        window=("2013-06-01T05:00:00Z", "2013-08-01T05:00:00Z"),
        n=n,
        positives=16_120,
        threshold=0.31,
        metrics={
            "auc": _about(auc, 0.012, n),
            "pr_auc": _about(auc - 0.19, 0.018, n),
            "log_loss": _about(1.2 - auc, 0.011, n),
            "ece": _about(0.031, 0.006, n),
            "precision": _about(0.47, 0.02, n),
            "recall": _about(0.62, 0.02, n),
        },
        slices=tuple(
            _slice(rng, number, (name, value), n, auc) for name, parts in SLICES.items() for value, n in parts.items()
        ),
        baselines=tuple(peers),
        best_baseline="logistic",
        teacher=_peer("teacher_f32", auc + 0.003, 0.455, auc),
        production=None
        if number == 1
        else _peer("production", 0.704, 0.496, auc).model_copy(update={"digest": digest("model 1")}),
        curves=_curves(auc),
        bootstrap={
            "resamples": 400,
            "days": 61,
            "seed": 20130101,
            **({} if number == 1 else {"mean_run_days": 1.0, "production_mean_run_days": 4.25}),
        },
    )


def _peer(name: str, auc: float, loss: float, own: float) -> Peer:
    n = 55_600
    return Peer(
        name=name,
        metrics={"auc": _about(auc, 0.012, n), "log_loss": _about(loss, 0.01, n)},
        difference={"auc": _about(own - auc, 0.004, n), "log_loss": _about(1.2 - own - loss, 0.004, n)},
    )


def _slice(rng: random.Random, number: int, place: tuple[str, str], n: int, auc: float) -> SliceEvaluation:
    (name, value), half = place, 1.1 / math.sqrt(n)
    worse = 0.12 if number == 3 and value == "VX" else -0.03 + rng.gauss(0, 0.006)
    return SliceEvaluation(
        slice=name,
        value=value,
        n=n,
        positives=round(n * 0.29),
        metrics={"auc": _about(auc + rng.gauss(0, 0.012), half, n), "log_loss": _about(0.46, half, n)},
        versus_production={} if number == 1 else {"log_loss": _about(worse, half, n)},
    )


def _curves(auc: float) -> Curves:
    power = (1 - auc) / auc
    grid = [index / 100 for index in range(101)]
    bins = []
    for place in range(10):
        score, n = 0.05 + 0.09 * place, round(14_000 * math.exp(-place / 1.7))
        rate = min(0.99, score * 1.06 + 0.01)
        half = 1.96 * math.sqrt(rate * (1 - rate) / n)
        bins.append(CalibrationBin(mean_score=score, rate=rate, low=rate - half, high=min(1.0, rate + half), n=n))
    return Curves(
        roc=tuple((x, x**power) for x in grid),
        precision_recall=tuple((x, 0.29 + 0.62 * (1 - x) ** 1.4) for x in grid),
        reliability=tuple(bins),
    )
