"""No module imports from a layer above its own: the table of docs/ARCHITECTURE.md, read off the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. A module belongs to the layer with the longest name that begins its own; layers of one line know
# each other.
LAYERS = [
    ["minidassl.own"],
    ["trainers.prompting.errors"],
    ["trainers.prompting.recipes"],
    ["trainers.prompting.declaration"],
    ["trainers.prompting.core"],
    ["trainers.prompting.learners"],
    ["trainers.prompting.objectives"],
    ["trainers.prompting.methods"],
    ["trainers.prompting.checkpoints"],
    ["trainers.prompting.api"],
    ["minidassl"],
    ["datasets"],
    ["trainers"],
    ["train"],
    ["experiments"],
    ["scripts"],
]
FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names}
# The package's face hands out names of all layers on demand, and loads none by itself.
FACES = {"trainers.prompting"}
# What the layers of prompting may import beside themselves, from outside the project.
WITHOUT_DASSL = {"dassl", "yacs"}


def modules() -> dict[str, Path]:
    """All modules of the project but tests, by their dotted names."""
    paths = [ROOT / "train.py"]
    for folder in ("minidassl", "trainers", "datasets", "experiments", "scripts"):
        paths += (ROOT / folder).rglob("*.py")
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths)}


MODULES = modules()


def imported(name: str) -> set[str]:
    """What a module imports, wherever in it, but not for type checkers alone; of the project full module names."""
    tree = ast.parse(MODULES[name].read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            inside = {f"{module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inside or {module}
    return found


def floor(name: str) -> int | None:
    """The layer of a module; None outside the project."""
    parts = name.split(".")
    known = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((FLOOR[start] for start in known if start in FLOOR), None)


@pytest.mark.parametrize("name", sorted(MODULES.keys() - FACES))
def test_a_module_imports_from_its_own_layer_and_lower_ones_alone(name):
    above = {other for other in imported(name) - FACES if (floor(other) or 0) > floor(name)}
    assert not above


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("trainers.prompting")))
def test_prompting_needs_neither_dassl_nor_yacs(name):
    assert not {other.partition(".")[0] for other in imported(name)} & WITHOUT_DASSL
