"""Read the YAML files of `configs/`: bases, variants, and recipes by name.

A file names its bases in `_BASE_`: a path, or a list of paths, relative to the file. Bases come first, and a file
overrules its bases.

A *variant* (`configs/variants/<variant>.yaml`) changes a few keys of a method's recipe, on every backbone and for
every method that it is for. `<recipe>_<variant>` names both together: where there is no file of that name, but there
are `<recipe>.yaml` and the variant's file, the variant is merged after the recipe. A variant has keys of its own:

    _NODES_: [BMIP]             methods that it is for, by their nodes; without it those whose nodes it sets, and
                                where it sets none, all
    _BACKBONES_: ["ViT-B/16"]   backbones that it is for; without it all
    _SHARES_:                   numbers in proportion to another: 15 of 20 epochs is the default; where a recipe has
                                another number of epochs, it is as large a share of them
      TRAINER.PROMPTSRC.GPA_MEAN: [15, 20, OPTIM.MAX_EPOCH]

A recipe's nodes are those that it sets: `TRAINER.BMIP` makes it one of BMIP's prompts, whatever the trainer.

Needs PyYAML alone: neither Dassl, yacs nor torch.
"""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError, suggestion

# Beside the package: in this repository as in a checkout that has the plugin.
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ENDINGS = (".yaml", ".yml")
# A configuration holds these, and nested mappings.
_PLAIN = (str, int, float, bool, type(None), list, tuple)


