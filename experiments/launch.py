"""Run a protocol: build the train.py commands of a method on a data set, run them, and print their table.

    python scripts/launch.py PROTOCOL METHOD DATASET [SEED] [CFG]

    base2new_train   train on the base classes, and test them
    base2new_test    test that model on the new classes
    base2new         both, all classes together, zero-shot CLIP, and a table
    open_world       train on the base classes, and test that model on all classes in one pass; with DATASET a variant
                     of ImageNet or of Symbols, on its images
    class_ratio      train on the base classes, and test that model on as many classes, of which 0, 20, 50, 80 and 100
                     per cent are base classes
    xd_train         train on all classes (of ImageNet, unless DATASET says otherwise)
    xd_test          test that model on another data set, DATASET; --source names the one that it learned
    dg_test          test that model on the variants of ImageNet, or, with DATASET symbols, on those of Symbols
    few_shot         train on all classes with --shots images each: seeds 1, 2, 3, unless SEED says otherwise
    few_shot_test    test the models of few_shot on another data set
    zeroshot         test CLIP as it is on all classes
    reproduce        test released weights, --weights FOLDER, on the base and on the new classes
    reproduce_xd     test released cross-dataset weights on all classes
    reproduce_few_shot  test released few-shot weights of DATASET: seeds 1, 2, 3, unless SEED says otherwise

The data folder is --data or $DATA; the built-in data sets need none. Output goes to CoOp's and MaPLe's folders below
output/. Where no CFG is named it is the published one of the method and protocol, and the small CLIP's for built-in
data. Flags and KEY VALUE pairs that the launcher does not know go to train.py.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from trainers.prompting.core.metrics import harmonic_mean
from trainers.prompting.errors import InputError
from trainers.records import read_result

ROOT = Path(__file__).resolve().parents[1]

BUILTIN_DATASETS = ("digits", "symbols", "symbols_inverse", "symbols_noise", "symbols_sketch", "symbols_tilt")
# Configurations of the small CLIP, which go with the built-in data, begin with this.
TINY = "tiny"
IMAGENET = "imagenet"
# What a model of a data set is tested on for domain generalization.
DOMAINS = {
    IMAGENET: ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
    "symbols": ("symbols_sketch", "symbols_inverse", "symbols_noise", "symbols_tilt"),
}
SOURCE_OF = {domain: source for source, domains in DOMAINS.items() for domain in domains}
# The data sets of the published tables: what models of ImageNet are transferred to, base-to-new, and open world.
TARGETS = (
    *("caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)
ELEVEN = (IMAGENET, *TARGETS)
FIFTEEN = (*ELEVEN, *DOMAINS[IMAGENET])
# Per cent of base classes among those of a test.
RATIOS = (0, 20, 50, 80, 100)
BASELINE = "ZeroshotCLIP"
# Lines of a run that a table's reader wants to see passing by; everything is in the run's log.txt.
SHOWN = ("epoch [", "* accuracy", "Already trained", "Found checkpoint")


def coop_few_shot(dataset: str, shots: int) -> str:
    """CoOp's schedule for a number of shots, on the ResNet-50 of its main experiments."""
    if dataset == IMAGENET or shots == 1:
        return "rn50_ep50"
    return "rn50_ep100" if shots <= 4 else "rn50"


def promptsrc_few_shot(dataset: str, shots: int) -> str:
    """PromptSRC's two averages over the epochs: most data sets have a broad one, the others one of the last epochs."""
    late = ("stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat")
    return "vit_b16_c2_ep50_batch4_4+4ctx_few_shot" + ("_late" if dataset in late else "")


@dataclass(frozen=True)
class Method:
    """A trainer and its published configurations, by protocol.

    Attributes:
        trainer: its registered name, which is also the folder of its configurations and in its outputs' paths.
        cfg: base-to-new, and whatever has none of its own below. A file of this name with _DATASET behind it holds
            the settings for one data set, and replaces it there.
        base2new_imagenet: base-to-new on ImageNet.
        cross_dataset: for transfer from ImageNet.
        few_shot: from data set and shots.
        tiny: for the small CLIP.
        learns: it has something to train.
    """

    trainer: str
    cfg: str
    base2new_imagenet: str = ""
    cross_dataset: str = ""
    few_shot: Callable[[str, int], str] | None = None
    tiny: str = TINY
    learns: bool = True

    @property
    def recipes(self) -> set[str]:
        """The names of all its configurations."""
        cases = (("", 1), ("", 2), ("", 16), ("dtd", 1))
        few_shot = {self.few_shot(*case) for case in cases} if self.few_shot else set()
        return {self.cfg, self.base2new_imagenet, self.cross_dataset, self.tiny, *few_shot} - {""}


