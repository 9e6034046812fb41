"""Links of the documents lead somewhere: to a file of the repository, and to a heading of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from helpers.documents import DOCUMENTS, ROOT

PAGES = sorted({*DOCUMENTS, *(path.name for path in ROOT.glob("*.md"))})


def without_code(text: str) -> str:
    """A document without its blocks and pieces of code."""
    return re.sub(r"`[^`\n]+`", lambda code: "`" * len(code[0]), re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def links_of(text: str) -> list[str]:
    """The targets of links and pictures, but for those to other sites."""
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", without_code(text))
    targets += re.findall(r'\b(?:href|src)="([^"]+)"', without_code(text))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives headings: lower case, hyphens for blanks, no punctuation, a number if repeated."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number, anchor = 0, name
        while anchor in found:
            number += 1
            anchor = f"{name}-{number}"
        found.add(anchor)
    return found


def target_of(link: str, document: Path) -> tuple[Path, str]:
    """The file that a link of a document leads to, and the anchor in it, which may be empty."""
    name, _, anchor = link.partition("#")
    return ((document.parent / name).resolve() if name else document), anchor


def broken(document: Path, text: str) -> list[str]:
    """Links of a document that lead to no file, or to no heading."""
    found = []
    for link in links_of(text):
        target, anchor = target_of(link, document)
        there = target.is_relative_to(ROOT) and target.exists()
        if not there or (anchor and anchor not in anchors_of(text if target == document else target.read_text())):
            found.append(link)
    return found


def linked_files() -> set[Path]:
    """The files and folders that links of the pages lead to, but for those within a page."""
    pages = [ROOT / name for name in PAGES]
    return {
        target for page in pages for link in links_of(page.read_text()) if (target := target_of(link, page)[0]) != page
    }


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings(name):
    assert broken(ROOT / name, (ROOT / name).read_text()) == []


@pytest.mark.parametrize(
    "link",
    ["docs/MISSING.md", "#no-heading", "docs/METHOD.md#no-heading", "../outside.md", "docs/METHOD.md#Keys"],
)
def test_a_link_to_nothing_is_found(link):
    assert broken(
        ROOT / "README.md", f"# A heading\n\n[words]({link}), [others](docs/METHOD.md#keys), [here](#a-heading)"
    ) == [link]


def test_links_within_code_do_not_count():
    text = '`[a](no/where)` and\n```\n[b](no/where)\n# no heading\n```\n![c](picture.png) <a href="page.html">'
    assert links_of(text) == ["picture.png", "page.html"] and anchors_of(text) == set()


def test_every_page_of_docs_is_linked_from_another_one():
    assert [name for name in DOCUMENTS if name.startswith("docs/") and ROOT / name not in linked_files()] == []


def test_linked_files_are_none_that_git_ignores():
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("needs git")
    kept = {ROOT / name for name in done.stdout.splitlines()}
    kept |= {folder for path in kept for folder in path.parents}
    assert sorted(map(str, linked_files() - kept)) == []
