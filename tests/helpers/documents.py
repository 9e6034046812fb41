"""The code blocks of the documents, and a copy of the repository to run them in."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]

# In the copy: recipes take larger batches, and no processes that read them; icons have fewer pictures.
SHORTER = (
    ("configs/base/few_shot.yaml", "BATCH_SIZE: 4\n", "BATCH_SIZE: 32\n"),
    ("configs/base/few_shot.yaml", "NUM_WORKERS: 8\n", "NUM_WORKERS: 0\n"),
    ("datasets/builtin/icons.py", '"train": 24, "val": 6, "test": 10', '"train": 2, "val": 1, "test": 1'),
)


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


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def short_copy(folder: Path) -> Path:
    """A repository of all files of this one that git does not ignore, whose runs are short; all else is as published.

    The test is skipped where there is no git.
    """
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs git")
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name, published, short in SHORTER:
        text = (folder / name).read_text()
        assert published in text
        (folder / name).write_text(text.replace(published, short))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "as it is")
    return folder
