"""Tables from the records of finished runs, and from nothing else.

    python scripts/tables.py [RESULTS] [--table NAME ...] [--format text|markdown|latex|csv]

    base2new        accuracy on base and on new classes, each told apart among its own; harmonic mean (HM)
    open-world      the same images told apart among all classes, and OpenworldAUC
    cross-dataset   models trained on one data set, tested on others
    few-shot        models trained on all classes, by number of shots
    class-ratio     models of base classes on as many classes, by the per cent of base classes among them
    combinations    prompts by objectives: open world, seconds of training, and memory
    paired          variants of a method against it with the same seeds, in the open world, with paired t-tests; also
                    the control of BMIP's size against BMIP, and stacks against what they stack on

Cells are means ± standard deviations (population) over seeds; the best mean of a column is marked with an asterisk or
set bold. The harmonic mean is that of the averages, as in the field's tables; "mean HM" is the average of the seeds'
own. What is missing, contradictory or of mixed origin is listed behind the tables, and never averaged in silence.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import yaml
from launch import METHODS, ROOT
from published import BASE2NEW, REMARKS
from scipy.stats import ttest_1samp
from tabulate import tabulate

from trainers.prompting.metrics import harmonic_mean
from trainers.records import RESULT

# What a record needs to be used.
NEEDED = (
    "trainer",
    "recipe",
    "dataset",
    "classes",
    "split",
    "seed",
    "shots",
    "accuracy",
    "configuration",
    "environment",
)
MISSING = "–"
PLANNED_SHOTS = "16 shots"  # of the tables of reproduce.py that have one number of them
# The learners of the table of combinations, what their configuration files add for an objective, and methods that are
# such a combination by name.
COMBINED = ("IVLP", "MaPLe", "BMIP")
OBJECTIVE_SUFFIXES = ("self regulation", "consistency")
STACKED = ("PromptSRC", "CoPrompt", "PromptSRC_BMIP", "CoPrompt_BMIP")
# What a method of another name is compared with, seed by seed.
REFERENCES = {
    "IVLP_BMIP_size": "BMIP",
    "PromptSRC_BMIP": "PromptSRC",
    "CoPrompt_BMIP": "CoPrompt",
}


@dataclass(frozen=True)
class Record:
    """One finished evaluation.

    Attributes:
        path: its file.
        data: what stands there.
    """

    path: Path
    data: dict[str, Any]

    @property
    def method(self) -> str:
        """The launcher's method of this configuration file; what a longer file name adds to it stands behind."""
        trainer, recipe = self.data["trainer"], self.data["recipe"]
        known = {
            known: name for name, method in METHODS.items() if method.trainer == trainer for known in method.recipes
        }
        start = max(
            (known for known in known if recipe == known or recipe.startswith(f"{known}_")), key=len, default=""
        )
        if not start:
            return f"{trainer} {recipe}".strip()
        addition = recipe[len(start) + 1 :].replace("_", " ")
        return known[start] + (f", {addition}" if addition else self._variation())

    def _variation(self) -> str:
        """What the command line changed of BMIP's method."""
        node = self.data["configuration"]["TRAINER"].get("BMIP", {})
        changed = [node.get("AGGREGATION", "bmip"), node.get("VARIANT", "paper")]
        return "".join(f", {value}" for value in changed if value not in ("bmip", "paper"))

    @property
    def seed(self) -> int:
        return self.data["seed"]

    @property
    def base_share(self) -> int | None:
        """Per cent of base classes among those of a test that mixes them with new ones; None for other tests."""
        chosen = self.data["configuration"].get("DATASET", {})
        mixes = chosen.get("USE_RATIO", False) and self.data["classes"] == "new"
        return chosen["SUBSAMPLE_RATIO"] if mixes else None


