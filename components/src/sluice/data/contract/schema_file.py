"""Schemas of tensorflow-metadata as files: text for people and reviews, binary for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import schema_pb2

from sluice.content import write_bytes
from sluice.errors import BadInput, one_line

BINARY = ".pb"


def parse_schema(text: str, name: str) -> Any:
    """
    The ``Schema`` message of a text.

    Raises:
        BadInput: it is none, or has a field that this version does not know: it would be lost on the next write.
    """
    schema = schema_pb2.Schema()
    try:
        text_format.Parse(text, schema)
    except text_format.ParseError as error:
        fix = "correct that line; where it is of a newer tensorflow-metadata, install that version"
        raise BadInput(name, f"is not a schema that this version reads ({one_line(error, 160)})", fix) from error
    return schema


def read_schema_message(path: Path) -> Any:
    """
    The ``Schema`` message of a file: text, or binary where the name ends in .pb. Unknown fields of binary are kept.

    Raises:
        BadInput: it cannot be read, is no schema, or has a field in its text that this version does not know.
    """
    try:
        data = path.read_bytes()
        if path.suffix != BINARY:
            return parse_schema(data.decode("utf-8"), str(path))
        schema = schema_pb2.Schema()
        schema.ParseFromString(data)
    except OSError as error:
        raise BadInput(
            str(path), f"cannot be read ({error.strerror})", "infer one with `sluice data schema`"
        ) from error
    except (UnicodeDecodeError, DecodeError) as error:
        raise BadInput(str(path), f"is not a schema ({one_line(error, 120)})", "name a schema file") from error
    return schema


def schema_text(schema: Any) -> str:
    """The text of a ``Schema`` message, the same for the same message."""
    return str(text_format.MessageToString(schema, as_utf8=True))


def write_schema_message(schema: Any, path: Path) -> None:
    """
    Write a ``Schema`` message, as text or, where the name ends in .pb, binary.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        binary = path.suffix == BINARY
        write_bytes(path, schema.SerializeToString(deterministic=True) if binary else schema_text(schema).encode())
    except OSError as error:
        raise BadInput(str(path), f"cannot be written ({error.strerror})", "choose another place") from error


def declared_types(schema: Any) -> dict[str, str]:
    """TFDV's names of the types of the schema's columns."""
    names = schema_pb2.FeatureType
    return {feature.name: names.Name(feature.type) for feature in schema.feature if feature.HasField("type")}


def opaque_columns(schema: Any) -> frozenset[str]:
    """Columns whose bytes are not read as text: those with the domain of an image."""
    return frozenset(feature.name for feature in schema.feature if feature.WhichOneof("domain_info") == "image_domain")
