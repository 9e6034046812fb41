"""The plugin goes into a checkout of CoOp's kind, works there, and comes out again without a trace."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from test_configs import CONFIGS, load

from trainers.plugin import in_one_line
from trainers.prompting.methods import OBJECTIVES
from trainers.prompting.recipes import read_recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import install_plugin
from install_plugin import MANIFEST

TRAIN = '''"""A train.py of CoOp's kind."""
import sys

from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY

import datasets.flowers
from trainers.coop import (
    CoOp,
)

NAMES = "naïve"

if __name__ == "__main__":
    cfg = get_cfg_default()
    cfg.merge_from_file(sys.argv[1])
    cfg.freeze()
    print("TRAINERS", *TRAINER_REGISTRY.registered_names())
    print("KEYS", *sorted(cfg.TRAINER))
    print("RECIPE", cfg.TRAINER.RECIPE, cfg.INPUT.SIZE, cfg.OPTIM.WARMUP_CONS_LR, cfg.DATASET.SUBSAMPLE_CLASSES)
    exec(sys.argv[2])
'''
LEFT_OVER = "import trainers.coop\nimport bmip_plugin\n"
OWN_BMIP = "from dassl.engine import TRAINER_REGISTRY\n\n\n@TRAINER_REGISTRY.register()\nclass BMIP:\n    pass\n"


@pytest.fixture(scope="module", autouse=True)
def files_made_once() -> Iterator[None]:
    """The plugin's files, which depend on the trainer's name alone, are made once for each."""
    make, made = install_plugin.make_plugin, {}

    def make_plugin(root: Path) -> tuple[str, dict[str, bytes]]:
        name = install_plugin.free_name(root)
        made[name] = made.get(name) or make(root)
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(install_plugin, "make_plugin", make_plugin)
        yield


@pytest.fixture
def checkout(tmp_path) -> Path:
    root = tmp_path / "checkout"
    files = {
        "train.py": TRAIN,
        "trainers/__init__.py": "",
        "trainers/coop.py": OWN_BMIP.replace("BMIP", "CoOp"),
        "datasets/__init__.py": "",
        "datasets/flowers.py": "",
        "configs/trainers/CoOp/rn50.yaml": "SEED: 1\n",
        "configs/datasets/flowers.yaml": "DATASET:\n  NAME: Flowers\n",
        "scripts/coop/main.sh": "echo coop\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


def snapshot(root: Path) -> dict[str, bytes | None]:
    """Every file's content and every folder below `root`."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def keys(node: str) -> str:
    """The line of the keys below TRAINER: BMIP's node, those of all objectives, and what every run has."""
    keyed = [key.split(".") for objective in OBJECTIVES.values() for key in objective.Config().keyed()]
    of_objectives = {key[1] for key in keyed if key[0] == "TRAINER"}
    return f"KEYS {' '.join(sorted({node, 'NAME', 'OBJECTIVE', 'RECIPE', 'TAG', *of_objectives}))}\n"


def call(*arguments: object) -> int:
    return install_plugin.main([str(argument) for argument in arguments])


def refused(root: Path, capsys, *flags: str) -> str:
    """The error of a call that changes nothing."""
    before = snapshot(root)
    capsys.readouterr()
    assert call(root, *flags) == 2
    assert snapshot(root) == before
    return capsys.readouterr().err


def start_train(root: Path, config: str, code: str = "") -> subprocess.CompletedProcess:
    """Run the checkout's train.py from its folder, on the stand-in that the plugin brings; it ends with the code."""
    command = [sys.executable, "-W", "ignore", "-m", "minidassl", "train.py", f"configs/trainers/{config}.yaml", code]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def run_train(root: Path, config: str, code: str = "") -> str:
    done = start_train(root, config, code)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def mine(checkout) -> Path:
    """A file of the user's in the way of a recipe."""
    path = checkout / "configs" / "trainers" / "BMIP" / "tiny.yaml"
    path.parent.mkdir()
    path.write_bytes(b"mine\r\n")
    return path


def test_train_py_gets_one_line_and_all_else_lies_in_new_folders(checkout, capsys):
    before = snapshot(checkout)
    assert call(checkout) == 0
    assert 'scripts/bmip/compare.sh eurosat "1 2 3" CoOp ' in capsys.readouterr().out
    after = snapshot(checkout)
    assert {name for name in before if after[name] != before[name]} == {"train.py"}
    assert after["train.py"].decode() == TRAIN.replace("CoOp,\n)\n", "CoOp,\n)\nimport bmip_plugin\n")
    new = after.keys() - before.keys()
    assert all(name.startswith(("bmip_plugin", "minidassl", "configs/trainers/BMIP", "scripts/bmip")) for name in new)
    assert not any(name.startswith("bmip_plugin/trainers/maple") for name in new)


def test_train_py_finds_the_trainer_its_keys_and_a_whole_configuration_and_the_package_recipes_by_name(checkout):
    call(checkout)
    code = (
        "from bmip_plugin.trainers.prompting import recipes; print(recipes.read_recipe('MaPLe', 'tiny_consistency'))"
    )
    output = run_train(checkout, "BMIP/vit_b16_c2_ep10_batch4_2ctx_none", code)
    assert output.splitlines()[-1] == str(read_recipe("MaPLe", "tiny_consistency"))
    assert "Dassl: built-in stand-in" in output
    assert "TRAINERS CoOp BMIP\n" in output
    assert keys("BMIP") in output
    assert "RECIPE vit_b16_c2_ep10_batch4_2ctx_none (224, 224) 1e-05 all\n" in output


def test_recipes_have_the_effect_of_ours_without_bases_which_yacs_does_not_know(checkout):
    call(checkout)
    paths = sorted((checkout / "configs" / "trainers" / "BMIP").glob("*.yaml"))
    assert {"tiny", "tiny_depth4", "tiny_consistency", "BMIP_ctx2_dp9_lr2"} < {path.stem for path in paths}
    for path in paths:
        written = yaml.safe_load(path.read_text())
        assert "_BASE_" not in written and written["TRAINER"]["RECIPE"] == path.stem
        assert load("BMIP", path) == load("BMIP", CONFIGS / "trainers" / "BMIP" / path.name), path.name


def test_a_checkout_with_a_bmip_of_its_own_keeps_it(checkout):
    (checkout / "trainers" / "bmip.py").write_text(OWN_BMIP)
    (checkout / "configs" / "trainers" / "BMIP").mkdir()
    train = TRAIN.replace("import datasets.flowers", "import datasets.flowers\nimport trainers.bmip")
    (checkout / "train.py").write_text(train)
    assert call(checkout) == 0
    output = run_train(checkout, "BMIPPlugin/tiny")
    assert "BMIP of the plugin is the trainer BMIPPlugin here; its keys are TRAINER.BMIPPLUGIN" in output
    assert "TRAINERS BMIP CoOp BMIPPlugin\n" in output
    assert keys("BMIPPLUGIN") in output
    assert not list((checkout / "configs" / "trainers" / "BMIP").iterdir())
    assert "scripts/bmipplugin/xd_test.sh" in (checkout / "scripts/bmipplugin/xd_test.sh").read_text()


@pytest.mark.parametrize(
    "place, text",
    [
        ("trainers/sub/mine.py", OWN_BMIP),
        ("trainers/mine.py", "class BMIP: ...\n\n\nTRAINER_REGISTRY.register()(BMIP)\n"),
        ("train.py", TRAIN + "\n\ndef extend_cfg(cfg):\n    cfg.TRAINER.BMIP = CN()\n"),
    ],
    ids=["in a folder", "by a call", "its keys"],
)
def test_a_bmip_is_found_wherever_and_however_it_is_declared(checkout, place, text):
    (checkout / place).parent.mkdir(exist_ok=True)
    (checkout / place).write_text(text)
    call(checkout)
    assert json.loads((checkout / MANIFEST).read_text())["trainer"] == "BMIPPlugin"


def test_many_files_in_the_way_are_counted(checkout, capsys):
    call(checkout)
    (checkout / MANIFEST).unlink()
    (checkout / "train.py").write_text(TRAIN)
    assert re.search(r"names already: (\S+, ){4}\S+ and \d+ more\. Move", refused(checkout, capsys))


def test_a_name_that_is_taken_later_is_an_error_with_the_remedy(checkout):
    call(checkout)
    (checkout / "trainers" / "coop.py").write_text(OWN_BMIP + "\n\nclass CoOp: ...\n")
    done = start_train(checkout, "BMIP/tiny")
    assert "BMIP" in done.stderr and "Run install_plugin.py again" in done.stderr
    assert "Traceback" not in done.stderr and done.returncode == 1
    assert call(checkout) == 0
    assert "TRAINERS BMIP BMIPPlugin" in run_train(checkout, "BMIPPlugin/tiny")


@pytest.mark.parametrize(
    "error, words",
    [
        (FileNotFoundError(2, "No such file or directory", "/data/eurosat/2750"), ("/data/eurosat/2750'", "--root")),
        (
            OSError("Caught OSError in DataLoader worker process 0.\nTraceback\nOSError: 'x.jpg' is broken\n"),
            ("x.jpg",),
        ),
        (KeyboardInterrupt(), ("Interrupted", "same command")),
    ],
)
def test_missing_data_and_an_interruption_are_one_line_and_errors_in_code_are_tracebacks(capsys, error, words):
    hook = functools.partial(in_one_line, lambda *arguments: print("Traceback"))
    hook(type(error), error, None)
    output, line = capsys.readouterr()
    assert all(word in line for word in words) and line.count("\n") == 1 and not output
    hook(TypeError, TypeError("mine"), None)
    assert capsys.readouterr().out == "Traceback\n"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_endings_stay_and_uninstalling_restores_every_byte_without_pythons_caches(checkout, ending, mark):
    (checkout / "train.py").write_bytes(mark + TRAIN.replace("\n", ending).encode())
    before = snapshot(checkout)
    call(checkout)
    train = (checkout / "train.py").read_bytes()
    assert f"{ending}import bmip_plugin{ending}".encode() in train
    assert train.count(b"\r\n") == (train.count(b"\n") if ending == "\r\n" else 0)
    assert call(checkout) == 0
    assert (checkout / "train.py").read_bytes() == train
    for folder in ("bmip_plugin/trainers/prompting", "minidassl/own"):
        (checkout / folder / "__pycache__").mkdir()
        (checkout / folder / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"")
    assert call(checkout, "--uninstall") == 0
    assert snapshot(checkout) == before


def test_a_dry_run_changes_nothing_and_shows_what_would_be(checkout, capsys):
    before = snapshot(checkout)
    assert call(checkout, "--dry-run") == 0
    assert snapshot(checkout) == before and "+ bmip_plugin/" in capsys.readouterr().out
    call(checkout)
    once, count = snapshot(checkout), len(json.loads((checkout / MANIFEST).read_text())["files"])
    for flags, words in (
        ([], f"{count} files would be deleted and {count} written; nothing was."),
        (["--uninstall"], f"{count} files would be deleted; nothing was."),
    ):
        capsys.readouterr()
        assert call(checkout, "--dry-run", *flags) == 0
        output = capsys.readouterr().out
        assert snapshot(checkout) == once and words in output and "put aside" not in output


def test_a_file_in_the_way_is_named_and_with_force_comes_back_when_uninstalling(checkout, capsys, mine):
    before = snapshot(checkout)
    error = refused(checkout, capsys)
    assert "configs/trainers/BMIP/tiny.yaml" in error and "--force" in error
    assert call(checkout, "--force") == 0
    assert b"Written by install_plugin.py" in mine.read_bytes()
    call(checkout, "--uninstall")
    assert snapshot(checkout) == before


def test_uninstalling_leaves_outputs_new_files_and_changes_of_train_py_alone(checkout, capsys):
    call(checkout)
    (checkout / "output").mkdir()
    (checkout / "output" / "log.txt").write_text("log")
    (checkout / "configs" / "trainers" / "BMIP" / "mine.yaml").write_text("mine")
    with (checkout / "train.py").open("a") as file:
        file.write("# mine\n")
    call(checkout, "--uninstall")
    assert (checkout / "output" / "log.txt").read_text() == "log"
    assert [path.name for path in (checkout / "configs" / "trainers" / "BMIP").iterdir()] == ["mine.yaml"]
    assert (checkout / "train.py").read_text() == TRAIN + "# mine\n"
    output = capsys.readouterr().out
    assert "configs/trainers/BMIP/ stays" in output and "your changes since the installation stay" in output
    assert not (checkout / "bmip_plugin").exists()


def test_changed_files_of_the_plugin_are_refused_and_with_force_kept_beside_it(checkout, capsys):
    changed = checkout / "bmip_plugin" / "trainers" / "bmip.py"
    for text, flag in (("1", "--uninstall"), ("2", "--force"), ("3", "--uninstall")):
        call(checkout)
        changed.write_text(text)
        error = refused(checkout, capsys, *({flag} - {"--force"}))
        assert "bmip_plugin/trainers/bmip.py in" in error and "--force" in error
        assert call(checkout, flag, "--force") == 0
        assert changed.exists() == (flag == "--force")
    kept = {path.name: path.read_text() for path in changed.parent.glob("*.changed")}
    assert kept == {"bmip.py.changed": "1", "bmip.py.changed.changed": "2", "bmip.py.changed.changed.changed": "3"}


def test_an_update_keeps_what_was_put_aside_and_refuses_before_it_deletes(checkout, capsys, mine):
    before = snapshot(checkout)
    assert call(checkout, "--force") == 0
    once = snapshot(checkout)
    assert call(checkout) == 0
    assert snapshot(checkout) == once
    manifest = json.loads((checkout / MANIFEST).read_text())
    del manifest["files"]["minidassl/config.py"]  # as if this version brought one file more, which is there already
    (checkout / MANIFEST).write_text(json.dumps(manifest))
    assert "minidassl/config.py" in refused(checkout, capsys)
    assert call(checkout, "--force") == 0
    call(checkout, "--uninstall")
    assert before.items() <= snapshot(checkout).items()


def test_a_file_in_the_place_of_a_folder_is_named_before_anything_is_written(checkout, capsys):
    (checkout / "scripts" / "bmip").write_text("mine")
    for flags in ([], ["--force"]):
        assert "scripts/bmip is a file; move it away" in refused(checkout, capsys, *flags)


def test_an_installation_that_breaks_off_is_undone_and_says_so(checkout, capsys, monkeypatch):
    before = snapshot(checkout)
    write = install_plugin.write

    def full(root: Path, path: str, *arguments, **options) -> None:
        if path.endswith("records.py"):
            raise OSError(28, "No space left on device", path)
        write(root, path, *arguments, **options)

    monkeypatch.setattr(install_plugin, "write", full)
    assert call(checkout) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and "records.py" in error and "undone" in error
    assert snapshot(checkout) == before


def test_an_installation_of_an_earlier_version_of_the_installer_is_taken_out(checkout, mine):
    before = snapshot(checkout)
    call(checkout, "--force")
    manifest = json.loads((checkout / MANIFEST).read_text())
    manifest["put_aside"] = list(manifest["put_aside"])
    (checkout / MANIFEST).write_text(json.dumps(manifest))
    assert call(checkout, "--uninstall") == 0
    assert snapshot(checkout) == before


@pytest.mark.parametrize(
    "flags, change, words",
    [
        ([], lambda root: (root / "train.py").unlink(), "has no train.py"),
        ([], lambda root: ((root / "train.py").unlink(), (root / "train.py").mkdir()), "has no train.py"),
        ([], lambda root: shutil.rmtree(root), "There is no folder"),
        ([], lambda root: (root / "train.py").write_text("import os\n"), "imports nothing of trainers or datasets"),
        ([], lambda root: (root / "train.py").write_text(LEFT_OVER), "remove that line"),
        ([], lambda root: (root / "train.py").write_text("def\n"), "is not Python"),
        (["--uninstall"], lambda root: None, "not installed"),
    ],
    ids=["no train.py", "a folder", "no checkout", "no trainers", "a line left over", "broken", "not installed"],
)
def test_what_cannot_be_is_refused_with_the_reason(checkout, capsys, flags, change, words):
    change(checkout)
    error = refused(checkout, capsys, *flags)
    assert words in error and str(checkout) in error


def test_this_repository_is_no_checkout_to_install_into(capsys):
    assert call(install_plugin.ROOT) == 2
    assert "this repository itself" in capsys.readouterr().err
