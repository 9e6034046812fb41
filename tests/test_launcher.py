"""The launcher and its wrappers: CoOp's commands and folders, nothing started that cannot run, the table's numbers."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import train
import trainers
from experiments import compare, launch, runs
from experiments.methods import METHODS
from experiments.protocols import plan as plan_of
from experiments.tables import conclusions
from trainers.base import TRAINER_REGISTRY
from trainers.prompting.errors import InputError


@pytest.fixture(autouse=True)
def own_output(tmp_path_factory, monkeypatch):
    """The repository by links, without the runs that a user may have in `output/`."""
    folder = tmp_path_factory.mktemp("repository")
    for path in Path(__file__).parents[1].iterdir():
        if path.name != "output":
            (folder / path.name).symlink_to(path)
    monkeypatch.setattr("experiments.runs.ROOT", folder)


ROOT = Path(__file__).parents[1]


def run_script(*command: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a shell wrapper with the Python of the tests."""
    kept = {key: value for key, value in os.environ.items() if key != "DATA"}
    environment = {**kept, "PYTHON": sys.executable, **environment}
    return subprocess.run(["bash", *command], cwd=ROOT, env=environment, capture_output=True, text=True)


def commands(arguments: list[str], capsys) -> list[list[str]]:
    status = launch.main([*arguments, "--dry-run"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return [line.split()[2:] for line in captured.out.splitlines()]


def plan(*arguments: str) -> list[runs.Run]:
    return plan_of(launch.request_of(launch.parse_args([*arguments])))


def record(planned: list[runs.Run], accuracies: list[float]) -> None:
    """What runs leave, at `runs.ROOT`."""
    for run, accuracy in zip(planned, accuracies):
        run.folder.mkdir(parents=True)
        if run.model_dir:
            model = runs.ROOT / run.model_dir / "learner" / "model.pth.tar-1"
            model.parent.mkdir(parents=True, exist_ok=True)
            model.touch()
        metrics = {"base": 80.0, "new": 60.0, "accuracy": accuracy}
        (run.folder / "result.json").write_text(
            json.dumps({"accuracy": accuracy, "trained": True, "open_world": metrics})
        )


def test_force_trains_again_and_leaves_evaluations_as_they_are(capsys):
    arguments = ["base2new", "BMIP", "digits", "1", "tiny", "OPTIM.MAX_EPOCH", "3", "--force"]
    runs = [train.parse_args(command) for command in commands(arguments, capsys)]
    assert [run.force for run in runs] == [not run.eval_only for run in runs]


def test_settings_of_training_do_not_reach_zero_shot_clip_and_others_do(capsys):
    arguments = (
        "base2new BMIP digits 1 tiny OPTIM.MAX_EPOCH 3 TRAINER.OBJECTIVE consistency INPUT.INTERPOLATION bilinear"
    )
    runs = [train.parse_args(command) for command in commands(arguments.split(), capsys)]
    assert {run.trainer for run in runs} == {"ZeroshotCLIP", "BMIP"}
    for run in runs:
        learns = run.trainer == "BMIP"
        assert ("OPTIM.MAX_EPOCH" in run.opts, "TRAINER.OBJECTIVE" in run.opts) == (learns, learns)
        assert (
            "INPUT.INTERPOLATION" in run.opts
            and "3" not in run.opts[: run.opts.index("INPUT.INTERPOLATION")]
            or learns
        )
    (own,) = commands(
        ["zeroshot", "ZeroshotCLIP", "digits", "TRAINER.ZEROSHOTCLIP.PREC", "bf16", "OPTIM.LR", "1"], capsys
    )
    assert "TRAINER.ZEROSHOTCLIP.PREC" in own and "OPTIM.LR" not in own and "1" not in own


@pytest.mark.parametrize(
    "flag",
    ["--output-dir", "--output", "--model-dir", "--trainer", "--seed", "--config-file=x", "--eval-only", "--root"],
)
@pytest.mark.parametrize("command", [launch, compare])
def test_flags_that_the_runs_set_themselves_are_refused_with_a_remedy(capsys, monkeypatch, command, flag):
    monkeypatch.setattr(runs.Run, "command", None)  # nothing is planned or run
    arguments = ["base2new", "BMIP", "digits"] if command is launch else ["digits", "1", "BMIP"]
    assert command.main([*arguments, flag, "elsewhere"]) == 2
    error = capsys.readouterr().err
    assert flag.partition("=")[0] in error and "--tag" in error


def test_a_tag_has_folders_of_its_own_and_reaches_the_record(capsys):
    arguments = ["base2new", "BMIP", "digits", "1", "--dry-run", "OPTIM.LR", "0.1"]
    plain, tagged = (
        [train.parse_args(command) for command in commands([*more, *arguments], capsys)]
        for more in ([], ["--tag", "high_rate"])
    )
    assert not {run.output_dir for run in plain} & {run.output_dir for run in tagged}
    assert all("/tiny@high_rate/" in run.output_dir for run in tagged)
    assert all(run.opts[-2:] == ["TRAINER.TAG", "high_rate"] for run in tagged)
    trained, *tests = (run.output_dir for run in tagged if run.trainer == "BMIP")
    assert {run.model_dir for run in tagged if run.output_dir in tests} == {trained}


@pytest.mark.parametrize("tag", ["a/b", "..", ".x", "a b", "x" * 70, "-x", "é"])
def test_a_tag_that_is_no_name_is_refused(capsys, tag):
    assert launch.main(["base2new", "BMIP", "digits", f"--tag={tag}"]) == 2
    assert "--tag is" in capsys.readouterr().err


def test_a_run_without_a_test_has_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    with pytest.raises(InputError, match="no tested result"):
        conclusions.accuracies(plan("base2new", "BMIP", "digits"))


def test_every_trainer_has_a_method():
    trainers.register_all()
    classes = map(TRAINER_REGISTRY.get, TRAINER_REGISTRY.registered_names())
    # Other tests register trainers of their own.
    ours = {kind.__name__ for kind in classes if kind.__module__.startswith("trainers.")}
    assert ours == {method.trainer for method in METHODS.values()}


@pytest.mark.parametrize(
    "arguments, recipe",
    [
        *((f"few_shot CoOp dtd --shots {shots}", "CoOp/rn50_ep100") for shots in (2, 4)),
        ("few_shot CoOp dtd --shots 8", "CoOp/rn50"),
        ("xd_test MaPLe dtd --source symbols", "MaPLe/tiny"),
        ("xd_test MaPLe:consistency dtd", "MaPLe/vit_b16_c2_ep5_batch4_2ctx_consistency"),
    ],
)
def test_the_recipe_is_that_of_method_shots_and_learned_data_set(arguments, recipe, capsys):
    planned = commands([*arguments.split(), "--data", "/d"], capsys)
    assert {train.parse_args(run).config_file for run in planned} == {f"configs/trainers/{recipe}.yaml"}


def test_the_control_and_other_backbones_have_their_zero_shot_clip(capsys):
    for method, dataset, cfg, backbone in (
        ("IVLP", "digits", "tiny_bmip_size", "tiny"),
        ("CoOp", "dtd", "rn101_ep50", "rn101"),
        ("BMIP", "dtd", "BMIP_rs_default", "vit_b16"),
    ):
        first, *_ = commands(["base2new", method, dataset, "1", cfg, "--data", "/d"], capsys)
        assert train.parse_args(first).config_file == f"configs/trainers/ZeroshotCLIP/{backbone}.yaml"


def test_words_of_the_command_line_are_not_mixed_up(capsys):
    for arguments in (["--cfg", "tiny", "OPTIM.LR", "0.1"], ["--dry-run", "--cfg", "tiny", "OPTIM.LR", "0.1"]):
        (command,) = commands(["base2new_train", "BMIP", "digits", *arguments], capsys)
        args = train.parse_args(command)
        assert args.opts[:2] == ["OPTIM.LR", "0.1"] and args.config_file.endswith("tiny.yaml") and args.seed == 1
    (command,) = commands(["base2new_test", "BMIP", "digits", "3", "--load-epoch", "5", "OPTIM.LR", "0.1"], capsys)
    args = train.parse_args(command)
    assert (args.load_epoch, args.seed, args.opts[:2]) == (5, 3, ["OPTIM.LR", "0.1"])


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("", ["PROTOCOL", "missing", "base2new"]),
        ("base2knew BMIP dtd", ["PROTOCOL", "base2knew", "base2new"]),
        ("xd_train Bmip", ["METHOD", "Bmip", "Do you mean BMIP?", "docs/METHODS.md"]),
        ("xd_train BMIP:aditoin", ["METHOD", "BMIP:aditoin", "Do you mean addition?", "configs/variants"]),
        ("base2new_train BMIP --data /d", ["base2new_train", "data set", "configs/datasets"]),
        ("base2new_train BMIP eurosatt --data /d", ["eurosatt", "Do you mean eurosat?", "ls configs/datasets"]),
        ("base2new_train BMIP eurosat one --data /d", ["SEED", "one", "whole number"]),
        ("base2new_train BMIP eurosat -1 tiny --data /d", ["SEED is '-1'", "whole number from 0"]),
        ("base2new_train BMIP eurosat 1,2 --data /d", ["SEED is '1,2'", "one", "compare.sh", "reproduce.py"]),
        ("base2new_train BMIP digits --dryrun", ["--dryrun", "Do you mean --dry-run?", "--help"]),
        ("base2new_train BMIP digits --load-epochs 5", ["--load-epochs", "Do you mean --load-epoch?"]),
        ("base2new_train BMIP digits --opts OPTIM.LR 1", ["--opts", "KEY VALUE pairs need no flag"]),
        ("few_shot_test BMIP symbols", ["few_shot_test", "symbols", "another", "--source", "few_shot tests"]),
        ("xd_test BMIP digits --source Digits", ["xd_test", "digits", "another", "--source", "xd_train tests"]),
        ("base2new_train BMIP eurosat 1 huge --data /d", ["huge", "tiny"]),
        ("base2new_train BMIP eurosat", ["DATA=", "--data"]),
        ("xd_test BMIP dtd --source imagnet --data /d", ["imagnet", "imagenet"]),
        ("xd_train ZeroshotCLIP --data /d", ["xd_train", "ZeroshotCLIP", "nothing to train", "zeroshot"]),
        ("dg_test BMIP dtd --data /d", ["dtd", "imagenet or symbols"]),
        ("zeroshot BMIP dtd --data /d", ["zeroshot", "BMIP", "ZeroshotCLIP2"]),
        ("reproduce MaPLe dtd --data /d", ["reproduce", "--weights"]),
        ("reproduce MaPLe dtd 2 --weights /nowhere --data /d", ["/nowhere/base/seed2", "--weights"]),
        ("reproduce_xd MaPLe dtd 2 --weights /nowhere --data /d", ["/nowhere/seed2", "--weights"]),
        ("base2new_test MaPLe dtd --weights /d --data /d", ["--weights", "/d", "reproduce", "leave it out"]),
        ("few_shot MaPLe dtd --n-ctx 4 --data /d", ["--n-ctx", "4", "CoOp", "leave it out"]),
        ("xd_train CoOp --csc True --data /d", ["--csc", "True", "few_shot", "leave it out"]),
    ],
)
def test_what_cannot_run_is_refused_with_the_remedy(capsys, monkeypatch, arguments, words):
    monkeypatch.delenv("DATA", raising=False)
    assert launch.main(arguments.split()) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and all(word in errors for word in words)