@dataclass
class Collection:
    """Records, and what is wrong with others: notes are printed behind the tables."""

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(folder: Path) -> Collection:
    """All records below a folder; what cannot be used is noted."""
    found = Collection()
    for path in sorted(folder.rglob(RESULT)):
        try:
            data = json.loads(path.read_text())
            lacking = [key for key in NEEDED if key not in data]
        except (ValueError, TypeError) as error:
            found.notes.append(f"{path} is no record ({error}); delete it and run again")
            continue
        if lacking:
            found.notes.append(f"{path} lacks {', '.join(lacking)}: it is of an older version; run again")
        elif data["accuracy"] is not None and data["split"] == "test":
            found.records.append(Record(path, data))
    for path in sorted(folder.rglob(f"{RESULT}.*.part")):
        found.notes.append(f"{path} is a record that was not written to its end; it is not used")
    return found


Key = tuple[str, str, str]  # row, group of columns, column


@dataclass(frozen=True)
class Cell:
    """The values of one row and column by seed."""

    by_seed: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def spread(self) -> float:
        return statistics.pstdev(self.by_seed.values())


def gather(values: Iterable[tuple[Key, Record, float]], notes: list[str]) -> dict[Key, Cell]:
    """Cells over seeds. Records of the same cell and seed must agree; if they do not, none of them is used."""
    found: dict[Key, dict[int, list[tuple[float, Record]]]] = defaultdict(lambda: defaultdict(list))
    for key, record, value in values:
        found[key][record.seed].append((value, record))
    cells = {}
    for key, by_seed in found.items():
        usable = {}
        for seed, versions in sorted(by_seed.items()):
            if max(value for value, _ in versions) - min(value for value, _ in versions) > 1e-6:
                paths = ", ".join(str(record.path) for _, record in versions)
                notes.append(f"{', '.join(key)}: records of seed {seed} disagree, and are not used: {paths}")
            else:
                usable[seed] = versions[0][0]
        if usable:
            cells[key] = Cell(usable)
        codes = {record.data["environment"]["code"] for versions in by_seed.values() for _, record in versions}
        if len(codes) > 1:
            notes.append(f"{', '.join(key)}: its records come from {len(codes)} versions of the code")
    return cells


