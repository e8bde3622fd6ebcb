"""One chapter as the page shows it: words, figures and pictures, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sluice.documents.evaluation import Estimate, Evaluation
from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.tasks.recipe import Recipe
from sluice_local.report import model_charts, rollout_chart, slice_charts, variant_chart
from sluice_local.report.inputs import Chapter, Interruption
from sluice_local.report.wording import action_name, count, interval, metric_name, number, signed, size

_LOSSES = {"train_log_loss": ("train", "split-train"), "tune_log_loss": ("tune", "split-tune")}
_AUCS = {"train_auc": ("train", "split-train"), "tune_auc": ("tune", "split-tune")}
_ORDER = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}
_TOLD = 6
"""So many rules are shown in full; further ones that pass are folded away."""


@dataclass(frozen=True)
class Tile:
    """A number that stands out, with what it means."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class PeerRow:
    """A line of the comparison table: cells are (value, interval) texts."""

    name: str
    digest: str | None
    cells: tuple[tuple[str, str], ...]
    strip: Markup | None


@dataclass(frozen=True)
class ChapterView:
    """What the template shows of a chapter; empty or ``None`` where it was never reached."""

    anchor: str
    chapter: Chapter
    verdict: Verdict | None
    tag: str
    recipe: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]
    tiles: tuple[Tile, ...]
    learning: tuple[Markup, ...]
    variants: tuple[Markup, ...]
    """The same picture, wide and narrow; so are the timelines."""
    roc: Markup | None
    precision_recall: Markup | None
    reliability: Markup | None
    forest: slice_charts.Forest | None
    peers: tuple[PeerRow, ...]
    offline: Decision | None
    offline_reasons: tuple[Reason, ...]
    folded_reasons: tuple[Reason, ...]
    infra: tuple[tuple[str, str], ...]
    timelines: tuple[Markup, ...]
    looks: tuple[dict[str, str], ...]
    measures: tuple[str, ...]


def chapter_view(chapter: Chapter, killed: Interruption | None) -> ChapterView:
    """Everything of a chapter that is shown; ``killed`` where that happened in this chapter."""
    evaluation = chapter.evaluation
    offline = next((decision for decision in chapter.decisions if decision.stage == "offline"), None)
    ranked = sorted(offline.reasons if offline else (), key=lambda reason: _ORDER[reason.verdict])
    told = max(_TOLD, sum(reason.verdict is not Verdict.PASS for reason in ranked))
    timeline = rollout_chart.timeline_of(chapter.looks, chapter.decisions, chapter.record.candidate, killed)
    curves = evaluation.curves if evaluation else None
    return ChapterView(
        anchor=f"chapter-{chapter.record.number}",
        chapter=chapter,
        verdict=chapter_verdict(chapter.decisions),
        tag=_tag(chapter.decisions),
        recipe=_recipe_words(chapter.recipe),
        changes=_changes(chapter.recipe),
        tiles=_tiles(chapter),
        learning=_learning(chapter.history),
        variants=_variant_pictures(chapter),
        roc=model_charts.roc_curve(curves.roc, _value(evaluation, "auc")) if curves else None,
        precision_recall=_precision_recall(evaluation),
        reliability=model_charts.reliability_curve(curves.reliability) if curves else None,
        forest=slice_charts.forest_of(evaluation, offline.reasons if offline else ()) if evaluation else None,
        peers=_peers(evaluation),
        offline=offline,
        offline_reasons=tuple(ranked[:told]),
        folded_reasons=tuple(ranked[told:]),
        infra=_facts(chapter.infra or {}),
        timelines=tuple(rollout_chart.draw_timeline(timeline, width) for width in (1000, 400)) if timeline else (),
        looks=tuple(rollout_chart.look_rows(chapter.looks)),
        measures=tuple(map(rollout_chart.measure_name, timeline.measures)) if timeline else (),
    )


def chapter_verdict(decisions: Sequence[Decision]) -> Verdict | None:
    """FAIL if any decision failed, else the last verdict; ``None`` without a decision."""
    verdicts = [decision.verdict for decision in decisions]
    return Verdict.FAIL if Verdict.FAIL in verdicts else (verdicts[-1] if verdicts else None)


def _tag(decisions: Sequence[Decision]) -> str:
    if not decisions:
        return "no decision"
    last = decisions[-1]
    held = len(last.after.get("holds") or ()) > len(last.before.get("holds") or ())
    offline = " offline" if last.stage == "offline" else ""
    ended = f" in {last.stage}"
    where = {"rollback": ended, "time-out": ended, "refuse": offline}.get(last.action, "")
    return action_name(last.action) + where + (", held" if held else "")


def _recipe_words(recipe: Recipe | None) -> tuple[str, ...]:
    if recipe is None:
        return ()
    teacher, student = (" and ".join(map(str, layers)) for layers in (recipe.teacher, recipe.student))
    learned = (
        f"A teacher network with hidden layers of {teacher} units learns from {len(recipe.features)} features, for at "
        f"most {recipe.epochs} epochs in batches of {count(recipe.batch_size)} (learning rate "
        f"{recipe.learning_rate:g}, dropout {recipe.dropout:g}, seed {recipe.seed}). "
        f"A student with layers of {student} units learns from the teacher, and is then made smaller in several ways."
    )
    return (recipe.description, learned)


