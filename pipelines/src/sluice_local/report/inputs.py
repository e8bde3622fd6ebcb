"""What the page is made from: the files that each chapter of a run left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from sluice.documents.evaluation import Evaluation, VariantMeasurement
from sluice.documents.verdict import Decision, Reason, Verdict
from sluice.errors import BadArtifact
from sluice.rollout.drain import HOUSEKEEPING
from sluice.tasks.recipe import Recipe

_FIX = "remove the file, or run again to write it anew"
InputDocument = TypeVar("InputDocument")


class ChapterRecord(BaseModel):
    """``chapter.json``: what happened, in one sentence."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    title: str
    outcome: str = ""
    candidate: str | None = None


class Interruption(BaseModel):
    """``interrupted.json``: where the loop was killed, once, while it sent a window of a canary's traffic."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    now: str
    weight: int
    window: tuple[str, str]
    done: int
    """Requests that had been sent."""


class LookRecord(BaseModel):
    """One line of ``looks.jsonl``: one look at live traffic."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    now: str
    stage: str
    weight: float = 0
    action: str
    verdict: Verdict
    n: int = 0
    reasons: tuple[Reason, ...] = ()


class SelectionRecord(BaseModel):
    """``selection.json``: the variant that ships, and a sentence for every variant."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportChapter:
    """One candidate's story; what was never reached is ``None`` or empty. ``slug`` names its runs."""

    slug: str
    record: ChapterRecord
    recipe: Recipe | None = None
    span: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    validation: dict[str, Any] | None = None
    history: dict[str, Any] | None = None
    variants: tuple[VariantMeasurement, ...] = ()
    selection: SelectionRecord | None = None
    evaluation: Evaluation | None = None
    infra: dict[str, Any] | None = None
    looks: tuple[LookRecord, ...] = ()
    decisions: tuple[Decision, ...] = ()
    interruption: Interruption | None = None
    """The kill, where it happened in this chapter."""

    @property
    def offline(self) -> Decision | None:
        """What the offline gate decided."""
        return next((decision for decision in self.decisions if decision.stage == "offline"), None)


EMPTY = ReportChapter("", ChapterRecord(number=0, title=""))
"""Of a run that stopped before its first candidate."""


def read_chapters(runs: Path, decisions: Sequence[Decision]) -> tuple[ReportChapter, ...]:
    """
    The chapters below ``runs`` (folders in name order), each with the decisions that belong to it.

    Raises:
        BadArtifact: a file is there but is not what it should be.
    """
    folders = sorted(path for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    chapters = [_read_chapter(folder, place) for place, folder in enumerate(folders, start=1)]
    shared = _shared_out(chapters, decisions)
    return tuple(replace(chapter, decisions=tuple(own)) for chapter, own in zip(chapters, shared, strict=True))


def _read_chapter(folder: Path, place: int) -> ReportChapter:
    record = _document(folder / "chapter.json", ChapterRecord)
    slug = folder.name.lstrip("0123456789").removeprefix("-")
    infra, timing = (_document(folder / f"{name}.json", dict[str, Any]) for name in ("infra", "infra_timing"))
    return ReportChapter(
        slug=slug,
        record=record or ChapterRecord(number=place, title=slug.replace("-", " ")),
        recipe=_document(folder / "recipe.json", Recipe),
        span=_document(folder / "span.json", dict[str, Any]),
        data=_document(folder / "data.json", dict[str, Any]),
        validation=_document(folder / "validation.json", dict[str, Any]),
        history=_document(folder / "history.json", dict[str, Any]),
        variants=_document(folder / "variants.json", tuple[VariantMeasurement, ...]) or (),
        selection=_document(folder / "selection.json", SelectionRecord),
        evaluation=_document(folder / "evaluation.json", Evaluation),
        infra=infra | (timing or {}) if infra else None,
        looks=_looks(folder / "looks.jsonl"),
    )


def read_interruption(path: Path) -> Interruption | None:
    """Where the loop was killed, if it was."""
    return _document(path, Interruption)


def _shared_out(chapters: Sequence[ReportChapter], decisions: Sequence[Decision]) -> list[list[Decision]]:
    """
    Each chapter's decisions, by the name of the run that they are about.

    A decision that names no run (a person's hold or rollback) goes to the last chapter so far about its candidate;
    housekeeping is in the ledger alone.
    """
    mine: list[list[Decision]] = [[] for _ in chapters]
    for decision in (each for each in decisions if each.action != HOUSEKEEPING):
        fitting = [index for index, chapter in enumerate(chapters) if decision.run.get("name") == chapter.slug]
        if not fitting and decision.candidate:
            fitting = [
                index for index, own in enumerate(mine) if decision.candidate in {each.candidate for each in own}
            ]
        for place in fitting[-1:]:
            mine[place].append(decision)
    return mine


def _document(path: Path, kind: type[InputDocument]) -> InputDocument | None:
    if not path.exists():
        return None
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadArtifact(str(path), _first_problem(error), _FIX) from error


def _looks(path: Path) -> tuple[LookRecord, ...]:
    """Looks in time order; a torn last line (a killed run) is left out, a look written twice counts once."""
    if not path.exists():
        return ()
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    looks: dict[tuple[str, str, float], LookRecord] = {}
    for row in filter(None, whole.splitlines()):
        try:
            look = LookRecord.model_validate_json(row)
        except ValidationError as error:
            raise BadArtifact(str(path), _first_problem(error), _FIX) from error
        looks[look.now, look.stage, look.weight] = look
    return tuple(sorted(looks.values(), key=lambda look: look.now))


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the document'}: {first['msg']}"
