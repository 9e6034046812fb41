"""The tables that `python scripts/tools/describe.py --write` makes in documents are those of the declarations."""

from __future__ import annotations

import pytest

from experiments.tools import describe

DOCUMENTS = [path for path in describe.documents() if "<!-- describe" in path.read_text()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_has_the_tables_of_the_declarations(path):
    assert path.read_text() == describe.rewritten(path.read_text()), "run: python scripts/tools/describe.py --write"


def test_all_tables_are_somewhere():
    text = "".join(path.read_text() for path in DOCUMENTS)
    assert all(f"<!-- describe {name} -->" in text for name in describe.TABLES)
