"""What was found as a document, as TFDV's ``Anomalies`` message, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2

from sluice.content import write_bytes
from sluice.data.census.files import TEXT_ENDINGS
from sluice.data.contract.finding import Finding
from sluice.errors import BadInput

_SEVERITIES = {"error": "ERROR", "warning": "WARNING", "note": "UNKNOWN"}
_RANKS = ("note", "warning", "error")


def anomalies_of(findings: Sequence[Finding], schema: Any) -> Any:
    """The ``Anomalies`` message: by path, with the schema that was held against the data."""
    message = anomalies_pb2.Anomalies()
    message.baseline.CopyFrom(schema)
    message.anomaly_name_format = anomalies_pb2.Anomalies.SERIALIZED_PATH
    for path in dict.fromkeys(finding.path for finding in findings):
        reasons = [finding for finding in findings if finding.path == path]
        info = message.anomaly_info[".".join(path)] if path else message.dataset_anomaly_info
        info.path.step.extend(path)
        worst = max((finding.severity for finding in reasons), key=_RANKS.index)
        info.severity = anomalies_pb2.AnomalyInfo.Severity.Value(_SEVERITIES[worst])
        info.short_description = reasons[0].short if len(reasons) == 1 else "Multiple errors"
        info.description = " ".join(finding.text for finding in reasons)
        for finding in reasons:
            kind = anomalies_pb2.AnomalyInfo.Type.Value(finding.kind)
            info.reason.add(type=kind, short_description=finding.short, description=finding.text)
    return message


def write_anomalies(findings: Sequence[Finding], schema: Any, path: Path) -> None:
    """
    Write the ``Anomalies`` message: as text where the name ends so, else binary.

    Raises:
        BadInput: the file cannot be written.
    """
    message = anomalies_of(findings, schema)
    try:
        text = path.suffix in TEXT_ENDINGS
        write_bytes(
            path,
            text_format.MessageToString(message, as_utf8=True).encode()
            if text
            else message.SerializeToString(deterministic=True),
        )
    except OSError as error:
        raise BadInput(str(path), f"cannot be written ({error.strerror})", "choose another place") from error


def document_of(finding: Finding) -> dict[str, Any]:
    """A finding as JSON."""
    return {
        "type": finding.kind,
        "severity": finding.severity,
        "path": list(finding.path),
        "short": finding.short,
        "text": finding.text,
        "count": finding.count,
        "examples": list(finding.examples),
    }


def lines_of(findings: Sequence[Finding]) -> Iterator[str]:
    """A line for each finding, errors first."""
    for finding in sorted(findings, key=lambda finding: -_RANKS.index(finding.severity)):
        yield f"{finding.severity:7}  {finding.name}  {finding.kind}  {finding.text}"
