"""The notebook of the quick start, run as Jupyter runs it, in a copy of the repository whose runs are short."""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat
import pytest
from helpers.documents import ROOT, git, short_copy
from nbclient import NotebookClient

NOTEBOOK = "docs/quickstart.ipynb"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    return short_copy(tmp_path_factory.mktemp("notebook") / "clone")


def run(notebook: nbformat.NotebookNode, folder: Path, own: Path) -> None:
    """Execute all cells in `folder`; an error in one of them is raised. `own` is for the files of Jupyter."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "PYTHONPATH", "OUTPUT", "PYTHON"):
            patch.delenv(name, raising=False)
        for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(own / name))  # nothing of the user's
        patch.setenv("PIP_NO_INDEX", "1")
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()


@pytest.fixture(scope="module")
def cells(clone) -> dict[str, nbformat.NotebookNode]:
    """The cells after their execution, by name."""
    notebook = nbformat.read(clone / NOTEBOOK, as_version=4)
    run(notebook, clone / "docs", clone.parent)
    return {cell.id: cell for cell in notebook.cells}


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell prints, without a terminal's codes."""
    text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")


def shown(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    """The contents of a MIME type that a cell shows."""
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def test_the_repository_that_is_there_is_used(cells):
    assert cells["get-it"].outputs == []


def test_a_repository_is_cloned_where_there_is_none(clone, tmp_path):
    notebook = nbformat.read(clone / NOTEBOOK, as_version=4)
    (cell,) = (cell for cell in notebook.cells if cell.id == "get-it")
    cell.source = cell.source.replace('REPOSITORY = ""', f'REPOSITORY = "{clone.as_uri()}"')
    notebook.cells = [cell, nbformat.v4.new_code_cell("print(Path.cwd())")]
    (tmp_path / "empty").mkdir()
    run(notebook, tmp_path / "empty", tmp_path)
    assert Path(printed(notebook.cells[1]).strip()) == (tmp_path / "empty/bmip").resolve()
    assert (tmp_path / "empty/bmip/train.py").is_file()


def test_the_comparison_ends_in_a_table_of_its_methods(cells):
    text = printed(cells["compare-them"])
    assert "icons, 16 shots, seed 1: accuracy in per cent" in text
    rows = re.findall(r"^(\w+) +(?:\*?\d+\.\d+ +){4}", text, re.MULTILINE)
    assert rows == ["ZeroshotCLIP", "MaPLe", "BMIP", "CoPrompt_BMIP"]
    assert "Traceback" not in text


def test_the_page_of_the_comparison_is_in_a_frame(cells, clone):
    (frame,) = shown(cells["show-page"], "text/html")
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == (clone / "output/report.html").read_text()


def test_the_classifier_knows_more_than_zero_shot_clip(cells):
    found = dict(re.findall(r"^(\w+): (\d+)% of \d+ images$", printed(cells["classify-them"]), re.MULTILINE))
    assert int(found["BMIP"]) > int(found["ZeroshotCLIP"]) > 0


def test_images_are_shown_with_their_predictions(cells):
    assert len(shown(cells["show-images"], "image/png")) == 1


def test_a_run_of_the_notebook_leaves_no_files_in_the_repository(cells, clone):
    assert git(clone, "status", "--porcelain", "--untracked-files=all") == ""


def test_the_notebook_is_published_without_outputs():
    notebook = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert {*notebook.metadata} == {"kernelspec", "language_info"}


def test_the_notebook_has_no_path_of_a_machine():
    assert re.findall(r"(?<![\w.])(?:/\w+/\S*|[A-Z]:\\\\\S*)", (ROOT / NOTEBOOK).read_text()) == []


def test_each_code_cell_follows_a_text():
    kinds = [cell.cell_type for cell in nbformat.read(ROOT / NOTEBOOK, as_version=4).cells]
    assert kinds[0] == "markdown" and ("code", "code") not in {*zip(kinds, kinds[1:])}
