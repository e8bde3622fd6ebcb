"""The commands that look at data: files in, files out, and an exit code for CI; no cluster, no history."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import unified_diff
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from sluice.errors import BadInput
from sluice.terminal import JsonOption, show

if TYPE_CHECKING:
    from sluice.data.contract.compare import ColumnScores
    from sluice.data.contract.finding import Severity

data = typer.Typer(
    no_args_is_help=True,
    help="Statistics, schemas and anomalies of tables.\n\nExits with 0 when clean, 1 with anomalies, 2 on bad input.",
)
_DataArgument = Annotated[
    Path, typer.Argument(metavar="TABLE|STATISTICS", help="CSV, Parquet, Arrow or JSON lines; or statistics of one.")
]
_SchemaOption = Annotated[Path | None, typer.Option("--schema", help="TFDV's schema, or a task's JSON.")]
_PartOption = Annotated[str | None, typer.Option("--slice", metavar="NAME", help="Only this slice of STATISTICS.")]


@data.command()
def stats(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE…", help="Tables, counted as one.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File: .pb, .pbtxt or .parquet.")],
    schema: _SchemaOption = None,
    weight: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column that weighs the rows.")] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", metavar="COLUMN", help="Count slices by its values too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Count tables of any size in one pass, and write statistics that TFDV's tools open.

    Example: sluice data stats mon.csv tue.csv -o week.pb --by region
    """
    _need_messages()
    from sluice.data.census.files import write_statistics
    from sluice.data.census.messages import statistics_of
    from sluice.data.contract.schema_file import opaque_columns
    from sluice.data.contract.source import census_of_tables, read_any_schema

    declared = None if schema is None else read_any_schema(schema)
    census = census_of_tables(tables, declared, weight, by or ())
    statistics = statistics_of(census, frozenset() if declared is None else opaque_columns(declared))
    write_statistics(statistics, out)
    rows, columns = statistics.datasets[0].num_examples, len(statistics.datasets[0].features)
    line = f"{rows:,} rows, {columns:,} columns, {len(statistics.datasets) - 1} slices: {out}"
    show({"rows": rows, "columns": columns, "slices": len(statistics.datasets) - 1}, as_json, [escape(line)])


@data.command()
def schema(
    source: _DataArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it there; else it is printed.")] = None,
    update: Annotated[Path | None, typer.Option(help="Change this schema so that it accepts the data.")] = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --update: only changes to this column.")
    ] = None,
    environment: Annotated[str | None, typer.Option(help="With --update: where the data is of.")] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Infer a schema; or, with --update, show as a diff how one must change, and write that with --out.

    A task's JSON schema is converted: sluice data schema orders_schema.json

    Example: sluice data schema TABLE.csv -o schema.pbtxt

    Example: sluice data schema TABLE.csv --update S.pbtxt --accept fare
    """
    _need_messages()
    from sluice.data.contract.schema_file import schema_text, write_schema_message

    if accept and update is None:
        raise BadInput("--accept", "takes parts of a change", "give --update SCHEMA too")
    result, lines = _schema_and_lines(source, update, accept, environment)
    if out is not None:
        write_schema_message(result, out)
        lines = [*lines, f"written: {out}"]
    elif update is None:
        lines = [*lines, *schema_text(result).splitlines()]
    show({"schema": schema_text(result), "lines": lines}, as_json, [escape(line) for line in lines])


def _schema_and_lines(
    source: Path, update: Path | None, accept: list[str] | None, environment: str | None
) -> tuple[Any, list[str]]:
    """The schema that is asked for, and what to say of it."""
    from sluice.data.contract.check import check_statistics
    from sluice.data.contract.from_json import schema_of_json
    from sluice.data.contract.infer import infer_schema_message
    from sluice.data.contract.report import lines_of
    from sluice.data.contract.schema_file import schema_text
    from sluice.data.contract.source import read_any_schema, view_from
    from sluice.data.contract.view import DatasetView

    if update is None and source.suffix == ".json":
        converted, rest = schema_of_json(source)
        return converted, [f"# not carried over, kept as a comment: {line}" for line in rest]
    if update is None:
        return infer_schema_message(view_from(source)), []
    old = read_any_schema(update)
    verdict = check_statistics(old, DatasetView(view_from(source, old).message, environment), accept=accept)
    names = {finding.name for finding in verdict.findings}
    if unknown := sorted(set(accept or ()) - names):
        raise BadInput(f"--accept {unknown[0]}", "names nothing that was found", f"choose from {sorted(names)[:20]}")
    before, after = (schema_text(each).splitlines() for each in (old, verdict.accepting))
    diff = unified_diff(before, after, str(update), f"{update} that accepts {source}", lineterm="")
    return verdict.accepting, [*lines_of(verdict.findings), *diff]


@data.command()
def check(
    source: _DataArgument,
    schema: Annotated[Path, typer.Option("--schema", help="TFDV's schema, or a task's JSON.")],
    environment: Annotated[str | None, typer.Option(help="Where the data is of, as the schema calls it.")] = None,
    previous: Annotated[Path | None, typer.Option(help="Table or statistics of the span before, for drift.")] = None,
    serving: Annotated[Path | None, typer.Option(help="Table or statistics of serving, for skew.")] = None,
    version: Annotated[Path | None, typer.Option(help="Table or statistics of the version before.")] = None,
    part: _PartOption = None,
    warning: Annotated[list[str] | None, typer.Option(metavar="TYPE", help="Anomaly that is a warning.")] = None,
    note: Annotated[list[str] | None, typer.Option(metavar="TYPE", help="Anomaly that is but a note.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write TFDV's Anomalies: .pbtxt or .pb.")] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Hold a table against a schema, and find all anomalies at once.

    Exits with 0 when there is none of severity error, with 1 when there is, with 2 on bad input.

    Example: sluice data check TABLE.csv --schema S.pbtxt --previous LAST.pb
    """
    _need_messages()
    from sluice.data.contract.check import check_statistics
    from sluice.data.contract.report import document_of, lines_of, write_anomalies
    from sluice.data.contract.source import read_any_schema, view_from
    from sluice.data.contract.view import DatasetView

    wanted = read_any_schema(schema)
    severities = _severities(warning or (), note or ())
    sides = {"previous": previous, "serving": serving, "version": version}
    controls: Any = {side: view_from(path, wanted) for side, path in sides.items() if path is not None}
    view = DatasetView(view_from(source, wanted, part).message, environment, controls)
    verdict = check_statistics(wanted, view, severities)
    if out is not None:
        write_anomalies(verdict.findings, wanted, out)
    rows = int(view.message.num_examples)
    head = f"{rows:,} rows, {len(verdict.findings)} anomalies" + ("" if verdict.findings else ": clean")
    document = {"rows": rows, "clean": verdict.clean, "anomalies": [document_of(each) for each in verdict.findings]}
    show(document, as_json, [escape(line) for line in (*lines_of(verdict.findings), head)])
    if not verdict.clean:
        raise typer.Exit(1)


