"""The parameters of a compiled pipeline as a person gives them: known, of the right type, in range."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sluice.errors import BadInput
from sluice.steps.promote import parse_promotion
from sluice.steps.start import Asked, parse_asked
from sluice.steps.watch import parse_limits, parse_watched
from sluice.tasks.task import load_task


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError
    return text.lower() == "true"


_READERS: dict[str, Callable[[str], Any]] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": _truth,
}
_KINDS = {"NUMBER_INTEGER": "a whole number", "NUMBER_DOUBLE": "a number", "BOOLEAN": "true or false"}


def definitions(compiled: Path) -> dict[str, dict[str, Any]]:
    """Type, default and description of each parameter, by name."""
    spec = next(yaml.safe_load_all(compiled.read_text("utf-8")))
    found: dict[str, dict[str, Any]] = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return found


def parse_parameters(compiled: Path, given: Sequence[str], file: Path | None = None) -> dict[str, Any]:
    """
    The values that differ from the defaults.

    Args:
        given: ``name=value`` each; they win over the file's.
        file: JSON object.

    Raises:
        BadInput: names the first one that is unknown, missing, of another type or out of range.
    """
    known, texts = definitions(compiled), _texts(given, file)
    for name in texts:
        if name not in known:
            raise BadInput(f"parameter {name}", f"is none of {compiled.stem}", f"choose of {', '.join(sorted(known))}")
    values = {name: _value(name, known[name]["parameterType"], text) for name, text in texts.items()}
    defaults = {name: one["defaultValue"] for name, one in known.items() if "defaultValue" in one}
    missing = sorted(known.keys() - values.keys() - defaults.keys())
    if missing:
        raise BadInput(f"parameter {missing[0]}", "is missing", f"give -p {missing[0]}=...")
    _in_range(compiled.stem, {**defaults, **values})
    return values


def _texts(given: Sequence[str], file: Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if file:
        try:
            read = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(str(file), f"cannot be read as JSON ({error})", "name a file with a JSON object") from error
        if not isinstance(read, dict):
            raise BadInput(str(file), "is no JSON object", "write parameters by name")
        found |= {name: value if isinstance(value, str) else json.dumps(value) for name, value in read.items()}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise BadInput(f"-p {one}", "has no =", "write name=value")
        found[name] = value
    return found


def _value(name: str, kind: str, text: str) -> Any:
    try:
        return _READERS[kind](text)
    except ValueError as error:
        raise BadInput(
            f"parameter {name}", f"is not {_KINDS[kind]}, got {text!r}"[:120], "see its description"
        ) from error


def _in_range(pipeline: str, values: Mapping[str, Any]) -> None:
    """The same checks that the first step makes, before anything is sent."""
    if pipeline == "promotion":
        parse_promotion(values)
        return
    if pipeline == "materialize":
        from sluice.features.materialize import moment

        load_task(values["task"])
        _ = moment(values["until"]), moment(values["since"])
        return
    asked = {name: value for name, value in values.items() if name in Asked.model_fields}
    parse_asked({**asked, "checkpoint_every": int(values["checkpoint_every"])})
    if "limits" in values:
        parse_limits(values["limits"])
        parse_watched(values)
    if "nodes" in values and not 1 <= int(values["nodes"]) <= 64:
        raise BadInput("parameter nodes", f"is 1 to 64, got {values['nodes']}", "see its description")
    if values.get("operator", "TrainJob") not in {"TrainJob", "TFJob"}:
        raise BadInput("parameter operator", f"is TrainJob or TFJob, got {values['operator']!r}", "choose one")
