"""
The published JSON Schemas, made from the models that read the documents: ``python -m sluice.schemas [--check] [DIR]``.

Editors complete and check a gate policy and a project file with them, other tools write evidence that ``sluice decide``
reads. What a schema cannot say (a rule over several keys, the calendar) is said by the command.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from sluice.content import write_bytes
from sluice.documents.evidence import Evidence
from sluice.documents.state import ReleaseState
from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact, BadInput
from sluice.gates.policy import GatePolicy
from sluice.gates.registry import KINDS
from sluice.ledger.record import Record
from sluice.project import Project

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_Mode = Literal["validation", "serialization"]
_PUBLISHED: dict[str, tuple[type[BaseModel], _Mode]] = {
    "policy": (GatePolicy, "validation"),
    "project": (Project, "validation"),
    "release-state": (ReleaseState, "validation"),
    "evidence": (Evidence, "validation"),
    "decision": (Decision, "serialization"),
    "record": (Record, "serialization"),
}


def schemas() -> dict[str, bytes]:
    """File name → bytes of every published schema; equal models give equal bytes."""
    return {f"{name}.schema.json": _render(name, model, mode) for name, (model, mode) in sorted(_PUBLISHED.items())}


def _render(name: str, model: type[BaseModel], mode: _Mode) -> bytes:
    schema = model.model_json_schema(mode=mode)
    if rule := schema.get("$defs", {}).get("OnlineRule"):
        known = [{"const": kind.metric, "description": kind.about} for kind in KINDS.values()]
        rule["properties"]["metric"] = {"title": rule["properties"]["metric"]["title"], "oneOf": known}
    for described in _models(model):
        target = schema if described is model else schema.get("$defs", {}).get(described.__name__, {})
        if "description" in target:
            target["description"] = inspect.cleandoc(target["description"])
        for key, text in _attribute_docs(described).items():
            if key in target.get("properties", {}):
                target["properties"][key]["description"] = text
    head: dict[str, Any] = {"$schema": _DIALECT, "$id": f"{name}.schema.json"}
    return (json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n").encode()


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and all that its schema refers to, each once."""
    models: dict[str, type[BaseModel]] = {}

    def visit(annotation: Any) -> None:
        for inner in getattr(annotation, "__args__", ()):
            visit(inner)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation.__name__ not in models:
            models[annotation.__name__] = annotation
            for field in annotation.model_fields.values():
                visit(field.annotation)

    visit(model)
    yield from models.values()


def _attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """The strings below the attributes of a model and its bases, by attribute."""
    texts: dict[str, str] = {}
    for owner in reversed([base for base in model.__mro__ if issubclass(base, BaseModel) and base is not BaseModel]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in itertools.pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                texts[field.target.id] = inspect.cleandoc(str(ast.literal_eval(text.value)))
    return texts


def check(directory: Path) -> None:
    """
    Raises:
        BadArtifact: a schema in the directory is missing or not what the models say.
    """
    for name, data in schemas().items():
        path = directory / name
        if not path.exists() or path.read_bytes() != data:
            raise BadArtifact(str(path), "is not what the models say", "run `python -m sluice.schemas`")


def main(arguments: list[str]) -> None:
    """Write the schemas into a directory (``docs/schemas``), or check those that are there."""
    places = [argument for argument in arguments if argument != "--check"]
    if len(places) > 1 or any(place.startswith("-") for place in places):
        raise BadInput(" ".join(arguments), "is not [--check] [DIR]", "python -m sluice.schemas docs/schemas")
    directory = Path(places[0] if places else "docs/schemas")
    if "--check" in arguments:
        check(directory)
        return
    for name, data in schemas().items():
        write_bytes(directory / name, data)


if __name__ == "__main__":
    main(sys.argv[1:])
