"""Read the YAML files of `configs/`: bases, variants, and recipes by name. Needs PyYAML alone.

A file names its bases in `_BASE_`: a path, or a list of paths, relative to the file. It overrules its bases.

A *variant* (`configs/variants/<variant>.yaml`) changes a few keys of a method's recipe, on every backbone.
`<recipe>_<variant>` names both together: if no file of that name exists, the variant is merged after the recipe. A
variant that sets `TRAINER.<NODE>` is for recipes that set that node, or one of several; one that sets none is for all.
Its key `_SHARES_` scales numbers in proportion to another key:

    _SHARES_:
      TRAINER.PROMPTSRC.GPA_MEAN: [15, 20, OPTIM.MAX_EPOCH]      15 of 20 epochs, or the same share of another number

The name of an objective of the user's own (`OWN_OBJECTIVES`) stands for a variant that sets TRAINER.OBJECTIVE to it.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError, nearest

# Beside the package: in this repository as in a checkout that has the plugin.
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ENDINGS = (".yaml", ".yml")
# Names of objectives outside this project, which need no file in configs/variants; `register_objective` adds them.
OWN_OBJECTIVES: set[str] = set()
# What configurations of the field stay far below: bytes and values of a file, and files that one leads to.
MOST_BYTES, MOST_VALUES, MOST_FILES = 250_000, 10_000, 100


def read_files(path: str | Path, seen: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """Read a file and its bases, or a recipe, its bases and a variant, in merge order.

    Args:
        path: of a file, or of a recipe with a variant in its name.
        seen: files whose bases are being read.

    Returns:
        Each file with its own keys, as PyYAML reads them: `1e-3` and `(224, 224)` are strings.

    Raises:
        InputError: a file that does not exist, has no YAML suffix, is no mapping of keys, has too many bases, or is
            its own base; a variant that does not suit the recipe.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise InputError(f"{path} is no YAML file: its name has to end in {' or '.join(ENDINGS)}.")
    try:
        resolved, exists = path.resolve(), path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a null byte, a loop of symbolic links
        raise InputError(f"{str(path)!r} is no path of a configuration file: {error}") from error
    if resolved in seen:
        raise InputError(f"{path} is its own _BASE_: {' -> '.join(str(file) for file in (*seen, resolved))}.")
    if not exists:
        recipe, variant = _split(path)
        if not variant:
            raise InputError(f"There is no configuration file {path.absolute()}. {_neighbours(path)}")
        files = read_files(recipe, seen)
        return [*files, (_variant_path(variant), _variant_for(variant, recipe, _merged(files)))]
    own = read_mapping(path)
    bases = own.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"_BASE_ of {path} is {bases!r}; set it to a path or a list of paths, relative to the file.")
    files: list[tuple[Path, dict[str, Any]]] = []
    for base in bases:
        files += read_files(path.parent / base, (*seen, resolved))
        if len(files) > MOST_FILES:
            raise InputError(f"_BASE_ of {path} leads to more than {MOST_FILES} files; name fewer.")
    return [*files, (path, own)]


def read_merged(path: str | Path) -> dict[str, Any]:
    """`read_files` merged into one mapping."""
    return _merged(read_files(path))


def read_recipe(folder: str, name: str) -> dict[str, Any]:
    """Read a recipe, with or without a variant in its name, like train.py but without Dassl's defaults.

    Args:
        folder: of `configs/trainers`.

    Returns:
        Nested mappings. Strings of numbers and tuples are evaluated (`1e-3` is 0.001); whole numbers stay `int`, even
        for keys of floats.
    """
    return _with_values(read_merged(recipe_path(folder, name)))


def recipe_path(folder: str, name: str) -> Path:
    """The path of a recipe, for `read_files`; with a variant in the name, the file need not exist."""
    return CONFIGS / "trainers" / folder / f"{name}.yaml"


def is_readable(path: str | Path) -> bool:
    """Whether `read_files` finds a file, or a recipe with a suitable variant."""
    recipe, variant = _split(Path(path))
    return variant in variants_of(recipe) if variant else recipe.is_file()


