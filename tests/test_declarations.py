"""Settings are checked, worded, read and told by tensors as they are declared; methods are found by their names."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import make_clip

import trainers
from trainers.config import default_cfg, key_names, settings_of
from trainers.prompting.api.recipe import in_python, method_for, recipe_of
from trainers.prompting.declaration import METHODS, Method, Settings, declare, setting, tree_of
from trainers.prompting.errors import InputError, SettingError, worded
from trainers.prompting.learners.bmip import BMIPConfig
from trainers.prompting.methods import identify, in_order, of_trainer
from trainers.prompting.objectives.self_regulation import SelfRegulationConfig
from trainers.prompting.recipes import is_readable, read_recipe, recipe_path

trainers.register_all()


@dataclass(frozen=True)
class Example(Settings):
    number: int = setting(2, key="NUMBER", help="of something", least=1)
    layers: int = setting(2, key="LAYERS", help="of something", least=1, most=4)
    share: float = setting(0.5, key="SHARE", help="of something", least=0.0, most=1.0)
    weight: float = setting(1.0, key="ROOT.WEIGHT", help="of something", root=True, least=0.0)
    mean: float = setting(1.0, key="MEAN", help="of something")
    words: str = setting("a photo", key="WORDS", help="of something")
    on: bool = setting(True, key="DEEP.ON", help="whether")
    kind: str = setting("one", key="KIND", help="which", choices=("one", "other"))
    count: int = setting(60, key="COUNT", help="how many", choices=(60, 80))
    sentences: tuple = setting(("a",), key="", help="not in a configuration")
    pair: tuple = setting((3, 4), key="PAIR", help="two", least=1, size=2)
    seed: int = setting(0, key="SEED", help="of something", least=0, also=-1)
    fixed: int = 7


# ------------------------------------------------------------------------------------------------ values

ALLOWED = [
    *[("number", 1, 1), ("number", np.int64(3), 3), ("layers", 1, 1), ("layers", 4, 4)],
    *[("share", 0, 0.0), ("share", 1, 1.0), ("share", np.float32(0.25), 0.25), ("weight", 1e30, 1e30)],
    *[("mean", -3, -3.0), ("words", "", ""), ("on", False, False), ("kind", "other", "other"), ("count", 80, 80)],
    *[("sentences", ["a", "b"], ("a", "b")), ("pair", (1, 10**400), (1, 10**400)), ("seed", -1, -1)],
    *[("seed", 5, 5)],
]


@pytest.mark.parametrize("name, value, stored", ALLOWED, ids=str)
def test_an_allowed_value_is_stored_in_the_type_of_the_default(name, value, stored):
    found = getattr(Example(**{name: value}), name)
    assert found == stored and type(found) is type(stored)


INF, NAN = float("inf"), float("nan")
REFUSED = [
    *[
        ("number", 0, "number is 0; set it to a whole number, 1 or more."),
        ("number", 1.5, "number is 1.5; set it to a whole number"),
    ],
    *[("number", True, "a whole number"), ("number", "3", "number is '3'; set it to a whole number")],
    *[("layers", value, f"layers is {value}; set it to a whole number between 1 and 4.") for value in (0, 5)],
    *[("share", value, f"share is {value}; set it to a finite number between 0.0 and 1.0.") for value in (-0.1, 1.5)],
    *[("share", "x", "share is 'x'; set it to a finite number"), ("share", NAN, "share is nan; set it to")],
    *[("weight", -1.0, "weight is -1.0; set it to a finite number, 0.0 or more."), ("weight", INF, "weight is inf; ")],
    *[
        ("mean", NAN, "mean is nan; set it to a finite number"),
        ("mean", False, "mean is False; set it to a finite number."),
    ],
    *[("words", 3, "words is 3; set it to a text."), ("words", None, "words is None; set it to a text.")],
    *[("on", 1, "on is 1; set it to True or False."), ("on", "yes", "on is 'yes'; set it to True or False.")],
    *[("kind", "third", "kind is 'third'; set it to one of one, other."), ("count", 70, "one of 60, 80.")],
    *[("sentences", "a {}.", "sentences is 'a {}.'; set it to a list, each item a text.")],
    *[("sentences", ["a", 1], "each item a text"), ("pair", [3], "a list of 2 items, each item a whole number")],
    *[("pair", [1, 0], "each item a whole number, 1 or more."), ("seed", -2, "a whole number, 0 or more, or -1.")],
    *[("seed", -1.0, "a whole number, 0 or more, or -1."), ("seed", True, "a whole number, 0 or more, or -1.")],
]


@pytest.mark.parametrize("name, value, message", REFUSED, ids=str)
def test_any_other_value_is_refused_with_what_is_allowed(name, value, message):
    with pytest.raises(SettingError) as error:
        Example(**{name: value})
    assert message in str(error.value) and "None" not in str(error.value).replace(f"is {value!r}", "")


def test_a_name_that_is_not_declared_is_no_setting():
    assert "fixed" not in Example.declared() and "fixed" not in Example().plain()
    with pytest.raises(TypeError, match="nmuber"):
        Example(nmuber=3)


def test_values_are_named_by_complete_keys():
    keyed = Example(number=5).keyed("NODE")
    assert keyed["TRAINER.NODE.NUMBER"] == 5 and keyed["ROOT.WEIGHT"] == 1.0
    assert not [key for key in keyed if key.endswith(".")]
    assert tree_of(keyed)["TRAINER"]["NODE"]["DEEP"] == {"ON": True}


# ------------------------------------------------------------------------------------------------ words


def configured(**keys):
    cfg = default_cfg()
    cfg.merge_from_list([word for pair in keys.items() for word in pair])
    return cfg


def test_braces_in_a_value_are_no_names():
    error = Example().error("{words} is {!r}, and {number} is {}.", "{number}", "{}")
    assert str(error) == "words is '{number}', and number is {}."
    assert error.worded(lambda field, owner: f"{owner.__name__}.{field}").startswith("Example.words is '{number}'")


def test_train_py_names_keys_and_python_names_settings():
    cfg = configured(**{"TRAINER.BMIP.PROMPT_DEPTH": 0})
    with pytest.raises(InputError, match=r"^TRAINER\.BMIP\.PROMPT_DEPTH is 0; set it to a whole number, 1 or more\.$"):
        settings_of(cfg, METHODS["BMIP"])
    with (
        pytest.raises(InputError, match=r"^settings\['depth'\] is 0; set it to a whole number, 1 or more\.$"),
        worded(in_python),
    ):
        BMIPConfig(depth=0)
    before = pytest.raises(InputError, match=r"^a\.pth cannot be read\. settings\['depth'\] is 0")
    with before, worded(in_python, before="a.pth cannot be read. "):
        BMIPConfig(depth=0)


def test_keys_are_those_of_the_node_that_the_user_has():
    """As where a plugin found the method's own name taken."""
    cfg = configured(**{"TRAINER.BMIP.PROMPT_DEPTH": 0})
    cfg.TRAINER.BMIPPLUGIN = cfg.TRAINER.pop("BMIP")
    with pytest.raises(InputError, match=r"TRAINER\.BMIPPLUGIN\.PROMPT_DEPTH is 0"):
        settings_of(cfg, dataclasses.replace(METHODS["BMIP"], node="BMIPPLUGIN"))


