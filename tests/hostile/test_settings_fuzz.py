"""Five hundred random settings: each is accepted and works, or is refused in one line that names its key."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from helpers.runs import small_run

import train
import trainers
from trainers.base import TRAINER_REGISTRY
from trainers.config import Common, build_cfg, default_cfg, key_names
from trainers.dassl_keys import DasslKeys
from trainers.prompting.core.clip_weights import Precision, load_clip
from trainers.prompting.declaration import Setting
from trainers.prompting.errors import InputError, worded
from trainers.prompting.methods import METHODS, OBJECTIVES
from trainers.records import flatten

SEED, NUMBER, CARRIED_OUT = 15, 500, 40
TRAINERS = (
    "BMIP",
    "CoOp",
    "CoCoOp",
    "VPT",
    "IVLP",
    "MaPLe",
    "PromptSRC",
    "CoPrompt",
    "KgCoOp",
    "MMA",
    "TCP",
    "MMRL",
    "MMRLpp",
    "ZeroshotCLIP",
)
TEXTS = ["", "foo", "None", "True", "-1", "0", "1", "2", "-1.5", "0.5", "1e-300", "1e300", "1e999", "-1e999", "nan"]
TEXTS += ["9" * 30, "9" * 5000, "0x" + "f" * 5000, "x" * 5000, "-" * 5000 + "1", "(" * 300]
TEXTS += ["é", "../x", "~x", "a\nb", "\x1b[2J", "\udce4"]
TEXTS += ["[]", "()", "{}", "[1]", "(1, 2)", "(0.5, 1)", "('a',)", "[None]", "[[1]]", "['random_flip']", "b'x'", "1j"]

trainers.register_all()


@cache
def declared() -> dict[str, Setting]:
    """The declarations by key."""
    found = {one.key: one for settings in (Common, DasslKeys) for one in settings.declared().values()}
    for method in METHODS.values():
        found |= {one.dotted(method.node): one for one in method.config.declared().values() if one.key}
    for objective in OBJECTIVES.values():
        found |= {one.key: one for one in objective.Config.declared().values()}
    return found


def neighbours(key: str, default: Any) -> list[str]:
    """A key's default, choices and bounds, and values next to them."""
    found = [default]
    one = declared().get(key)
    if isinstance(default, (int, float)):
        bounds = (one.least, one.most, one.also) if one is not None else ()
        near = [default, *(bound for bound in bounds if bound is not None)]
        found += [value + step for value in near for step in (-1, 0, 1)]
    if one is not None and one.choices:
        found += [*one.choices, str(one.choices[0]).upper(), f"{one.choices[-1]} "]
    return list(map(str, found))


def settings() -> Iterator[tuple[str, list[str]]]:
    """A trainer, and one or two keys with values."""
    draw, defaults = random.Random(SEED), flatten(default_cfg())
    for number in range(NUMBER):
        keys = draw.sample(sorted(defaults), 1 if number % 3 else 2)
        suited = [name for name in TRAINERS if any(key.startswith(f"TRAINER.{METHODS[name].node}.") for key in keys)]
        trainer = draw.choice(suited or TRAINERS)
        values = [draw.choice(draw.choice((TEXTS, neighbours(key, defaults[key])))) for key in keys]
        yield trainer, [word for pair in zip(keys, values) for word in pair]


def arguments(trainer: str, options: list[str], root: str, folder: Path) -> list[str]:
    """Of train.py, for an epoch on few images; paths are absolute, so that runs can be elsewhere."""
    words = ["DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "1", "TRAINER.PROMPTSRC.GPA_MEAN", "1", *options]
    run = small_run(f"{trainer}/tiny", root, folder, (), words)
    repository = Path(__file__).parents[2]
    return [str(repository / word) if word.startswith("configs/") else word for word in run]


@cache
def tiny_clip(precision: Precision) -> Any:
    return load_clip("tiny", precision, needs_vit=True)


def refusal(trainer: str, options: list[str]) -> str | None:
    """Why the settings are refused before data is read; None if they are not."""
    try:
        cfg = build_cfg(train.parse_args(arguments(trainer, options, "data", Path("run"))))
        kind = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
        checked = object.__new__(kind)
        with worded(key_names(cfg, kind.method)):
            checked.check_cfg(cfg)
        kind.check_training(cfg)
        if cfg.MODEL.BACKBONE.NAME == "tiny":
            kind.build_parts(cfg, tiny_clip(checked.precision))
    except InputError as error:
        return str(error)
    return None


def assert_named(message: str, options: list[str]) -> None:
    assert "\n" not in message and "\x1b" not in message, message
    keys = [*options[::2], *(f"the keys of {key.rpartition('.')[0]}" for key in options[::2])]
    assert any(key in message for key in keys), (options, message)


@cache
def sorted_out() -> tuple[list, list]:
    """Refused settings with their messages, and accepted ones."""
    refused, accepted = [], []
    for trainer, options in settings():
        message = refusal(trainer, options)
        accepted.append((trainer, options)) if message is None else refused.append((options, message))
    return refused, accepted


def is_quick(options: list[str]) -> bool:
    """Whether a run takes a second: few epochs, few processes, and no image is augmented a hundred times."""
    most = {"OPTIM.MAX_EPOCH": 2, "DATALOADER.NUM_WORKERS": 0, "DATALOADER.K_TRANSFORMS": 2, "DATASET.NUM_SHOTS": 3}
    pairs = dict(zip(options[::2], options[1::2]))
    return all(key not in pairs or 0 <= int(pairs[key]) <= most[key] for key in most)


def test_what_is_refused_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused, accepted = sorted_out()
    assert len(refused) > NUMBER / 3 and len(accepted) > NUMBER / 5
    for options, message in refused:
        assert_named(message, options)
    assert not list(tmp_path.iterdir())


def test_what_is_accepted_trains_or_is_refused_with_its_key(tmp_path, monkeypatch, capsys, data_root):
    monkeypatch.chdir(tmp_path)
    quick = [(trainer, options) for trainer, options in sorted_out()[1] if is_quick(options)]
    trained = 0
    for number, (trainer, options) in enumerate(random.Random(SEED).sample(quick, CARRIED_OUT)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", sys.stdout)
            status = train.main(arguments(trainer, options, data_root, tmp_path / str(number)))
        errors = capsys.readouterr().err
        assert "Traceback" not in errors and status in (0, 2), (options, errors)
        trained += status == 0
        if status == 2:
            assert_named(re.search(r"^error: (.*)\Z", errors, re.MULTILINE | re.DOTALL)[1].rstrip("\n"), options)
    assert trained > CARRIED_OUT / 2
