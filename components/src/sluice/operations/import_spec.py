"""What only the owner of a model from elsewhere knows: which feature each column is, and what its answer means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sluice.documents.model import FrozenDocument, first_violation
from sluice.errors import BadInput
from sluice.models.foreign.onnx_answer import GraphAnswer
from sluice.strict_yaml import read_yaml
from sluice.targets.kind import TargetKind
from sluice.targets.link import LINKS, link_of

VARIANT = "imported"
_Text = Annotated[str, Field(min_length=1, max_length=200)]
AnswerWord = Literal["logit", "probability", "value", "log_count", "count"]


class ImportSpec(FrozenDocument):
    """
    How a model's columns are made of the task's features, and what its answer means.

    Attributes:
        name: of the candidate.
        inputs: numbers in the order of the model's first columns, as they are: float32, NaN where one is missing.
            Without any, all numbers of the frame in the task's order.
        one_hot: after them, for each of these strings a column a value, 1 where it is that one.
        missing: what the model takes for a missing number; without it NaN, which trees understand and networks do not.
        answers: what each number of its answer is, one of the two words of the target's link; left out, raw outputs.
        output: of an ONNX model with several, the one with the answer.
        column: of an output with several columns, the one that is the answer, from 0.
        columns: what each column of the output is of, by the names of the target's columns; left out, in their order.
    """

    name: str = Field(default=VARIANT, pattern=r"^[a-z][a-z0-9-]{1,40}$")
    inputs: tuple[_Text, ...] = ()
    one_hot: dict[_Text, tuple[str, ...]] = {}
    missing: float | None = Field(default=None, allow_inf_nan=False)
    answers: AnswerWord | None = None
    output: str | None = None
    column: int | None = Field(default=None, ge=0, le=10_000)
    columns: tuple[_Text, ...] = ()


def read_spec(path: Path | None) -> ImportSpec:
    """
    The spec in a YAML file, or one of defaults.

    Raises:
        BadInput: it cannot be read, or a key of it is unknown or wrong.
    """
    if path is None:
        return ImportSpec()
    try:
        document = read_yaml(path.read_bytes())
    except ValueError as error:
        raise BadInput(str(path), str(error), "see docs/import.md") from error
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "name the spec of the import") from error
    try:
        return ImportSpec.model_validate_json(json.dumps({} if document is None else document, default=str))
    except ValidationError as error:
        key, rule, _ = first_violation(error)
        raise BadInput(f"{path}: {key or 'the document'}", rule, "see docs/import.md") from error


def answer_of(spec: ImportSpec, target: TargetKind) -> GraphAnswer:
    """
    What the spec says of a model's answer, for a target.

    Raises:
        BadInput: a word that is of another kind of target, or names of columns that are not the target's, each once.
    """
    name = link_of(target)
    link = LINKS[name]
    words = tuple(dict.fromkeys((link.raw, link.prediction)))
    if spec.answers is not None and spec.answers not in words:
        rule = f"is {spec.answers!r}, and models of a {target.kind} target answer {' or '.join(words)}"
        raise BadInput("answers", rule, "say which in the spec, or leave it out")
    inverse = name if spec.answers == link.prediction != link.raw else None
    return GraphAnswer(inverse, spec.output, _columns(spec, target), len(spec.columns))


def _columns(spec: ImportSpec, target: TargetKind) -> tuple[int, ...]:
    if not spec.columns:
        return () if spec.column is None else (spec.column,)
    if spec.column is not None:
        raise BadInput("column and columns", "each choose from the output", "leave out one of them")
    known = f"the target's are {', '.join(target.columns)[:160]}"
    for name in spec.columns:
        if name not in target.columns:
            raise BadInput(f"columns: {name!r:.80}", f"is no column of the target; {known}", "name each of those once")
        if spec.columns.count(name) > 1:
            raise BadInput(f"columns: {name!r:.80}", "is there twice", "name each column of the target once")
    for name in target.columns:
        if name not in spec.columns:
            raise BadInput("columns", f"leaves out {name!r:.80}; {known}", "export a model that answers all of them")
    order = tuple(spec.columns.index(name) for name in target.columns)
    return () if order == tuple(range(len(order))) else order