# Command lines, the accuracies of their runs in order, and the words of their tables.
CONCLUSIONS = {
    "base2new BMIP digits": (
        [60, 40, 30, 90, 45, 50],
        [
            *("method base new HM open-world", "ZeroshotCLIP 60.00 40.00 48.00 30.00"),
            "BMIP 90.00 45.00 60.00 50.00",
        ],
    ),
    # CoOp's example: Caltech101, 16 shots, with the deviation of the field.
    "few_shot CoOp digits": (
        [91.81, 92.01, 92.17],
        ["seed CoOp", "1 91.81", "2 92.01", "3 92.17", "mean 92.00 +- 0.15"],
    ),
    "class_ratio BMIP digits": (
        [0, 10, 20, 30, 40, 50],
        [
            "base classes BMIP",
            *(f"{share} % {10 + 10 * place}.00" for place, share in enumerate((0, 20, 50, 80, 100))),
        ],
    ),
    "dg_test BMIP symbols": (
        [10, 20, 30, 50],
        [
            *("data set BMIP", "symbols_sketch 10.00", "symbols_inverse 20.00", "symbols_noise 30.00"),
            *("symbols_tilt 50.00", "mean 27.50"),
        ],
    ),
    "open_world BMIP digits": ([1, 55.5], ["BMIP", "base 80.00", "new 60.00", "accuracy 55.50"]),
}


