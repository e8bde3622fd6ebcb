"""One chapter as the page shows it: words, figures and pictures, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sluice.documents.evaluation import Estimate
from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.tasks.recipe import Recipe
from sluice_local.report.inputs import LookRecord, ReportChapter
from sluice_local.report.peers import PeerRow, cell, comparison, peer_rows
from sluice_local.report.wording import action_name, clock, count, interval, metric_name, number, signed, size

_ORDER = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}
_UNFOLDED_RULES = 6
"""So many rules are shown in full; further ones that pass are folded away."""


@dataclass(frozen=True)
class Tile:
    """A number that stands out, with what it means."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class ChapterView:
    """What the template shows of a chapter; empty or ``None`` where it was never reached."""

    anchor: str
    chapter: ReportChapter
    verdict: Verdict | None
    tag: str
    recipe: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]
    tiles: tuple[Tile, ...]
    columns: dict[str, str]
    """Names and headings of what models are compared by."""
    peers: tuple[PeerRow, ...]
    offline: Decision | None
    offline_reasons: tuple[Reason, ...]
    folded_reasons: tuple[Reason, ...]
    infra: tuple[tuple[str, str], ...]
    looks: tuple[dict[str, str], ...]


def chapter_view(chapter: ReportChapter) -> ChapterView:
    """Everything of a chapter that is shown beside its pictures."""
    evaluation, offline = chapter.evaluation, chapter.offline
    ranked = sorted(offline.reasons if offline else (), key=lambda reason: _ORDER[reason.verdict])
    unfolded = max(_UNFOLDED_RULES, sum(reason.verdict is not Verdict.PASS for reason in ranked))
    return ChapterView(
        anchor=f"chapter-{chapter.record.number}",
        chapter=chapter,
        verdict=chapter_verdict(chapter.decisions),
        tag=_tag(chapter.decisions),
        recipe=_recipe_words(chapter.recipe),
        changes=_changes(chapter.recipe),
        tiles=_tiles(chapter),
        columns=comparison(evaluation).columns,
        peers=peer_rows(evaluation) if evaluation else (),
        offline=offline,
        offline_reasons=tuple(ranked[:unfolded]),
        folded_reasons=tuple(ranked[unfolded:]),
        infra=_facts(chapter.infra or {}),
        looks=tuple(map(_look_row, chapter.looks)),
    )


def chapter_verdict(decisions: Sequence[Decision]) -> Verdict | None:
    """FAIL if any decision failed, else the last verdict; ``None`` without a decision."""
    verdicts = [decision.verdict for decision in decisions]
    return Verdict.FAIL if Verdict.FAIL in verdicts else (verdicts[-1] if verdicts else None)


def _tag(decisions: Sequence[Decision]) -> str:
    if not decisions:
        return "no decision"
    last = decisions[-1]
    on_hold = len(last.after.get("holds") or ()) > len(last.before.get("holds") or ())
    offline = " offline" if last.stage == "offline" else ""
    stage = f" in {last.stage}"
    where = {"rollback": stage, "time-out": stage, "refuse": offline}.get(last.action, "")
    return action_name(last.action) + where + (", held" if on_hold else "")


def _recipe_words(recipe: Recipe | None) -> tuple[str, ...]:
    if recipe is None:
        return ()
    return (recipe.description, f"{_teacher_words(recipe)}{_student_words(recipe)}")


def _student_words(recipe: Recipe) -> str:
    if not any(variant.startswith("student") for variant in recipe.variants):
        return ""
    layers = " and ".join(map(str, recipe.student))
    smaller = any(not variant.endswith("_f32") for variant in recipe.variants)
    rest = ", and is then made smaller in several ways." if smaller else "."
    return f" A student with layers of {layers} units learns from the teacher{rest}"


def _teacher_words(recipe: Recipe) -> str:
    if "family" in recipe.model_dump():
        settings = ", ".join(f"{name} {value}" for name, value in recipe.settings.items()) or "its defaults"
        features = len(recipe.features)
        return f"A teacher of family {recipe.family} ({settings}; seed {recipe.seed}) learns from {features} features."
    return (
        f"A teacher network with hidden layers of {' and '.join(map(str, recipe.teacher))} units learns from "
        f"{len(recipe.features)} features, for at most {recipe.epochs} epochs in batches of {count(recipe.batch_size)} "
        f"(learning rate {recipe.learning_rate:g}, dropout {recipe.dropout:g}, seed {recipe.seed})."
    )


def _changes(recipe: Recipe | None) -> tuple[tuple[str, str, str], ...]:
    """(feature, SQL expression, which rows) of what is done to columns in training and not while serving."""
    if recipe is None:
        return ()
    everywhere = [(name, sql, "every row") for name, sql in recipe.transform.items()]
    return (*everywhere, *((name, sql, "training rows only") for name, sql in recipe.train_transform.items()))


def _tiles(chapter: ReportChapter) -> tuple[Tile, ...]:
    evaluation, tiles = chapter.evaluation, []
    names = comparison(evaluation)
    if evaluation and (own := evaluation.metrics.get(names.first.name)):
        ends = f"95 % interval {interval(own.low, own.high)}"
        tiles.append(Tile(f"{names.first.heading} on untouched data", number(own.value), ends))
        best = next((peer for peer in evaluation.baselines if peer.name == evaluation.best_baseline), None)
        for peer, name in ((best, "best baseline"), (evaluation.production, "production")):
            if peer and (gain := names.gain(peer)):
                note = f"{interval(gain.low, gain.high, difference=True)}" + (f" · {peer.name}" if peer is best else "")
                tiles.append(Tile(f"{names.first.heading} gain over {name}", signed(gain.value), note))
    selection = chapter.selection.name if chapter.selection else None
    if variant := next((item for item in chapter.variants if item.name == selection), None):
        note = f"{variant.name} ({variant.format}), {variant.latency_p50_us:.0f} µs a row"
        tiles.append(Tile("Model file that ships", size(variant.bytes), note))
    return tuple(tiles)


def _look_row(look: LookRecord) -> dict[str, str]:
    return {
        "now": clock(look.now),
        "stage": look.stage,
        "weight": f"{number(look.weight)} %",
        "n": count(look.n),
        "verdict": look.verdict.value,
        "action": action_name(look.action),
        "why": " ".join(reason.text for reason in look.reasons if reason.verdict is not Verdict.PASS),
    }


def metric_cells(metrics: Mapping[str, Estimate]) -> list[tuple[str, str, str]]:
    """(name, value, interval) of each metric, in the order that people expect."""
    order = ("auc", "pr_auc", "log_loss", "ece", "precision", "recall")
    known = [name for name in order if name in metrics] + sorted(set(metrics) - set(order))
    return [(metric_name(name), *cell(metrics[name])) for name in known]


def _facts(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The plain values of a document as words, nested ones with their path."""
    facts: list[tuple[str, str]] = []
    for key, value in document.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            facts += [(f"{name}: {inner}", words) for inner, words in _facts(value)]
        elif isinstance(value, bool):
            facts.append((name, "yes" if value else "no"))
        elif isinstance(value, int):
            facts.append((name, count(value)))
        elif isinstance(value, float):
            facts.append((name, f"{value:.1e}" if 0 < abs(value) < 1e-4 else number(value)))
        elif isinstance(value, str):
            facts.append((name, value))
    return tuple(facts)
