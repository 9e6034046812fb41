"""Whether two hosts have the same project."""

from __future__ import annotations

import hashlib
from pathlib import Path

# What a run executes or reads of this project or of a checkout with the plugin.
PARTS = ("train.py", "trainers", "minidassl", "bmip_plugin", "clip", "datasets", "experiments", "configs", "scripts")


def parts(root: str | Path) -> list[str]:
    """Those of `PARTS` that there are."""
    return [name for name in PARTS if Path(root, name).exists()]


def project_version(root: str | Path) -> str:
    """A hash of the source and configurations below a folder; the name of the folder does not count."""
    digest = hashlib.sha256()
    for part in (Path(root, name) for name in parts(root)):
        files = [part] if part.is_file() else sorted(part.rglob("*"))
        for file in (path for path in files if path.suffix in (".py", ".yaml")):
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]
