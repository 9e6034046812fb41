"""The scripts that the plugin brings into a checkout build the commands of the field, and a table from their logs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SOURCE = Path(__file__).parents[1] / "scripts" / "plugin" / "run.py"
# Stands for train.py: writes a log as Dassl does, and a checkpoint where it trains.
TRAIN = """
import pathlib, sys, time
value = lambda flag: sys.argv[sys.argv.index(flag) + 1]
output, trainer = pathlib.Path(value("--output-dir")), value("--trainer")
(output / "learner").mkdir(parents=True, exist_ok=True)
accuracy = {"BMIP": 80.0, "MaPLe": 70.0}[trainer] + 2 * int(value("--seed"))
log = f"{time.time_ns()}\\n=> result\\n* accuracy: {accuracy:.2f}%\\n"
if "--eval-only" in sys.argv:
    assert value("--load-epoch") == "10", sys.argv
else:
    [(output / "learner" / f"model.pth.tar-{epoch}").write_text("") for epoch in (2, 10)]
    log = "* accuracy: 1.00%\\nFinish training\\n" + log
(output / "log.txt").write_text(log)
"""


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """`run.py` as a module of a made-up checkout, where upstream Dassl seems to be installed."""
    target = tmp_path / "scripts" / "bmip" / "run.py"
    for folder in (target.parent, tmp_path / "configs" / "datasets", tmp_path / "data"):
        folder.mkdir(parents=True)
    target.write_bytes(SOURCE.read_bytes())
    (tmp_path / "train.py").write_text(TRAIN)
    for name, registered in (("eurosat", "EuroSAT"), ("imagenet", "ImageNet"), ("dtd", "DescribableTextures")):
        (tmp_path / "configs" / "datasets" / f"{name}.yaml").write_text(f'DATASET:\n  NAME: "{registered}"\n')
    recipes = ("BMIP/vit_b16_c2_ep10_batch4_2ctx", "BMIP/tiny", "MaPLe/vit_b16_c2_ep5_batch4_2ctx", "coprompt")
    for name in (*recipes, "Odd/one", "Odd/two"):
        path = tmp_path / "configs" / "trainers" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    spec = importlib.util.spec_from_file_location("plugin_run", target)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "has_upstream", lambda: True)
    return module


def call(scripts, *arguments: str) -> int:
    return scripts.main(["--data", str(scripts.CHECKOUT / "data"), "--dassl", "upstream", *arguments])


def commands(scripts, capsys, *arguments: str) -> list[dict]:
    """Flags and options of the commands that a dry run prints."""
    assert call(scripts, *arguments, "--dry-run") == 0
    found = []
    for line in capsys.readouterr().out.splitlines():
        words = shlex.split(line)
        assert words[:2] == [sys.executable, "train.py"]
        words = [word for word in words[2:] if word != "--eval-only"]
        found.append(dict(zip(words[::2], words[1::2])))
    return found


def test_training_and_testing_use_the_folders_of_the_field(scripts, capsys):
    train, test = commands(scripts, capsys, "base2new", "BMIP", "eurosat", "3")
    run = "eurosat/shots_16/BMIP/vit_b16_c2_ep10_batch4_2ctx/seed3"
    assert train["--output-dir"] == test["--model-dir"] == f"output/base2new/train_base/{run}"
    assert test["--output-dir"] == f"output/base2new/test_new/{run}"
    assert (train["DATASET.SUBSAMPLE_CLASSES"], test["DATASET.SUBSAMPLE_CLASSES"]) == ("base", "new")
    assert train["--config-file"] == "configs/trainers/BMIP/vit_b16_c2_ep10_batch4_2ctx.yaml"
    assert train["--dataset-config-file"] == "configs/datasets/eurosat.yaml"
    assert train["DATASET.NUM_SHOTS"] == "16" and train["--seed"] == "3"


def test_another_configuration_is_named_behind_the_seed_or_the_trainer(scripts, capsys):
    for arguments in (
        ("BMIP", "eurosat", "1", "tiny"),
        ("BMIP:tiny", "eurosat"),
        ("BMIP", "eurosat", "1", "tiny.yaml"),
    ):
        (train,) = commands(scripts, capsys, "base2new_train", *arguments)
        assert train["--config-file"] == "configs/trainers/BMIP/tiny.yaml"


def test_a_configuration_beside_the_trainers_folders_is_found(scripts, capsys):
    (train,) = commands(scripts, capsys, "base2new_train", "CoPrompt", "eurosat")
    assert train["--config-file"] == "configs/trainers/coprompt.yaml"


def test_across_data_sets_the_source_model_is_tested_on_all_classes(scripts, capsys):
    (test,) = commands(scripts, capsys, "xd_test", "BMIP", "eurosat")
    assert test["--model-dir"] == "output/imagenet/BMIP/vit_b16_c2_ep10_batch4_2ctx_16shots/seed1"
    assert test["--output-dir"] == "output/evaluation/BMIP/vit_b16_c2_ep10_batch4_2ctx_16shots/eurosat/seed1"
    assert test["DATASET.SUBSAMPLE_CLASSES"] == "all"


def test_the_table_has_means_over_seeds_of_the_final_tests_and_nothing_runs_twice(scripts, capfd):
    arguments = ("compare", "BMIP", "eurosat", "1 2", "MaPLe")
    assert call(scripts, *arguments) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["BMIP", "83.0", "83.0", "83.0", "vit_b16_c2_ep10_batch4_2ctx"] in lines
    assert ["MaPLe", "73.0", "73.0", "73.0", "vit_b16_c2_ep5_batch4_2ctx"] in lines
    (scripts.CHECKOUT / "train.py").write_text("raise SystemExit(3)")
    assert call(scripts, *arguments) == 0
    assert capfd.readouterr().out.count("There is a result in") == 8


def runs(scripts, capfd, *arguments: str) -> list[str]:
    """Whether each part of `base2new` was run now, or had its result; empty where it was refused."""
    status = call(scripts, "base2new", "BMIP", "eurosat", *arguments)
    output, _ = capfd.readouterr()
    lines = [line for line in output.splitlines() if "train.py" in line or "There is a result" in line]
    return ["run" if "train.py" in line else "kept" for line in lines] if status == 0 else []


MODEL = "output/base2new/train_base/eurosat/shots_16/BMIP/tiny/seed1"
OPTIONS = ("1", "tiny", "--opts", "OPTIM.MAX_EPOCH", "2")


def test_a_model_of_other_options_is_no_result_and_names_the_folder_and_the_option(scripts, capfd):
    assert runs(scripts, capfd, *OPTIONS) == ["run", "run"]
    assert runs(scripts, capfd, *OPTIONS) == ["kept", "kept"]
    assert call(scripts, "base2new", "BMIP", "eurosat", "1", "tiny") == 2
    error = capfd.readouterr().err
    assert f"{MODEL} holds a model of another command: OPTIM.MAX_EPOCH was 2 and is now not given" in error
    assert "--force" in error


def test_force_trains_again_from_nothing(scripts, capfd):
    runs(scripts, capfd, *OPTIONS)
    left = scripts.CHECKOUT / MODEL / "learner" / "model.pth.tar-7"
    left.write_text("")
    assert runs(scripts, capfd, "1", "tiny", "--force") == ["run", "run"]
    assert not left.exists()
    assert runs(scripts, capfd, "1", "tiny") == ["kept", "kept"]


def test_a_model_that_was_trained_further_by_hand_is_no_result(scripts, capfd):
    runs(scripts, capfd, *OPTIONS)
    with (scripts.CHECKOUT / MODEL / "log.txt").open("a") as file:
        file.write("Finish training\n* accuracy: 99.00%\n")
    assert call(scripts, "base2new", "BMIP", "eurosat", *OPTIONS) == 2
    assert "trained further by another command" in capfd.readouterr().err


def test_a_model_of_another_script_is_taken_with_a_note_and_tested_anew(scripts, capfd):
    runs(scripts, capfd, *OPTIONS)
    (scripts.CHECKOUT / MODEL / scripts.RECORD).unlink()
    with (scripts.CHECKOUT / MODEL / "log.txt").open("a") as file:
        file.write("Finish training\n* accuracy: 99.00%\n")
    assert call(scripts, "base2new", "BMIP", "eurosat", *OPTIONS) == 0
    output = capfd.readouterr().out
    assert f"{MODEL} was not trained by this script" in output
    assert [line for line in output.splitlines() if "--eval-only" in line]


def test_a_stopped_run_goes_on_with_the_same_options_only(scripts, capfd):
    runs(scripts, capfd, *OPTIONS)
    record = scripts.CHECKOUT / MODEL / scripts.RECORD
    unfinished = {key: value for key, value in json.loads(record.read_text()).items() if key != "log"}
    record.write_text(json.dumps(unfinished))
    (scripts.CHECKOUT / MODEL / "log.txt").write_text("epoch [1/2]\n")
    assert runs(scripts, capfd, "1", "tiny") == []
    assert runs(scripts, capfd, *OPTIONS) == ["run", "run"]


def test_a_run_that_fails_is_named(scripts, capsys):
    (scripts.CHECKOUT / "train.py").write_text("raise SystemExit(3)")
    assert call(scripts, "base2new_train", "BMIP", "eurosat") == 1
    error = capsys.readouterr().err
    assert "train.py" in error and "status 3" in error and "seed1" in error


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("base2new_train", "BMIP", "eurosta"), "There is no configs/datasets/eurosta.yaml. Do you mean eurosat?"),
        (("base2new_train", "BMIP", "pets"), "configs/datasets lists all"),
        (
            ("base2new_train", "BMIP", "eurosat", "1", "tniy"),
            "CFG is 'tniy', which BMIP lacks. Do you mean tiny? ls /",
        ),
        (("base2new_train", "Odd", "eurosat"), "Which configuration of Odd? Write Odd:CFG. ls /"),
        (("base2new_test", "BMIP", "eurosat"), "train it first"),
    ],
    ids=["data set", "none like it", "configuration", "no published one", "no model"],
)
def test_wrong_input_is_told_with_what_is_there(scripts, capsys, arguments, words):
    assert call(scripts, *arguments) == 2
    assert words in capsys.readouterr().err


def test_without_data_the_variable_is_named(scripts, capsys, monkeypatch):
    assert scripts.main(["compare", "BMIP", "eurosat", "--data", "/no/such/folder"]) == 2
    assert "DATA is '/no/such/folder'" in capsys.readouterr().err
    for empty in (lambda: monkeypatch.delenv("DATA", raising=False), lambda: monkeypatch.setenv("DATA", "")):
        empty()
        assert scripts.main(["compare", "BMIP", "eurosat"]) == 2
        assert "error: DATA is not set; export DATA=/path/to/datasets, " in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["base2new_train", "base2new_test", "xd_train", "xd_test", "compare"])
def test_help_shows_the_command_that_was_typed_and_what_it_takes(scripts, protocol):
    path = Path(scripts.__file__).with_name(f"{protocol}.sh")
    path.write_bytes((SOURCE.parent / path.name).read_bytes())
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[1])}

    def call(*words: str) -> subprocess.CompletedProcess:
        command = ["bash", f"scripts/bmip/{path.name}", *words]
        return subprocess.run(command, cwd=scripts.CHECKOUT, env=environment, capture_output=True, text=True)

    shown = call("--help").stdout
    assert shown.startswith(f"usage: bash scripts/bmip/{path.name} DATASET ")
    assert ("--source" in shown) is (protocol == "xd_test") and '"1 2 3" or 1,2,3' in shown
    assert scripts.PROTOCOLS[protocol] in shown and not re.search("run.py|PROTOCOL|base2new  ", shown)
    assert ("SEEDS" in shown and "TRAINERS" in shown) is (protocol == "compare")
    for words in ((), ("eurosat", "--no-such-flag")):
        told = call(*words).stderr
        assert f"\nbash scripts/bmip/{path.name}: error: " in told and "run.py" not in told


def test_a_record_that_cannot_be_read_and_a_full_disk_are_told_in_one_line(scripts, capfd, monkeypatch):
    runs(scripts, capfd, *OPTIONS)
    record = scripts.CHECKOUT / MODEL / scripts.RECORD
    whole = record.read_text()
    for content in (whole[:20], "[]"):
        record.write_text(content)
        assert call(scripts, "base2new", "BMIP", "eurosat", *OPTIONS) == 2
        assert f"error: {record} cannot be read " in capfd.readouterr().err
    record.write_text(whole)

    def full(*_):
        raise OSError(28, "No space left on device", str(record))

    monkeypatch.setattr("os.replace", full)
    assert call(scripts, "base2new", "BMIP", "eurosat", "2", "tiny") == 2
    assert f"error: {record}: No space left on device" in capfd.readouterr().err


@pytest.mark.parametrize(
    "torch, comparing, stand_in", [("2.5.1", True, False), ("2.15.0", True, True), ("2.15.0", False, False)]
)
def test_where_upstream_would_fail_for_the_other_trainers_all_run_on_the_stand_in(
    scripts, monkeypatch, torch, comparing, stand_in
):
    monkeypatch.setattr(scripts, "version", lambda _: torch)
    monkeypatch.setattr(scripts, "has_upstream", lambda: True)
    assert ("minidassl" in scripts.interpreter("auto", comparing)) is stand_in


def test_without_upstream_everything_runs_on_the_stand_in(scripts, monkeypatch):
    monkeypatch.setattr(scripts, "has_upstream", lambda: False)
    assert scripts.interpreter("auto", False)[1:] == ["-m", "minidassl", "train.py"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("eurosat", "1", "MaPle"), ["'MaPle'", "Do you mean MaPLe?"]),
        (("eurosat", "1 x", "MaPLe"), ["SEEDS is '1 x'"]),
        (("eurosta", "1", "MaPLe"), ["eurosta.yaml", "Do you mean eurosat?"]),
        (("eurosat", "1", "MaPLe", "--opts", "OPTIM.LR"), ["KEY VALUE"]),
    ],
    ids=["trainer", "seed", "data set", "options"],
)
def test_a_comparison_with_a_misspelt_name_runs_nothing(scripts, capfd, arguments, words):
    assert call(scripts, "compare", "BMIP", *arguments) == 2
    captured = capfd.readouterr()
    assert all(word in captured.err for word in words) and not (scripts.CHECKOUT / "output").exists()


def test_models_of_other_commands_are_all_named_before_the_first_run(scripts, capfd):
    for seed in ("2", "3"):
        assert runs(scripts, capfd, seed, "tiny", "--opts", "OPTIM.LR", "0.1")
    assert call(scripts, "base2new", "BMIP", "eurosat", "1 2 3", "tiny") == 2
    captured = capfd.readouterr()
    assert "tiny/seed2" in captured.err and "tiny/seed3" in captured.err and "train.py" not in captured.out


def test_an_output_that_is_no_folder_is_refused_before_the_first_run(scripts, capfd):
    (scripts.CHECKOUT / "output").write_text("")
    assert call(scripts, "base2new", "BMIP", "eurosat") == 2
    captured = capfd.readouterr()
    assert "output: Not a directory" in captured.err and "train.py" not in captured.out


def test_registered_names_and_lists_with_commas_are_the_same_command(scripts, capsys):
    plain = commands(scripts, capsys, "compare", "BMIP", "eurosat", "1 2", "MaPLe BMIP:tiny")
    assert commands(scripts, capsys, "compare", "BMIP", "EuroSAT", "1,02,01", "MaPLe,BMIP:tiny") == plain
    (test,) = commands(scripts, capsys, "xd_test", "BMIP", "EuroSAT", "--source", "ImageNet")
    assert "output/imagenet/BMIP" in test["--model-dir"]


DIES = "raise SystemExit(3)"
DIES_AFTER_AN_EPOCH = TRAIN.replace("(2, 10)", "(2,)") + DIES


@pytest.mark.parametrize("train, new", [(DIES, False), (DIES_AFTER_AN_EPOCH, True)], ids=["start", "first epoch"])
def test_force_keeps_the_trained_model_until_there_is_a_new_one(scripts, capfd, train, new):
    runs(scripts, capfd, *OPTIONS)
    old = scripts.CHECKOUT / MODEL / "learner" / "model.pth.tar-10"
    (scripts.CHECKOUT / "train.py").write_text(train)
    assert call(scripts, "base2new_train", "BMIP", "eurosat", "1", "tiny", "--force", "--opts", "OPTIM.LRR", "1") == 1
    assert old.exists() is not new and [path.name for path in old.parents[2].iterdir()] == ["seed1"]
    assert ("is as it was before" in capfd.readouterr().err) is not new
    assert new or runs(scripts, capfd, *OPTIONS) == ["kept", "kept"]


def test_a_model_whose_repetition_was_killed_comes_back(scripts, capfd):
    runs(scripts, capfd, *OPTIONS)
    folder = scripts.CHECKOUT / MODEL
    folder.rename(scripts.aside(folder))
    folder.mkdir()
    (folder / scripts.RECORD).write_text("{}")
    assert runs(scripts, capfd, *OPTIONS) == ["kept", "kept"]


def test_upstream_dassl_that_is_not_installed_is_refused(scripts, capfd, monkeypatch):
    monkeypatch.setattr(scripts, "has_upstream", lambda: False)
    assert call(scripts, "base2new", "BMIP", "eurosat") == 2
    assert "Upstream Dassl is not installed" in capfd.readouterr().err


def test_a_run_that_dies_before_its_log_leaves_no_folder(scripts, capfd):
    (scripts.CHECKOUT / "train.py").write_text(DIES)
    assert call(scripts, "base2new", "BMIP", "eurosat") == 1
    assert not (scripts.CHECKOUT / "output").exists()


def test_keys_of_other_trainers_and_other_spellings_of_a_value_are_the_same_command(scripts, capfd):
    assert runs(scripts, capfd, "1", "tiny", "--opts", "INPUT.SIZE", "(32, 32)", "OPTIM.LR", "1e-3") == ["run", "run"]
    same = ("INPUT.SIZE", "(32,32)", "OPTIM.LR", "0.001", "TRAINER.MAPLE.PREC", "fp32")
    assert runs(scripts, capfd, "1", "tiny", "--opts", *same) == ["kept", "kept"]
    assert runs(scripts, capfd, "1", "tiny", "--opts", *same, "TRAINER.BMIP.PREC", "fp32") == []


def test_keys_of_another_trainer_that_a_trainer_reads_count(scripts, capfd):
    (scripts.CHECKOUT / "trainers").mkdir()
    (scripts.CHECKOUT / "trainers" / "b.py").write_text("class BMIP(TrainerX):\n    x = cfg.TRAINER.COOP.N_CTX\n")
    assert runs(scripts, capfd, "1", "tiny") == ["run", "run"]
    assert runs(scripts, capfd, "1", "tiny", "--opts", "TRAINER.MAPLE.N_CTX", "2") == ["kept", "kept"]
    assert runs(scripts, capfd, "1", "tiny", "--opts", "TRAINER.COOP.N_CTX", "2") == []


def test_a_named_configuration_replaces_the_published_one_in_a_comparison(scripts, capsys):
    trained = commands(scripts, capsys, "compare", "BMIP", "eurosat", "1", "MaPLe BMIP:tiny")[::2]
    assert [Path(train["--config-file"]).stem for train in trained] == ["vit_b16_c2_ep5_batch4_2ctx", "tiny"]


def test_a_failing_trainer_leaves_the_others_their_table(scripts, capfd):
    fails = TRAIN + 'if trainer == "MaPLe": raise SystemExit(3)\n'
    (scripts.CHECKOUT / "train.py").write_text(fails)
    assert call(scripts, "compare", "BMIP", "eurosat", "1 2", "MaPLe") == 1
    output, error = capfd.readouterr()
    order = [
        re.search("--seed (.) --trainer (\\w+)", line).groups() for line in output.splitlines() if "--seed" in line
    ]
    assert order == [("1", "BMIP")] * 2 + [("1", "MaPLe")] + [("2", "BMIP")] * 2
    lines = [line.split() for line in output.splitlines()]
    assert ["BMIP", "83.0", "83.0", "83.0", "vit_b16_c2_ep10_batch4_2ctx"] in lines
    assert ["MaPLe", "vit_b16_c2_ep5_batch4_2ctx,", "failed"] in lines
    assert re.search(r"^MaPLe failed: .* status 3; see above and output/\S+/seed1/log.txt$", output, re.MULTILINE)


def test_trainers_and_seeds_run_at_once_where_flags_say_so_and_end_in_the_same_table(scripts, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    words = ("compare", "BMIP", "eurosat", "1 2", "MaPLe", "--dassl", "stand-in")
    assert call(scripts, *words, "--jobs", "2") == 0
    output, error = capfd.readouterr()
    lines = [line.split() for line in output.splitlines()]
    assert ["BMIP", "83.0", "83.0", "83.0", "vit_b16_c2_ep10_batch4_2ctx"] in lines
    assert ["MaPLe", "73.0", "73.0", "73.0", "vit_b16_c2_ep5_batch4_2ctx"] in lines
    assert "[4/4] done" in error and "train.py" not in output  # here, all is done already
    fails = TRAIN.replace("(output / ", 'if trainer == "MaPLe": raise SystemExit(3)\n(output / ', 1)
    (scripts.CHECKOUT / "train.py").write_text(fails)
    assert call(scripts, *words, "--jobs", "2", "--force") == 1
    output, error = capfd.readouterr()
    assert ["BMIP", "83.0", "83.0", "83.0", "vit_b16_c2_ep10_batch4_2ctx"] in map(str.split, output.splitlines())
    assert re.search(
        "^MaPLe failed: .*status 3.* see .*log.txt, of .*base2new MaPLe eurosat", output, re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize(
    "words, told",
    [
        (["--shots", "four"], "'four' is no whole number from 1"),
        (["--shots", "0"], "'0' is no whole number from 1"),
        (["1", "tiny", "OPTIM.MAX_EPOCH", "2"], "OPTIM.MAX_EPOCH: KEY VALUE pairs go after --opts"),
        (["OPTIM.MAX_EPOCH", "2"], "OPTIM.MAX_EPOCH: KEY VALUE pairs go after --opts"),
        (["--opts", "OPTIM.LR", "1", "--force"], "--force: flags go before --opts"),
    ],
)
def test_a_wrong_command_line_is_told_with_what_to_type(scripts, capfd, words, told):
    with pytest.raises(SystemExit):
        call(scripts, "base2new_train", "BMIP", "eurosat", *words)
    assert told in capfd.readouterr().err


def test_a_data_set_without_its_folder_is_refused_before_the_run(scripts, capfd):
    (scripts.CHECKOUT / "datasets").mkdir()
    text = (
        'class Other(Base):\n    dataset_dir = "o"\n\nclass EuroSAT(Base):\n    """A."""\n\n    dataset_dir = "euro"\n'
    )
    (scripts.CHECKOUT / "datasets" / "all.py").write_text(text)
    assert call(scripts, "base2new", "BMIP", "eurosat") == 2
    output, error = capfd.readouterr()
    assert f"no {scripts.CHECKOUT / 'data' / 'euro'}, the folder of eurosat" in error and "train.py" not in output
    (scripts.CHECKOUT / "data" / "euro").mkdir()
    assert runs(scripts, capfd, "1") == ["run", "run"]


def test_a_table_of_bmip_alone_says_so_and_counts_in_words_of_one(scripts, capfd):
    train = re.sub(r"accuracy = .*", "accuracy = 0.0", TRAIN)
    (scripts.CHECKOUT / "train.py").write_text(train)
    assert call(scripts, "compare", "BMIP", "eurosat", "1", "--shots", "1") == 0
    output = capfd.readouterr().out
    assert "Only BMIP is trained" in output and "eurosat, 1 shot, seed 1: accuracy" in output
    assert ["BMIP", "0.0", "0.0", "0.0", "vit_b16_c2_ep10_batch4_2ctx"] in [
        line.split() for line in output.splitlines()
    ]


def test_a_killed_script_leaves_no_training_behind(scripts):
    ready = scripts.CHECKOUT / "ready"
    waiting = "import pathlib, os, time\nfrom trainers.plugin import plug_in\nplug_in([], {})\n"
    waiting += f"pathlib.Path({str(ready)!r}).write_text(str(os.getpid()))\ntime.sleep(60)\n"
    (scripts.CHECKOUT / "train.py").write_text(waiting)
    command = [sys.executable, str(scripts.CHECKOUT / "scripts" / "bmip" / "run.py"), "base2new_train", "BMIP"]
    command += ["eurosat", "--data", str(scripts.CHECKOUT / "data"), "--dassl", "stand-in"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parents[2])}
    script = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (ready.exists() and ready.read_text()) and time.monotonic() < deadline and script.poll() is None:
        time.sleep(0.1)
    training = psutil.Process(int(ready.read_text()))
    script.kill()
    script.wait()
    psutil.wait_procs([training], timeout=10)
    assert not training.is_running()
