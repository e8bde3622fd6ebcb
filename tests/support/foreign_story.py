"""The tiny story with two chapters more: a model from elsewhere that is too weak, and a training that fails."""

from __future__ import annotations

import dataclasses

from sluice_local.ending import PROMOTED, Ending
from sluice_local.story import Chapter, ForeignTraining
from tests.support.tiny_story import STORY as TINY

_WEAK = Chapter(
    4,
    "weak",
    "A weak model from elsewhere",
    foreign=ForeignTraining("tests.support.foreign_trees", "first"),
    ends=Ending("refuse", "offline"),
)
_LOST = Chapter(4, "lost", "A training that fails", foreign=ForeignTraining("tests.support.no_such_program", "first"))
STORY = dataclasses.replace(TINY, chapters=(*TINY.chapters, _WEAK))
OTHERWISE = dataclasses.replace(TINY, chapters=(*TINY.chapters, dataclasses.replace(_WEAK, ends=PROMOTED)))
"""The same with another ending told."""
BROKEN = dataclasses.replace(TINY, chapters=(*TINY.chapters, _LOST))