def _severities(warnings: Sequence[str], notes: Sequence[str]) -> dict[str, Severity]:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    known = set(anomalies_pb2.AnomalyInfo.Type.keys())
    for name in (*warnings, *notes):
        if name not in known:
            raise BadInput(f"anomaly {name!r}", "is none of TFDV's", "write it as `sluice data check` prints it")
    return {**dict.fromkeys(notes, "note"), **dict.fromkeys(warnings, "warning")}


@data.command()
def compare(
    baseline: _DataArgument,
    fresh: _DataArgument,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 1 where a divergence is above it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """
    Say how far each column of one table lies from another's: TFDV's scores, and, of tables, further distances.

    Example: sluice data compare LAST.parquet TODAY.parquet --threshold 0.1
    """
    _need_messages()
    from sluice.data.census.files import is_statistics
    from sluice.data.census.messages import statistics_of
    from sluice.data.contract.compare import compared_columns
    from sluice.data.contract.source import census_of_tables, view_from
    from sluice.data.contract.view import DatasetView

    if is_statistics(baseline) or is_statistics(fresh):
        scores = compared_columns(view_from(baseline), view_from(fresh))
    else:
        tables = census_of_tables([baseline]), census_of_tables([fresh])
        views = [DatasetView(statistics_of(table).datasets[0]) for table in tables]
        scores = compared_columns(views[0], views[1], tables)
    show([each.model_dump(mode="json") for each in scores], as_json, [escape(_line_of(each)) for each in scores])
    if threshold is not None and any((each.jensen_shannon_divergence or 0.0) > threshold for each in scores):
        raise typer.Exit(1)


def _line_of(scores: ColumnScores) -> str:
    values = scores.model_dump(exclude={"path", "kind", "kind_there"}, exclude_none=True)
    texts = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items()]
    types = scores.kind if scores.kind == scores.kind_there else f"{scores.kind_there or '(missing)'} → {scores.kind}"
    return f"{scores.name}  {types}  {', '.join(texts)}"


@data.command("show")
def show_statistics(source: _DataArgument, part: _PartOption = None, as_json: JsonOption = False) -> None:
    """
    Show the statistics of a table or of a file.

    Example: sluice data show week.pb --slice region_north
    """
    _need_messages()
    from google.protobuf import json_format

    from sluice.data.contract.source import view_from

    view = view_from(source, part=part)
    lines = [f"{view.message.num_examples:,} rows"]
    for feature in view.features():
        missing = feature.missing / view.examples if view.examples else 0.0
        lines.append(f"{'.'.join(feature.path)}  {feature.kind}  {missing:.1%} missing  {_summary(feature.message)}")
    show(json_format.MessageToDict(view.message), as_json, [escape(line) for line in lines])


def _summary(message: Any) -> str:
    if message.WhichOneof("stats") == "num_stats":
        stats = message.num_stats
        if not stats.histograms or not stats.histograms[-1].buckets:
            return "no number" + (f", {stats.histograms[0].num_nan:,} NaN" if stats.histograms else "")
        return f"{stats.min:g} … {stats.median:g} … {stats.max:g}, mean {stats.mean:.6g}, sd {stats.std_dev:.4g}"
    if message.WhichOneof("stats") == "string_stats":
        stats = message.string_stats
        top = ", ".join(f"{each.value[:20]!r} {each.frequency:g}" for each in stats.top_values[:3])
        return f"{stats.unique:,} distinct: {top}"
    return ""


def _need_messages() -> None:
    if find_spec("tensorflow_metadata") is None:
        raise BadInput("tensorflow-metadata", "is not installed here", "install sluice[data]")