@pytest.mark.parametrize("arguments", CONCLUSIONS)
def test_a_launch_ends_in_the_table_of_its_runs(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setattr(launch, "execute", lambda *_, **__: 0)
    accuracies, lines = CONCLUSIONS[arguments]
    record(plan(*arguments.split()), accuracies)
    assert launch.main(arguments.split()) == 0
    header, _, *rows = (" ".join(line.split()) for line in capsys.readouterr().out.split("per cent\n")[1].splitlines())
    assert [header, *rows] == lines


@pytest.fixture
def launched(checkout, data_root, monkeypatch, capsys):
    """Launch the demonstration in this process; gives the outputs of the runs that ran, and what was printed."""
    started = []

    def execute(command, *_, **__) -> int:
        started.append(command[command.index("--output-dir") + 1])
        # Logging replaces stdout for the rest of a process; here it must not outlive the call.
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.StringIO())
            return train.main(command[2:])

    def call(*more: str, protocol: str = "base2new") -> tuple[list[str], str]:
        started.clear()
        arguments = [protocol, "VPT", "digits", "--data", data_root, "--shots", "1", "OPTIM.MAX_EPOCH", "1", *more]
        assert launch.main(arguments) == 0, capsys.readouterr().err
        return [*started], capsys.readouterr().out

    monkeypatch.setattr(launch, "execute", execute)
    return call


