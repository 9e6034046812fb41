"""What cannot run is refused before a command's first run: names, configurations, folders of other runs, outputs."""

from __future__ import annotations

import re

from minidassl.own.jobs.claims import claim
from minidassl.own.text import words

import pytest
import yaml

import trainers
from datasets import check as check_data
from experiments import compare, evaluate_checkpoint, launch, models, pictures, report, reproduce, runner, runs
from experiments.runs import parse_seeds
from experiments.tables import command as tables
from tests.helpers.runs import Finished
from trainers import config
from trainers.prompting import recipes
from trainers.prompting.api import predict
from trainers.prompting.errors import InputError, nearest

COMPARED = ["digits", "1", "ZeroshotCLIP VPT"]


@pytest.fixture
def started(monkeypatch) -> list:
    """The runs that commands start; none is run."""
    found = []
    monkeypatch.setattr(runner, "start_work", lambda work, _: found.append(work.run.output) or Finished())
    monkeypatch.setattr(launch, "execute", lambda command, *_, **__: found.append(command) or 1)
    return found


def refused(capsys, command, *arguments: str) -> str:
    """The one message of a command that ends in it."""
    assert command.main([*arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and "Traceback" not in captured.err
    return captured.err


def leave_run(run: runs.Run, **settings: object) -> None:
    """What a training run with other settings leaves."""
    trainers.register_all()
    (run.folder / "learner").mkdir(parents=True)
    (run.folder / "learner" / "model.pth.tar-1").touch()
    configuration = runner.configuration_of(run, None, ()) | settings
    (run.folder / "settings.yaml").write_text(yaml.safe_dump(configuration))


@pytest.mark.parametrize(
    "option, words",
    [
        (["OPTIM.MAX_EPOCHX", "3"], ["VPT on digits", "OPTIM.MAX_EPOCHX"]),
        (["TRAINER.VPT.N_CTX_VISION", "0"], ["VPT on digits", "TRAINER.VPT.N_CTX_VISION is 0"]),
        (["OPTIM.MAX_EPOCH", "2", "TRAINER.OBJECTIVE", "self_regulation"], ["VPT on digits", "GPA_MEAN is 15.0"]),
        (["MODEL.BACKBONE.NAME", "no.pt"], ["MODEL.BACKBONE.NAME is 'no.pt'"]),
        (["DATASET.NUM_SHOTS"], ["DATASET.NUM_SHOTS", "KEY VALUE"]),
    ],
    ids=lambda value: value[0],
)
@pytest.mark.parametrize("command", [compare, launch], ids=["compare", "launch"])
def test_a_configuration_of_one_run_is_refused_before_another_starts(
    command, checkout, data_root, started, capsys, option, words
):
    arguments = [*COMPARED] if command is compare else ["base2new", "VPT", "digits"]
    error = refused(capsys, command, *arguments, "--data", data_root, *option)
    assert all(word in error for word in words) and not started


def test_all_folders_of_other_runs_are_named_with_what_this_command_can_do(checkout, started, capsys, monkeypatch):
    arguments = ["open-world", "--methods", "BMIP VPT", "--datasets", "digits", "--seeds", "1 2"]
    trained = [
        run
        for chain in reproduce.planned_chains(["open-world"], False, ["digits"], ["BMIP", "VPT"], [1, 2])
        for run in chain
        if run.trains
    ]
    for run in trained[:3]:
        leave_run(run, VERSION=2)
    error = refused(capsys, reproduce, *arguments, "--dry-run")
    assert all((run.output in error) == (run in trained[:3]) for run in trained)
    assert "VERSION was 2 and is now 1" in error and "--seeds" in error
    assert not re.search("--force|--output-dir|--tag", error) and not started
    (trained[0].folder / "settings.yaml").write_text("damaged: [")
    error = refused(capsys, reproduce, *arguments, "--dry-run")
    assert "settings.yaml is not" in error and trained[1].output in error and "--force" not in error
    assert "--tag" in refused(capsys, compare, "digits", "1", "BMIP") and not started
    error = refused(capsys, launch, "base2new", "BMIP", "digits", "1")
    assert "--force" in error and "--tag" in error and not started
    assert launch.main(["base2new", "BMIP", "digits", "1", "--force"]) == 1 and started


@pytest.mark.parametrize("command", [compare, launch, reproduce], ids=["compare", "launch", "reproduce"])
def test_an_output_that_cannot_be_written_is_refused_before_any_run(command, checkout, started, capsys):
    (checkout / "output" / "base2new").mkdir(parents=True)
    (checkout / "output" / "base2new" / "test_all").write_text("a file")
    arguments = {
        compare: ["digits", "1", "VPT"],
        launch: ["base2new", "VPT", "digits"],
        reproduce: ["open-world", "--methods", "VPT", "--datasets", "digits", "--seeds", "1"],
    }[command]
    error = refused(capsys, command, *arguments)
    assert "output/base2new/test_all: Not a directory" in error and "choose another folder" in error and not started


def test_data_sets_without_a_folder_are_refused_together_unless_their_runs_are_done(checkout, started, capsys):
    (checkout / "all" / "eurosat").mkdir(parents=True)
    error = refused(capsys, compare, "eurosat dtd digits ucf101", "1", "VPT", "--data", str(checkout / "all"))
    assert "all/dtd" in error and "all/ucf101" in error and "all/eurosat" not in error and not started


def test_a_test_of_models_that_are_not_there_is_refused_for_all_seeds(checkout, started, capsys):
    error = refused(capsys, launch, "few_shot_test", "VPT", "digits", "--source", "symbols")
    assert all(f"/seed{seed}" in error for seed in (1, 2, 3)) and "train it first" in error and not started


@pytest.mark.parametrize(
    "command, arguments, meant",
    [
        (launch, ["base2knew", "BMIP", "digits"], "base2new"),
        (launch, ["base2new", "MaPle", "digits"], "MaPLe"),
        (launch, ["base2new", "BMIP", "digit"], "digits"),
        (launch, ["base2new", "BMIP:aditoin", "digits"], "addition"),
        (launch, ["base2new", "BMIP", "digits", "1", "tinny"], "tiny.yaml"),
        (compare, ["digits", "1", "BMIP MaPle"], "MaPLe"),
        (compare, ["eurosta", "1", "BMIP"], "eurosat"),
        (reproduce, ["abliation"], "ablation"),
        (reproduce, ["ablation", "--methods", "BMIPP"], "BMIP"),
        (reproduce, ["ablation", "--datasets", "eurosta"], "eurosat"),
        (tables, ["--table", "abliation"], "ablation"),
        (evaluate_checkpoint, ["digits", "--trainer", "MaPle", "--model-dir", "x"], "MaPLe"),
        (evaluate_checkpoint, ["eurosta", "--trainer", "MaPLe", "--model-dir", "x"], "eurosat"),
        (predict, ["--method", "MaPle", "--classes", "a,b", "x.png"], "MaPLe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_misspelt_name_is_answered_by_the_nearest_one_and_where_all_are(
    checkout, started, capsys, command, arguments, meant
):
    error = refused(capsys, command, *arguments)
    assert f"Do you mean {meant}?" in error and re.search("lists all|Choose one of", error)
    assert len(error) < 400 and not started


def test_the_check_of_the_data_takes_both_names_and_answers_a_misspelt_one_by_the_nearest(tmp_path, capsys):
    for name in ("eurosat", "EuroSAT", "eurosat,EuroSAT"):
        assert check_data.main([name, "--root", str(tmp_path)]) == 1
        assert capsys.readouterr().out.count("EuroSAT, fault") == 1
    with pytest.raises(SystemExit, match="2"):
        check_data.main(["eurosta", "--root", str(tmp_path)])
    assert "Do you mean eurosat? ls configs/datasets lists all." in capsys.readouterr().err


def test_commands_take_the_registered_name_of_a_data_set_and_keep_the_files_name_in_folders(checkout, started, capsys):
    for name in ("SymbolsTilt", "symbols_tilt"):
        assert launch.main(["base2new_train", "BMIP", name, "--dry-run"]) == 0
        assert reproduce.main(["open-world", "--methods", "BMIP", "--datasets", name, "--dry-run"]) == 0
        shown = capsys.readouterr().out
        assert "/symbols_tilt/" in shown and "SymbolsTilt" not in shown
        assert compare.main([name, "1", "VPT"]) == 0 and all(
            "/symbols_tilt/" in run or "/symbols/" in run for run in started
        )
    assert launch.main(["xd_test", "BMIP", "Digits", "--source", "Symbols", "--dry-run"]) == 0
    assert "output/symbols/BMIP" in capsys.readouterr().out


@pytest.mark.parametrize("lists", [("digits symbols", "1 2", "VPT CoOp"), ("digits,symbols", "1,2", "VPT, CoOp")])
def test_lists_have_blanks_or_commas(checkout, started, capsys, lists):
    datasets, seeds, methods = lists
    assert compare.main([*lists]) == 0
    flags = ["--datasets", datasets, "--seeds", seeds, "--methods", methods, "--dry-run"]
    assert reproduce.main(["open-world", *flags]) == 0
    assert len(started) == 2 * 2 * 2 * 2 and "16 of 16 runs" in capsys.readouterr().out
    assert words(" a, b ,c,, a ") == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["", "one", "-1", "1.5", str(2**32)])
def test_seeds_that_no_run_takes_are_refused(text):
    with pytest.raises(InputError, match="whole numbers from 0 to 4294967295"):
        parse_seeds(text)


@pytest.mark.parametrize(
    "arguments, word", [(["", "1"], "DATASETS is empty"), (["digits", "1", "VPT", "--jobs", "-1"], "--jobs")]
)
def test_what_stands_for_nothing_to_do_is_refused(checkout, started, capsys, arguments, word):
    assert word in refused(capsys, compare, *arguments) and not started


def test_a_plan_of_thousands_of_runs_builds_hundreds_of_configurations(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    built, build = [], config.build_cfg
    monkeypatch.setattr(config, "build_cfg", lambda args: built.append(args) or build(args))
    assert reproduce.main(["all", "--dry-run"]) == 0
    planned = int(re.search(r"(\d+) runs are missing", capsys.readouterr().out)[1])
    assert planned > 5000 and len(built) < 300


def test_the_report_refuses_models_and_outputs_before_it_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report.command, "look", None)
    monkeypatch.setattr(report.command, "collect", None)
    assert "nosuch has no settings.yaml" in refused(
        capsys, report, str(tmp_path), "--models", str(tmp_path / "nosuch")
    )
    (tmp_path / "page").write_text("")
    (tmp_path / "taken.html").mkdir()
    assert "Name a file" in refused(capsys, report, str(tmp_path), "--output", str(tmp_path / "taken.html"))
    for name in ("page/report.html", "page.html"):  # the pictures' folder of the latter is a file
        assert "A file is where a folder" in refused(capsys, report, str(tmp_path), "--output", str(tmp_path / name))


def test_pictures_refuse_a_folder_that_is_a_file_before_the_model_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, "load", None)
    (tmp_path / "taken").write_text("")
    assert "taken" in refused(capsys, pictures, str(tmp_path), "--output", str(tmp_path / "taken"))


def test_an_evaluation_refuses_its_folders_before_the_checkpoint_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate_checkpoint, "settings_of", None)
    flags = ["--trainer", "MaPLe", "--model-dir", "x"]
    assert "needs a data folder" in refused(capsys, evaluate_checkpoint, "EuroSAT", *flags, "--root", "")
    assert "eurosat" in refused(capsys, evaluate_checkpoint, "EuroSAT", *flags, "--root", str(tmp_path))
    (tmp_path / "taken").write_text("")
    error = refused(capsys, evaluate_checkpoint, "digits", *flags, "--output-dir", str(tmp_path / "taken"))
    assert "A file is where a folder" in error


def test_few_names_are_all_named_and_of_many_the_nearest():
    assert nearest("bse", ["all", "base", "new"], "--help") == "Do you mean base? Choose one of all, base, new."
    assert nearest("x", map(str, range(100)), "ls folder") == "ls folder lists all."


def test_a_file_of_a_data_set_that_cannot_be_read_hinders_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "CONFIGS", tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.yaml").write_text("DATASET: {NAME: Digits}\n")
    for name, text in (
        ("broken", "DATASET: ["),
        ("empty", ""),
        ("no_mapping", "- DATASET"),
        ("deep", "DATASET: {NAME: {}}"),
    ):
        (tmp_path / "datasets" / f"{name}.yaml").write_text(text)
    assert recipes.data_set_file("mine") == recipes.data_set_file("Digits") == "mine"
    assert recipes.data_sets() == {"deep": "", "empty": "", "mine": "Digits"}


def test_a_run_that_somebody_else_is_doing_is_refused_by_a_single_launch(checkout, started, capsys):
    words = ["base2new_train", "VPT", "digits", "1"]
    (planned,) = launch.plan(launch.request_of(launch.parse_args(words)))
    with claim(planned.folder):
        assert re.search("is being done by process .*; wait for it", refused(capsys, launch, *words))
    assert started == []


def test_a_launch_with_flags_of_an_engine_runs_as_a_comparison_does(checkout, started, capsys):
    assert launch.main(["base2new_train", "VPT", "digits", "1", "--jobs", "2"]) == 0
    assert started == ["output/base2new/train_base/digits/shots_16/VPT/tiny/seed1"]
    capsys.readouterr()
    assert re.search(
        "--force repeats runs here.*--jobs 2",
        refused(capsys, launch, "base2new_train", "VPT", "digits", "--jobs", "2", "--force"),
    )
