"""The launcher and its wrappers: CoOp's commands and folders, nothing started that cannot run, the table's numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import launch  # noqa: E402

import datasets  # noqa: E402
import train  # noqa: E402


def run_script(*command: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a shell wrapper with the Python of the tests."""
    kept = {key: value for key, value in os.environ.items() if key != "DATA"}
    environment = {**kept, "PYTHON": sys.executable, **environment}
    return subprocess.run(["bash", *command], cwd=ROOT, env=environment, capture_output=True, text=True)


def commands(arguments: list[str], capsys) -> list[list[str]]:
    assert launch.main([*arguments, "--dry-run"]) == 0
    return [line.split()[2:] for line in capsys.readouterr().out.splitlines()]


def test_training_uses_coops_folder_layout(capsys):
    (command,) = commands(["base2new_train", "BMIP", "eurosat", "2", "--data", "/data"], capsys)
    args = train.parse_args(command)
    cfg = "vit_b16_c2_ep10_batch4_2ctx"
    assert args.output_dir == f"output/base2new/train_base/eurosat/shots_16/BMIP/{cfg}/seed2"
    assert (args.root, args.seed, args.eval_only) == ("/data", 2, False)
    assert args.opts == ["DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "base"]


def test_testing_loads_what_training_wrote(capsys):
    (trained,) = commands(["base2new_train", "BMIP", "dtd", "3", "tiny", "--data", "/d", "--shots", "4"], capsys)
    (tested,) = commands(["base2new_test", "BMIP", "dtd", "3", "tiny", "--data", "/d", "--shots", "4"], capsys)
    trained, tested = train.parse_args(trained), train.parse_args(tested)
    assert tested.eval_only and tested.model_dir == trained.output_dir
    assert tested.output_dir == "output/base2new/test_new/dtd/shots_4/BMIP/tiny/seed3"
    assert tested.opts[:2] == trained.opts[:2] == ["DATASET.NUM_SHOTS", "4"]
    assert tested.opts[-1] == "new"


def test_the_whole_protocol_has_the_baseline_and_all_three_class_sets(capsys):
    runs = [train.parse_args(command) for command in commands(["base2new", "BMIP", "digits"], capsys)]
    asked = [(run.trainer, run.opts[-1], run.eval_only) for run in runs]
    zero_shot = [("ZeroshotCLIP", classes, True) for classes in ("base", "new", "all")]
    assert asked == [*zero_shot, ("BMIP", "base", False), ("BMIP", "new", True), ("BMIP", "all", True)]
    assert len({run.output_dir for run in runs}) == 6
    for run in runs:
        assert (ROOT / run.config_file).is_file() and (ROOT / run.dataset_config_file).is_file()


def test_force_trains_again_and_leaves_evaluations_as_they_are(capsys):
    arguments = ["base2new", "BMIP", "digits", "1", "tiny", "OPTIM.MAX_EPOCH", "3", "--force"]
    runs = [train.parse_args(command) for command in commands(arguments, capsys)]
    assert all("OPTIM.MAX_EPOCH" in run.opts for run in runs)
    assert [run.force for run in runs] == [not run.eval_only for run in runs]


def test_the_baseline_has_the_backbone_of_the_method(capsys):
    runs = commands(["base2new", "BMIP", "eurosat", "1", "tiny", "--data", "/d"], capsys)
    assert all(train.parse_args(run).config_file.endswith("/tiny.yaml") for run in runs)


def test_a_run_without_a_test_has_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    with pytest.raises(launch.InputError, match="no tested result"):
        launch.table(launch.plan("base2new", "BMIP", "digits", 1, None, 16))


def test_options_behind_the_arguments_go_to_train_py(capsys):
    (command,) = commands(["base2new_train", "BMIP", "digits", "1", "--resume", "/r"], capsys)
    assert train.parse_args(command).resume == "/r"


def test_built_in_data_sets_are_those_that_the_project_writes():
    written = {row.name for row in datasets.ROWS if row.write}
    names = {path.stem: path.read_text().split()[-1].strip('"') for path in (ROOT / "configs/datasets").glob("*.yaml")}
    assert {stem for stem, name in names.items() if name in written} == set(launch.BUILTIN_DATASETS)


def test_every_method_has_its_default_configurations():
    for trainer, cfg in launch.DEFAULT_CFG.items():
        for name in (cfg, launch.BUILTIN_CFG):
            assert (ROOT / f"configs/trainers/{trainer}/{name}.yaml").is_file()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["eurosatt", "--data", "/d"], ["eurosatt", "eurosat", "digits"]),
        (["eurosat", "1", "huge", "--data", "/d"], ["huge", "tiny"]),
        (["eurosat"], ["DATA=", "--data"]),
    ],
)
def test_what_cannot_run_is_refused_with_the_remedy(capsys, monkeypatch, arguments, words):
    monkeypatch.delenv("DATA", raising=False)
    assert launch.main(["base2new_train", "BMIP", *arguments]) == 2
    errors = capsys.readouterr().err
    assert all(word in errors for word in words)


def test_the_table_has_the_harmonic_mean(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    runs = launch.plan("base2new", "BMIP", "digits", 1, None, 16)
    for run, accuracy in zip(runs, [60, 40, 30, 90, 45, 50]):
        folder = tmp_path / run.output
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(f'{{"accuracy": {accuracy}, "trained": false}}')
    lines = launch.table(runs).splitlines()
    assert lines[0].split() == ["method", "base", "new", "HM", "open-world"]
    assert lines[2].split() == ["ZeroshotCLIP", "60.00", "40.00", "48.00", "30.00"]
    assert lines[3].split() == ["BMIP", "90.00", "45.00", "60.00", "50.00"]
    assert launch.harmonic_mean(0, 0) == 0


def test_a_failing_run_stops_the_protocol_and_shows_why(capsys, monkeypatch):
    monkeypatch.setattr(launch.Run, "command", lambda *_: [sys.executable, "-c", "raise SystemExit('no luck')"])
    assert launch.main(["base2new", "BMIP", "digits"]) == 1
    captured = capsys.readouterr()
    assert "no luck" in captured.err and "open-world" not in captured.out


@pytest.mark.parametrize("script", ["base2new_train", "base2new_test"])
def test_wrappers_pass_their_arguments_on(script, tmp_path):
    done = run_script(f"scripts/bmip/{script}.sh", "eurosat", "3", "--dry-run", DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"--root {tmp_path} --seed 3 --trainer BMIP" in done.stdout and "eurosat.yaml" in done.stdout


def test_the_wrapper_without_data_names_the_remedy():
    done = run_script("scripts/bmip/base2new_train.sh", "eurosat", "1")
    assert done.returncode == 2 and "DATA=" in done.stderr
