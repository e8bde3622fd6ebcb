"""
The model card: what a model is for, what it learned from, how good it is and where it is weak.

A card travels inside the content-addressed bundle, so it holds only what follows from data, recipe and code: no clock
times and no latencies, and nothing about the model that happened to be in production, or a model that was held back
could come again under another digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

from sluice.documents.evaluation import Estimate, Evaluation, SliceEvaluation, VariantMeasurement
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Task

FEW_ROWS = 500
"""Slices of fewer rows are listed as hardly known."""
_TITLES = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "Log loss",
    "ece": "Calibration error",
    "precision": "Precision",
    "recall": "Recall",
}
_SIDE = 200
"""Of the card's pictures, in units of their SVG paths; y grows downwards."""
_UNTIMED = ("name", "parameters", "bytes", "gzip_bytes", "metrics", "versus_teacher")


def card_json(
    task: Task,
    recipe: Recipe,
    evaluation: Evaluation,
    measurements: Sequence[VariantMeasurement],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """
    The card as plain JSON values: equal inputs give equal cards.

    Args:
        recipe: what the candidate was trained by.
        measurements: the compression ladder on split tune; its latencies are left out.
        provenance: digests of data, frame, recipe and code, and the window of the training data.
    """
    return {
        "card": "sluice.dev/model-card/v1",
        "task": {"name": task.name, "title": task.title, "question": task.question},
        "model": {"variant": evaluation.model, "threshold": evaluation.threshold},
        "recipe": recipe.model_dump(mode="json"),
        "provenance": dict(provenance),
        "intended_use": _intended_use(task),
        "limits": list(_limits(task, evaluation)),
        "holdout": {
            "window": list(evaluation.window),
            "n": evaluation.n,
            "positives": evaluation.positives,
            "bootstrap": {key: value for key, value in evaluation.bootstrap.items() if "production" not in key},
        },
        "metrics": _plain(evaluation.metrics),
        "baselines": [peer.model_dump(mode="json", exclude={"digest"}) for peer in evaluation.baselines],
        "best_baseline": evaluation.best_baseline,
        "teacher": evaluation.teacher.model_dump(mode="json", exclude={"digest"}) if evaluation.teacher else None,
        "slices": [part.model_dump(mode="json", exclude={"versus_production"}) for part in evaluation.slices],
        "ladder": [rung.model_dump(mode="json", include=set(_UNTIMED)) for rung in measurements],
        "curves": evaluation.curves.model_dump(mode="json") if evaluation.curves else None,
    }


def evaluation_in_card(card: Mapping[str, Any]) -> Evaluation:
    """
    The evaluation that a card was made of, without what it leaves out: what is about production.

    Raises:
        ValidationError, KeyError, TypeError: it is no such card.
    """
    holdout = {key: card["holdout"][key] for key in ("window", "n", "positives", "bootstrap")}
    fields = ("metrics", "baselines", "best_baseline", "teacher", "slices", "curves")
    model = {"model": card["model"]["variant"], "threshold": card["model"]["threshold"], "production": None}
    return Evaluation.model_validate({**holdout, **model, **{field: card[field] for field in fields}})


def card_html(card: Mapping[str, Any]) -> str:
    """One self-contained page of ``card_json``'s card: no script, no network, every value escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=_number, interval=_interval, thousands=_thousands)
    template = environment.from_string((resources.files(__package__) / "card.html.j2").read_text(encoding="utf-8"))
    return template.render(
        card=card,
        titles=_TITLES,
        few_rows=FEW_ROWS,
        roc=_roc_path(card["curves"]["roc"]),
        calibration=_calibration_dots(card["curves"]["reliability"]),
    )


def _intended_use(task: Task) -> str:
    inputs = ", ".join([*task.entity_keys, *task.request_inputs])
    return (
        f"{task.question} The model answers this, and nothing else, with a probability, "
        f"from what is known at the moment of the request ({inputs}, and the features stored for these keys)."
    )


def _limits(task: Task, evaluation: Evaluation) -> tuple[str, ...]:
    start, end = (moment.strftime("%Y-%m-%d") for moment in (task.splits.train, task.splits.tune))
    first, last = (moment[:10] for moment in evaluation.window)
    known = [
        f"It learned from {start} to {end} (end excluded). What changes later is for the online gate to notice.",
        f"Quality was measured on {evaluation.n:,} rows of {first} to {last} (end excluded), none of them trained on.",
    ]
    if weakest := _weakest(evaluation.slices):
        known.append(
            f"It is weakest in slice {weakest.slice}={weakest.value}: AUC {weakest.metrics['auc'].value:.3f} "
            f"({weakest.n:,} rows)."
        )
    if few := [f"{part.slice}={part.value} ({part.n})" for part in evaluation.slices if part.n < FEW_ROWS]:
        known.append(f"Little is known about slices of fewer than {FEW_ROWS} rows: {', '.join(few)}.")
    return tuple(known)


def _weakest(slices: Sequence[SliceEvaluation]) -> SliceEvaluation | None:
    known = [part for part in slices if part.n >= FEW_ROWS and "auc" in part.metrics]
    return min(known, key=lambda part: (part.metrics["auc"].value, part.slice, part.value), default=None)


def _plain(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: metrics[name].model_dump() for name in _TITLES if name in metrics}


def _number(value: float) -> str:
    return f"{value:.4g}"


def _thousands(value: int) -> str:
    return f"{value:,}"


def _interval(estimate: Mapping[str, float]) -> str:
    return f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def _roc_path(points: Sequence[Sequence[float]]) -> str:
    """The SVG path of a ROC curve; empty without points."""
    return " ".join(f"{'L' if index else 'M'}{_across(x)} {_up(y)}" for index, (x, y) in enumerate(points))


def _calibration_dots(bars: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One dot with its interval for each bar of the reliability curve."""
    return [
        {"x": _across(bar["mean_score"]), "y": _up(bar["rate"]), "low": _up(bar["low"]), "high": _up(bar["high"])}
        for bar in bars
    ]


def _across(share: float) -> str:
    return f"{share * _SIDE:.1f}"


def _up(share: float) -> str:
    return f"{(1 - share) * _SIDE:.1f}"