def test_settings_of_the_method_the_objective_and_the_run_have_their_keys():
    name_of = key_names(configured(**{"TRAINER.OBJECTIVE": "self_regulation"}), METHODS["MaPLe"])
    assert name_of("length", None) == name_of("length", METHODS["MaPLe"].config) == "TRAINER.MAPLE.N_CTX"
    assert name_of("mean", SelfRegulationConfig) == "TRAINER.PROMPTSRC.GPA_MEAN"
    assert name_of("length", SelfRegulationConfig) == "length"
    assert name_of("epochs", None) == "OPTIM.MAX_EPOCH" and name_of("precision", None) == "TRAINER.MAPLE.PREC"


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_own_keys_are_read_as_its_settings(name):
    method = METHODS[name]
    assert method.config(**method.read(tree_of(method.keys))) == method.config()
    keys = [one.dotted(method.node) for one in method.config.declared().values() if one.key]
    assert len(set(keys)) == len(keys) and method.read({}) == {}
    assert all(one.help for one in method.config.declared().values())


def authors(**keys) -> dict:
    return {"TRAINER": {"BMIP": keys}}


def test_the_authors_keys_are_read_as_the_settings_that_they_stand_for():
    read = METHODS["BMIP"].read
    assert read(authors(CONNECT_METHOD="joint")) == {"aggregation": "joint"}
    # yacs makes None of the authors' text.
    for nothing in ("None", None):
        assert read(authors(CONNECT_METHOD=nothing, N_CTX=4)) == {"length": 4}
    assert read(authors(CONNECT_METHOD="joint", AGGREGATION="joint")) == {"aggregation": "joint"}
    assert read(authors(WEIGHT_THRESHOLD=0.0025, CONNECT_METHOD="None", AGGREGATION="l2v")) == {"aggregation": "l2v"}