METHODS = {
    "ZeroshotCLIP": Method("ZeroshotCLIP", "vit_b16", learns=False),
    "ZeroshotCLIP2": Method("ZeroshotCLIP2", "vit_b16", learns=False),
    "CoOp": Method(
        "CoOp",
        "vit_b16_ctxv1",
        base2new_imagenet="vit_b16_ep50_ctxv1",
        cross_dataset="vit_b16_ep50_ctxv1",
        few_shot=coop_few_shot,
    ),
    "CoCoOp": Method("CoCoOp", "vit_b16_c4_ep10_batch1_ctxv1"),
    "VPT": Method("VPT", "vit_b16_c2_ep5_batch4_4"),
    "LanguagePrompting": Method("IVLP", "vit_b16_c2_ep5_batch4_4ctx_language_only", tiny="tiny_language_only"),
    "IVLP": Method("IVLP", "vit_b16_c2_ep5_batch4_2+2ctx"),
    # The control: no interaction, with the recipe and the number of parameters of BMIP.
    "IVLP_BMIP_size": Method("IVLP", "vit_b16_ep10_2+2ctx_bmip_size", tiny="tiny_bmip_size"),
    "MaPLe": Method("MaPLe", "vit_b16_c2_ep5_batch4_2ctx", cross_dataset="vit_b16_c2_ep5_batch4_2ctx_cross_datasets"),
    "BMIP": Method("BMIP", "vit_b16_c2_ep10_batch4_2ctx"),
    "PromptSRC": Method(
        "PromptSRC",
        "vit_b16_c2_ep20_batch4_4+4ctx",
        cross_dataset="vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets",
        few_shot=promptsrc_few_shot,
    ),
    "CoPrompt": Method("CoPrompt", "coprompt"),
    "PromptSRC_BMIP": Method(
        "PromptSRC_BMIP",
        "vit_b16_c2_ep20_batch4_2ctx",
        cross_dataset="vit_b16_c2_ep20_batch4_2ctx_cross_datasets",
    ),
    "CoPrompt_BMIP": Method("CoPrompt_BMIP", "vit_b16_ep8_batch4_2ctx"),
}
BACKBONES = ("rn50", "rn101", "vit_b32", "vit_b16")


@dataclass(frozen=True)
class Run:
    """One train.py command.

    Attributes:
        method: a key of `METHODS`.
        dataset, cfg: names of YAML files.
        seed: None leaves the run unseeded.
        output: its folder.
        options: KEY VALUE pairs.
        classes: "base", "new" or "all", for the table; what train.py is told stands in `options`.
        trains: train, and test on the same classes, rather than test only.
        model_dir: the folder of the model to test; None for one without training.
    """

    method: str
    dataset: str
    cfg: str
    seed: int | None
    output: str
    options: tuple[str, ...] = ()
    classes: str = "all"
    trains: bool = False
    model_dir: str | None = None

    @property
    def trainer(self) -> str:
        return METHODS[self.method].trainer

    def command(self, data: str | None, extra: list[str], force: bool = False) -> list[str]:
        """The command line, from the repository's root."""
        return [
            *(sys.executable, "train.py"),
            *(("--root", data) if data else ()),
            *(("--seed", str(self.seed)) if self.seed is not None else ()),
            *("--trainer", self.trainer),
            *("--dataset-config-file", f"configs/datasets/{self.dataset}.yaml"),
            *("--config-file", f"configs/trainers/{self.trainer}/{self.cfg}.yaml"),
            *("--output-dir", self.output),
            *(() if self.trains else ("--eval-only",)),
            *(("--model-dir", self.model_dir) if self.model_dir else ()),
            *(["--force"] if force and self.trains else []),
            *extra,
            *self.options,
        ]


