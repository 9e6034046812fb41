"""The protocols: one entry each, from which the commands, their help, the plans and the names of tables follow."""

from __future__ import annotations

import os
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from trainers.prompting.errors import InputError

from . import methods
from .data import BUILTIN, DOMAINS, SOURCE_OF, TARGETS
from .methods import BASELINE, METHODS, TINY
from .runs import Request, Run, class_options
from .tables import conclusions, results
from .tables.table import Results

# Per cent of base classes among those of a test.
RATIOS = (0, 20, 50, 80, 100)
SHOTS = (1, 2, 4, 8, 16)
# Beginnings of the names of recipes, which zero-shot CLIP has too.
BACKBONES = (TINY, "rn50", "rn101", "vit_b32", "vit_b16")
# Flags of some protocols of methods whose recipes choose the context: key, its word in the folder's name, and default.
COOPS_OWN = {
    "n_ctx": ("N_CTX", "nctx", 16),
    "csc": ("CSC", "csc", "False"),
    "position": ("CLASS_TOKEN_POSITION", "ctp", "end"),
}


def base_model(request: Request, classes: str, trains: bool = False, ratio: int | None = None) -> Run:
    """A run about the model of the base classes: `SUBSAMPLE_CLASSES` tells the runs apart."""
    learned_set = request.source or request.dataset
    recipe, seed = request.recipe_of("base2new", learned_set), 1 if request.seed is None else request.seed
    method, dataset = METHODS[request.method], learned_set if trains else request.dataset
    tail = f"shots_{request.shots}/{method.trainer}/{methods.folder_name(recipe, request.tag)}/seed{seed}"
    model_dir = None
    if method.learns and not trains:
        released = request.weights and os.path.join(os.path.abspath(request.weights), "base", f"seed{seed}")
        model_dir = released or f"output/base2new/train_base/{learned_set}/{tail}"
    output = f"output/base2new/{'train' if trains else 'test'}_{classes}/{dataset}/{tail}"
    if ratio is not None:
        output = f"output/class_ratio/{ratio}/{dataset}/{tail}"
    options = class_options(request.shots, classes, ratio)
    return Run(request.method, dataset, recipe, seed, output, options, classes, trains, model_dir, request.tag)


def learned_base(request: Request) -> Run:
    """Training on the base classes; the test on them, of a method without training."""
    return base_model(request, "base", trains=METHODS[request.method].learns)


def base2new(request: Request) -> list[Run]:
    runs = [learned_base(request), base_model(request, "new"), base_model(request, "all")]
    if request.method == BASELINE:
        return runs
    # On the same backbone.
    starts = (name for name in BACKBONES if methods.recipe_name(runs[0].recipe).startswith(name))
    recipe = next(starts, METHODS[BASELINE].recipes.default)
    plain = replace(request, method=BASELINE, recipe=recipe, variant="")
    return [*(base_model(plain, classes) for classes in ("base", "new", "all")), *runs]


def with_training(request: Request, tests: list[Run]) -> list[Run]:
    """Training on the base classes, where there is anything to train, and tests."""
    return [*([learned_base(request)] if METHODS[request.method].learns else ()), *tests]


def among_all(request: Request) -> list[Run]:
    request = replace(request, source=SOURCE_OF.get(request.dataset, request.dataset))
    return with_training(request, [base_model(request, "all")])


def all_classes(request: Request, family: str, trains: bool = False, learned: str | None = None) -> list[Run]:
    """Runs about a model of all classes of a data set, one for each seed."""
    built_in, is_other = request.dataset in BUILTIN, learned is None and not request.weights
    learned = learned or request.source or next(name for name in DOMAINS if (name in BUILTIN) == built_in)
    if is_other and learned == request.dataset:
        training = {"few_shot_test": "few_shot"}.get(request.protocol, "xd_train")
        raise InputError(
            f"{request.protocol} tests a model of {learned} on another data set, but DATASET is {learned}, too; "
            f"choose another, or give --source NAME for a model of another. {training} tests its models on their own."
        )
    method, recipe = METHODS[request.method], request.recipe_of(family, learned)
    folder, options = f"{method.trainer}/{methods.folder_name(recipe, request.tag)}_{request.shots}shots", ()
    if family == "few_shot" and method.recipes.chooses_context:
        # CoOp's few-shot scripts set keys that its configuration files leave out, with a folder for each choice.
        words = []
        for flag, (key, word, default) in COOPS_OWN.items():
            value = getattr(request, flag)
            value = str(default if value is None else value)
            words.append(word + value)
            options += (f"TRAINER.COOP.{key}", value)
        folder += f"/{'_'.join(words)}"
    if trains or request.weights:
        options += ("DATASET.NUM_SHOTS", str(request.shots))

    runs = []
    seeds = (1, 2, 3) if family == "few_shot" else (1,)
    for seed in seeds if request.seed is None else (request.seed,):
        output = model = f"output/{learned}/{folder}/seed{seed}"
        if not trains:
            output = f"output/evaluation/{folder}/{request.dataset}/seed{seed}"
        if request.weights:
            model = os.path.join(os.path.abspath(request.weights), f"seed{seed}")
        names = request.method, request.dataset, recipe
        model_dir = None if trains else model
        runs.append(Run(*names, seed, output, options, trains=trains, model_dir=model_dir, tag=request.tag))
    return runs


