"""Tables of the documentation that are made of the declarations: methods, objectives, configuration keys.

    python scripts/tools/describe.py            # print all
    python scripts/tools/describe.py --write    # rewrite them in docs/

A document marks the place of a table by `<!-- describe NAME -->` and `<!-- end -->` on lines of their own.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from minidassl.own.files import write_whole

from tabulate import tabulate

from trainers.config import Common
from trainers.prompting.core.clip_weights import PRECISIONS
from trainers.prompting.declaration import Method, Settings
from trainers.prompting.methods import OBJECTIVES, in_order

ROOT = Path(__file__).resolve().parents[2]
PLACE = re.compile(r"(<!-- describe (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(headers: list[str], rows: Iterable[list[str]]) -> str:
    return tabulate(list(rows), headers, tablefmt="github", disable_numparse=True)


def methods() -> str:
    """All methods: what they learn, by which objective, with which recipe, and where they were published."""
    rows = [
        [
            f"`{method.name}`",
            method.summary,
            method.objective.replace("_", "-"),
            f"`{method.recipes.default}`",
            ", ".join(filter(None, [method.venue, method.arxiv and f"arXiv {method.arxiv}"])),
        ]
        for method in in_order()
    ]
    return _table(["method", "learns", "objective", "recipe", "published"], rows)


def objectives() -> str:
    """All objectives, with the methods that are named after them."""
    rows = []
    for name in sorted(OBJECTIVES, key=lambda name: OBJECTIVES[name].venue[-4:]):
        named = [f"`{method.name}`" for method in in_order() if method.objective == name]
        rows.append(
            [f"`{name}`", OBJECTIVES[name].summary, ", ".join(named) if OBJECTIVES[name].venue else "all others"]
        )
    return _table(["objective", "terms", "methods"], rows)


def folders() -> str:
    """The checkpoint folder of each trainer."""
    found: dict[str, list[str]] = {}
    for method in in_order():
        if method.learns and method.name == method.trainer:
            found.setdefault(method.folder, []).append(f"`{method.name}`")
    rows = [[", ".join(names), f"`{folder}/model.pth.tar-<epoch>`"] for folder, names in found.items()]
    return _table(["trainer", "file below `--model-dir`"], rows)


def keys() -> str:
    """All configuration keys that Dassl does not have, by method and objective."""
    parts = ["### All methods", _keys(Common, "")]
    for node in dict.fromkeys(method.node for method in in_order()):
        names = [method.name for method in in_order() if method.node == node]
        parts += [f"### {', '.join(names)}", _method_keys(next(one for one in in_order() if one.node == node))]
    for name, objective in sorted(OBJECTIVES.items()):
        if objective.Config.declared():
            parts += [f"### Objective {name}", _keys(objective.Config, "")]
    return "\n\n".join(parts)


def bmip() -> str:
    """BMIP's keys."""
    return _method_keys(next(method for method in in_order() if method.name == "BMIP"))


def _method_keys(method: Method) -> str:
    rows = _rows(method.config, method.node)
    node = f"TRAINER.{method.node}"
    precisions = ", ".join(PRECISIONS)
    rows.append(
        [f"`{node}.{method.PRECISION_KEY}`", method.precision, precisions, "type that the frozen towers compute in"]
    )
    for one in method.upstream_keys:
        rows.append([f"`{node}.{one.key}`", str(one.default), ", ".join(one.meanings), one.help])
    return _table(["key", "default", "values", "meaning"], rows)


def _keys(settings: type[Settings], node: str) -> str:
    return _table(["key", "default", "values", "meaning"], _rows(settings, node))


def _rows(settings: type[Settings], node: str) -> list[list[str]]:
    rows = []
    for one in settings.declared().values():
        if one.key:
            default = "empty" if one.default == "" else str(one.default)
            rows.append([f"`{one.dotted(node)}`", default, _values(one), one.help])
    return rows


def _values(one: object) -> str:
    """Allowed values in words; empty where the type says all."""
    if one.choices is not None:
        return ", ".join(map(str, one.choices))
    if isinstance(one.default, bool):
        return "True, False"
    bounds = [f"{bound}" for bound in (one.least, one.most) if bound is not None]
    return " ... ".join(bounds) if len(bounds) == 2 else f"{bounds[0]} or more" if bounds else ""


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods,
    "objectives": objectives,
    "folders": folders,
    "keys": keys,
    "bmip": bmip,
}


def rewritten(text: str) -> str:
    """A document with its tables made anew."""
    return PLACE.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite the tables in docs/")
    if parser.parse_args(argv).write:
        for path in sorted((ROOT / "docs").glob("*.md")):
            text = path.read_text()
            if rewritten(text) != text:
                write_whole(path, rewritten(text))
                print(path.relative_to(ROOT))
    else:
        print("\n\n".join(make() for make in TABLES.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