def variants_of(recipe: Path) -> list[str]:
    """The variants that are for a recipe's file."""
    nodes = _nodes(read_merged(recipe))
    names = sorted({path.stem for path in (CONFIGS / "variants").glob("*.yaml")} | OWN_OBJECTIVES)
    return [name for name in names if _is_for(_read_variant(name), nodes)]


def suffixes_of(recipe: Path) -> list[str]:
    """Suffixes of a recipe's name after an underscore: its variants, and those of other files that begin with it."""
    start = f"{recipe.stem}_"
    files = [path.stem[len(start) :] for path in recipe.parent.glob("*.yaml") if path.stem.startswith(start)]
    return sorted({*files, *variants_of(recipe)})


def value_at(mapping: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key in nested mappings; None where there is none."""
    value: Any = mapping
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _variant_path(name: str) -> Path:
    return CONFIGS / "variants" / f"{name}.yaml"


def _is_variant(name: str) -> bool:
    return name in OWN_OBJECTIVES or _variant_path(name).is_file()


def _read_variant(name: str) -> dict[str, Any]:
    return {"TRAINER": {"OBJECTIVE": name}} if name in OWN_OBJECTIVES else read_merged(_variant_path(name))


def _variant_for(name: str, path: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a variant sets in a recipe; raises InputError if it does not suit the recipe."""
    keys, nodes = _read_variant(name), _nodes(recipe)
    if not _is_for(keys, nodes):
        wanted, theirs = (", ".join(f"TRAINER.{node}" for node in sorted(some)) for some in (_nodes(keys), nodes))
        raise InputError(
            f"The variant {name!r} ({_variant_path(name)}) is for {wanted}, but {path} has {theirs or 'no such keys'}"
            f"; leave it, or choose one of {', '.join(variants_of(path))}."
        )
    if "TRAINER" in keys:
        others = _nodes(keys) - nodes
        keys["TRAINER"] = {key: value for key, value in keys["TRAINER"].items() if key not in others}
    shares = keys.pop("_SHARES_", {})
    try:
        for key, (number, whole, other) in shares.items():
            # The unscaled number is not set: a code base may declare an int, and yacs would refuse 15.0.
            if (actual := value_at(recipe, other)) != whole:
                value: Any = number * actual / whole
                for part in reversed(key.split(".")):
                    value = {part: value}
                _merge(keys, value)
    except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"_SHARES_ of {_variant_path(name)} is {shares!r}, which takes KEY: [NUMBER, NUMBER THAT IT IS FOR, KEY "
            f"OF THAT NUMBER], and needs the last key as a number in {path}; correct one, or leave the variant."
        ) from error
    return keys


def _is_for(variant: Mapping[str, Any], nodes: set[str]) -> bool:
    """Whether a variant is for recipes that set these nodes."""
    return not _nodes(variant) or bool(_nodes(variant) & nodes)


def _nodes(mapping: Mapping[str, Any]) -> set[str]:
    """The methods' nodes that a mapping sets keys of."""
    trainer = mapping.get("TRAINER") or {}
    return {key for key, value in trainer.items() if isinstance(value, dict)}


def _split(path: Path) -> tuple[Path, str]:
    """Split a path into the recipe's file and the variant's name; without a variant, the path itself and ""."""
    if not path.is_file():
        for recipe, rest in _prefixes(path):
            if _is_variant(rest):
                return recipe, rest
    return path, ""


def _prefixes(path: Path) -> list[tuple[Path, str]]:
    """Existing recipes whose name plus an underscore begins the file's name, and the rest; the longest first."""
    cuts = [place for place, letter in enumerate(path.stem) if letter == "_"]
    parts = [(path.with_name(path.stem[:cut] + path.suffix), path.stem[cut + 1 :]) for cut in reversed(cuts)]
    return [(recipe, rest) for recipe, rest in parts if recipe.is_file()]


