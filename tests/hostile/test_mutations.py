"""Sound files, changed at random: each is used, or refused by its name; nothing is run, lost or touched elsewhere."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

from minidassl.own.safetensors_file import read_safetensors, safetensors_bytes

import pytest
from test_install_plugin import call, checkout, install_plugin  # noqa: F401  (a fixture)
from test_tables import write

from experiments.store import collect
from experiments.tables import command
from hostile.faults import snapshot
from hostile.test_installation import OWN, crowded, few_files  # noqa: F401  (fixtures)
from trainers.prompting.api.classifier import PromptClassifier
from trainers.prompting.errors import InputError
from trainers.prompting.recipes import CONFIGS, read_merged

JUNK = [None, True, -1, 0, 2**70, 1e308, "", "..", "../../x", "/etc/passwd", "\x1b[2J", "\ud800", "x" * 5000]
JUNK += [[], {}, [[]], {"a": {"b": []}}, "=1+1", "\n\\input{x}", "$x^$", "<script>", "é\u202e", "0" * 64]


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The paths of all values in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in [(*path, key), *places(inner, (*path, key))]]


def mutated(value: dict, rng: random.Random) -> dict:
    """A copy in which one to three values are replaced by junk, removed, or put under another key."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        *parents, last = rng.choice(places(value) or [(None,)])
        holder = value
        for key in parents:
            holder = holder[key]
        change = rng.choice(["junk", "junk", "remove", "rename"])
        if last is None:
            break
        if change == "junk":
            holder[last] = copy.deepcopy(rng.choice(JUNK))
        elif isinstance(holder, dict):
            removed = holder.pop(last)
            if change == "rename":
                holder[str(rng.choice(JUNK))] = removed
    return value


@pytest.mark.parametrize("style", ["text", "markdown", "latex", "csv"])
def test_a_hundred_mutated_records_stop_no_table(tmp_path, capsys, style):
    gates = [{"tower": "text", "layer": 0, "mean": 0.5, "std": 0.1, "min": 0.2, "max": 0.8}]
    world = dict.fromkeys(("base", "new", "HM", "accuracy", "openworld_auc"), 50.0)
    more = {"gates": gates, "open_world": world, "per_class": [{"name": "a", "images": 2, "correct": 1}]}
    configuration = {"TRAINER": {"BMIP": {"N_CTX": 2}}, "DATASET": {"NUM_SHOTS": 16}, "OPTIM": {"LR": 0.1}}
    good = write(tmp_path, "good", seed=1000, trained=True, configuration=configuration, **more)
    sound = json.loads(good.read_text())
    for seed in range(100):
        path = tmp_path / str(seed) / "result.json"
        path.parent.mkdir()
        path.write_text(json.dumps(mutated({**sound, "seed": seed}, random.Random(seed))))
    found = collect(tmp_path)
    assert good in [record.path for record in found.records] and found.skipped
    assert command.main([str(tmp_path), "--format", style]) == 0
    captured = capsys.readouterr()
    assert all(letter.isprintable() or letter == "\n" for letter in captured.out + captured.err)


@pytest.mark.parametrize("flags", [["--uninstall"], ["--uninstall", "--force"], ["--force"]], ids=" ".join)
def test_a_hundred_mutated_manifests_lose_and_touch_nothing(crowded, tmp_path, flags):  # noqa: F811
    before = snapshot(crowded)
    (tmp_path / "x").write_text("precious")
    for seed in range(40):
        assert call(crowded, "--force") == 0
        manifest = crowded / install_plugin.MANIFEST
        sound = manifest.read_bytes()
        manifest.write_text(json.dumps(mutated(json.loads(sound), random.Random(seed))))
        assert call(crowded, *flags) in (0, 2), seed
        assert (tmp_path / "x").read_text() == "precious"
        texts = [content for _, content in snapshot(crowded).values()]
        assert all(text.encode() in texts for text in OWN.values()), seed
        # Back to the start of the next one, by the sound manifest or from scratch.
        if manifest.exists():
            manifest.write_bytes(sound)
            call(crowded, "--uninstall", "--force")
        if snapshot(crowded) != before:
            restore(crowded, before)


def restore(root: Path, state: dict) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, (mode, content) in state.items():
        path = root / name
        path.mkdir() if content is None else path.write_bytes(content)
        path.chmod(mode & 0o7777)


TAGS = [
    "!!python/object/apply:os.system ['touch {bait}']",
    "!!python/name:os.system",
    "&a [*a, *a]",
    "*b",
    "!!binary x",
]
TAGS += ["? [1, 2]", "{", "[", "\t", ": :", "- -", "%YAML 9.9", "2001-01-01", "!!set {a}", "<<: *b", "\x00", "\udcff"]


@pytest.mark.parametrize("recipe", ["BMIP/tiny", "PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx"])
def test_a_hundred_mutated_configurations_run_nothing(tmp_path, recipe):
    bait = tmp_path / "executed"
    source = CONFIGS / "trainers" / f"{recipe}.yaml"
    text = source.read_text().replace("../../base", str(CONFIGS / "base"))
    for seed in range(100):
        rng = random.Random(seed)
        lines = text.splitlines()
        for _ in range(rng.randint(1, 3)):
            number = rng.randrange(len(lines))
            tag = rng.choice(TAGS).replace("{bait}", str(bait))
            key, colon, _ = lines[number].partition(":")
            lines[number] = rng.choice(
                [f"{key}{colon} {tag}", f"{lines[number]}\n{tag}", lines[number][rng.randrange(9) :]]
            )
        path = tmp_path / f"{seed}.yaml"
        path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
        try:
            read_merged(path)
        except InputError as error:
            assert str(error).isprintable() or "\x00" in path.read_text(errors="replace")
        assert not bait.exists()


def test_forty_mutated_prompt_files_are_loaded_or_refused(tmp_path):
    path, quiet = tmp_path / "prompts.safetensors", dict(device="cpu", progress=False)
    PromptClassifier("BMIP", "tiny", **quiet).build(["a", "b"]).save(path)
    texts, tensors = read_safetensors(path)
    sound = {name: json.loads(text) if text[0] in "[{" else text for name, text in texts.items()}
    refused = 0
    for seed in range(40):
        changed = mutated(sound, random.Random(seed))
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in changed.items()}
        texts = {name.encode("utf-8", "replace").decode(): text for name, text in texts.items()}
        texts = {name: text.encode("utf-8", "replace").decode() for name, text in texts.items()}
        path.write_bytes(safetensors_bytes(texts, tensors))
        try:
            PromptClassifier.load(path, **quiet)
        except InputError:
            refused += 1
    assert 0 < refused < 40
