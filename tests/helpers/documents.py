"""The code blocks of the documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A block between fences.

    Attributes:
        place: document and line.
        language: first word after the opening fence.
        info: the other words.
        code: its lines.
        file: the path in the words `` `FILE.py`: `` before the block, that it is the content of; else empty.
    """

    place: str
    language: str
    info: str
    code: str
    file: str


def blocks_of(document: str) -> list[Block]:
    """All blocks of a document, a path from the repository's root, in order."""
    text, found = (ROOT / document).read_text(), []
    for match in re.finditer(r"^```(\w*) *([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        file = re.search(r"`(\S+\.py)`:\s*\Z", text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(f"{document}:{line}", *match.groups(), file[1] if file else ""))
    return found