def domains(request: Request) -> list[Run]:
    learned = request.dataset
    if learned not in DOMAINS:
        raise InputError(f"dg_test is about models of {' or '.join(DOMAINS)}, not of {learned}; choose one of them.")
    tests = [replace(request, dataset=name, source=learned) for name in DOMAINS[learned]]
    return [run for test in tests for run in all_classes(test, "cross_dataset")]


def zeroshot(request: Request) -> list[Run]:
    """Like CoOp's script without a seed, since nothing is random."""
    recipe = request.recipe_of("zeroshot", request.dataset)
    folder = methods.folder_name(recipe, request.tag)
    output = f"output/{METHODS[request.method].trainer}/{folder}/{request.dataset}"
    return [Run(request.method, request.dataset, recipe, request.seed, output, tag=request.tag)]


def transfer(targets: Mapping[str, tuple[str, ...]]) -> Callable[[Request], list[Request]]:
    """Training on all classes of a source, and the test of that model on each target."""

    def requests(request: Request) -> list[Request]:
        source = request.dataset
        if source not in targets:
            raise InputError(
                f"--datasets is {source!r}, but here it names what models are trained on: {', '.join(targets)}."
            )
        tests = [replace(request, protocol="xd_test", dataset=target, source=source) for target in targets[source]]
        return [replace(request, protocol="xd_train"), *tests]

    return requests


@dataclass(frozen=True)
class Protocol:
    """One protocol, with a line of help for their list."""

    name: str
    help: str
    runs: Callable[[Request], list[Run]]  # in order
    learns: bool | None = True  # it is about methods that learn, about the others, or about all (None)
    flags: tuple[str, ...] = ()  # of the launcher, as attributes of `Request`, that only some protocols have
    dataset: str | None = None  # by default
    conclusion: Callable[[list[Run]], str] = conclusions.accuracies  # the table of the runs of a launch
    table: Results | None = None  # of the records
    requests: Callable[[Request], list[Request]] = lambda request: [request]  # whose runs make up the table


