"""Hostile configuration files: nothing in them runs, none takes memory or time, each is refused in one line."""

from __future__ import annotations

import sys
import time

import pytest
from helpers.runs import assert_refused

from trainers.prompting.errors import InputError
from trainers.prompting.recipes import MOST_BYTES, MOST_FILES, MOST_VALUES, read_files, read_merged


def laughs(first: str, next_line: str, levels: int = 10) -> str:
    """Ten references to the line before, ten levels deep."""
    lines = [first]
    for level in range(1, levels):
        lines.append(next_line.format(level, ", ".join([f"*a{level - 1}"] * 10)))
    return "\n".join(lines) + "\n"


FILES = {
    "lists of aliases": laughs("a0: &a0 [x, x]", "a{0}: &a{0} [{1}]"),
    "mappings of aliases": laughs("a0: &a0 {X: 1}", "a{0}: &a{0} {{A: [{1}]}}"),
    "merge keys": laughs("a0: &a0 {X: 1}", "a{0}: &a{0} {{<<: [{1}]}}"),
    "an alias of itself": "OPTIM: &a\n  LR: *a\n",
    "a list of itself": "OPTIM: &a [*a]\n",
    "many values": "OPTIM: [" + "1, " * MOST_VALUES + "1]\n",
    "many bytes": "# " + "x" * MOST_BYTES + "\nSEED: 1\n",
    "deep lists": "OPTIM: " + "[" * 5000 + "]" * 5000 + "\n",
    "deep mappings": "OPTIM: " + "{a: " * 5000 + "1" + "}" * 5000 + "\n",
    "a huge number": "SEED: 0x" + "f" * 9000 + "\n",
    "a huge number in a list": "OPTIM:\n  STEPSIZE: [0x" + "f" * 9000 + "]\n",
    "a list of lists": "OPTIM:\n  STEPSIZE: [[1]]\n",
    "a tag of Python": "SEED: !!python/object/apply:os.system ['touch executed']\n",
    "a tag of a module": "SEED: !!python/module:executed\n",
    "a key that is a number": "1: 2\n",
    "a date": "SEED: 2024-02-30\n",
    "no UTF-8": b"SEED: \xff\xfe\xfa\n",
    "a text": "just words\n",
    "two documents": "SEED: 1\n---\nSEED: 2\n",
    "a null byte in a base": '_BASE_: "b\\0.yaml"\n',
    "a base with a long name": "_BASE_: " + "x" * 5000 + ".yaml\n",
    "a base of Python": "_BASE_: executed.py\n",
    "None": "OPTIM:\n  LR:\n",
    "not a number": "OPTIM:\n  LR: .nan\n",
    "infinite": "INPUT:\n  PIXEL_MEAN: [.inf, 0.5, 0.5]\n",
    "half a character": 'OUTPUT_DIR: "\\ud800"\n',
    "a null byte": 'DATASET:\n  ROOT: "a\\0b"\n',
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
@pytest.mark.parametrize("flag", ["--config-file", "--dataset-config-file"])
def test_a_hostile_file_is_refused_in_one_line_and_in_no_time(run_train, no_data, tmp_path, content, flag):
    (tmp_path / "executed.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    path = tmp_path / "file.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.perf_counter()
    run = run_train(flag, str(path))
    assert time.perf_counter() - start < 10
    assert_refused(run, [""])
    assert run.errors.count("\n") == 1 and len(run.errors) < 12_000
    assert not (tmp_path / "executed").exists() and "executed" not in sys.modules


@pytest.mark.parametrize("name", ["file.py", "file", "file.json", "file.yaml.py"])
@pytest.mark.parametrize("flag", ["--config-file", "--dataset-config-file"])
def test_python_is_no_configuration(run_train, no_data, tmp_path, name, flag):
    (tmp_path / name).write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    assert_refused(run_train(flag, str(tmp_path / name)), [name, ".yaml or .yml"])
    assert not (tmp_path / "executed").exists()


def test_bases_that_multiply_are_refused(tmp_path):
    for level in range(1, 12):
        base = f"_BASE_: [{', '.join([f'{level - 1}.yaml'] * 10)}]\n"
        (tmp_path / f"{level}.yaml").write_text(base)
    (tmp_path / "0.yaml").write_text("SEED: 1\n")
    assert len(read_files(tmp_path / "1.yaml")) == 11
    with pytest.raises(InputError, match=f"leads to more than {MOST_FILES} files"):
        read_files(tmp_path / "11.yaml")


def test_aliases_and_merge_keys_of_usual_size_are_read(tmp_path):
    (tmp_path / "file.yml").write_text("A: &a {X: 1, Y: &y [1, 2]}\nB:\n  <<: *a\n  Z: *y\n")
    assert read_merged(tmp_path / "file.yml")["B"] == {"X": 1, "Y": [1, 2], "Z": [1, 2]}


@pytest.mark.parametrize("name", ["lists of aliases", "mappings of aliases", "merge keys", "an alias of itself"])
def test_aliases_that_multiply_are_refused_before_anything_is_built(tmp_path, name):
    (tmp_path / "file.yaml").write_text(FILES[name])
    with pytest.raises(InputError, match=f"with its aliases it has more than {MOST_VALUES} values"):
        read_merged(tmp_path / "file.yaml")
