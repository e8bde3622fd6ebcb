"""
What a use case tells the platform.

A task is one module that defines ``TASK``; nothing else in the code knows what its rows mean.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from sluice.errors import BadInput, SluiceError, one_line
from sluice.inputs.kind import ColumnType, InputKind
from sluice.inputs.registry import declared_kind
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY
from sluice.targets.yardstick import OwnMetric, Yardstick
from sluice.tasks.recipe import Recipe

_Loaded = TypeVar("_Loaded")
EXAMPLE_COLUMNS: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "example_id": pl.String,
    "event_time": pl.Datetime("us", "UTC"),
    "label_time": pl.Datetime("us", "UTC"),
    "label": pl.Int8,
}
"""Columns that every span has: identity, time of the prediction, time at which the label is known, the label (of the
type that the task's target says; null where none ever comes)."""


@dataclass(frozen=True)
class Splits:
    """
    Half-open intervals of event time: train ``[train, tune)``, tune ``[tune, test)``, test ``[test, live)``.

    Rows at or after ``live`` are future traffic: they are replayed, never trained on.
    """

    train: datetime
    tune: datetime
    test: datetime
    live: datetime
    end: datetime

    def __post_init__(self) -> None:
        """
        Raises:
            BadInput: a boundary is no moment in a time zone, or lies before the one before it.
        """
        moments = {item.name: getattr(self, item.name) for item in fields(self)}
        for name, moment in moments.items():
            if not isinstance(moment, datetime) or moment.utcoffset() is None:
                raise BadInput(f"splits.{name}", f"is {moment!r}, no moment in a time zone", "give it tzinfo=UTC")
        for (before, earlier), (name, moment) in pairwise(moments.items()):
            if moment < earlier:
                rule = f"is {moment}, before splits.{before}, {earlier}"
                raise BadInput(f"splits.{name}", rule, "let train, tune, test, live and end follow each other")


@dataclass(frozen=True)
class Slice:
    """
    A named partition of the rows: a polars SQL expression that gives a string.

    Its columns are those of a span and the features of the task's recipe.
    """

    name: str
    expression: str


@dataclass(frozen=True)
class Task:
    """
    One use case.

    Attributes:
        name: how commands, folders and releases call it.
        title: one line for people.
        question: what the model answers, for people.
        source_files: the raw inputs by name; their digest is the identity of the data.
        read_examples: reads rows with ``EXAMPLE_COLUMNS``, the entity keys and the request inputs, for
            event times in ``[from, to)``; every column that is known only later is left out.
        request_inputs: columns that a request carries beside entity keys: the type of a column of numbers or strings,
            or a kind of ``sluice.inputs`` (``TensorInput``, ``TextInput``).
        known_later: columns of the raw source that nobody knows at prediction time. A feature or request input of
            such a name is refused.
        schema_file: the committed schema of the span (``sluice.data.schema``).
        slices: partitions that quality is judged by.
        baseline_keys: columns of the frame whose combinations give the rate baseline.
        splits: the boundaries in event time.
        recipe: the default candidate.
        read_feature_tables: builds the event streams of the feature views: for each view a frame with
            ``event_timestamp`` (the moment from which a value may be used), its entity keys and its values.
        feature_service: name of the Feast feature service. Without, a task has neither feature tables nor entity keys:
            what a request carries is all that a model gets.
        entity_keys: join keys that a request carries.
        nullable: entity keys and request inputs that may be null, in rows and in requests. What is read by a null key
            is missing; others of these are refused, for a request without them gets no score.
        target: the kind of the label, and all that follows from it (``sluice.targets``).
        metrics: metrics of its own, beside those of the target's kind.
        loss: the name of one of them that is the loss, instead of the kind's.
    """

    name: str
    title: str
    question: str
    source_files: Callable[[], Mapping[str, Path]]
    read_examples: Callable[[datetime, datetime], pl.DataFrame]
    request_inputs: Mapping[str, ColumnType | InputKind]
    known_later: frozenset[str]
    schema_file: Path
    slices: tuple[Slice, ...]
    baseline_keys: tuple[str, ...]
    splits: Splits
    recipe: Recipe
    read_feature_tables: Callable[[datetime, datetime], Mapping[str, pl.DataFrame]] | None = None
    feature_service: str | None = None
    entity_keys: tuple[str, ...] = ()
    nullable: frozenset[str] = frozenset()
    target: TargetKind = BINARY
    metrics: tuple[OwnMetric, ...] = ()
    loss: str | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            BadInput: a request input is of a type that no model takes, or has a name that a log cannot write; or there
                are entity keys or feature tables and no feature service, or one and not the other.
        """
        thing = f"task {self.name!r}"
        for name, kind in self.inputs.items():
            if kind.by_digest and not name.isidentifier():
                raise BadInput(f"{thing}: request input {name!r}", "is no name", "use letters, digits and _")
        if self.feature_service is None and (self.entity_keys or self.read_feature_tables):
            thing += ": entity_keys" if self.entity_keys else ": read_feature_tables"
            raise BadInput(thing, "are of a feature service, and there is none", "name feature_service, or drop them")
        if self.feature_service is not None and self.read_feature_tables is None:
            rule = "gives features that nobody reads into tables"
            raise BadInput(f"{thing}: feature_service", rule, "add read_feature_tables, or leave the service out")

    @property
    def inputs(self) -> Mapping[str, InputKind]:
        """The kind of each request input."""
        return {name: declared_kind(name, declared) for name, declared in self.request_inputs.items()}

    @property
    def carried(self) -> Mapping[str, ColumnType]:
        """Types of the columns that a request carries: entity keys, then request inputs."""
        own = {
            name: declared.column_type if isinstance(declared, InputKind) else declared
            for name, declared in self.request_inputs.items()
        }
        return {**dict.fromkeys(self.entity_keys, pl.String), **own}

    @property
    def logged(self) -> Mapping[str, ColumnType]:
        """The same as a prediction log has them: of what is kept by its digest, that."""
        digests = {name: kind.logged_type for name, kind in self.inputs.items() if kind.by_digest}
        return {**self.carried, **digests}

    @property
    def service(self) -> str:
        """
        Its feature service.

        Raises:
            BadInput: it has none.
        """
        if self.feature_service is None:
            raise BadInput(f"task {self.name!r}", "has no feature service", "ask for what its requests carry alone")
        return self.feature_service

    @property
    def yardstick(self) -> Yardstick:
        """What its models are measured by."""
        return Yardstick(self.target, self.metrics, self.loss)

    @property
    def example_columns(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """``EXAMPLE_COLUMNS`` with the label of its kind."""
        return {**EXAMPLE_COLUMNS, "label": self.target.label_type}

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules that its functions are in."""
        own = (function for metric in self.metrics for function in (metric.values, metric.weights) if function)
        tables = (self.read_feature_tables,) if self.read_feature_tables else ()
        functions = (self.source_files, self.read_examples, *tables, *own)
        return tuple(sorted({_module_of(function) for function in functions}))


class TaskDeclaration(ABC):
    """What a task can be made of, when somebody asks for it: importing its module reads nothing."""

    @abstractmethod
    def task(self) -> Task:
        """
        The task.

        Raises:
            BadInput: it cannot be made.
        """


def _module_of(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", None) or type(function).__module__)


def task_modules(name: str) -> tuple[str, ...]:
    """The modules of the task called ``name``: its own, and those of its functions; errors as of ``load_task``."""
    module, _, attribute = name.partition(":")
    return (module if attribute else f"sluice.tasks.{name}", *load_task(name).modules)


def load_task(name: str) -> Task:
    """
    The task called ``name`` (a module of ``sluice.tasks``), or ``module.path:ATTRIBUTE`` for one that lives elsewhere.

    Raises:
        BadInput: no such module, or it defines no task, or one that cannot be made.
    """
    place = name if ":" in name else f"sluice.tasks.{name}:TASK"
    task = named_object(f"task {name[:200]!r}", place, "name a module of sluice.tasks or module:ATTRIBUTE")
    return task.task() if isinstance(task, TaskDeclaration) else _of_type(f"task {name!r}", task, Task)


def load_recipe(name: str) -> Recipe:
    """
    The recipe at ``module.path:ATTRIBUTE``.

    Raises:
        BadInput: nothing is called so, or it is no recipe.
    """
    fix = "name a recipe as module:ATTRIBUTE, or write JSON on one line"
    return _of_type(f"recipe {name!r}", named_object(f"recipe {name[:200]!r}", name, fix), Recipe)


def named_object(thing: str, place: str, fix: str) -> Any:
    """
    What stands at ``module.path:ATTRIBUTE``.

    Args:
        thing: what it is called in a refusal.

    Raises:
        BadInput: there is nothing, or its module raises.
    """
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except SluiceError:
        raise
    except Exception as error:  # whatever a module of somebody else's raises
        raise BadInput(thing, f"cannot be loaded ({one_line(error, 200)})", fix) from error


def _of_type(thing: str, value: object, kind: type[_Loaded]) -> _Loaded:
    if isinstance(value, kind):
        return value
    raise BadInput(thing, f"is a {type(value).__name__}, not a {kind.__name__}", f"let it be a {kind.__name__} there")
