"""What a person says of a table that is a task: where it is, and what its columns are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import polars as pl

from sluice.errors import BadInput, one_line
from sluice.inputs.kind import ColumnType
from sluice.targets.kind import TargetKind
from sluice.targets.registry import BINARY
from sluice.tasks.answers import answer_of
from sluice.tasks.recipe import Recipe
from sluice.tasks.task import Slice

QUICK_ROWS = "SLUICE_QUICK_ROWS"
"""Environment variable: at most so many rows of a table are used, evenly over time (``sluice run --quick``)."""
SEPARATOR = "|"
"""Between the labels of a row where the column is text."""
ISO, _OFFSET = r"^\d{4}-\d{2}-\d{2}", r"(Z|[+-]\d{2}:?\d{2})$"
MOMENT = pl.Datetime("us", "UTC")
_READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, infer_schema_length=None),
    ".parquet": pl.read_parquet,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class TableDeclaration:
    """
    One table, a row an example.

    Attributes:
        name: of the task.
        table: a CSV or Parquet file.
        time: column of the moment of the prediction, in a time zone; text is read as ISO 8601.
        label: column of what is to be predicted; of several labels a row, text with ``|`` between them.
        target: the kind of the label.
        keys: columns of what a row is about (a shop, a customer). Requests carry them; of each there is a history, if
            ``history`` asks for one. No model sees a key itself.
        inputs: columns that a request carries and a model sees; all others if left out.
        label_known: when the label is known: a column of moments, or how long after ``time``.
        known_later: columns that nobody knows at the time of the prediction; they are left out.
        nullable: inputs and keys that may be missing, in requests too.
        id: column that names a row; else a digest of the row, so that equal rows are one.
        time_zone: of times that say none, such as ``Europe/Berlin``.
        prepare: changes the table after it was read, before anything else sees it.
        history: of each key the rows of so long before each midnight (UTC), as features of a feature store.
        shares: of time for train, tune, test and live, in this order.
        slices: partitions that quality is judged by; columns of few values if left out.
        recipe: what to train; boosted trees of all features if left out.
        title: one line for people.
        question: what the model answers, for people.
    """

    name: str
    table: Path
    time: str
    label: str
    target: TargetKind = BINARY
    keys: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None
    label_known: str | timedelta = timedelta(days=1)
    known_later: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()
    id: str | None = None
    time_zone: str | None = None
    prepare: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    history: timedelta | None = None
    shares: tuple[float, float, float, float] = (0.5, 0.1, 0.2, 0.2)
    slices: tuple[Slice, ...] | None = None
    recipe: Recipe | None = None
    title: str = ""
    question: str = ""

    @property
    def not_inputs(self) -> tuple[str, ...]:
        """Columns that mean something else."""
        known = (self.label_known,) if isinstance(self.label_known, str) else ()
        own = (self.id,) if self.id else ()
        return (self.time, self.label, *known, *own, *self.keys, *self.known_later)

    def input_columns(self, raw: pl.DataFrame) -> tuple[str, ...]:
        """Names of the columns that a model sees."""
        if self.inputs is not None:
            return self.inputs
        return tuple(name for name in raw.columns if name not in self.not_inputs)

    def raw(self) -> pl.DataFrame:
        """
        The table as it is in the file, prepared.

        Raises:
            BadInput: it cannot be read, or ``prepare`` raises.
        """
        frame, prepare = self.file(), self.prepare
        if prepare is None:
            return frame
        fix = "mend it; `sluice check` shows its lines"
        prepared: pl.DataFrame = answer_of(f"prepare of task {self.name!r}", lambda: prepare(frame), fix)
        return prepared

    def file(self) -> pl.DataFrame:
        """
        The table as it is in the file.

        Raises:
            BadInput: it cannot be read.
        """
        if not isinstance(self.table, Path) or self.table.suffix not in _READERS:
            fix = f"name a file that ends with {' or '.join(_READERS)}"
            raise BadInput(f"table {str(self.table)!r}", "is no table", fix)
        try:
            status = self.table.stat()
            return _read(self.table, status.st_mtime_ns, status.st_size)
        except OSError as error:
            fix, first = "name a file that is there", self.table.parts[0]
            if not self.table.is_absolute():
                fix = f'begin it with Path(__file__).with_name("{first}"): it is looked for in {Path.cwd()}'
            raise BadInput(str(self.table), f"cannot be read ({error.strerror})", fix) from error
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise BadInput(str(self.table), f"is no table ({one_line(error, 200)})", "mend the file") from error


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int, _size: int) -> pl.DataFrame:
    return _READERS[path.suffix](path)


def moments(column: pl.Series, time_zone: str | None) -> pl.Series:
    """
    Moments in UTC and microseconds.

    Raises:
        ValueError: they are none, or none in a time zone; says so.
    """
    if column.dtype == pl.String:
        column = _read_moments(column)
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if not isinstance(column.dtype, pl.Datetime):
        raise ValueError(f"has type {column.dtype}, and is no time")
    if column.dtype.time_zone is None:
        if time_zone is None:
            raise ValueError("has times without a time zone")
        column = column.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
    return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")


def _read_moments(column: pl.Series) -> pl.Series:
    """Texts in ISO 8601, all with an offset or none."""
    texts = column.drop_nulls()
    if odd := texts.filter(~texts.str.contains(ISO)).to_list():
        raise ValueError(f"has {odd[0]!r:.40}, which is no time as 2024-05-01T12:00:00Z")
    offset = texts.str.contains(_OFFSET)
    if offset.any() and not offset.all():
        raise ValueError("has times with an offset and times without a time zone")
    zone = "UTC" if len(texts) and offset.all() else None
    try:
        return column.str.to_datetime(time_unit="us", time_zone=zone, strict=True)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"has texts that are no times ({one_line(error, 120)})") from error


def labels(column: pl.Series, target: TargetKind) -> pl.Series:
    """
    Labels of the type that the target has.

    Raises:
        ValueError: they cannot be of that type.
    """
    wanted = target.label_type
    if isinstance(wanted, pl.List) and column.dtype == pl.String:
        filled = column.fill_null("")  # a row to which nothing applies has no text
        return filled.str.split(SEPARATOR).list.eval(pl.element().filter(pl.element() != "")).alias(column.name)
    if column.dtype == wanted:
        return column
    try:
        cast = column.cast(wanted, strict=True)
        if column.dtype.is_float() and wanted.is_integer() and not column.drop_nulls().eq(column.round()).all():
            raise ValueError(f"has type {column.dtype} with values that are not whole, and the target wants {wanted}")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        example = f", such as {texts[0]!r:.40}" if len(texts := column.drop_nulls()) else ""
        raise ValueError(f"has type {column.dtype} with values that are no {wanted}{example}") from error
    return cast


def carried_type(dtype: pl.DataType) -> ColumnType | None:
    """As what a request carries a column of this type; None where it carries none such."""
    if dtype.is_float() or isinstance(dtype, pl.Decimal):
        return pl.Float64
    if dtype.is_integer() or dtype == pl.Boolean:
        return pl.Int64
    return pl.String if dtype in (pl.String, pl.Categorical, pl.Enum) else None


def row_names(raw: pl.DataFrame, column: str | None) -> pl.Series:
    """Names of rows: a column's, or a digest of all that a row has."""
    if column is not None:
        return raw[column].cast(pl.String)
    return pl.Series([hashlib.sha256(repr(row).encode()).hexdigest()[:16] for row in raw.iter_rows()], dtype=pl.String)


def sampled(examples: pl.DataFrame) -> pl.DataFrame:
    """All rows in the order of time, or as many as ``SLUICE_QUICK_ROWS`` says, evenly over them."""
    ordered = examples.sort("event_time", "example_id")
    most = os.environ.get(QUICK_ROWS, "")
    if not most.isdecimal() or int(most) >= ordered.height or int(most) < 1:
        return ordered
    step = ordered.height / int(most)
    return ordered[[int(place * step) for place in range(int(most))]]


def boundary(start: datetime, end: datetime, share: float) -> datetime:
    """The moment at a share of the time from start to end; a midnight where there are twenty days or more."""
    moment = start + (end - start) * share
    if end - start < timedelta(days=20):
        return moment.replace(microsecond=0)
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