def test_what_is_done_is_read_from_its_records_and_ends_in_the_same_table(launched):
    ran, printed = launched()
    again, printed_again = launched()
    assert len(ran) == 6 and not again
    assert printed_again.splitlines()[-5:] == printed.splitlines()[-5:] and "HM" in printed_again
    assert printed_again.count("already tested") == 5 and printed_again.count("already trained") == 1
    by_force, _ = launched("--force", protocol="open_world")
    assert by_force == [output for output in ran if "/VPT/" in output and "test_new" not in output]
    other, _ = launched("INPUT.INTERPOLATION", "bilinear", "--force", protocol="open_world")
    assert other == by_force and launched("INPUT.INTERPOLATION", "bilinear", protocol="open_world")[0] == []


def test_a_model_that_was_trained_again_is_tested_again(launched, checkout):
    launched(protocol="open_world")
    (trained,) = checkout.glob("output/base2new/train_base/**/result.json")
    trained.write_text(json.dumps({**json.loads(trained.read_text()), "weights_hash": "another"}))
    assert [output.split("/")[2] for output in launched(protocol="open_world")[0]] == ["test_all"]


def test_a_single_test_is_of_the_model_that_is_there_and_ends_with_its_accuracy(launched, checkout):
    launched(protocol="base2new_train")
    assert len(launched(protocol="base2new_test")[0]) == 1
    ran, printed = launched(protocol="base2new_test")
    (tested,) = checkout.glob("output/base2new/test_new/**/result.json")
    accuracy = json.loads(tested.read_text())["accuracy"]
    assert not ran and printed.startswith("Already tested: output/base2new/test_new")
    assert printed.splitlines()[-1] == f"VPT on Digits, new classes, 1 shot, seed 1: accuracy {accuracy:.2f} %"
    (trained,) = checkout.glob("output/base2new/train_base/**/result.json")
    trained.unlink()
    assert len(launched(protocol="base2new_test")[0]) == 1
    assert len(launched("TEST.SAVE_LOGITS", "True", protocol="base2new_test")[0]) == 1