def default_cfg(method: Method, family: str, dataset: str, shots: int) -> str:
    """The published configuration of a method; `dataset` is the one that it learns.

    Args:
        family: "base2new", "cross_dataset", "few_shot" or "zeroshot".
    """
    if dataset in BUILTIN_DATASETS:
        return method.tiny
    if family == "base2new" and dataset == IMAGENET and method.base2new_imagenet:
        return method.base2new_imagenet
    if family == "few_shot" and method.few_shot:
        return method.few_shot(dataset, shots)
    if family == "cross_dataset" and method.cross_dataset:
        return method.cross_dataset
    own = f"{method.cfg}_{dataset}"
    return own if (ROOT / f"configs/trainers/{method.trainer}/{own}.yaml").is_file() else method.cfg


def base2new(args: argparse.Namespace) -> list[Run]:
    """All protocols about models of the base classes: `SUBSAMPLE_CLASSES` tells the runs apart."""
    seed = 1 if args.seed is None else args.seed
    learned_set = SOURCE_OF.get(args.dataset, args.dataset) if args.protocol == "open_world" else args.dataset
    cfg = args.cfg or default_cfg(METHODS[args.method], "base2new", learned_set, args.shots)

    def run(method: str, cfg: str, classes: str, trains: bool = False, ratio: int | None = None) -> Run:
        dataset = learned_set if trains else args.dataset
        tail = f"shots_{args.shots}/{METHODS[method].trainer}/{cfg}/seed{seed}"
        model_dir = None
        if METHODS[method].learns and not trains:
            released = args.weights and os.path.join(os.path.abspath(args.weights), "base", f"seed{seed}")
            model_dir = released or f"output/base2new/train_base/{learned_set}/{tail}"
        output = f"output/base2new/{'train' if trains else 'test'}_{classes}/{dataset}/{tail}"
        options = ("DATASET.NUM_SHOTS", str(args.shots), "DATASET.SUBSAMPLE_CLASSES", classes)
        if ratio is not None:
            output = f"output/class_ratio/{ratio}/{dataset}/{tail}"
            options += ("DATASET.USE_RATIO", "True", "DATASET.SUBSAMPLE_RATIO", str(ratio))
        return Run(method, dataset, cfg, seed, output, options, classes, trains, model_dir)

    # On the same backbone as the method.
    backbone = next((name for name in (TINY, *BACKBONES) if cfg.startswith(name)), METHODS[BASELINE].cfg)
    baseline = [run(BASELINE, backbone, classes) for classes in ("base", "new", "all")]
    learned = run(args.method, cfg, "base", trains=METHODS[args.method].learns)
    new, every = run(args.method, cfg, "new"), run(args.method, cfg, "all")
    return {
        "base2new_train": [learned],
        "base2new_test": [new],
        "base2new": [*(baseline if args.method != BASELINE else ()), learned, new, every],
        "open_world": [*([learned] if learned.trains else ()), every],
        "class_ratio": [
            *([learned] if learned.trains else ()),
            *(run(args.method, cfg, "new", ratio=ratio) for ratio in RATIOS),
        ],
        "reproduce": [run(args.method, cfg, "base"), new],
    }[args.protocol]


def transfer(args: argparse.Namespace) -> list[Run]:
    """All protocols about models of all classes of a data set."""
    few_shot, trains = "few_shot" in args.protocol, args.protocol in ("xd_train", "few_shot")
    same = trains or args.protocol == "reproduce_few_shot"
    method, learned = METHODS[args.method], args.dataset if same else source(args)
    cfg = args.cfg or default_cfg(method, "few_shot" if few_shot else "cross_dataset", learned, args.shots)
    folder, options = f"{method.trainer}/{cfg}_{args.shots}shots", ()
    if few_shot and method.trainer == "CoOp":
        # CoOp's few-shot scripts say what its configuration files do not, and have a folder for each choice.
        length, shared, position = coop_context(args)
        folder += f"/nctx{length}_csc{shared}_ctp{position}"
        options += ("TRAINER.COOP.N_CTX", length, "TRAINER.COOP.CSC", shared)
        options += ("TRAINER.COOP.CLASS_TOKEN_POSITION", position)
    if trains or args.weights:
        options += ("DATASET.NUM_SHOTS", str(args.shots))

    def run(seed: int) -> Run:
        trained = f"output/{learned}/{folder}/seed{seed}"
        if trains:
            return Run(args.method, args.dataset, cfg, seed, trained, options, trains=True)
        if args.weights:
            trained = os.path.join(os.path.abspath(args.weights), f"seed{seed}")
        output = f"output/evaluation/{folder}/{args.dataset}/seed{seed}"
        return Run(args.method, args.dataset, cfg, seed, output, options, model_dir=trained)

    seeds = (1, 2, 3) if few_shot else (1,)
    return [run(seed) for seed in (seeds if args.seed is None else (args.seed,))]


