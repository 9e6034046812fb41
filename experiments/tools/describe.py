"""The work of `scripts/tools/describe.py`: tables made of the declarations, and their places in documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from minidassl.own.files import write_whole

from tabulate import tabulate

from trainers.config import Common
from trainers.dassl_keys import DasslKeys
from trainers.prompting.core.clip_weights import PRECISIONS
from trainers.prompting.declaration import Method, Setting, Settings
from trainers.prompting.methods import METHODS, OBJECTIVES, in_order

from .. import ROOT
from .. import published as printed
from ..data import ELEVEN

PLACE = re.compile(r"(<!-- describe (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], **options: object) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, **options)


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
    return table(["method", "learns", "objective", "recipe", "published"], rows)


def overview() -> str:
    """All methods: recipe, folder of scripts, and the base, new and harmonic mean that were printed of them."""
    rows = []
    for method in in_order():
        row = printed.BASE2NEW.get(method.shown or method.name)
        marks = {column for place, column, *_ in row.marks() if place == printed.AVERAGE} if row else ()
        numbers = zip(("base", "new", "HM"), row.average if row else ())
        cells = [f"{number:.2f}{'!' * (column in marks)}" for column, number in numbers]
        folders = _script_folders().get(method.name, [])
        rows.append([method.name, method.recipes.default, ", ".join(folders), *(cells or [""] * 3)])
    return table(["method", "recipe", "scripts/", "paper: base", "new", "HM"], rows)


def _script_folders() -> dict[str, list[str]]:
    """By method, the folders in scripts/ of the field's wrappers around `launch.py PROTOCOL METHOD`."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "scripts").glob("*/*.sh")):
        for name in re.findall(r"launch\.py \w+ (\w+)", path.read_text()):
            folders = found.setdefault(name, [])
            folders += [path.parent.name] * (path.parent.name not in folders)
    return found


def objectives() -> str:
    """All objectives, with the methods that are named after them."""
    rows = []
    for name, objective in sorted(OBJECTIVES.items(), key=lambda item: item[1].venue[-4:]):
        named = ", ".join(f"`{method.name}`" for method in in_order() if method.objective == name)
        rows.append([f"`{name}`", objective.summary, named if objective.venue else "all others"])
    return table(["objective", "terms", "methods"], rows)


def folders() -> str:
    """The checkpoint folder of each trainer."""
    found: dict[str, list[str]] = {}
    for method in in_order():
        if method.learns and method.name == method.trainer:
            found.setdefault(method.folder, []).append(f"`{method.name}`")
    rows = [[", ".join(names), f"`{folder}/model.pth.tar-<epoch>`"] for folder, names in found.items()]
    return table(["trainer", "file below `--model-dir`"], rows)


def keys() -> str:
    """All configuration keys that are checked: those of all methods, Dassl's, and those of methods and objectives."""
    parts = ["### All methods", _keys(Common), "### Dassl's", _keys(DasslKeys)]
    for node in dict.fromkeys(method.node for method in in_order()):
        sharing = [method for method in in_order() if method.node == node]
        parts += [f"### {', '.join(method.name for method in sharing)}", _method_keys(*sharing)]
    for name, objective in sorted(OBJECTIVES.items()):
        if objective.Config.declared():
            parts += [f"### Objective {name}", _keys(objective.Config)]
    return "\n\n".join(parts)


def bmip() -> str:
    return _method_keys(METHODS["BMIP"])


def _method_keys(method: Method, *sharing: Method) -> str:
    """The keys of a method, and those that others have beside them in its node."""
    node, meaning = f"TRAINER.{method.node}", "type that the frozen towers compute in"
    rows = [[f"`{node}.{method.PRECISION_KEY}`", method.precision, ", ".join(PRECISIONS), meaning]]
    rows += [[f"`{node}.{k.key}`", str(k.default), ", ".join(k.meanings), k.help] for k in method.upstream_keys]
    if method.objective_config is not None:
        rows = [*_rows(method.objective_config.declared().values(), method.node), *rows]
    own = method.config.declared()
    further = [one for other in sharing for name, one in other.config.declared().items() if name not in own]
    return _keys(method.config, method.node, [*_rows(further, method.node), *rows])