def test_a_failing_run_stops_the_protocol_and_shows_why(capsys, monkeypatch):
    execute, refused = launch.execute, [sys.executable, "-c", "raise SystemExit('no luck')"]
    monkeypatch.setattr(launch, "execute", lambda command, *arguments, **flags: execute(refused, *arguments, **flags))
    assert launch.main(["base2new", "BMIP", "digits"]) == 1
    captured = capsys.readouterr()
    assert "no luck" in captured.err and "open-world" not in captured.out


# The field's command lines, and the launcher's words for them, one line a call; further ones come last, or at "...".
WRAPPERS = {
    "coop/main caltech101 rn50 middle 16 4 True": "few_shot CoOp caltech101 --cfg rn50 --position middle --n-ctx 16 "
    "--shots 4 --csc True",
    "coop/eval imagenetv2 rn50_ep50": "few_shot_test CoOp imagenetv2 --cfg rn50_ep50",
    "coop/zeroshot dtd rn101": "zeroshot ZeroshotCLIP dtd --cfg rn101",
    "zsclip/zeroshot dtd rn101": "zeroshot ZeroshotCLIP dtd --cfg rn101",
    "prograd/prograd dtd rn50 end 16 8 False": "few_shot ProGrad dtd --cfg rn50 --position end --n-ctx 16 "
    "--shots 8 --csc False",
    "prograd/eval imagenetv2 rn50_ep50": "few_shot_test ProGrad imagenetv2 --cfg rn50_ep50 --shots 4",
    "cocoop/xd_train 2": "xd_train CoCoOp imagenet 2",
    "tcp/base2new_train dtd 3": "base2new TCP dtd 3",
    "mmadapter/base2new_train dtd 3 vit_b16_ep5": "base2new_train MMA dtd 3 vit_b16_ep5",
    "mmadapter/base2new_test dtd 3 vit_b16_ep5 5": "base2new_test MMA dtd 3 vit_b16_ep5 --load-epoch 5",
    "mmadapter/xd_train 3": "xd_train MMA imagenet 3",
    "mmadapter/xd_test dtd 3 vit_b16_ep5_imnet 5": "xd_test MMA dtd 3 vit_b16_ep5_imnet --load-epoch 5",
    "maple/reproduce_maple_xd dtd 1 /w": "reproduce_xd MaPLe dtd 1 --weights /w",
    "promptsrc/few_shot dtd 4": "few_shot PromptSRC dtd --shots 4",
    "upt/base2new_train_upt dtd 3": "base2new_train UPT dtd 3",
    "upt/base2new_test_upt dtd 3": "base2new_test UPT dtd 3",
    "bitp/xd_train imagenet 3 vit_bitp_ctx1_ep4TT_ex_cross_dataset": "xd_train BITP imagenet 3 "
    "vit_bitp_ctx1_ep4TT_ex_cross_dataset",
    "bitp/xd_test dtd 3": "xd_test BITP dtd 3",
    "proda/base2new_train_proda dtd 3": "base2new_train ProDA dtd 3",
    "proda/base2new_test_proda dtd 3": "base2new_test ProDA dtd 3",
    "hicropl/few_shot dtd 4": "few_shot HiCroPL dtd --shots 4",
    "hicropl/base2new_train_hicropl dtd 3": "base2new_train HiCroPL dtd 3",
    "hicropl/base2new_test_hicropl dtd 3": "base2new_test HiCroPL dtd 3",
    "hicropl/xd_train dtd 3": "xd_train HiCroPL dtd 3",
    "hicropl/xd_test dtd 3": "xd_test HiCroPL dtd 3",
    "promptsrc/reproduce_base2novel_setting dtd 1 /w": "reproduce PromptSRC dtd 1 --weights /w",
    "promptsrc/reproduce_xd dtd 1 /w": "reproduce_xd PromptSRC dtd 1 --weights /w",
    "promptsrc/reproduce_few_shot dtd 4 /w": "reproduce_few_shot PromptSRC dtd --shots 4 --weights /w/4shot",
}
for folder, suffix, method in (
    *(("bmip", "", "BMIP"), ("cocoop", "", "CoCoOp"), ("maple", "_maple", "MaPLe"), ("vpt", "_vpt", "VPT")),
    *(("independent-vlp", "_ivlp", "IVLP"), ("language-prompting", "_lp", "LanguagePrompting")),
    *(("promptsrc", "", "PromptSRC"), ("coprompt", "_coprompt", "CoPrompt")),
    *(("promptsrc_bmip", "", "PromptSRC_BMIP"), ("coprompt_bmip", "", "CoPrompt_BMIP")),
    ("mma_bmip", "", "MMA_BMIP"),
):
    for protocol in ("base2new_train", "base2new_test", "xd_train", "xd_test"):
        if (folder, protocol) != ("cocoop", "xd_train"):  # above
            WRAPPERS[f"{folder}/{protocol}{suffix} dtd 3"] = f"{protocol} {method} dtd 3"
    if suffix and folder != "coprompt":
        WRAPPERS[f"{folder}/reproduce{suffix} dtd 3 /w"] = f"reproduce {method} dtd 3 --weights /w"