def domains(args: argparse.Namespace) -> list[Run]:
    """dg_test: the source's model on all of its domains."""
    learned = args.dataset
    if learned not in DOMAINS:
        raise InputError(f"dg_test is about models of {' or '.join(DOMAINS)}, not of {learned}; choose one of them.")
    one = argparse.Namespace(**{**vars(args), "protocol": "xd_test", "source": learned})
    return [run for name in DOMAINS[learned] for run in transfer(argparse.Namespace(**{**vars(one), "dataset": name}))]


def source(args: argparse.Namespace) -> str:
    """The data set that the model learned which is tested on `args.dataset`."""
    return args.source or ("symbols" if args.dataset in BUILTIN_DATASETS else IMAGENET)


def coop_context(args: argparse.Namespace) -> tuple[str, str, str]:
    """Context tokens, whether each class has its own, and the class name's place among them."""
    chosen = ((args.n_ctx, 16), (args.csc, "False"), (args.position, "end"))
    return tuple(str(default if value is None else value) for value, default in chosen)


def zeroshot(args: argparse.Namespace) -> list[Run]:
    """CLIP as it is on all classes; like CoOp's script, without a seed, since nothing is random."""
    method = METHODS[args.method]
    cfg = args.cfg or default_cfg(method, "zeroshot", args.dataset, args.shots)
    return [Run(args.method, args.dataset, cfg, args.seed, f"output/{method.trainer}/{cfg}/{args.dataset}")]


PROTOCOLS = {
    **dict.fromkeys(
        ("base2new_train", "base2new_test", "base2new", "open_world", "class_ratio", "reproduce"), base2new
    ),
    **dict.fromkeys(
        ("xd_train", "xd_test", "few_shot", "few_shot_test", "reproduce_xd", "reproduce_few_shot"), transfer
    ),
    "dg_test": domains,
    "zeroshot": zeroshot,
}
# For methods with nothing to train.
WITHOUT_TRAINING = ("base2new", "base2new_test", "open_world", "class_ratio", "zeroshot")
# Flags that belong to some protocols: these, and of these methods where not all.
COOPS_OWN = (("few_shot", "few_shot_test"), ("CoOp",))
LIMITED_FLAGS = {
    "weights": (("reproduce", "reproduce_xd", "reproduce_few_shot"), None),
    "source": (("xd_test", "few_shot_test"), None),
    "n_ctx": COOPS_OWN,
    "csc": COOPS_OWN,
    "position": COOPS_OWN,
}


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what a protocol or a method does not have, and the lack of what it needs."""
    protocol, learns = args.protocol, METHODS[args.method].learns
    if not learns and protocol not in WITHOUT_TRAINING:
        raise InputError(
            f"{protocol} is about trained models, but {args.method} has nothing to train; choose one of the protocols "
            f"{', '.join(WITHOUT_TRAINING)}, or another method."
        )
    if learns and protocol == "zeroshot":
        untrained = ", ".join(name for name, method in METHODS.items() if not method.learns)
        raise InputError(f"zeroshot trains nothing, but {args.method} learns; choose one of {untrained}.")
    for name, (protocols, methods) in LIMITED_FLAGS.items():
        value = getattr(args, name)
        if value is not None and (protocol not in protocols or args.method not in (methods or METHODS)):
            owners = f"{' and '.join(protocols)}{' of ' + ', '.join(methods) if methods else ''}"
            raise InputError(
                f"--{name.replace('_', '-')} is {value}, but only {owners} can use it; leave it out of {protocol} "
                f"{args.method}."
            )
    if args.weights is None and protocol in LIMITED_FLAGS["weights"][0]:
        raise InputError(f"{protocol} needs the folder of the released weights; give --weights FOLDER.")
    if args.dataset is None:
        raise InputError(f"{protocol} needs a data set; give the name of a file in configs/datasets, without .yaml.")


def plan(args: argparse.Namespace) -> list[Run]:
    """The runs of a protocol, in order."""
    check_arguments(args)
    return PROTOCOLS[args.protocol](args)


def check_files(args: argparse.Namespace, runs: list[Run]) -> None:
    """Refuse data sets, configurations and released weights that do not exist, before anything starts."""
    wanted = [("configs/datasets", args.source)] if args.source else []
    for run in runs:
        wanted += [("configs/datasets", run.dataset), (f"configs/trainers/{run.trainer}", run.cfg)]
    for folder, name in wanted:
        if not (ROOT / folder / f"{name}.yaml").is_file():
            there = sorted(path.stem for path in (ROOT / folder).glob("*.yaml"))
            raise InputError(f"There is no {folder}/{name}.yaml; choose one of {', '.join(there)}.")
    for run in runs if args.weights else ():
        if not os.path.isdir(run.model_dir):
            below = os.path.relpath(run.model_dir, args.weights)
            raise InputError(f"There is no folder {run.model_dir}; give --weights the folder that has {below}.")


def execute(command: list[str], quiet: bool, small: bool = False) -> int:
    """Run a command from the repository's root; `quiet` shows the lines of `SHOWN`, and the last ones on failure.

    `small` is the small CLIP, whose matrix products gain nothing from several threads, and lose much where another
    process wants the cores.
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ} if small else None
    if not quiet:
        return subprocess.call(command, cwd=ROOT, env=environment)
    last = deque(maxlen=20)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
    for line in process.stdout:
        last.append(line)
        if line.startswith(SHOWN):
            print("  " + line, end="", flush=True)
    if process.wait():
        sys.stderr.writelines(last)
    return process.returncode