@dataclass(frozen=True)
class Table:
    """Rows of methods, groups of columns; a last group of averages where there are several groups.

    Attributes:
        columns: of each group.
        harmonic: adds HM of the averaged base and new to each group.
        costs: columns of which less is better.
        plan: the table of `reproduce.py` that runs what is missing, if groups are its data sets.
    """

    title: str
    cells: dict[Key, Cell]
    columns: tuple[str, ...]
    harmonic: bool = False
    published: dict[str, tuple[float, ...]] = field(default_factory=dict)
    costs: tuple[str, ...] = ()
    plan: str = ""

    @property
    def rows(self) -> list[str]:
        present = {row for row, _, _ in self.cells}
        known = [name for name in METHODS if name in present]
        return known + sorted(present - set(known))

    @property
    def groups(self) -> list[str]:
        return sorted({group for _, group, _ in self.cells})

    def means(self, row: str, group: str) -> list[float | None]:
        """The group's columns, HM included; None where one is missing."""
        cells = [self.cells.get((row, group, column)) for column in self.columns]
        means = [cell and cell.mean for cell in cells]
        if self.harmonic:
            means.insert(2, None if None in means[:2] else harmonic_mean(*means[:2]))
        return means

    def averages(self, row: str) -> list[float | None]:
        """Over the groups, and the harmonic mean of these averages; None where any group is missing."""
        columns = zip(*(self.means(row, group) for group in self.groups))
        averages = [None if None in values else statistics.fmean(values) for values in columns]
        if self.harmonic and None not in averages[:2]:
            averages.insert(3, averages[2])
            averages[2] = harmonic_mean(*averages[:2])
        elif self.harmonic:
            averages.insert(3, None)
        return averages

    @property
    def group_columns(self) -> list[str]:
        names = list(self.columns)
        if self.harmonic:
            names.insert(2, "HM")
        return names

    @property
    def average_columns(self) -> list[str]:
        names = self.group_columns
        if self.harmonic:
            names.insert(3, "mean HM")
        return [f"average {name}" for name in names]

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        """Headers and rows of text; `bold` marks the best mean of a column."""
        several = len(self.groups) > 1
        headers = ["method", *(f"{group} {name}" for group in self.groups for name in self.group_columns)]
        headers += self.average_columns if several else []
        numbers = {
            row: [mean for group in self.groups for mean in self.means(row, group)]
            + (self.averages(row) if several else [])
            for row in self.rows
        }
        best = [
            (min if header.endswith(self.costs) else max)(
                (value for value in column if value is not None), default=None
            )
            for header, column in zip(headers[1:], zip(*numbers.values()))
        ]
        texts = []
        for row in self.rows:
            spreads = self._spreads(row) + [""] * (len(headers) - 1)
            line = [
                MISSING
                if mean is None
                else (bold(f"{mean:.2f}") if mean == top and len(numbers) > 1 else f"{mean:.2f}") + spread
                for mean, top, spread in zip(numbers[row], best, spreads)
            ]
            texts.append([row, *line])
        for width, name in enumerate(("base", "new", "HM") if self.published else ()):
            headers.append(f"published {name}")
            for line in texts:
                known = self.published.get(line[0])
                line.append(f"{known[width]:.2f}" if known else "")
        return headers, texts

    def _spreads(self, row: str) -> list[str]:
        spreads = []
        for group in self.groups:
            cells = [self.cells.get((row, group, column)) for column in self.columns]
            part = [f" ± {cell.spread:.2f}" if cell and len(cell.by_seed) > 1 else "" for cell in cells]
            if self.harmonic:
                part.insert(2, "")
            spreads += part
        return spreads

    def gaps(self) -> list[str]:
        """What each row lacks, with the command that fills it, and remarks on published numbers."""
        seeds = {seed for cell in self.cells.values() for seed in cell.by_seed}
        gaps = [f"{self.title}: {REMARKS[row]}" for row in self.rows if self.published and row in REMARKS]
        for row in self.rows:
            lacking = {}
            for group in self.groups:
                cells = [self.cells.get((row, group, column)) for column in self.columns]
                there = set.intersection(*(set(cell.by_seed) if cell else set() for cell in cells))
                lacking[group] = sorted(seeds - there)
            lacking = {group: some for group, some in lacking.items() if some}
            if lacking:
                parts = "; ".join(
                    f"{group} with the seeds {', '.join(map(str, some))}" for group, some in lacking.items()
                )
                gaps.append(f"{self.title}: {row} lacks {parts}{self._filling(row, lacking)}")
        return gaps

    def _filling(self, row: str, lacking: dict[str, list[int]]) -> str:
        """The command for what a row lacks, where `reproduce.py` has one; it leaves alone what is there."""
        method, _, addition = row.partition(", ")
        names = [config_name(group) for group in lacking]
        if not self.plan or method not in METHODS or None in names or not self.title.endswith(PLANNED_SHOTS):
            return ""
        method += f":{addition.replace(' ', '_')}" if addition else ""
        seeds = sorted({seed for some in lacking.values() for seed in some})
        return (
            f': python scripts/reproduce.py {self.plan} --methods {method} --datasets "{" ".join(names)}" '
            f'--seeds "{" ".join(map(str, seeds))}"'
        )


@functools.cache
def config_name(dataset: str) -> str | None:
    """The file in configs/datasets of a registered name, without its ending."""
    for path in sorted((ROOT / "configs" / "datasets").glob("*.yaml")):
        if (yaml.safe_load(path.read_text()).get("DATASET") or {}).get("NAME") == dataset:
            return path.stem
    return None


def base2new(found: Collection) -> list[Table]:
    values = []
    # Of variants that were tested on all classes alone there would be half a row.
    plain = [record for record in found.records if record.base_share is None]
    tested = {record.method for record in plain if record.data["classes"] == "new"}
    for record in plain:
        data, shots = record.data, f"{record.data['shots']} shots"
        learned_base = data["trained"] or (data.get("trained_on") or {"classes": "base"})["classes"] == "base"
        if (
            data["classes"] in ("base", "new")
            and learned_base
            and record.base_share is None
            and record.method in tested
        ):
            values.append((shots, ((record.method, data["dataset"], data["classes"]), record, data["accuracy"])))
    more = dict(harmonic=True, published=BASE2NEW, plan="base2new")
    return _by_shots(found, values, "Base to new", ("base", "new"), **more)


