"""From a run's files and its decisions to one HTML file."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sluice.charts import DARK, LIGHT
from sluice.content import write_bytes
from sluice.documents.verdict import Decision, Verdict
from sluice.workspace import Workspace
from sluice_local.continuity import continuity
from sluice_local.report import wording
from sluice_local.report.chapter_view import chapter_view, metric_cells
from sluice_local.report.charts import figures
from sluice_local.report.inputs import EMPTY, Interruption, ReportChapter, read_chapters, read_interruption

_PACKAGES = ("sluice", "kfp", "kserve", "feast", "keras", "tensorflow", "ai-edge-litert", "polars", "duckdb")
_FILTERS = {
    "count": wording.count,
    "number": wording.number,
    "signed": wording.signed,
    "share": wording.share,
    "size": wording.size,
    "clock": wording.clock,
    "window": wording.window,
    "short": wording.short_digest,
    "metric": wording.metric_name,
    "did": wording.action_name,
    "mark": wording.MARKS.__getitem__,
    "tone": {Verdict.PASS: "v-pass", Verdict.FAIL: "v-fail", Verdict.INCONCLUSIVE: "v-wait"}.__getitem__,
    "metric_cells": metric_cells,
}


def build_report(workspace: Workspace, decisions: Sequence[Decision], title: str, question: str) -> Path:
    """
    Write ``reports/report.html``: one self-contained page about everything below ``runs/`` and every decision.

    Args:
        workspace: where the run's files are and the report goes.
        decisions: of the environment, in Git order.
        title: the task, in one line for people.
        question: what the model answers, for people.

    Returns:
        The page's path. The same inputs give the same bytes.

    Raises:
        BadArtifact: a file below ``runs/`` is there but is not what it should be; nothing is written.
    """
    chapters = read_chapters(workspace.home / "runs", decisions)
    killed = read_interruption(workspace.home / "interrupted.json")
    struck = _struck(chapters, killed)
    views = [chapter_view(replace(each, interruption=killed if each is struck else None)) for each in chapters]
    page = _template().render(
        title=title,
        question=question,
        views=views,
        killed=killed,
        counted=continuity(workspace, decisions[-1].environment if decisions else "", decisions),
        killed_anchor=next((view.anchor for view in views if view.chapter.interruption), "ledger"),
        state=next((decision.after for decision in reversed(decisions) if decision.after), {}),
        data=_data(chapters),
        figures=figures,
        colours=(LIGHT, DARK),
        decisions=decisions,
        versions=_versions(),
        digests=_digests(chapters, decisions),
        changes=_changes_of_state,
    )
    path = workspace.reports / "report.html"
    write_bytes(path, page.encode())
    return path


def _data(chapters: Sequence[ReportChapter]) -> ReportChapter:
    """The data of the first chapter that has any, as a chapter of its own."""
    return replace(
        chapters[0] if chapters else EMPTY,
        span=_first(chapter.span for chapter in chapters),
        validation=_first(chapter.validation for chapter in chapters),
        data=_first(chapter.data for chapter in chapters),
    )


def _first(documents: Iterable[dict[str, Any] | None]) -> dict[str, Any] | None:
    return next((item for item in documents if item), None)


def _struck(chapters: Sequence[ReportChapter], killed: Interruption | None) -> ReportChapter | None:
    """The chapter in whose rollout the loop was killed: the one that looked at live traffic at or after that time."""
    now = wording.moment(killed.now) if killed else None
    return next(
        (chapter for chapter in chapters if now and any(wording.moment(look.now) >= now for look in chapter.looks)),
        None,
    )


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    return environment.get_template("report.html.j2")


def _versions() -> list[tuple[str, str]]:
    versions = [("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            versions.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return versions


def _digests(chapters: Sequence[ReportChapter], decisions: Sequence[Decision]) -> list[tuple[str, str]]:
    """Everything that this page names by digest: (what it is, digest)."""
    sources = [("data span", chapter.span.get("digest")) for chapter in chapters if chapter.span]
    sources += [(f"bundle of chapter {chapter.record.number}", chapter.record.candidate) for chapter in chapters]
    sources += [("gate policy", decision.policy_digest) for decision in decisions]
    names: dict[str, str] = {}
    for name, digest in sources:
        if digest:
            names.setdefault(str(digest), name)
    return [(name, digest) for digest, name in names.items()]


def _changes_of_state(decision: Decision) -> list[tuple[str, str, str]]:
    """(what, before, after) for what a decision changed in the release."""
    before, after = decision.before, decision.after
    keys = ("stage", "step", "stable", "candidate", "stable_weight", "candidate_weight", "mirror_percent", "paused")
    changes = [
        (key.replace("_", " "), _state_words(key, before.get(key)), _state_words(key, after.get(key)))
        for key in keys
        if before.get(key) != after.get(key)
    ]
    if len(before.get("holds") or ()) != len(after.get("holds") or ()):
        changes.append(("holds", str(len(before.get("holds") or ())), str(len(after.get("holds") or ()))))
    return changes


def _state_words(key: str, value: Any) -> str:
    if key in {"stable", "candidate"}:
        return wording.short_digest(value)
    if value is True:
        return "yes"
    percent = " %" if key.endswith(("weight", "percent")) else ""
    return "–" if value is None else f"{value}{percent}"