def _keys(settings: type[Settings], node: str = "", more: Sequence[list[str]] = ()) -> str:
    return table(["key", "default", "values", "meaning"], [*_rows(settings.declared().values(), node), *more])


def _rows(declared: Iterable[Setting], node: str) -> list[list[str]]:
    return [
        [f"`{one.dotted(node)}`", "empty" if one.default == "" else str(one.default), _values(one), one.help]
        for one in declared
        if one.key
    ]


def _values(one: object) -> str:
    """Allowed values in words; empty where the type says all."""
    if one.choices is not None:
        return ", ".join(map(str, one.choices))
    if isinstance(one.default, bool):
        return "True, False"
    bounds = [f"{bound}" for bound in (one.least, one.most) if bound is not None]
    words = " ... ".join(bounds) if len(bounds) == 2 else f"{bounds[0]} or more" if bounds else ""
    return words if one.also is None else f"{words}, or {one.also}"


def published() -> str:
    """Base, new and harmonic mean of methods that learn from few images of the base classes, as they were printed."""
    return _base_to_new({name: row for name, row in printed.BASE2NEW.items() if not row.uses})


def published_beyond() -> str:
    """The same of methods that use more."""
    return _base_to_new({name: row for name, row in printed.BASE2NEW.items() if row.uses})


def _base_to_new(rows: Mapping[str, printed.BaseToNew]) -> str:
    """A mark follows each number that does not follow from others."""
    uses = any(row.uses for row in rows.values())
    cells = []
    for name, row in rows.items():
        marks = {(place, column) for place, column, _, _ in row.marks()}

        def text(place: str, numbers: Sequence[float | None], marks: set[tuple[str, str]] = marks) -> str:
            columns = zip(("base", "new", "HM"), numbers)
            shown = (f"{n:.2f}{'!' * ((place, column) in marks)}" for column, n in columns if n is not None)
            return " / ".join(shown)

        sets = [text(dataset, row.sets[dataset]) if row.sets else "" for dataset in ELEVEN]
        cells.append([name, *[row.uses] * uses, text("average", row.average), row.source, *sets, row.differs])
    return table(["method", *["also uses"] * uses, "average", "source", *ELEVEN, "other sources"], cells)


def published_marks() -> str:
    """The numbers that do not follow from others."""
    rows = [
        [name, place, column, f"{number:.2f}", f"{computed:.2f}"]
        for name, row in printed.BASE2NEW.items()
        for place, column, number, computed in row.marks()
    ]
    return table(["method", "of", "column", "printed", "computed"], rows)


def published_few_shot() -> str:
    """Accuracy of models of all classes, by data set and number of shots."""
    places = (printed.AVERAGE, *ELEVEN)
    rows = []
    for name, sets in printed.FEW_SHOT.items():
        about = printed.FEW_SHOT_ROWS[name]
        for shots in printed.SHOTS:
            cells = (f"{sets[place][shots]:.2f}" if place in sets else "" for place in places)
            rows.append([name, f"{shots}", *cells, about["source"], about.get("uses", "")])
    return table(["method", "shots", *places, "source", "also uses"], rows)


def published_calibration() -> str:
    """Averages of accuracies and expected calibration errors."""
    rows = [
        [name, *(f"{number:.2f}" for number in row["average"]), row["source"], row.get("differs", "")]
        for name, row in printed.CALIBRATION_ROWS.items()
    ]
    return table(["method", "base", "ECE base", "new", "ECE new", "source", "remark"], rows)


def sources() -> str:
    return table(["code", "repository and file"], [*printed.SOURCES.items()])


_PUBLISHED = (published, published_beyond, published_marks, published_few_shot, published_calibration, sources)
TABLES = {make.__name__: make for make in (overview, methods, objectives, folders, keys, bmip, *_PUBLISHED)}


def rewritten(text: str) -> str:
    """A document with its tables made anew."""
    return PLACE.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}", text)


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rewrite() -> None:
    """Rewrite the tables in README.md and docs/, and print the names of documents that changed."""
    for path in documents():
        text = path.read_text()
        if rewritten(text) != text:
            write_whole(path, rewritten(text))
            print(path.relative_to(ROOT))