def data_sets() -> dict[str, str]:
    """The names of the files in `configs/datasets`, and the registered name of the data set in each, or ""."""
    found = {}
    for path in sorted((CONFIGS / "datasets").glob("*.yaml")):
        with contextlib.suppress(InputError):  # of a file that cannot be read, where that file is asked for
            found[path.stem] = str(value_at(read_mapping(path), "DATASET.NAME") or "")
    return found


def data_set_file(name: str) -> str:
    """The name of the file in `configs/datasets` for a data set, given by it or its registered name in any case.

    Raises:
        InputError: there is none.
    """
    known = data_sets()
    if name in known:
        return name
    for file, registered in known.items():
        if name.lower() in (file.lower(), registered.lower()):
            return file
    hint = nearest(name, [*known.values(), *known], "ls configs/datasets")
    raise InputError(f"There is no data set {name!r} in configs/datasets. {hint}")


def _neighbours(path: Path) -> str:
    """The end of a message: existing names."""
    for recipe, rest in _prefixes(path)[:1]:
        if known := suffixes_of(recipe):
            hint = nearest(rest, known, f"ls {CONFIGS / 'variants'}")
            return f"{recipe.name} has no variant {rest!r}. {hint}"
    there = sorted(file.name for file in path.parent.glob("*.yaml"))
    return nearest(path.name, there, f"ls {path.parent}") if there else f"{path.parent} has none."


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a file of configuration keys, as plain data.

    Raises:
        InputError: an unreadable file, other content, or more of it than a configuration has.
    """
    try:
        state = path.stat()
        return copy.deepcopy(_parse(path.resolve(), state.st_mtime_ns, state.st_size))
    except Exception as error:  # PyYAML raises many kinds of errors, for dates for example
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a YAML mapping of configuration keys: {reason}. Correct it.") from error


@functools.cache
def _parse(path: Path, changed: int, size: int) -> dict[str, Any]:
    """Parse a file once per change of it, because a plan of thousands of runs reads few files."""
    if size > MOST_BYTES:
        raise ValueError(f"it has {size} bytes, and a configuration has at most {MOST_BYTES}")
    loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    try:
        node = loader.get_single_node()
        # Before anything is built: references to references multiply, those of merge keys (<<) while they are built.
        if _expanded(node, {}) > MOST_VALUES:
            raise ValueError(f"with its aliases it has more than {MOST_VALUES} values")
        content = {} if node is None else loader.construct_document(node)
    finally:
        loader.dispose()
    _check_plain({} if content is None else content)
    return content or {}


def _expanded(node: yaml.Node | None, sizes: dict[int, float]) -> float:
    """Number of values in a YAML node without aliases; infinite where one is part of itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        parts = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        sizes[id(node)] = 1 + sum(_expanded(part, sizes) for part in parts)
    return sizes[id(node)]


def is_plain(value: Any) -> bool:
    """Whether a value of a key is a text, a switch, None, a number of usual size, or a list of these."""
    items = value if isinstance(value, (list, tuple)) else [value]
    plain = all(item is None or isinstance(item, (str, int, float)) for item in items)
    return plain and all(item.bit_length() <= 64 for item in items if isinstance(item, int))


def _check_plain(mapping: Any, prefix: str = "") -> None:
    if not isinstance(mapping, dict):
        raise TypeError(f"it holds {mapping!r}")
    for key, value in mapping.items():
        if isinstance(value, dict) and isinstance(key, str):
            _check_plain(value, f"{prefix}{key}.")
        elif not isinstance(key, str) or not is_plain(value):
            raise TypeError(f"{prefix}{key} is a {type(value).__name__}, which a configuration does not hold")


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Merge `new` into a nested mapping, in place; `new` overrules."""
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def _merged(files: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for _, keys in files:
        _merge(merged, keys)
    return merged


def _with_values(value: Any) -> Any:
    """Evaluate strings that are Python literals, as yacs does; leave others."""
    if isinstance(value, dict):
        return {key: _with_values(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
