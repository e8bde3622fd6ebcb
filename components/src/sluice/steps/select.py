"""Measure the ladder and choose the rung that ships."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from sluice.content import write_json
from sluice.evaluation.measure import measure_ladder
from sluice.evaluation.select import VariantSelection, select_variant
from sluice.gates.policy import parse_policy
from sluice.tasks.task import load_task

VARIANTS = "variants.json"
SELECTION = "selection.json"


def select(task: str, frame: Path, ladder: Path, policy: str, seed: int, out: Path) -> VariantSelection:
    """
    Choose by the policy (its text) among the variants in ``ladder``, measured on the frame's tune split.

    The task says what is measured; a policy that names something else is refused. Writes ``variants.json`` and
    ``selection.json`` into ``out``.
    """
    yardstick = load_task(task).yardstick
    rules = parse_policy(policy.encode(), "gate policy", yardstick.metrics).select
    measurements = measure_ladder(frame, ladder, seed, yardstick)
    variant = select_variant(measurements, rules, yardstick.metrics)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / VARIANTS, [measurement.model_dump(mode="json") for measurement in measurements])
    write_json(out / SELECTION, asdict(variant))
    return variant


def selected(directory: Path) -> str:
    """Name of the variant that the selection in ``directory`` chose."""
    return str(json.loads((directory / SELECTION).read_bytes())["name"])
