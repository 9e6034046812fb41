"""Every command answers `--help`, and a wrong flag, before it imports anything that takes long."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_shows_how_it_is_called(answer, wrapper):
    done = answer("bash", wrapper, "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) >= 2, done.stderr
    # Those of the plugin show its script's help.
    assert "slow: set()" in done.stderr if "plugin" in wrapper else f"bash {wrapper}" in done.stdout


def test_all_methods_are_listed_where_the_help_of_the_launcher_says_so(answer):
    from experiments import launch
    from experiments.methods import names

    shown = answer(sys.executable, "scripts/launch.py", "--help").stdout
    assert "docs/METHODS.md" in shown and "without it, all are listed" in shown
    text = (ROOT / "docs" / "METHODS.md").read_text()
    assert all(f"`{name}`" in text for name in names())
    with pytest.raises(launch.InputError) as refusal:
        launch.request_of(launch.parse_args(["base2new"]))
    assert all(name in str(refusal.value) for name in names())


def test_whatever_is_below_scripts_is_a_command():
    for name in SCRIPTS:
        assert 'if __name__ == "__main__":' in (ROOT / name).read_text(), name