_ALL = (
    Protocol("base2new_train", "train on the base classes, and test them", lambda r: [learned_base(r)]),
    Protocol("base2new_test", "test that model on the new classes", lambda r: [base_model(r, "new")], learns=None),
    Protocol(
        "base2new",
        "both, all classes together, zero-shot CLIP, and a table",
        base2new,
        learns=None,
        table=results.BASE2NEW,
        requests=lambda request: [replace(request, protocol="open_world"), request],
    ),
    Protocol(
        "open_world",
        "train on the base classes, and test that model on all classes in one pass; with DATASET a variant of "
        "ImageNet, of Icons or of Symbols, on its images",
        among_all,
        learns=None,
        conclusion=conclusions.open_world,
        table=results.OPEN_WORLD,
    ),
    Protocol(
        "class_ratio",
        "train on the base classes, and test that model on as many classes, of which "
        f"{', '.join(map(str, RATIOS[:-1]))} and {RATIOS[-1]} per cent are base classes",
        lambda request: with_training(request, [base_model(request, "new", ratio=ratio) for ratio in RATIOS]),
        learns=None,
        conclusion=conclusions.ratios,
        table=results.CLASS_RATIO,
    ),
    Protocol(
        "xd_train",
        "train on all classes (of ImageNet, unless DATASET says otherwise)",
        lambda request: all_classes(request, "cross_dataset", trains=True, learned=request.dataset),
        dataset="imagenet",
    ),
    Protocol(
        "xd_test",
        "test that model on another data set, DATASET; --source names the one that it learned",
        lambda request: all_classes(request, "cross_dataset"),
        flags=("source",),
        table=results.CROSS_DATASET,
        requests=transfer({"imagenet": TARGETS, "symbols": ("digits",), "icons": ("digits", "symbols")}),
    ),
    Protocol(
        "dg_test",
        "test that model on the variants of ImageNet, or, with DATASET icons or symbols, on those of Icons or Symbols",
        domains,
        dataset="imagenet",
        conclusion=conclusions.data_sets,
        table=results.DOMAINS,
        requests=transfer(DOMAINS),
    ),
    Protocol(
        "few_shot",
        "train on all classes with --shots images each: seeds 1, 2, 3, unless SEED says otherwise",
        lambda request: all_classes(request, "few_shot", trains=True, learned=request.dataset),
        flags=(*COOPS_OWN,),
        table=results.FEW_SHOT,
        requests=lambda request: [replace(request, shots=shots) for shots in SHOTS],
    ),
    Protocol(
        "few_shot_test",
        "test the models of few_shot on another data set, DATASET; --source names the one that they learned",
        lambda request: all_classes(request, "few_shot"),
        flags=("source", *COOPS_OWN),
    ),
    Protocol("zeroshot", "test CLIP as it is on all classes", zeroshot, learns=False),
    Protocol(
        "reproduce",
        "test released weights, --weights FOLDER, on the base and on the new classes",
        lambda request: [base_model(request, "base"), base_model(request, "new")],
        flags=("weights",),
    ),
    Protocol(
        "reproduce_xd",
        "test released cross-dataset weights on all classes",
        lambda request: all_classes(request, "cross_dataset"),
        flags=("weights",),
    ),
    Protocol(
        "reproduce_few_shot",
        "test released few-shot weights of DATASET: seeds 1, 2, 3, unless SEED says otherwise",
        lambda request: all_classes(request, "few_shot", learned=request.dataset),
        flags=("weights",),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}
# The protocols whose runs make a table: those of the protocols, and of what is studied in the open world.
PROTOCOL_OF = {protocol.table.name: protocol.name for protocol in _ALL if protocol.table}
PROTOCOL_OF |= dict.fromkeys((study.name for study in results.STUDIES), "open_world")
TABLES = {table.name: table for table in (*(one.table for one in _ALL if one.table), *results.STUDIES)}
PLANS = {name: table.plan for name, table in TABLES.items() if table.plan}


def listed(entries: Mapping[str, Protocol | Results]) -> str:
    """Names and help lines of protocols or tables, for the description of a command."""
    width = max(map(len, entries)) + 2
    lines = []
    for name, entry in entries.items():
        start = f"    {name:<{width}}"
        lines += textwrap.wrap(entry.help, 80, initial_indent=start, subsequent_indent=" " * len(start))
    return "\n".join(lines)


def plan(request: Request) -> list[Run]:
    """The runs of a request, in order; raises InputError where something is too much or missing in it."""
    protocol, name = PROTOCOLS[request.protocol], request.method
    learns = METHODS[name].learns
    if protocol.learns not in (None, learns):
        others = ", ".join(other.name for other in _ALL if other.learns in (None, learns))
        fitting = ", ".join(one for one in methods.names() if METHODS[one].learns == protocol.learns)
        raise InputError(
            f"{protocol.name} is about {'trained' if protocol.learns else 'untrained'} models, but {name} "
            f"{'learns' if learns else 'has nothing to train'}; choose one of the methods {fitting}, or of the "
            f"protocols {others}."
        )
    for flag in ("source", *COOPS_OWN, "weights"):
        value, coops = getattr(request, flag), flag in COOPS_OWN
        if value is not None and (flag not in protocol.flags or (coops and not METHODS[name].recipes.chooses_context)):
            owners = " and ".join(other.name for other in _ALL if flag in other.flags)
            choosing = " and ".join(one for one in methods.names() if METHODS[one].recipes.chooses_context)
            raise InputError(
                f"--{flag.replace('_', '-')} is {value}, but only {owners}{f' of {choosing}' if coops else ''} can "
                f"use it; leave it out of {protocol.name} {name}."
            )
    if "weights" in protocol.flags and request.weights is None:
        raise InputError(f"{protocol.name} needs the folder of the released weights; give --weights FOLDER.")
    if request.dataset is None:
        raise InputError(
            f"{protocol.name} needs a data set; give the name of a file in configs/datasets, without .yaml."
        )
    return protocol.runs(request)


def chains(requests: Iterable[Request]) -> list[list[Run]]:
    """The runs of their methods for tables, one chain for each model, so that no two train the same one at once."""
    by_model: dict[str, dict[Run, None]] = defaultdict(dict)
    for request in requests:
        for part in PROTOCOLS[request.protocol].requests(request):
            for run in plan(part):
                if run.method == request.method:
                    by_model[run.model_dir or run.output][run] = None
    return [[*runs] for runs in by_model.values()]