for protocol in ("base2new_train", "base2new_test"):
    for dataset, recipe in (("dtd", "rn50_ep100"), ("imagenet", "rn50_ep50")):
        calls = (f"{protocol} ProGrad {dataset} {seed} {recipe} --shots 4" for seed in (1, 2, 3))
        WRAPPERS[f"prograd/{protocol}_prograd {dataset}"] = "\n".join(calls)
seeds, weights = (1, 2, 3), "... TRAINER.COOP.W 8.0 LOSS.WEIGHT 6.0"
WRAPPERS["dekg/base2new_train dtd 8.0 6.0"] = "\n".join(f"base2new_train DeKg dtd {one} {weights}" for one in seeds)
WRAPPERS["dekg/base2new_test dtd"] = "\n".join(f"base2new_test DeKg dtd {one}" for one in seeds)
for wrapper, protocol, dataset in (
    *(("base2new_train dtd", "base2new_train", "dtd"), ("base2new_test dtd", "base2new_test", "dtd")),
    *(("cross_datasets_train", "xd_train", "imagenet"), ("cross_datasets_test dtd", "xd_test", "dtd")),
):
    for method in ("MMRL", "MMRLpp"):
        calls = [f"{protocol} {method} {dataset} {one}" for one in seeds]
        WRAPPERS[f"{method.lower()}/{wrapper}"] = "\n".join(calls)
for method in ("MMRL", "MMRLpp"):
    calls = [f"few_shot {method} dtd --shots {shots}" for shots in (1, 2, 4, 8, 16)]
    WRAPPERS[f"{method.lower()}/few_shot dtd"] = "\n".join(calls)
sets = "dtd eurosat fgvc_aircraft food101 oxford_flowers oxford_pets stanford_cars ucf101 caltech101 sun397 imagenet"
WRAPPERS["dekg/xd_train 8.0 6.0"] = "\n".join(f"few_shot DeKg {one} --shots 4 {weights}" for one in sets.split())

sets = "eurosat food101 dtd fgvc_aircraft oxford_flowers oxford_pets stanford_cars ucf101 caltech101 sun397 imagenet"
for architecture, recipe in (("Vit-B16", "vit_b16"), ("Vit-B32", "vit_b32")):
    calls = (f"open_world DeCoOp {one} {seed} {recipe}" for one in sets.split() for seed in range(1, 6))
    WRAPPERS[f"decoop/eval_decoop 0 {architecture}"] = "\n".join(calls)


