"""What the running loop tells whoever watches it: one JSON line an event, in a file that survives a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LoopEvents:
    """An append-only file of events."""

    path: Path

    def emit(self, kind: str, **fields: Any) -> None:
        """Append one event; a line is written in one call, so readers never see half of it."""
        with self.path.open("ab", buffering=0) as stream:
            stream.write(json.dumps({"kind": kind, **fields}).encode() + b"\n")


@dataclass
class Tail:
    """Reads what was appended since the last call."""

    path: Path
    offset: int = 0

    def lines(self) -> Iterator[bytes]:
        """New whole lines."""
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self.offset += len(line)
                yield line
