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

from sluice.documents.evaluation import Evaluation, SliceEvaluation, TaskMetric, VariantMeasurement
from sluice.evaluation.card_pictures import PICTURES, across, calibration_dots, up
from sluice.targets.metric import Metric
from sluice.targets.registry import metric_list, metrics_of, target_of
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Task

FEW_ROWS = 500
"""Slices of fewer rows are listed as hardly known."""
_OF_THE_KIND = ("target", "task_metrics", "loss")
_BINARY = {"kind": "binary"}
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
        **evaluation.model_dump(mode="json", include=set(_OF_THE_KIND)),
        "holdout": {
            "window": list(evaluation.window),
            "n": evaluation.n,
            **evaluation.model_dump(mode="json", include={"positives"}),
            "bootstrap": {key: value for key, value in evaluation.bootstrap.items() if "production" not in key},
        },
        "metrics": _plain(evaluation),
        "baselines": [peer.model_dump(mode="json", exclude={"digest"}) for peer in evaluation.baselines],
        "best_baseline": evaluation.best_baseline,
        "teacher": evaluation.teacher.model_dump(mode="json", exclude={"digest"}) if evaluation.teacher else None,
        "slices": [part.model_dump(mode="json", exclude={"versus_production"}) for part in evaluation.slices],
        "ladder": [rung.model_dump(mode="json", include=set(_UNTIMED)) for rung in measurements],
        **evaluation.model_dump(mode="json", include={"curves", "pictures"}),
    }


def evaluation_in_card(card: Mapping[str, Any]) -> Evaluation:
    """
    The evaluation that a card was made of, without what it leaves out: what is about production.

    Raises:
        ValidationError, KeyError, TypeError: it is no such card.
    """
    holdout = {key: card["holdout"][key] for key in ("window", "n", "bootstrap")}
    holdout["positives"] = card["holdout"].get("positives")
    fields = ("metrics", "baselines", "best_baseline", "teacher", "slices")
    model = {"model": card["model"]["variant"], "threshold": card["model"]["threshold"], "production": None}
    more = {key: card[key] for key in (*_OF_THE_KIND, "curves", "pictures") if key in card}
    return Evaluation.model_validate({**holdout, **model, **more, **{field: card[field] for field in fields}})


def card_html(card: Mapping[str, Any]) -> str:
    """One self-contained page of ``card_json``'s card: no script, no network, every value escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=_number, interval=_interval, thousands=_thousands)
    template = environment.from_string((resources.files(__package__) / "card.html.j2").read_text(encoding="utf-8"))
    target = target_of(card.get("target", _BINARY))
    own = [TaskMetric.model_validate(metric) for metric in card.get("task_metrics", ())]
    metrics = metric_list(target, own, card.get("loss"))
    curves = card.get("curves")
    return template.render(
        card=card,
        titles={metric.name: metric.heading for metric in metrics.known if not metric.whole},
        parts={metric.name: metric.heading for metric in metrics.known if metric.whole},
        headline={name: metric.heading for name in target.headline if (metric := metrics.find(name))},
        ranked={name: metric.heading for name in target.headline[:2] if (metric := metrics.find(name))},
        lower=_sentence_of([metric.title for metric in metrics.known if not (metric.higher or metric.whole)]),
        loss=metrics.find("loss"),
        few_rows=FEW_ROWS,
        roc=_roc_path(curves["roc"]) if curves else "",
        calibration=calibration_dots(curves["reliability"]) if curves else None,
        pictures=[PICTURES[picture["picture"]](picture) for picture in card.get("pictures", ())],
    )


def _sentence_of(titles: Sequence[str]) -> str:
    """``Log loss and calibration error``."""
    words = " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))
    return words[:1].upper() + words[1:]


def _intended_use(task: Task) -> str:
    inputs = ", ".join([*task.entity_keys, *task.request_inputs])
    return (
        f"{task.question} The model answers this, and nothing else, with {task.target.answer_words}, "
        f"from what is known at the moment of the request ({inputs}, and the features stored for these keys)."
    )


def _limits(task: Task, evaluation: Evaluation) -> tuple[str, ...]:
    start, end = (moment.strftime("%Y-%m-%d") for moment in (task.splits.train, task.splits.tune))
    first, last = (moment[:10] for moment in evaluation.window)
    known = [
        f"It learned from {start} to {end} (end excluded). What changes later is for the online gate to notice.",
        f"Quality was measured on {evaluation.n:,} rows of {first} to {last} (end excluded), none of them trained on.",
    ]
    rank = _rank(evaluation)
    if weakest := _weakest(evaluation.slices, rank):
        known.append(
            f"It is weakest in slice {weakest.slice}={weakest.value}: {rank.title} "
            f"{weakest.metrics[rank.name].value:.3f} ({weakest.n:,} rows)."
        )
    if few := [f"{part.slice}={part.value} ({part.n})" for part in evaluation.slices if part.n < FEW_ROWS]:
        known.append(f"Little is known about slices of fewer than {FEW_ROWS} rows: {', '.join(few)}.")
    return tuple(known)


def _rank(evaluation: Evaluation) -> Metric:
    """The metric by which slices are compared."""
    metrics = metrics_of(evaluation)
    return next(metric for metric in metrics.known if metric.name == metrics.ranking)


def _weakest(slices: Sequence[SliceEvaluation], rank: Metric) -> SliceEvaluation | None:
    known = [part for part in slices if part.n >= FEW_ROWS and rank.name in part.metrics]
    sign = 1.0 if rank.higher else -1.0
    return min(known, key=lambda part: (sign * part.metrics[rank.name].value, part.slice, part.value), default=None)


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    names, metrics = (metric.name for metric in metrics_of(evaluation).known), evaluation.metrics
    return {name: metrics[name].model_dump() for name in names if name in metrics}


def _number(value: float) -> str:
    return f"{value:.4g}"


def _thousands(value: int) -> str:
    return f"{value:,}"


def _interval(estimate: Mapping[str, float]) -> str:
    return f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def _roc_path(points: Sequence[Sequence[float]]) -> str:
    """The SVG path of a ROC curve; empty without points."""
    return " ".join(f"{'L' if index else 'M'}{across(x)} {up(y)}" for index, (x, y) in enumerate(points))
