"""A pipeline's inputs, made of its parameters' model: as KFP reads them of a function, and as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from sluice.gates.policy import GatePolicy, read_policy
from sluice.installation import MANIFESTS
from sluice.steps.parameters import PipelineParameters

_POLICY = MANIFESTS / "overlays/dev/gate-policy.yaml"


def default_policy() -> GatePolicy:
    """Whose environment and task a run has where nobody names others."""
    return read_policy(_POLICY)[0]


def defaults(parameters: type[PipelineParameters]) -> dict[str, Any]:
    """The value of each parameter that need not be given."""
    fields, policy = parameters.model_fields, default_policy()
    first = {"task": policy.task, "environment": policy.environment}
    return {name: value for name, value in first.items() if name in fields} | {
        name: field.default for name, field in fields.items() if not field.is_required()
    }


def kind_of(field: FieldInfo) -> type:
    """``str``, ``int``, ``float`` or ``bool``: what KFP knows."""
    literal = get_origin(field.annotation) is Literal
    kind: Any = type(get_args(field.annotation)[0]) if literal else field.annotation
    if kind in {str, int, float, bool} and isinstance(kind, type):
        return kind
    raise TypeError(f"a parameter of a pipeline is a text, a number or a truth, not {kind}")


def with_inputs(
    parameters: type[PipelineParameters], graph: Callable[[Mapping[str, Any]], Any], returns: type | None = None
) -> Callable[..., Any]:
    """A function for ``dsl.pipeline`` that takes the model's fields, and gives them by name to a graph."""
    fields, start = parameters.model_fields, defaults(parameters)

    def function(*values: Any) -> Any:
        return graph(dict(zip(fields, values, strict=True)))

    function.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=start.get(name, Parameter.empty), annotation=kind_of(field))
            for name, field in fields.items()
        ],
        return_annotation=returns,
    )
    described = (f"    {name}: {_words(field)}" for name, field in fields.items())
    function.__doc__ = "\n".join([str(parameters.__doc__), "", "Args:", *described])
    return function


def parameter_table(pipelines: Mapping[str, type[PipelineParameters]]) -> str:
    """One row of Markdown a parameter; what two pipelines say alike is said once."""
    rows: dict[str, list[str]] = {}
    for pipeline, parameters in pipelines.items():
        for row in _rows(parameters):
            rows.setdefault(row, []).append(f"`{pipeline}`")
    lines = [f"{row} | {', '.join(of)} |" for row, of in rows.items()]
    return "\n".join(["| parameter | what it is | may be | default | of |", "|---|---|---|---|---|", *lines]) + "\n"


def _rows(parameters: type[PipelineParameters]) -> Iterator[str]:
    values = defaults(parameters)
    for name, field in parameters.model_fields.items():
        default = (f"`{values[name]}`" if values[name] != "" else "empty") if name in values else "**must be given**"
        yield f"| `{name}` | {_words(field)} | {_values(field)} | {default}"


def _words(field: FieldInfo) -> str:
    if not field.description:
        raise TypeError("every parameter says what it is, in the text below its field")
    return " ".join(field.description.split())


def _values(field: FieldInfo) -> str:
    """The values that a parameter may have, as far as the type says them."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    bounds = {name: getattr(one, name) for one in field.metadata for name in ("ge", "gt", "le") if hasattr(one, name)}
    if bounds:
        return f"{'more than ' if 'gt' in bounds else ''}{bounds.get('ge', bounds.get('gt'))} to {bounds['le']}"
    return {str: "text", bool: "`true`, `false`"}.get(kind_of(field), "a number")