def read_files(path: str | Path, seen: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """Read a file and its bases, in the order in which they are to be merged; or a recipe, its bases and a variant.

    Args:
        path: of a file, or of a recipe with a variant in its name.
        seen: files whose bases are being read.

    Returns:
        Each file with its own keys, as PyYAML reads them: `1e-3` and `(224, 224)` are texts.

    Raises:
        InputError: a file that does not exist, has another ending than YAML's, is no mapping of keys, or is its own
            base; a variant that is not for the recipe.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise InputError(f"{path} is no YAML file: its name has to end in {' or '.join(ENDINGS)}.")
    if path.resolve() in seen:
        raise InputError(f"{path} is its own _BASE_: {' -> '.join(str(file) for file in (*seen, path.resolve()))}.")
    if not path.is_file():
        recipe, variant = _split(path)
        if not variant:
            raise InputError(f"There is no configuration file {path}{_neighbours(path)}")
        files = read_files(recipe, seen)
        return [*files, _read_variant(variant).for_recipe(recipe, _merged(files))]
    own = _load(path)
    bases = own.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"_BASE_ of {path} is {bases!r}; set it to a path or a list of paths, relative to the file.")
    files = [file for base in bases for file in read_files(path.parent / base, (*seen, path.resolve()))]
    return [*files, (path, own)]


def read_merged(path: str | Path) -> dict[str, Any]:
    """Read a file, or a recipe with a variant in its name, as one mapping with all bases merged in.

    Raises:
        InputError: as `read_files`.
    """
    return _merged(read_files(path))


def read_recipe(trainer: str, name: str) -> dict[str, Any]:
    """Read a recipe of a trainer as train.py reads it, but for Dassl's defaults.

    Args:
        trainer: a folder of `configs/trainers`.
        name: of the recipe, with or without a variant.

    Returns:
        Nested mappings. Texts of numbers and tuples are those (`1e-3` is 0.001); a whole number stays one, though the
        key may take any.

    Raises:
        InputError: as `read_files`.
    """
    return _with_values(read_merged(recipe_path(trainer, name)))


def recipe_path(trainer: str, name: str) -> Path:
    """The path of a recipe, for `read_files`; where the name has a variant, there may be no such file."""
    return CONFIGS / "trainers" / trainer / f"{name}.yaml"


def recipe_exists(trainer: str, name: str) -> bool:
    """Tell whether a trainer has a recipe of this name: a file, or a recipe with a variant that is for it."""
    return is_readable(recipe_path(trainer, name))


def is_readable(path: str | Path) -> bool:
    """Tell whether `read_files` finds a file, or a recipe with a variant that is for it."""
    path = Path(path)
    recipe, variant = _split(path)
    return path.is_file() if not variant else _read_variant(variant).is_for_recipe(read_merged(recipe))


def split_recipe(trainer: str, name: str) -> tuple[str, str]:
    """Split a name into recipe and variant; the variant is empty where there is none, or the name is a file's."""
    recipe, variant = _split(recipe_path(trainer, name))
    return recipe.stem, variant


def variants_of(node: str, backbone: str = "") -> list[str]:
    """List the variants for a method, by its node in `TRAINER`; all backbones' where none is given.

    Raises:
        InputError: a variant's file cannot be read.
    """
    return [variant.name for variant in _variants() if variant.is_for({node}) and variant.suits(backbone)]


def variants_of_recipe(path: str | Path) -> list[str]:
    """List the variants for a recipe's file, by the nodes and the backbone that it sets.

    Raises:
        InputError: as `read_files`.
    """
    recipe = read_merged(path)
    return [variant.name for variant in _variants() if variant.is_for_recipe(recipe)]


def suffixes_of_recipe(path: str | Path) -> list[str]:
    """List what can follow a recipe's name after an underscore: its variants, and other files' names.

    Raises:
        InputError: as `read_files`.
    """
    path = Path(path)
    files = [
        file.stem[len(path.stem) + 1 :] for file in path.parent.glob("*.yaml") if file.stem.startswith(f"{path.stem}_")
    ]
    return sorted({*files, *variants_of_recipe(path)})


def merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Merge a nested mapping into another one, which it overrules, in place."""
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def value_at(mapping: Mapping[str, Any], key: str) -> Any:
    """Look up a dotted key in nested mappings; None where there is none."""
    value: Any = mapping
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


@dataclass(frozen=True)
class _Variant:
    """A variant's file: its keys, and those about it.

    Attributes:
        path: of the file.
        keys: for the configuration.
        nodes: of the methods that it is for; empty: all.
        backbones: that it is for; empty: all.
        shares: numbers in proportion to another, by dotted key: the default, the other number that it is for, and the
            dotted key of that.
    """

    path: Path
    keys: dict[str, Any]
    nodes: frozenset[str]
    backbones: tuple[str, ...]
    shares: dict[str, list[Any]]

    @property
    def name(self) -> str:
        return self.path.stem

    def is_for(self, nodes: set[str]) -> bool:
        """Tell whether it is for recipes that set these nodes."""
        return not self.nodes or bool(self.nodes & nodes)

    def suits(self, backbone: str) -> bool:
        return not backbone or not self.backbones or backbone in self.backbones

    def is_for_recipe(self, recipe: Mapping[str, Any]) -> bool:
        return self.is_for(_nodes(recipe)) and self.suits(_backbone(recipe))

    def for_recipe(self, path: Path, recipe: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
        """Give the keys that it sets in a recipe.

        Args:
            path: of the recipe, for messages.
            recipe: its keys, merged.

        Raises:
            InputError: it is not for the recipe, or the recipe lacks a number that it takes a share of.
        """
        nodes, backbone = _nodes(recipe), _backbone(recipe)
        reason = ""
        if not self.is_for(nodes):
            reason = f"is for {_keys_of(self.nodes)}, but {path} has {_keys_of(nodes) or 'no such keys'}"
        elif not self.suits(backbone):
            reason = f"is for the backbone {' or '.join(self.backbones)}, but {path} has {backbone}"
        if reason:
            others = variants_of_recipe(path)
            remedy = f"leave it, or choose one of {', '.join(others)}" if others else "leave it; there is no other"
            raise InputError(f"The variant {self.name!r} ({self.path}) {reason}; {remedy}.")
        keys = copy.deepcopy(self.keys)
        for key, (default, whole, other) in self.shares.items():
            number = value_at(recipe, other)
            if not isinstance(number, (int, float)):
                raise InputError(
                    f"{self.path} sets {key} to a share of {other}, which is {number!r} in {path}; set a number "
                    "there, or leave the variant."
                )
            # The default itself is not set: a code base may declare it as a whole number, and yacs would refuse 15.0.
            if number != whole:
                value: Any = default * number / whole
                for part in reversed(key.split(".")):
                    value = {part: value}
                merge(keys, value)
        return self.path, keys


def _variants() -> list[_Variant]:
    return [_read_variant(path.stem) for path in sorted((CONFIGS / "variants").glob("*.yaml"))]


def _read_variant(name: str) -> _Variant:
    path = CONFIGS / "variants" / f"{name}.yaml"
    keys = read_merged(path)
    nodes = keys.pop("_NODES_", sorted(_nodes(keys)))
    backbones, shares = keys.pop("_BACKBONES_", []), keys.pop("_SHARES_", {})
    for key, value in (("_NODES_", nodes), ("_BACKBONES_", backbones)):
        if not isinstance(value, list):
            raise InputError(f"{key} of {path} is {value!r}; set it to a list of names.")
    if not isinstance(shares, dict) or not all(_is_share(share) for share in shares.values()):
        raise InputError(
            f"_SHARES_ of {path} is {shares!r}; set it to KEY: [DEFAULT, NUMBER THAT IT IS FOR, KEY OF THAT NUMBER]."
        )
    return _Variant(path, keys, frozenset(nodes), tuple(backbones), shares)


def _is_share(share: Any) -> bool:
    kinds = ((int, float), (int, float), str)
    return (
        isinstance(share, list) and len(share) == len(kinds) and all(map(isinstance, share, kinds)) and bool(share[1])
    )


def _nodes(mapping: Mapping[str, Any]) -> set[str]:
    """The methods' nodes that a mapping sets keys of."""
    trainer = mapping.get("TRAINER")
    return {key for key, value in trainer.items() if isinstance(value, dict)} if isinstance(trainer, dict) else set()


def _backbone(recipe: Mapping[str, Any]) -> str:
    return value_at(recipe, "MODEL.BACKBONE.NAME") or ""


def _keys_of(nodes: set[str] | frozenset[str]) -> str:
    return ", ".join(f"TRAINER.{node}" for node in sorted(nodes))


def _split(path: Path) -> tuple[Path, str]:
    """The files of a recipe and the name of a variant that a path means; without a variant the path itself, and ""."""
    if not path.is_file():
        for recipe, rest in _prefixes(path):
            if (CONFIGS / "variants" / f"{rest}.yaml").is_file():
                return recipe, rest
    return path, ""


def _prefixes(path: Path) -> list[tuple[Path, str]]:
    """The recipes whose names a file's name continues after an underscore, and the rest; the longest comes first."""
    cuts = [place for place, letter in enumerate(path.stem) if letter == "_"]
    parts = [(path.with_name(path.stem[:cut] + path.suffix), path.stem[cut + 1 :]) for cut in reversed(cuts)]
    return [(recipe, rest) for recipe, rest in parts if recipe.is_file()]


def _neighbours(path: Path) -> str:
    """The end of a message: names that there are instead."""
    for recipe, rest in _prefixes(path)[:1]:
        known = suffixes_of_recipe(recipe)
        if known:
            return f"; {recipe.name} has the variants {', '.join(known)}.{suggestion(rest, known)}"
    there = sorted(file.stem for file in path.parent.glob("*.yaml"))
    names = ", ".join(f"{name}.yaml" for name in there)
    return f"; {path.parent} has {names}.{suggestion(path.stem, there)}" if there else "."


def _load(path: Path) -> dict[str, Any]:
    """The mapping that a file holds, by PyYAML's safe loader.

    Raises:
        InputError: it is no mapping, or holds what no configuration can.
    """
    try:
        state = path.stat()
        return copy.deepcopy(_parse(path.resolve(), state.st_mtime_ns, state.st_size))
    except Exception as error:  # PyYAML raises errors of many kinds, of dates for example
        raise InputError(f"{path} is not a YAML mapping of configuration keys: {error}") from error


@functools.cache
def _parse(path: Path, changed: int, size: int) -> dict[str, Any]:
    """Parse a file once for each change of it: a plan of thousands of runs reads few files."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content = {} if content is None else content
    _check_plain(content)
    return content


def _check_plain(mapping: Any, prefix: str = "") -> None:
    if not isinstance(mapping, dict):
        raise TypeError(f"it holds {mapping!r}")
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise TypeError(f"{prefix}{key!r} is no name of a key")
        if isinstance(value, dict):
            _check_plain(value, f"{prefix}{key}.")
        elif not isinstance(value, _PLAIN):
            raise TypeError(f"{prefix}{key} is a {type(value).__name__}, {value}; a configuration holds none")


def _merged(files: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for _, keys in files:
        merge(merged, keys)
    return merged


def _with_values(value: Any) -> Any:
    """Texts as the Python values that they write, as yacs reads them; others stay."""
    if isinstance(value, dict):
        return {key: _with_values(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