def accuracy(run: Run) -> float:
    """In per cent, from the run's record."""
    result = read_result(ROOT / run.output)
    if result is None or result["accuracy"] is None:
        raise InputError(f"{run.output} has no tested result; was it run with TEST.NO_TEST or --no-train?")
    return result["accuracy"]


def table(runs: list[Run]) -> str:
    """Accuracies in per cent; open-world: base and new images told apart among all classes, where that was tested."""
    accuracies: dict[str, dict[str, float]] = {}
    for run in runs:
        accuracies.setdefault(run.method, {})[run.classes] = accuracy(run)
    headers = ["method", "base", "new", "HM", *(["open-world"] if runs[-1].classes == "all" else [])]
    rows = []
    for method, found in accuracies.items():
        numbers = [found["base"], found["new"], harmonic_mean(found["base"], found["new"])]
        numbers += [found["all"]] if "all" in found else []
        rows.append([method, *(f"{number:.2f}" for number in numbers)])
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=["left", *["right"] * (len(headers) - 1)])


def open_world_table(run: Run) -> str:
    """The metrics of a test on all classes, in per cent."""
    accuracy(run)
    result = read_result(ROOT / run.output)["open_world"]
    return tabulate(
        [(name, f"{value:.2f}") for name, value in result.items()], headers=["", run.method], disable_numparse=True
    )


def seeds_table(runs: list[Run]) -> str:
    """Accuracies in per cent of runs that differ in their seed, their mean, and, as in the field, their deviation.

    The deviation is that of a population, as in CoOp's parse_test_res.py.
    """
    found = {run.seed: accuracy(run) for run in runs}
    mean, deviation = statistics.fmean(found.values()), statistics.pstdev(found.values())
    rows = [*((seed, f"{number:.2f}") for seed, number in found.items()), ("mean", f"{mean:.2f} +- {deviation:.2f}")]
    return tabulate(rows, headers=["seed", runs[0].method], disable_numparse=True)


def ratios_table(runs: list[Run]) -> str:
    """Accuracies in per cent, by the share of base classes among those of a test."""
    rows = [(f"{run.options[-1]} %", f"{accuracy(run):.2f}") for run in runs if not run.trains]
    return tabulate(rows, headers=["base classes", runs[0].method], disable_numparse=True)