@pytest.mark.parametrize(
    "keys, message",
    [
        (
            dict(CONNECT_METHOD="exchange"),
            r"CONNECT_METHOD is 'exchange'; set it to one of None, joint, .*AGGREGATION",
        ),
        (dict(CONNECT_METHOD="joint", AGGREGATION="l2v"), "'joint' and .*'l2v', which are two aggregations"),
        (dict(WEIGHT_THRESHOLD=0.1), r"TRAINER\.BMIP\.WEIGHT_THRESHOLD is 0\.1, but .*Remove it"),
    ],
    ids=str,
)
def test_the_authors_keys_with_another_meaning_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        METHODS["BMIP"].read(authors(**keys))


# ------------------------------------------------------------------------------------------------ checkpoints


LEARNING = [name for name, method in METHODS.items() if method.learns]
# Tensors of these tell the number of layers, but not which.
UNTOLD = dict.fromkeys(("MMRL", "MMRLpp"), {"layers": (2, 3)})
FITTING = {name: {"width": 7, **layers} for name, layers in UNTOLD.items()} | {"HiCroPL": {"cross": 1}}
FITTING["MMRLpp"] |= {"rank": 3, "projection_rank": 5}
TOLD = [(name, FITTING.get(name, {})) for name in LEARNING]
TOLD += [("BMIP", settings) for settings in ({"share_text": False}, {"share_vision": False}, {"depth": 1})]
TOLD += [("IVLP", {"head_width": 5}), ("IVLP", {"vision_length": 0, "vision_depth": 0})]
TOLD += [("CoOp", {"class_specific": True})]


@pytest.mark.parametrize("name, settings", TOLD, ids=str)
def test_the_tensors_of_a_checkpoint_tell_the_settings(small_clip, name, settings):
    method = METHODS[name]
    declared = method.config.declared()
    sizes = {field: 2 for field in declared if field.endswith("depth") or field == "last_adapter"}
    sizes |= {field: 3 for field in declared if field.endswith("length")}
    sizes |= {field: 2 for field in declared if field in ("first", "first_adapter")}
    config = method.config(**{**sizes, **settings})
    learner = method.learner(config, small_clip)
    learner.set_class_count(4)
    found = method.told(learner.state_dict())
    assert found.keys() >= sizes.keys() and method.config(**{**found, **UNTOLD.get(name, {})}) == config


# ------------------------------------------------------------------------------------------------ methods


def test_a_name_that_is_taken_is_refused():
    assert declare(METHODS["BMIP"]) is METHODS["BMIP"]
    other = dataclasses.replace(METHODS["BMIP"], node="OTHER")
    with pytest.raises(InputError, match="method 'BMIP' already; choose another name than .*MaPLe"):
        declare(other)
    assert METHODS["BMIP"].node == "BMIP"


