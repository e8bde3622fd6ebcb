"""
Decision records: what the ledger keeps of a decision, chained so that none can change or go unnoticed.

    0001-….json            0002-….json            0003-….json
    number 1               number 2               number 3
    previous null     ┌─── previous sha256:…  ┌── previous sha256:…
    decision {…}      │    decision {…}       │   decision {…}
        └── digest of the file's bytes ──┘ └──┘

The envelope is the ledger's; the decision inside and its id do not know their place, so a decision that lost a race
and is made again on a fresh base stays the same decision.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sluice.content import digest_of_bytes
from sluice.documents.state import Digest, refusal
from sluice.documents.verdict import Decision
from sluice.errors import BadArtifact

_SHARD = 100
_NAME = re.compile(r"(?:.*/)?([0-9]{4,})-[a-z-]+\.json")
_NO_DECISION = "does not hold a decision"
_FIX = "restore the file from its last commit; only Sluice writes it"


class Record(BaseModel):
    """One entry of the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int | None = Field(ge=1)
    """Its place, counted from 1; null only in records of the form before the chain, which held the decision alone."""
    previous: Digest | None
    """Digest of the record before it, of the bytes of its file; null for the first."""
    decision: Decision

    @property
    def is_chained(self) -> bool:
        """Whether it is of the form that names its predecessor."""
        return self.number is not None


def record_path(overlay: str, number: int, decision: Decision) -> str:
    """
    ``<overlay>/decisions/NN/NNNN-<stage>-<action>.json``: a folder holds a hundred.

    Git writes a folder whole whenever a file of it changes: ten thousand records in one make gigabytes of folders.
    """
    return f"{overlay}/decisions/{number // _SHARD:02d}/{number:04d}-{decision.stage}-{decision.action}.json"


def number_of(path: str) -> int | None:
    """The number in a record's path; ``None`` where this is no record's path."""
    matched = _NAME.fullmatch(path)
    return int(matched[1]) if matched else None


def encode_record(number: int, previous: bytes | None, decision: Decision) -> bytes:
    """The bytes of a record; ``previous`` are those of the record before it."""
    document = {
        "number": number,
        "previous": None if previous is None else digest_of_bytes(previous),
        "decision": decision.model_dump(mode="json"),
    }
    return (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def decode_record(text: bytes, path: str) -> Record:
    """
    The record in a file's bytes: of today's form, or of the one before the chain.

    Raises:
        BadArtifact: neither; names the path, the key and the rule.
    """
    try:
        if b'\n  "decision": {' in text:
            return Record.model_validate_json(text)
        return Record(number=None, previous=None, decision=Decision.model_validate_json(text))
    except ValidationError as error:
        raise refusal(path, error) from error


def plain_decision(text: bytes, path: str) -> dict[str, Any]:
    """
    The decision in a record's bytes as plain JSON, unchecked: for looking through many.

    Raises:
        BadArtifact: not JSON, or not a decision with an id, digests and states.
    """
    try:
        document = orjson.loads(text)
        decision: dict[str, Any] = document.get("decision", document)
        texts = [decision["id"], *(decision.get(key) or "" for key in ("candidate", "stable"))]
        states = [decision.get(key, {}) for key in ("before", "after", "run")]
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise BadArtifact(path, _NO_DECISION, _FIX) from error
    if not (all(isinstance(text, str) for text in texts) and all(isinstance(state, dict) for state in states)):
        raise BadArtifact(path, _NO_DECISION, _FIX)
    return decision
