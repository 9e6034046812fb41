"""Text of records on the page: never markup, and without the paths of the machine that wrote it."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

from minidassl.own.text import printable

from .. import ROOT
from ..tables.text import BOLD

# A path from the root of a disk, but no part of an address, of a tag, or of a word such as base/new.
ABSOLUTE = re.compile(r"(?<![\w./<~…-])(?:/|[A-Za-z]:\\|~/)(?:[^\s'\",;:/\\]+[/\\])*([^\s'\",;:/\\]+)")


class Shown:
    """Shows paths from the results folder or from the repository on; of others the last name alone."""

    def __init__(self, results: Path):
        full = results.resolve()
        self.results = os.path.relpath(full, ROOT) if full.is_relative_to(ROOT) else full.name
        prefixes = {str(path): self.results for path in (full, results.absolute(), results) if len(path.parts) > 1}
        prefixes |= {str(path): "" for path in (ROOT, ROOT.resolve())}
        # The longest first: one may begin with another.
        self._prefixes = dict(sorted(prefixes.items(), key=lambda one: -len(one[0])))

    def text(self, value: object) -> str:
        """One line or several."""
        text = str(value)
        for prefix, name in self._prefixes.items():
            text = text if name else text.replace(f"{prefix}/", "")
            text = re.sub(re.escape(prefix) + r"(?![\w.-])", lambda _, name=name: name or ".", text)
        return printable(ABSOLUTE.sub(r"…/\1", text), keep="".join(("\n", *BOLD)))

    def html(self, value: object) -> str:
        """Escaped, for content and quoted attributes."""
        return html.escape(self.text(value))
