"""The pages of the documentation as what a reader types."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.cluster.checkout import ROOT


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    section: str
    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    section, language, lines, found = "", None, list[str](), []
    for line in (ROOT / "docs" / document).read_text().splitlines():
        if line.startswith("```"):
            if language is not None:
                found.append(Block(section, language, "\n".join(lines)))
            language, lines = (line[3:].strip(), []) if language is None else (None, [])
        elif language is not None:
            lines.append(line)
        elif line.startswith("## "):
            section = line[3:]
    return found


def commands(block: Block) -> list[str]:
    """The commands of a block, a continued line as one."""
    joined = re.sub(r"\\\n\s*", "", block.text) if block.language in ("", "sh", "bash") else ""
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]
