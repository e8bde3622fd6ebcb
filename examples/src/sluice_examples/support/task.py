"""What a message to a shop complains of: any of four labels, by its text and the channel that it came by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from sluice.inputs.texts import TextInput
from sluice.targets.multi_label import MultiLabel
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Slice, Splits, Task
from sluice_examples.support import messages

TEXT = TextInput(longest=messages.LONGEST, buckets=384, words=2)
_START = datetime(2024, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_TIME = pl.Datetime("us", "UTC")

BETTER = Recipe(
    name="embeddings",
    description="The text, as a sum of embeddings of its words and pairs of words, through a hidden layer.",
    features=("text",),
    family="text",
    settings={"embedding": 24},
    teacher=(48,),
    student=(32,),
    dropout=0.2,
    epochs=12,
    batch_size=128,
    learning_rate=5e-3,
    variants=("teacher_f32", "student_f32", "student_int8"),
)


def read_examples(start: datetime, end: datetime) -> pl.DataFrame:
    """Messages written in ``[start, end)``; a label is what the person who answered noted, hours later."""
    read = list(messages.messages_between(start, end))
    return pl.DataFrame(
        {
            "example_id": [each.message_id for each in read],
            "event_time": [each.written for each in read],
            "label_time": [each.answered for each in read],
            "label": [list(each.labels) for each in read],
            "text": [each.text for each in read],
            "channel": [each.channel for each in read],
        },
        schema={
            "example_id": pl.String,
            "event_time": _TIME,
            "label_time": _TIME,
            "label": pl.List(pl.String),
            "text": pl.String,
            "channel": pl.String,
        },
    )


TASK = Task(
    name="support",
    title="Messages to a shop",
    question="What does this message complain of?",
    source_files=lambda: {"messages.py": Path(messages.__file__)},
    read_examples=read_examples,
    request_inputs={"text": TEXT, "channel": pl.String},
    known_later=frozenset({"answered"}),
    schema_file=Path(__file__).with_name("schema.json"),
    slices=(Slice("channel", "channel"),),
    baseline_keys=("channel",),
    splits=Splits(
        train=_START,
        tune=_START + 35 * _DAY,
        test=_START + 45 * _DAY,
        live=_START + 75 * _DAY,
        end=_START + 110 * _DAY,
    ),
    target=MultiLabel(names=messages.LABELS),
    recipe=BETTER,
)