@pytest.fixture
def wrapper_call(tmp_path):
    """What a wrapper tells the launcher: it runs in a copy whose `env.sh` makes `echo` the Python to run with."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/env.sh").write_text("PYTHON=echo\n")

    def call(wrapper: str, *arguments: str) -> subprocess.CompletedProcess:
        (tmp_path / "scripts" / wrapper).parent.mkdir()
        copy = shutil.copy(ROOT / f"scripts/{wrapper}.sh", tmp_path / "scripts" / wrapper)
        return subprocess.run(["bash", copy, *arguments], capture_output=True, text=True)

    return call


@pytest.mark.parametrize("line", WRAPPERS)
def test_the_fields_command_lines_are_the_launchers_and_pass_further_flags_on(line, wrapper_call):
    wrapper, *arguments = line.split()
    assert os.access(ROOT / f"scripts/{wrapper}.sh", os.X_OK)
    further = ["--resume", "/r", "OPTIM.MAX_EPOCH", "3", "--dry-run"]
    done = wrapper_call(wrapper, *arguments, *further)
    calls = []
    for call in WRAPPERS[line].splitlines():
        before, _, after = call.partition("...")
        calls.append(["scripts/launch.py", *before.split(), *further, *after.split()])
    assert [call.split() for call in done.stdout.splitlines()] == calls


def test_every_wrapper_is_in_the_table():
    # Those of the plugin work in another checkout, with its train.py; those of clusters call other commands.
    paths = (path for path in ROOT.glob("scripts/*/*.sh") if path.parent.name not in ("plugin", "cluster"))
    there = {str(path.relative_to(ROOT / "scripts").with_suffix("")) for path in paths}
    assert there == {line.split()[0] for line in WRAPPERS}


@pytest.mark.parametrize(
    "wrapper",
    [
        "coop/main",
        "coop/eval",
        "prograd/prograd",
        "prograd/eval",
        "zsclip/zeroshot",
        "maple/reproduce_maple",
        "decoop/eval_decoop",
    ],
)
def test_wrappers_with_fixed_arguments_name_them(wrapper, wrapper_call):
    done = wrapper_call(wrapper, "dtd")
    assert done.returncode == 2 and "1 arguments; give " in done.stderr


def test_a_wrapper_launches_a_run_and_without_data_names_the_remedy(tmp_path):
    done = run_script("scripts/bmip/base2new_test.sh", "eurosat", "3", "--dry-run", DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"--root {tmp_path} --seed 3 --trainer BMIP" in done.stdout and "eurosat.yaml" in done.stdout
    done = run_script("scripts/bmip/base2new_train.sh", "eurosat", "1")
    assert done.returncode == 2 and "DATA=" in done.stderr


@pytest.fixture
def launcher(checkout):
    """A launcher whose run is in its first epoch, with a process group of its own."""
    code = "import sys; from pathlib import Path; from experiments import launch, runs; runs.ROOT = Path.cwd(); "
    code += "sys.exit(launch.main(sys.argv[1:]))"
    arguments = ["base2new_train", "BMIP", "digits", "1", "OPTIM.MAX_EPOCH", "1000"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True, **pipes)
    for line in started.stdout:
        if line.startswith("epoch ["):
            break
    with started:
        yield started
        started.kill()


def test_an_interrupt_is_told_once(launcher):
    os.killpg(launcher.pid, signal.SIGINT)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert errors.splitlines()[-1] == "Interrupted; the same command goes on from what is done."
    assert errors.count("Interrupted") == 1 and "Traceback" not in errors


def test_a_run_ends_with_its_killed_launcher(launcher):
    (run,) = [child for child in psutil.Process(launcher.pid).children() if "train.py" in child.cmdline()]
    launcher.kill()
    launcher.wait()
    gone, alive = psutil.wait_procs([run], timeout=20)
    assert gone and not alive
