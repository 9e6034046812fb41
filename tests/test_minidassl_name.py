"""Who answers to the name ``dassl``: an importable upstream always, else the stand-in, and never both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_python(code: str, *search_paths: Path) -> str:
    """Run ``code`` in a fresh interpreter that finds the repository, then ``search_paths``, and no other ``dassl``."""
    setup = (
        "import sys\n"
        "sys.path[:] = [p for p in sys.path if not p.rstrip('/').lower().endswith('dassl.pytorch')]\n"
        f"sys.path[:0] = {[str(ROOT), *map(str, search_paths)]}\n"
    )
    done = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def facts() -> dict:
    """What one interpreter without upstream says about the stand-in; one, because each takes seconds to start."""
    if run_python("import importlib.util; print(importlib.util.find_spec('dassl') is not None)") == "True":
        pytest.skip("upstream Dassl is installed in this interpreter")
    code = """
import importlib, json, pkgutil, sys
import minidassl
facts = {"choice": minidassl.CHOICE, "loaded by the choice": "torch" in sys.modules}
from dassl.engine import TrainerX
import dassl.data.datasets.base_dataset
import minidassl.engine
facts["version"] = dassl.__version__
facts["alias first"] = TrainerX is minidassl.engine.TrainerX
facts["modules"], facts["doubled"] = [], []
for module in pkgutil.walk_packages(minidassl.__path__, "minidassl."):
    alias = importlib.import_module(module.name.replace("minidassl", "dassl", 1))
    facts["modules"].append(module.name)
    if alias is not importlib.import_module(module.name) or alias.__spec__.name != module.name:
        facts["doubled"].append(module.name)
try:
    import dassl.modeling
except ImportError as error:
    facts["missing part"] = str(error)
print(json.dumps(facts))
"""
    return json.loads(run_python(code))


def fake_upstream(folder: Path, engine: str) -> Path:
    package = folder / "dassl"
    (package / "engine").mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '0.6.3'\n")
    (package / "utils.py").write_text("ORIGIN = 'upstream'\n")
    (package / "engine" / "__init__.py").write_text(engine)
    return folder


def test_the_stand_in_answers_where_there_is_no_upstream_and_the_choice_alone_loads_nothing_heavy(facts):
    assert facts["choice"] == "Dassl: built-in stand-in"
    assert facts["version"] == "0.6.3+minidassl"
    assert not facts["loaded by the choice"]


def test_every_module_of_the_stand_in_has_one_object_under_both_names(facts):
    assert {"minidassl.engine", "minidassl.data.datasets.base_dataset"} <= set(facts["modules"])
    assert facts["doubled"] == []
    assert facts["alias first"]


def test_a_part_that_the_stand_in_lacks_is_an_import_error_with_the_remedy(facts):
    assert "'dassl.modeling'" in facts["missing part"] and "upstream Dassl 0.6.3" in facts["missing part"]


def test_the_parts_our_trainers_use_work_beside_upstream(tmp_path):
    upstream = fake_upstream(tmp_path, "class TrainerX: pass\n")
    code = """
from dassl.engine import TrainerX
from minidassl.own.checkpoint import save_checkpoint
from minidassl.own.checkpointing import Checkpointing
from minidassl.optim import build_optimizer
import dassl.utils
class PromptTrainer(Checkpointing, TrainerX): pass
print(TrainerX.__module__, dassl.utils.ORIGIN)
"""
    assert run_python(code, upstream) == "dassl.engine upstream"


def test_a_broken_upstream_gives_way_and_the_reason_is_told(tmp_path):
    upstream = fake_upstream(tmp_path, "import dassl.utils\nimport a_package_that_is_missing\n")
    code = "import minidassl, dassl.utils; print(minidassl.CHOICE); print(hasattr(dassl.utils, 'ORIGIN'))"
    choice, mixed = run_python(code, upstream).splitlines()
    assert choice == (
        f"Dassl: built-in stand-in (upstream at {tmp_path / 'dassl'} cannot be imported: "
        "No module named 'a_package_that_is_missing'; install what it lacks, or take it off PYTHONPATH)"
    )
    assert mixed == "False", "modules of the broken upstream must not stay behind"


def test_importing_the_package_prints_nothing_and_waits_for_no_upstream(tmp_path):
    upstream = fake_upstream(tmp_path, "print('upstream is loaded')\nclass TrainerX: pass\n")
    light = "import sys, minidassl.own.files, minidassl.own.run_folder"
    assert run_python(f"{light}; assert 'torch' not in sys.modules", upstream) == ""


@pytest.mark.parametrize("first", ["import dassl.engine", "import dassl.utils", "import dassl", "minidassl.CHOICE"])
def test_upstream_is_loaded_once_whatever_part_of_it_is_asked_for_first(tmp_path, first):
    upstream = fake_upstream(tmp_path, "print('upstream is loaded')\nclass TrainerX: pass\n")
    code = f"import minidassl; {first}; import dassl, dassl.engine, dassl.utils, sys; "
    code += "print(dassl.engine.TrainerX.__module__, dassl.utils.ORIGIN, dassl.__spec__.name, "
    code += "dassl is sys.modules['dassl'], minidassl.CHOICE)"
    choice = f"Dassl: upstream 0.6.3 at {tmp_path / 'dassl'}"
    assert run_python(code, upstream) == f"upstream is loaded\ndassl.engine upstream dassl True {choice}"


SCRIPT = """
import sys
import dassl.utils, helper
print(sys.argv[1:], helper.WHERE, hasattr(dassl.utils, "setup_logger"), __name__)
"""


def run_script(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m minidassl` in a folder of its own, from which the repository is found by PYTHONPATH."""
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout" / "helper.py").write_text('WHERE = "beside the script"\n')
    (tmp_path / "checkout" / "train.py").write_text(SCRIPT)
    upstream = fake_upstream(tmp_path / "upstream", "")
    return subprocess.run(
        [sys.executable, "-m", "minidassl", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(upstream)])},
        capture_output=True,
        text=True,
    )


def test_a_script_is_run_on_the_stand_in_even_where_upstream_is_installed(tmp_path):
    done = run_script(tmp_path, "checkout/train.py", "--seed", "1")
    assert done.stdout.splitlines() == [
        "Dassl: built-in stand-in",
        "['--seed', '1'] beside the script True __main__",
    ], done.stderr


@pytest.mark.parametrize("arguments", [[], ["no/such.py"]])
def test_without_a_script_to_run_the_usage_is_told(tmp_path, arguments):
    done = run_script(tmp_path, *arguments)
    assert done.returncode == 1
    assert "python -m minidassl SCRIPT.py" in done.stderr and "".join(arguments) in done.stderr