def test_methods_stand_in_the_order_of_their_publication_and_a_users_own_last(monkeypatch):
    published = ["ZeroshotCLIP", "CoOp", "CoCoOp", "VPT", "IVLP", "MaPLe", "BMIP", "PromptSRC", "CoPrompt"]
    monkeypatch.setitem(METHODS, "Mine", dataclasses.replace(METHODS["CoOp"], name="Mine", venue=""))
    found = [method.name for method in in_order()]
    places = [found.index(name) for name in published]
    # VPT adapts a paper of the same year as CoCoOp's; IVLP is MaPLe's baseline.
    assert sorted(found) == sorted(METHODS) and found[-1] == "Mine"
    assert places[0] == 0 and places[1] < places[2] < places[5] < places[6] < places[7] < places[8]
    assert found.index("PromptSRC_BMIP") > places[7] and found.index("CoPrompt_BMIP") > places[8]


RECIPES = [
    ("IVLP", "vit_b16_c2_ep5_batch4_2+2ctx", ("IVLP", "")),
    ("IVLP", "tiny", ("IVLP", "")),
    ("IVLP", "tiny_depth3", ("IVLP", "depth3")),
    ("IVLP", "tiny_language_only", ("LanguagePrompting", "")),
    ("IVLP", "tiny_bmip_size_depth3", ("IVLP_BMIP_size", "depth3")),
    ("IVLP", "tiny_bmip_size_icons", ("IVLP_BMIP_size", "")),
    ("BMIP", "tiny_icons_addition", ("BMIP", "addition")),
    ("CoOp", "rn50_ep50", ("CoOp", "")),
    ("CoOp", "rn50_val", ("CoOp", "val")),
    ("BMIP", "vit_b16_c2_ep10_batch4_2ctx_released", ("BMIP", "released")),
    ("BMIP", "vit_b16_c2_ep10_batch4_2ctxs", ("BMIP", "vit_b16_c2_ep10_batch4_2ctxs")),
    ("BMIP", "mine", ("BMIP", "mine")),
    ("Other", "tiny", ("Other", "tiny")),
]


@pytest.mark.parametrize("trainer, recipe, expected", RECIPES, ids=str)
def test_a_recipe_tells_the_method_and_what_its_name_adds(trainer, recipe, expected):
    assert identify(trainer, recipe) == expected


def test_methods_are_found_by_their_names_and_by_their_trainers():
    assert method_for("BMIP") is of_trainer("BMIP") is of_trainer("BMIPPlugin") is METHODS["BMIP"]
    assert of_trainer("Plugin") is of_trainer("Other") is None
    with pytest.raises(InputError, match="method is 'Mapel'. Do you mean MaPLe.*lists all"):
        method_for("Mapel")
    with pytest.raises(InputError, match="'CoPrompt_BMIP', which is trained by consistency, .* set it to BMIP, whose"):
        method_for("CoPrompt_BMIP")


# ------------------------------------------------------------------------------------------------ recipes


@pytest.fixture(scope="module")
def deep_clip() -> torch.nn.Module:
    """A CLIP with as many layers as the published recipes prompt."""
    return make_clip(vision_layers=12, transformer_layers=12, vision_width=64, transformer_width=64)


@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_of_a_method_exists_and_builds_its_learner(name, deep_clip):
    method: Method = METHODS[name]
    for recipe in method.recipes.all:
        assert is_readable(recipe_path(method.trainer, recipe)), recipe
        config = method.config(**method.read(read_recipe(method.trainer, recipe)))
        assert json.loads(json.dumps(config.plain())) or not config.declared()
        assert method.learns == bool(list(method.learner(config, deep_clip).parameters())) or config.class_specific


@pytest.mark.parametrize("backbone", ["tiny", "ViT-B/16"])
@pytest.mark.parametrize("name", METHODS)
def test_a_classifier_can_train_by_the_recipe_of_every_method(name, backbone):
    recipe = recipe_of(METHODS[name], backbone)
    recipe.check()
    assert recipe.optim.LR == recipe.learning_rate > 0 and recipe.epochs == recipe.optim.MAX_EPOCH