def data_sets_table(runs: list[Run]) -> str:
    """Accuracies in per cent of runs on several data sets, and their mean."""
    found = {run.dataset: accuracy(run) for run in runs}
    rows = [*((name, f"{number:.2f}") for name, number in found.items())]
    rows.append(("mean", f"{statistics.fmean(found.values()):.2f}"))
    return tabulate(rows, headers=["data set", runs[0].method], disable_numparse=True)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of the launcher, and the words in front; what it does not know goes to train.py.

    Raises:
        InputError: an unknown protocol or method, or a seed that is no number.
    """
    usage = "launch.py PROTOCOL METHOD DATASET [SEED] [CFG] [flags] [flags of train.py] [KEY VALUE ...]"
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(usage=usage, description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--cfg", help="the same as CFG, for protocols that are rarely given a seed")
    add("--data", default=os.environ.get("DATA"), help="folder of the data sets ($DATA)")
    add("--shots", type=int, default=16)
    add("--weights", help="reproduce: folder of the released weights, above base/seed1 or seed1")
    add("--source", help="xd_test and few_shot_test: data set that the model learned (imagenet)")
    add("--n-ctx", type=int, help="few-shot CoOp: context tokens (16)")
    add("--csc", choices=["True", "False"], help="few-shot CoOp: a context for every class (False)")
    add("--position", choices=["end", "middle", "front"], help="few-shot CoOp: place of the class name (end)")
    add("--dry-run", action="store_true", help="print the commands, run nothing")
    add("--force", action="store_true", help="train again what is trained already")
    args, rest = parser.parse_known_args(argv)

    # By hand: Python versions differ in whether an optional word may follow a flag, and would take train.py's for it.
    words = list(itertools.takewhile(lambda word: not _is_for_train_py(word), rest))[:5]
    protocol, method, args.dataset, seed, cfg = words + [None] * (5 - len(words))
    args.extra = rest[len(words) :]
    args.protocol, args.method = _one_of("PROTOCOL", protocol, PROTOCOLS), _one_of("METHOD", method, METHODS)
    if seed is not None and not seed.isdecimal():
        raise InputError(f"SEED is {seed!r}; set it to a whole number from 0, and name a configuration behind it.")
    args.seed = None if seed is None else int(seed)
    args.cfg = args.cfg or cfg
    if args.protocol in ("xd_train", "dg_test") and args.dataset is None:
        args.dataset = IMAGENET
    return args


def _is_for_train_py(word: str) -> bool:
    """A flag, or a key such as OPTIM.LR."""
    return word.startswith("-") or ("." in word and word.isupper())


def _one_of(what: str, word: str | None, allowed: Mapping[str, object]) -> str:
    if word not in allowed:
        raise InputError(f"{what} is {word or 'missing'}; choose one of {', '.join(allowed)}.")
    return word


def conclusion(args: argparse.Namespace, runs: list[Run]) -> str:
    """The table of a protocol's runs, with its title."""
    title = f"{args.dataset}, {args.shots} shots"
    if len({run.seed for run in runs}) > 1:
        return f"{title}: accuracy in per cent\n{seeds_table(runs)}"
    title += f", seed {runs[0].seed}: accuracy in per cent\n"
    if args.protocol == "open_world":
        return title + open_world_table(runs[-1])
    if args.protocol == "class_ratio":
        return title + ratios_table(runs)
    return title + (data_sets_table(runs) if args.protocol == "dg_test" else table(runs))


def launch(args: argparse.Namespace) -> int:
    """Exit status of the first run that fails, else 0.

    Raises:
        InputError: arguments that do not go together; a data set, configuration or folder that is not there.
    """
    runs = plan(args)
    check_files(args, runs)
    if not args.data and args.dataset not in BUILTIN_DATASETS:
        raise InputError(f"{args.dataset} needs a data folder: set DATA=/path/to/datasets, or give --data.")
    quiet = len(runs) > 1
    for number, run in enumerate(runs, 1):
        command = run.command(args.data, args.extra, args.force)
        if args.dry_run:
            print(shlex.join(command))
            continue
        if quiet:
            what = f"{run.method}, {run.dataset}, {run.classes} classes, seed {run.seed}"
            print(f"[{number}/{len(runs)}] {what} -> {run.output}")
        status = execute(command, quiet, small=run.cfg.startswith(TINY))
        if status:
            return status
    if quiet and not args.dry_run:
        print(f"\n{conclusion(args, runs)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Exit status: of the first run that fails, 2 for wrong input, 130 when interrupted, else 0."""
    try:
        return launch(parse_args(argv))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
