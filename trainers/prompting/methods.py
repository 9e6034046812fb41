"""All methods and objectives: importing this module imports each of their files, which declare them."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from . import learners, objectives
from .declaration import CROSS_ENTROPY, METHODS, Method
from .errors import InputError
from .objectives.objective import OBJECTIVES
from .recipes import CONFIGS

__all__ = ["METHODS", "OBJECTIVES", "identify", "import_own", "in_order", "of_trainer"]

for _package in (learners, objectives):
    for _module in pkgutil.iter_modules(_package.__path__):
        importlib.import_module(f"{_package.__name__}.{_module.name}")


def in_order() -> list[Method]:
    """All methods in the order of tables: by publication, those named after an objective last."""

    def place(method: Method) -> tuple:
        years = method.venue[-4:], OBJECTIVES[method.objective].venue[-4:]
        # Methods without a venue are users' own, and come last.
        return not method.venue, method.objective != CROSS_ENTROPY, *years, method.arxiv

    return sorted(METHODS.values(), key=place)


def of_trainer(trainer: str) -> Method | None:
    """The method of a trainer's name, with or without a plugin's suffix; None for other trainers."""
    return METHODS.get(trainer) or METHODS.get(trainer.removesuffix("Plugin"))


def identify(trainer: str, recipe: str) -> tuple[str, str]:
    """The method and the variant that a trainer's recipe stands for.

    Args:
        trainer: registered name.
        recipe: name of a configuration file.

    Returns:
        The method with that recipe, and the rest of the name, without a data set whose own recipe it is. For a recipe
        of no method, the trainer's name and the recipe's.
    """
    known = {one: method for method in in_order() if method.trainer == trainer for one in method.recipes.all}
    start = max((one for one in known if recipe == one or recipe.startswith(f"{one}_")), key=len, default=None)
    if start is None:
        return trainer, recipe
    variant = recipe[len(start) + 1 :]
    data_sets = (path.stem for path in (CONFIGS / "datasets").glob("*.yaml"))
    own = max((one for one in data_sets if f"{variant}_".startswith(f"{one}_")), key=len, default="")
    return known[start].name, variant[len(own) + 1 :] if own else variant


def import_own(module: str) -> None:
    """Import the user's module, which registers methods and objectives of theirs; once, however often it is called.

    Args:
        module: a name on Python's path, or the path of a file, whose folder is added to it.

    Raises:
        InputError: it cannot be found, or another module has the file's name.
    """
    path = Path(module).expanduser().resolve()
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise InputError(f"--import is {module}, but there is no such file; correct it.")
    if is_file and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that no folder beside the file hides a module of this project
    try:
        imported = importlib.import_module(path.stem if is_file else module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--import is {module}, but there is no module {error.name}; give the path of its file, add its folder to "
            "PYTHONPATH, or correct it."
        ) from error
    if is_file and Path(imported.__file__ or "").resolve() != path:
        raise InputError(f"--import is {module}, but {path.stem} is {imported.__file__} already; rename the file.")
