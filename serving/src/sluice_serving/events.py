"""
What a server says in words: one JSON line on standard error for each failure, refusal, start and end.

    {"time": "…Z", "level": "ERROR", "event": "failed", "task": …, "digest": …, "role": …, "request_id": …,
     "rollout": …, "sequence": 7, "trace_id": …, "cause": "model", "error": "…", "exception": "…"}

``sequence`` counts the changes of the environment's release file, so it names the decision that put the state in place
under which the request was answered; like a ``rollout`` that the request does not bring, it is what the mounted
ConfigMap says at that moment.
Answers are not logged: four lines a request cost 40 % of a small model's time, and the prediction log has them all. Of
failures and refusals at most ten a second are logged; the next line says how many were left out.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from sluice.documents.event_time import iso
from sluice_serving import tracing

_A_SECOND = 10
_LONGEST = 2000
"""Characters of a text or of the end of a traceback."""


class _JsonLines(logging.Formatter):
    """Every record as one line, those of kserve and uvicorn too."""

    def __init__(self, identity: Mapping[str, str]) -> None:
        super().__init__()
        self._identity = dict(identity)

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, Any] = getattr(record, "fields", {"event": "log", "text": record.getMessage()[:_LONGEST]})
        line = {"time": iso(datetime.fromtimestamp(record.created, UTC)), "level": record.levelname}
        document = line | self._identity | {key: value for key, value in fields.items() if value not in ("", None)}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)[-_LONGEST:]
        return orjson.dumps(document).decode()


class EventLog:
    """
    The lines of one server process.

    Args:
        identity: what every line says of it: task, digest, role.
        release: the ConfigMap ``release`` as a directory, a file a key.
    """

    def __init__(self, identity: Mapping[str, str], release: Path | None = None) -> None:
        self._release = release
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JsonLines(identity))
        handler.addFilter(lambda record: not self._is_known(record))
        for name in ("", "kserve", "uvicorn", "uvicorn.error"):
            logger = logging.getLogger(name)
            logger.handlers = [] if name else [handler]
            logger.propagate = True
        self._logger = logging.getLogger("sluice.serving")
        self._logger.setLevel(logging.INFO)
        self._second, self._told, self._left_out = 0, 0, 0
        self._failure: BaseException | None = None

    def say(self, event: str, **fields: Any) -> None:
        """Something that happens seldom."""
        self._logger.info(event, extra={"fields": {"event": event, **fields}})

    def report_failure(self, cause: str, request_id: str, rollout: str, error: Exception) -> None:
        """A request or some of its rows failed, which is our fault."""
        self._failure = error
        if self._may_tell():
            fields = {"event": "failed", "cause": cause, "error": repr(error)[:_LONGEST]}
            self._tell(logging.ERROR, fields, request_id, rollout, error)

    def report_refusal(self, part: str, error: str, headers: Mapping[str, str]) -> None:
        """A request broke its contract; its headers may say anything, so little of them is told."""
        if self._may_tell():
            fields = {"event": "refused", "part": part, "error": error[:_LONGEST]}
            self._tell(logging.WARNING, fields, headers.get("x-request-id", "")[:256], "")

    def _is_known(self, record: logging.LogRecord) -> bool:
        """Whether kserve or uvicorn tells a failure once more."""
        if not record.exc_info or record.name == self._logger.name:
            return False
        return record.exc_info[1] is self._failure

    def _may_tell(self) -> bool:
        if (now := int(time.monotonic())) != self._second:
            self._second, self._told = now, 0
        self._told += 1
        if self._told > _A_SECOND:
            self._left_out += 1
        return self._told <= _A_SECOND

    def _tell(
        self, level: int, fields: dict[str, Any], request_id: str, rollout: str, error: Exception | None = None
    ) -> None:
        left_out, self._left_out = self._left_out, 0
        ids: dict[str, Any] = {"request_id": request_id, "trace_id": tracing.trace_id(), **self._release_of_now()}
        ids |= {"rollout": rollout} if rollout else {}
        extra = {"fields": fields | ids | {"left_out": left_out or None}}
        self._logger.log(level, fields["event"], extra=extra, exc_info=error)

    def _release_of_now(self) -> dict[str, str | int]:
        """What is released now; nothing where that cannot be read, for no line may fail."""
        if self._release is None:
            return {}
        try:
            link = self._release / "..data"  # by which a mounted ConfigMap changes as a whole
            folder = link.resolve(strict=True) if link.exists() else self._release
            return {"rollout": (folder / "rollout").read_text(), "sequence": int((folder / "sequence").read_text())}
        except (OSError, ValueError):
            return {}
