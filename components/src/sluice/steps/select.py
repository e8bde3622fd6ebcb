"""Measure the ladder and choose the rung that ships."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from sluice.content import write_json
from sluice.evaluation.measure import measure_ladder
from sluice.evaluation.select import VariantSelection, select_variant
from sluice.gates.policy import parse_policy

VARIANTS = "variants.json"
SELECTION = "selection.json"


def select(frame: Path, ladder: Path, policy: str, seed: int, out: Path) -> VariantSelection:
    """
    Choose by the policy (its text) among the variants in ``ladder``, measured on the frame's tune split.

    Writes ``variants.json`` and ``selection.json`` into ``out``.
    """
    measurements = measure_ladder(frame, ladder, seed)
    variant = select_variant(measurements, parse_policy(policy.encode(), "gate policy").select)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / VARIANTS, [measurement.model_dump(mode="json") for measurement in measurements])
    write_json(out / SELECTION, asdict(variant))
    return variant


def selected(directory: Path) -> str:
    """Name of the variant that the selection in ``directory`` chose."""
    return str(json.loads((directory / SELECTION).read_bytes())["name"])
