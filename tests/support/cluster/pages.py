"""The pages of the documentation as what a reader types."""

from __future__ import annotations

import re
import sys
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


def script(page: str, sections: list[str]) -> str:
    """
    The commands of sections of a page as a script; one that goes on in another terminal goes on in the background.

    Raises:
        SystemExit: the page has no such section, or no command in it.
    """
    lines = []
    for section in sections:
        found = [command for block in blocks(page) if block.section == section for command in commands(block)]
        if not found:
            raise SystemExit(f"{page} has no commands in section {section!r}")
        lines += [f"{each} &" if "port-forward" in each else each for each in found]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(script(sys.argv[1], sys.argv[2:]))
