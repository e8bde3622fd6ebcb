"""The parameters of a pipeline as a person gives them: known, of the right type, in range."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sluice.errors import BadInput
from sluice.steps.parameters import PipelineParameters
from sluice_pipelines.inputs import defaults, kind_of


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError
    return text.lower() == "true"


_READERS: Mapping[type, tuple[Callable[[str], Any], str]] = {
    str: (str, "a text"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    bool: (_truth, "true or false"),
}


def parse_parameters(
    pipeline: str, parameters: type[PipelineParameters], arguments: Sequence[str], file: Path | None = None
) -> dict[str, Any]:
    """
    The values that differ from the defaults, checked as the first step checks them, before anything is sent.

    Args:
        arguments: ``name=value`` each; they win over the file's.
        file: JSON object.

    Raises:
        BadInput: names the first one that is unknown, missing, of another type or out of range.
    """
    fields, texts = parameters.model_fields, _texts(arguments, file)
    for name in texts:
        if name not in fields:
            raise BadInput(f"parameter {name}", f"is none of {pipeline}", f"choose of {', '.join(sorted(fields))}")
    values = {
        name: _value(name, kind_of(fields[name]), text, parameters.described(name)) for name, text in texts.items()
    }
    complete = defaults(parameters) | values
    missing = sorted(fields.keys() - complete.keys())
    if missing:
        raise BadInput(f"parameter {missing[0]}", "is missing", f"give -p {missing[0]}=...")
    parameters.parse(complete)
    return values


def _texts(arguments: Sequence[str], file: Path | None) -> dict[str, str]:
    texts: dict[str, str] = {}
    if file:
        try:
            document = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(str(file), f"cannot be read as JSON ({error})", "name a file with a JSON object") from error
        if not isinstance(document, dict):
            raise BadInput(str(file), "is no JSON object", "write parameters by name")
        texts |= {name: value if isinstance(value, str) else json.dumps(value) for name, value in document.items()}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise BadInput(f"-p {argument}", "has no =", "write name=value")
        texts[name] = value
    return texts


def _value(name: str, kind: type, text: str, fix: str) -> Any:
    read, words = _READERS[kind]
    try:
        return read(text)
    except ValueError as error:
        raise BadInput(f"parameter {name}", f"is not {words}, got {text!r}"[:120], fix) from error
