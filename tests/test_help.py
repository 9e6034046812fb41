"""Every command answers `--help`, and a wrong flag, before it imports anything that takes long."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.py"), *(ROOT / "scripts").rglob("*.py")) if path.is_file()
)
WRAPPERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "scripts").rglob("*.sh") if path.name != "env.sh")
SLOW = {"torch", "torchvision", "numpy", "scipy", "sklearn", "PIL", "matplotlib", "clip", "dassl", "tensorboard"}
# At the end of every Python process, also below a wrapper: print which of the slow modules it has imported.
NOTE_SLOW = f"import atexit, sys; atexit.register(lambda: print('slow:', {SLOW} & {{*sys.modules}}, file=sys.stderr))"


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """Calls a command in a process that says at its end what it has imported."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(NOTE_SLOW)

    def call(*command: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(folder)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert "slow: {" not in done.stderr, done.stderr
        return done

    return call


@pytest.mark.parametrize("command", [*SCRIPTS, "-m minidassl"])
def test_a_script_describes_itself_before_it_imports_what_takes_long(answer, command):
    done = answer(sys.executable, *command.split(), "--help")
    assert done.returncode == 0 and "slow: set()" in done.stderr, done.stderr
    assert "usage: " in done.stdout and len(done.stdout.splitlines()) > 3


@pytest.mark.parametrize("command", [*SCRIPTS, "-m minidassl"])
def test_a_wrong_command_line_is_refused_as_early(answer, command):
    done = answer(sys.executable, *command.split(), "--jobs=many", "--no-such-flag")
    assert done.returncode != 0 and "slow: set()" in done.stderr, done.stderr
    assert "rror: " in done.stderr


@pytest.mark.parametrize("name", ["launch", "compare", "reproduce", "check_data"])
def test_every_argument_has_a_text(answer, name):
    for block in answer(sys.executable, f"scripts/{name}.py", "--help").stdout.split("\n\n"):
        if re.match("(positional arguments|options):\n", block):
            # It follows after some blanks, or in the next line.
            entries = re.split(r"\n  (?=\S)", block.rstrip())[1:]
            assert entries and all(re.search(r"\s{2,}\S", entry) for entry in entries), block


@pytest.mark.parametrize("name", ["launch", "compare", "reproduce"])
def test_the_prose_of_a_command_is_as_wide_as_the_texts_of_its_flags(answer, name):
    shown = answer(sys.executable, f"scripts/{name}.py", "--help").stdout.splitlines()
    assert all(len(line) <= 80 for line in shown if not line.startswith(("    python", "usage: "))), shown


@pytest.mark.parametrize(
    "command",
    [
        ["scripts/launch.py", "base2new_train", "BMIP", "eurosta", "1"],
        ["scripts/launch.py", "base2new_trian", "BMIP", "digits"],
        ["scripts/launch.py", "base2new_train", "BMIP", "digits", "one"],
        ["scripts/compare.py", "eurosta", "1", "BMIP"],
        ["scripts/reproduce.py", "open-world", "--datasets", "eurosta"],
    ],
    ids=" ".join,
)
def test_a_misspelt_name_is_refused_before_the_methods_are_imported(answer, command):
    done = answer(sys.executable, *command)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "slow: set()" in done.stderr


def test_what_is_sourced_says_that_it_is_no_command(answer):
    done = answer("bash", "scripts/env.sh", "--help")
    assert "sourced" in done.stdout + done.stderr and len((done.stdout + done.stderr).splitlines()) == 1


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_shows_how_it_is_called(answer, wrapper):
    done = answer("bash", wrapper, "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) >= 2, done.stderr
    # Those of the plugin show its script's help.
    assert "slow: set()" in done.stderr if "plugin" in wrapper else f" {wrapper}" in done.stdout


def test_all_methods_are_listed_where_the_help_of_the_launcher_says_so(answer):
    from experiments import launch
    from experiments.methods import names

    shown = answer(sys.executable, "scripts/launch.py", "--help").stdout
    assert "docs/METHODS.md" in shown and "without it, all are listed" in " ".join(shown.split())
    text = (ROOT / "docs" / "METHODS.md").read_text()
    assert all(f"`{name}`" in text for name in names())
    with pytest.raises(launch.InputError) as refusal:
        launch.request_of(launch.parse_args(["base2new"]))
    assert all(name in str(refusal.value) for name in names())


def test_whatever_is_below_scripts_is_a_command():
    for name in SCRIPTS:
        assert 'if __name__ == "__main__":' in (ROOT / name).read_text(), name