def open_world(found: Collection) -> list[Table]:
    names = {"base": "base", "new": "new", "accuracy": "accuracy", "openworld_auc": "OpenworldAUC"}
    values = [
        (f"{record.data['shots']} shots", ((record.method, record.data["dataset"], name), record, numbers[key]))
        for record in found.records
        if (numbers := record.data.get("open_world"))
        and (record.data.get("trained_on") or {"classes": "base"})["classes"] == "base"
        for key, name in names.items()
    ]
    return _by_shots(found, values, "Open world", tuple(names.values()), harmonic=True, plan="open-world")


def cross_dataset(found: Collection) -> list[Table]:
    values = []
    for record in found.records:
        data, source = record.data, record.data.get("trained_on")
        if source and source["classes"] == "all" and not data["trained"] and data["classes"] == "all":
            title = f"{source['dataset']}, {source['shots']} shots"
            values.append((title, ((record.method, data["dataset"], "accuracy"), record, data["accuracy"])))
    return _by_shots(found, values, "Trained on", ("accuracy",))


def few_shot(found: Collection) -> list[Table]:
    values = [
        (record.data["dataset"], ((record.method, f"{record.data['shots']:2} shots", "accuracy"), record, accuracy))
        for record in found.records
        if record.data["trained"]
        and record.data["classes"] == "all"
        and (accuracy := record.data["accuracy"]) is not None
    ]
    return _by_shots(found, values, "All classes of", ("accuracy",))


def class_ratio(found: Collection) -> list[Table]:
    values = []
    for record in found.records:
        data, source = record.data, record.data.get("trained_on") or {"classes": "base"}
        if record.base_share is not None and source["classes"] == "base":
            column = f"{record.base_share:3} % base"
            values.append((data["dataset"], ((record.method, column, "accuracy"), record, data["accuracy"])))
    return _by_shots(found, values, "Among as many classes of", ("accuracy",))


def combinations(found: Collection) -> list[Table]:
    """Methods that prompt both towers by each objective, and what their training took."""
    names = {"base": "base", "new": "new", "accuracy": "accuracy"}
    training = {
        (record.method, record.data["dataset"], record.data["shots"], record.seed): record.data
        for record in found.records
        if record.data["trained"] and record.data["classes"] == "base"
    }
    values = []
    for record in found.records:
        data = record.data
        trained = training.get((record.method, data["dataset"], data["shots"], record.seed))
        plain, _, addition = record.method.partition(", ")
        shown = plain in COMBINED and addition in ("", *OBJECTIVE_SUFFIXES) or plain in STACKED and not addition
        if not data.get("open_world") or trained is None or not shown:
            continue
        numbers = {name: data["open_world"][key] for key, name in names.items()}
        numbers |= {"train s": trained["train_seconds"], "peak GiB": trained["peak_memory_bytes"] / 2**30}
        for name, number in numbers.items():
            values.append((f"{data['shots']} shots", ((record.method, data["dataset"], name), record, number)))
    costs = ("train s", "peak GiB")
    return _by_shots(
        found,
        values,
        "Prompts by objectives",
        (*names.values(), *costs),
        harmonic=True,
        costs=costs,
        plan="combinations",
    )