def _changes(recipe: Recipe | None) -> tuple[tuple[str, str, str], ...]:
    """(feature, SQL expression, which rows) of what is done to columns in training and not while serving."""
    if recipe is None:
        return ()
    everywhere = [(name, sql, "every row") for name, sql in recipe.transform.items()]
    return (*everywhere, *((name, sql, "training rows only") for name, sql in recipe.train_transform.items()))


def _tiles(chapter: Chapter) -> tuple[Tile, ...]:
    evaluation, tiles = chapter.evaluation, []
    if evaluation and (auc := evaluation.metrics.get("auc")):
        tiles.append(Tile("AUC on untouched data", number(auc.value), f"95 % interval {interval(auc.low, auc.high)}"))
        best = next((peer for peer in evaluation.baselines if peer.name == evaluation.best_baseline), None)
        for peer, name in ((best, "best baseline"), (evaluation.production, "production")):
            if peer and (gain := peer.difference.get("auc")):
                note = f"{interval(gain.low, gain.high, difference=True)}" + (f" · {peer.name}" if peer is best else "")
                tiles.append(Tile(f"AUC gain over {name}", signed(gain.value), note))
    if variant := next((item for item in chapter.variants if item.name == _chosen(chapter)), None):
        note = f"{variant.name}, {variant.latency_p50_us:.0f} µs a row"
        tiles.append(Tile("Model file that ships", size(variant.bytes), note))
    return tuple(tiles)


def _chosen(chapter: Chapter) -> str | None:
    return chapter.selection.name if chapter.selection else None


def _learning(history: Mapping[str, Any] | None) -> tuple[Markup, ...]:
    epochs = list((history or {}).get("history") or ())
    pictures = []
    for series, title in ((_LOSSES, "log loss (nats)"), (_AUCS, "AUC")):
        if any(row.get(key) is not None for row in epochs for key in series):
            pictures.append(model_charts.learning_curve(epochs, series, title, (history or {}).get("best_epoch")))
    return tuple(pictures)


def _variant_pictures(chapter: Chapter) -> tuple[Markup, ...]:
    metric = next((name for name in ("log_loss", "auc") if variant_chart.can_draw(chapter.variants, name)), None)
    if metric is None:
        return ()
    drawn = (variant_chart.variant_picture(chapter.variants, _chosen(chapter), metric, width) for width in (620, 480))
    return tuple(drawn)


def _precision_recall(evaluation: Evaluation | None) -> Markup | None:
    if evaluation is None:
        return None
    points, rate = evaluation.curves.precision_recall, model_charts.base_rate(evaluation)
    return model_charts.precision_recall_curve(points, rate, _value(evaluation, "pr_auc"))


def _value(evaluation: Evaluation | None, metric: str) -> str:
    estimate = evaluation.metrics.get(metric) if evaluation else None
    return number(estimate.value if estimate else None)


def _peers(evaluation: Evaluation | None) -> tuple[PeerRow, ...]:
    if evaluation is None:
        return ()
    others = [peer for peer in (*evaluation.baselines, evaluation.teacher, evaluation.production) if peer]
    scale = model_charts.strip_scale(others, "auc")
    own = tuple(_cell(evaluation.metrics.get(metric)) for metric in ("auc", "log_loss"))
    rows = [PeerRow(f"this candidate ({evaluation.model})", None, (*own, ("", "")), None)]
    for peer in others:
        name = f"baseline: {peer.name}" if peer in evaluation.baselines else peer.name
        named = "production" if peer is evaluation.production else "teacher" if peer is evaluation.teacher else name
        best = " (best)" if peer.name == evaluation.best_baseline and peer in evaluation.baselines else ""
        gain = peer.difference.get("auc")
        cells = (_cell(peer.metrics.get("auc")), _cell(peer.metrics.get("log_loss")), _cell(gain, difference=True))
        strip = model_charts.difference_strip(peer, "auc", scale) if gain else None
        rows.append(PeerRow(named + best, peer.digest, cells, strip))
    return tuple(rows)


def _cell(estimate: Estimate | None, *, difference: bool = False) -> tuple[str, str]:
    if estimate is None:
        return ("–", "")
    shown = signed(estimate.value) if difference else number(estimate.value)
    return shown, interval(estimate.low, estimate.high, difference=difference)


def metric_cells(metrics: Mapping[str, Estimate]) -> list[tuple[str, str, str]]:
    """(name, value, interval) of each metric, in the order that people expect."""
    order = ("auc", "pr_auc", "log_loss", "ece", "precision", "recall")
    known = [name for name in order if name in metrics] + sorted(set(metrics) - set(order))
    return [(metric_name(name), *_cell(metrics[name])) for name in known]


def _facts(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The plain values of a document as words, nested ones with their path."""
    found: list[tuple[str, str]] = []
    for key, value in document.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            found += [(f"{name}: {inner}", words) for inner, words in _facts(value)]
        elif isinstance(value, bool):
            found.append((name, "yes" if value else "no"))
        elif isinstance(value, int):
            found.append((name, count(value)))
        elif isinstance(value, float):
            found.append((name, f"{value:.1e}" if 0 < abs(value) < 1e-4 else number(value)))
        elif isinstance(value, str):
            found.append((name, value))
    return tuple(found)