@dataclass(frozen=True)
class PairedTable:
    """Differences to a method over the seeds that both have, and the probability of a paired t-test (two-sided)."""

    title: str
    rows: list[list[str]]
    headers: tuple[str, ...] = (
        "variant",
        "against",
        "seeds",
        "base",
        "new",
        "HM",
        "p (HM)",
        "accuracy",
        "p (accuracy)",
    )

    def grid(self, bold: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
        return list(self.headers), self.rows

    def gaps(self) -> list[str]:
        return []


def reference(method: str) -> str | None:
    """What a variant is compared with: the method of its name's first part, or that of `REFERENCES`."""
    plain, _, addition = method.partition(", ")
    return plain if addition else REFERENCES.get(method)


def paired(found: Collection) -> list[PairedTable]:
    """HM here is each seed's own, because it is compared seed by seed."""
    values: dict[tuple[str, str], dict[str, dict[int, dict[str, float]]]] = defaultdict(lambda: defaultdict(dict))
    for record in found.records:
        numbers, source = record.data.get("open_world"), record.data.get("trained_on")
        if numbers and source and source["classes"] == "base":
            group = record.data["dataset"], f"{record.data['shots']} shots"
            values[group][record.method][record.seed] = numbers
    made = []
    for group, methods in sorted(values.items()):
        rows = []
        for name in sorted(methods):
            against = reference(name)
            if against in methods and len(methods[name].keys() & methods[against].keys()) > 1:
                rows.append(_paired_row(name, against, methods[name], methods[against]))
        if rows:
            made.append(PairedTable(f"Paired differences in the open world, {', '.join(group)}", rows))
    return made


def _paired_row(
    name: str, against: str, ours: dict[int, dict[str, float]], theirs: dict[int, dict[str, float]]
) -> list[str]:
    seeds = sorted(ours.keys() & theirs.keys())
    row = [name, against, str(len(seeds))]
    for column in ("base", "new", "HM", "accuracy"):
        differences = [ours[seed][column] - theirs[seed][column] for seed in seeds]
        row.append(f"{statistics.fmean(differences):+.2f} ± {statistics.stdev(differences):.2f}")
        if column in ("HM", "accuracy"):
            # Of equal differences there is no spread to compare with.
            p = ttest_1samp(differences, 0).pvalue if statistics.stdev(differences) else math.nan
            row.append(MISSING if math.isnan(p) else f"{p:.3f}")
    return row


TABLES = {
    "base2new": base2new,
    "open-world": open_world,
    "cross-dataset": cross_dataset,
    "few-shot": few_shot,
    "class-ratio": class_ratio,
    "combinations": combinations,
    "paired": paired,
}


def _by_shots(
    found: Collection,
    values: list[tuple[str, tuple[Key, Record, float]]],
    title: str,
    columns: tuple[str, ...],
    **more: Any,
) -> list[Table]:
    """One table for each part of the title."""
    parts: dict[str, list[tuple[Key, Record, float]]] = defaultdict(list)
    for part, value in values:
        parts[part].append(value)
    return [
        Table(
            f"{title} {part}" if title.endswith(("on", "of")) else f"{title}, {part}",
            gather(part_values, found.notes),
            columns,
            **more,
        )
        for part, part_values in sorted(parts.items())
    ]


def render(table: Table | PairedTable, style: str) -> str:
    """A table as text, Markdown, LaTeX (booktabs) or CSV."""
    bolds = {"markdown": "**{}**", "latex": r"\textbf{{{}}}", "csv": "{}", "text": "{}*"}
    headers, rows = table.grid(bolds[style].format)
    if style == "csv":
        text = io.StringIO()
        csv.writer(text).writerows([[table.title], headers, *rows])
        return text.getvalue()
    if style == "latex":
        rows = [[cell.replace("±", r"$\pm$").replace("_", r"\_") for cell in row] for row in rows]
    kinds = {"text": "simple", "markdown": "github", "latex": "latex_raw"}
    if style == "latex":
        body = tabulate(rows, headers=headers, tablefmt="latex_raw", disable_numparse=True)
        for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
            body = body.replace(r"\hline", rule, 1)
        return f"% {table.title}\n{body}\n"
    body = tabulate(rows, headers=headers, tablefmt=kinds[style], disable_numparse=True)
    heading = f"### {table.title}" if style == "markdown" else table.title
    return f"{heading}\n\n{body}\n"


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, or 1 where there is no record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "output")
    parser.add_argument("--table", nargs="+", choices=[*TABLES], default=[*TABLES])
    parser.add_argument("--format", choices=["text", "markdown", "latex", "csv"], default="text")
    args = parser.parse_args(argv)
    found = collect(args.results)
    if not found.records:
        print(f"There is no record of a test below {args.results}.", file=sys.stderr)
    tables = [table for name in args.table for table in TABLES[name](found)]
    for table in tables:
        print(render(table, args.format))
    notes = list(dict.fromkeys(found.notes))
    for table in tables:
        notes += table.gaps()
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0 if found.records else 1


if __name__ == "__main__":
    sys.exit(main())
