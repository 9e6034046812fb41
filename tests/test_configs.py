"""Every shipped YAML loads; files compose from bases and variants; later sources overrule, the command line last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from yacs.config import CfgNode

import train
import trainers
from experiments.methods import recipe_for
from trainers.base import TRAINER_REGISTRY
from trainers.bmip import BMIP
from trainers.config import build_cfg
from trainers.prompting import recipes
from trainers.prompting.core.summary import clip_of_size
from trainers.prompting.declaration import CROSS_ENTROPY
from trainers.prompting.errors import InputError
from trainers.prompting.methods import OBJECTIVES, of_trainer

trainers.register_all()
CONFIGS = Path(__file__).parents[1] / "configs"
METHODS = sorted((CONFIGS / "trainers").glob("*/*.yaml"))
VARIANTS = sorted(path.stem for path in (CONFIGS / "variants").glob("*.yaml"))
DATASETS = sorted((CONFIGS / "datasets").glob("*.yaml"))
# The authors' file, key for key.
AUTHORS_YAML = """
DATALOADER: {TRAIN_X: {BATCH_SIZE: 4}, TEST: {BATCH_SIZE: 100}, NUM_WORKERS: 8}
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM:
  {NAME: "adam", LR: 0.002, MAX_EPOCH: 10, LR_SCHEDULER: "cosine", WARMUP_EPOCH: 1, WARMUP_TYPE: "constant",
   WARMUP_CONS_LR: 1e-5}
TRAIN: {PRINT_FREQ: 20, EARLY_STOPPING: True, PATIENT_COUNT: 4}
MODEL: {INIT_SEED: 48, BACKBONE: {NAME: "ViT-B/16"}}
TRAINER:
  BMIP:
    {N_CTX: 2, CTX_INIT: "a photo of a", PREC: "fp16", PROMPT_DEPTH: 9, CONNECT_METHOD: "None",
     WEIGHT_THRESHOLD: 0.0025}
SHARE: {SHARE_PARAMETER_VISUAL: True, SHARE_PARAMETER_TEXT: True}
DATASET: {USE_RATIO: True, SUBSAMPLE_RATIO: 0, SUBSAMPLE_CLASSES: "base"}
TEST: {FINAL_MODEL: "best_val", NO_TEST_EARLY: True}
"""


def load(trainer: str, config: Path | str, *arguments: str, dataset: Path | str = CONFIGS / "datasets/digits.yaml"):
    flags = ["--trainer", trainer, "--config-file", str(config), "--dataset-config-file", str(dataset)]
    return build_cfg(train.parse_args([*flags, *arguments]))


@pytest.mark.parametrize("path", METHODS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_method_yaml_loads_under_its_trainer(path):
    cfg = load(path.parent.name, path)
    assert f"{cfg.TRAINER.NAME}/{cfg.TRAINER.RECIPE}" == f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: path.stem)
def test_every_shipped_data_set_yaml_names_a_registered_data_set(path):
    assert load("BMIP", CONFIGS / "trainers/BMIP/tiny.yaml", dataset=path).DATASET.NAME


def test_the_authors_yaml_is_accepted_unchanged(tmp_path):
    path = tmp_path / "authors.yaml"
    path.write_text(AUTHORS_YAML)
    theirs = load("BMIP", path)
    ours = load("BMIP", CONFIGS / "trainers/BMIP/BMIP_ctx2_dp9_lr2.yaml")
    for node in ("INPUT", "OPTIM", "TRAIN", "SHARE", "MODEL"):
        assert theirs[node] == ours[node]
    assert BMIP.settings(theirs).aggregation == "bmip"


@pytest.mark.parametrize(
    "backbone, bmip, control, apart",
    [
        ("ViT-B/16", "vit_b16_c2_ep10_batch4_2ctx", "vit_b16_ep10_2+2ctx_bmip_size", 0.001),
        ("tiny", "tiny", "tiny_bmip_size", 0.006),  # whose next widths are 1.3 % apart
    ],
)
def test_the_control_differs_from_bmip_in_the_interaction_alone(backbone, bmip, control, apart):
    clip_model = clip_of_size(backbone)

    def read(trainer: str, name: str, *options: str):
        # Without words, which have no values where the model has shapes alone.
        words = f"TRAINER.{trainer}.CTX_INIT"
        return load(trainer, CONFIGS / f"trainers/{trainer}/{name}.yaml", words, "", *options)

    def count(cfg) -> int:
        learner, _ = TRAINER_REGISTRY.get(cfg.TRAINER.NAME).build_parts(cfg, clip_model)
        return sum(parameter.numel() for parameter in learner.parameters())

    ours, theirs = read("IVLP", control), read("BMIP", bmip)
    for node in ("OPTIM", "DATALOADER", "INPUT", "MODEL"):
        assert ours[node] == theirs[node]
    ivlp, recipe = ours.TRAINER.IVLP, theirs.TRAINER.BMIP
    assert ivlp.N_CTX_TEXT == ivlp.N_CTX_VISION == recipe.N_CTX
    assert ivlp.PROMPT_DEPTH_TEXT == ivlp.PROMPT_DEPTH_VISION == recipe.PROMPT_DEPTH
    assert ivlp.PREC == recipe.PREC

    wanted, widths = count(theirs), [str(ivlp.HEAD_WIDTH + step) for step in (-1, 0, 1)]
    counts = [count(read("IVLP", control, "TRAINER.IVLP.HEAD_WIDTH", width)) for width in widths]
    below, gap, above = (abs(found - wanted) for found in counts)
    assert gap < min(below, above, apart * wanted)


def test_sources_overrule_in_coops_order(tmp_path):
    (tmp_path / "base.yaml").write_text("OPTIM:\n  LR: 0.1\n  MAX_EPOCH: 1\nSEED: 1\n")
    (tmp_path / "method.yaml").write_text("_BASE_: base.yaml\nOPTIM:\n  LR: 0.2\nDATASET:\n  NUM_SHOTS: 4\n")
    (tmp_path / "data.yaml").write_text("DATASET:\n  NAME: Digits\n  NUM_SHOTS: 2\nOPTIM:\n  MAX_EPOCH: 3\n")
    cfg = load("BMIP", tmp_path / "method.yaml", dataset=tmp_path / "data.yaml")
    assert (cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, cfg.DATASET.NUM_SHOTS, cfg.SEED) == (0.2, 1, 4, 1)
    cfg = load("BMIP", tmp_path / "method.yaml", "--seed", "0", "OPTIM.LR", "0.3", dataset=tmp_path / "data.yaml")
    assert (cfg.OPTIM.LR, cfg.SEED) == (0.3, 0)
    assert load("BMIP", tmp_path / "method.yaml", "--seed", "5", "SEED", "6").SEED == 6


def test_several_bases_are_merged_in_order(tmp_path):
    for number in "12":
        (tmp_path / f"{number}.yaml").write_text(f"SEED: {number}\n")
    (tmp_path / "top.yaml").write_text("_BASE_: [1.yaml, 2.yaml]\n")
    assert load("BMIP", tmp_path / "top.yaml").SEED == 2


def test_bases_and_keys_that_cannot_be_are_refused_with_the_file(tmp_path):
    contents = {"a": "_BASE_: b.yaml", "b": "_BASE_: a.yaml", "typo": "OPTIM: {LRR: 0.1}", "odd": "_BASE_: {SEED: 1}"}
    for name, text in contents.items():
        (tmp_path / f"{name}.yaml").write_text(f"{text}\n")
    with pytest.raises(InputError, match="its own _BASE_"):
        recipes.read_files(tmp_path / "a.yaml")
    with pytest.raises(InputError, match=r"_BASE_ of .*odd\.yaml is \{'SEED': 1\}"):
        recipes.read_files(tmp_path / "odd.yaml")
    with pytest.raises(InputError, match=r"typo\.yaml.*OPTIM\.LRR"):
        load("BMIP", tmp_path / "typo.yaml")


@pytest.mark.parametrize("named", ["the file", "a base"])
@pytest.mark.parametrize("ending", [".py", ".txt", ""])
def test_files_of_another_ending_are_refused_and_not_run(named, ending, tmp_path):
    other = tmp_path / f"other{ending}"
    other.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ncfg = {{}}\n")
    (tmp_path / "top.yaml").write_text(f"_BASE_: other{ending}\n")
    with pytest.raises(InputError, match=rf"other{ending} is no YAML file.*\.yaml or \.yml"):
        recipes.read_files(other if named == "the file" else tmp_path / "top.yaml")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    ["- SEED\n", "SEED\n", "1: 2\n", "SEED: 2020-01-01\n", "OPTIM: {LR: !!set {a}}\n", "SEED: [\n", "\t\n", "\xff"]
    + ["SEED: !!python/object/apply:os.getcwd []\n", "SEED: 2020-13-41\n", "A: &a {B: *a}\n"],
)
def test_content_that_no_configuration_can_hold_is_refused_with_the_file(text, tmp_path):
    (tmp_path / "odd.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"odd\.yaml is not a YAML mapping of configuration keys"):
        recipes.read_files(tmp_path / "odd.yaml")


def test_a_file_is_read_again_after_a_change(tmp_path):
    path = tmp_path / "a.yaml"
    for seed in (1, 22):
        path.write_text(f"OPTIM: {{MAX_EPOCH: {seed}}}\n")
        recipes.read_merged(path)["OPTIM"]["MAX_EPOCH"] = 0  # which changes nothing for others
        assert recipes.read_merged(path) == {"OPTIM": {"MAX_EPOCH": seed}}


# ---------------------------------------------------------------------------------------------------------- variants


# Of trainers that any objective may train.
TRAINED = [
    path for path in METHODS for method in [of_trainer(path.parent.name)] if method.learns and method.any_objective
]


@pytest.mark.parametrize(
    "path", [path for path in TRAINED if path.stem != "rn50_val"], ids=lambda p: f"{p.parts[-2]}/{p.stem}"
)
def test_the_average_of_self_regulation_has_its_mean_after_three_quarters_of_any_recipe(path):
    cfg = load(path.parent.name, path.with_name(f"{path.stem}_self_regulation.yaml"))
    assert (cfg.TRAINER.OBJECTIVE, cfg.TRAINER.PROMPTSRC.GPA_MEAN) == ("self_regulation", 0.75 * cfg.OPTIM.MAX_EPOCH)


def test_with_few_shots_promptsrc_averages_around_a_later_epoch_on_five_data_sets():
    late = [path.stem for path in DATASETS if recipe_for("PromptSRC", "few_shot", path.stem, 4).endswith("_late")]
    assert late == ["dtd", "eurosat", "fgvc_aircraft", "oxford_flowers", "stanford_cars"]


def test_a_built_in_data_set_with_a_recipe_of_its_own_has_its_variants_too():
    assert recipe_for("BMIP", "base2new", "icons", 16) == "tiny_icons"
    assert recipe_for("BMIP", "few_shot", "icons", 1, "addition") == "tiny_icons_addition"
    assert (
        recipe_for("ZeroshotCLIP", "base2new", "icons", 16) == recipe_for("BMIP", "base2new", "digits", 16) == "tiny"
    )
    own = load("BMIP", CONFIGS / "trainers/BMIP/tiny_icons_addition.yaml")
    assert own.TRAINER.BMIP.AGGREGATION == "addition" and own.DATALOADER.TRAIN_X.BATCH_SIZE == 32


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_an_effect_on_a_recipe_of_bmip(variant):
    def effective(name: str) -> str:
        cfg = load("BMIP", CONFIGS / f"trainers/BMIP/{name}.yaml").clone()
        cfg.merge_from_list(["TRAINER.RECIPE", ""])
        return str(cfg)

    names = ("tiny", "vit_b16_c2_ep10_batch4_2ctx")
    assert any(effective(name) != effective(f"{name}_{variant}") for name in names)


@pytest.mark.parametrize(
    "name, words",
    [
        ("VPT/tiny_addition", ["'addition'", "TRAINER.BMIP", "VPT/tiny.yaml has TRAINER.VPT", "self_regulation"]),
        ("IVLP/tiny_unshared", ["'unshared'", "TRAINER.BMIP", "IVLP/tiny.yaml has TRAINER.IVLP"]),
        ("ZeroshotCLIP/tiny_addition", ["'addition'", "TRAINER.BMIP", "ZeroshotCLIP/tiny.yaml has no such keys"]),
        (
            "BMIP/tiny_adition",
            ["no configuration file", "tiny_adition.yaml", "mean addition?", "configs/variants lists all"],
        ),
        ("IVLP/tiny_bmipsize", ["no configuration file", "configs/variants lists all", "mean bmip_size?"]),
        (
            "VPT/tinny",
            ["no configuration file", "tinny.yaml. ", "mean tiny.yaml?", "tiny.yaml, tiny_icons.yaml, vit_b16"],
        ),
    ],
)
def test_names_of_no_recipe_are_refused_with_those_that_there_are(name, words):
    trainer, recipe = name.split("/")
    assert not recipes.is_readable(recipes.recipe_path(trainer, recipe))
    with pytest.raises(InputError) as error:
        load(trainer, CONFIGS / f"trainers/{name}.yaml")
    assert [word for word in words if word not in str(error.value)] == []


def test_what_can_follow_a_recipes_name_are_its_variants_and_other_files():
    of_one = {name for name, objective in OBJECTIVES.items() if objective.only_for}
    objectives = [name for name in OBJECTIVES if name not in (CROSS_ENTROPY, *of_one)]
    assert recipes.variants_of(recipes.recipe_path("VPT", "tiny")) == sorted(objectives)
    assert {"depth1", "depth12"} < set(recipes.variants_of(recipes.recipe_path("BMIP", "tiny")))
    found = recipes.suffixes_of(recipes.recipe_path("IVLP", "tiny"))
    own = ["bmip_size", "bmip_size_icons", "icons", "language_only", "language_only_icons"]
    assert found == sorted([*own, *objectives])


def test_a_recipe_of_the_users_own_has_variants_and_a_file_comes_before_them(tmp_path):
    (tmp_path / "mine.yaml").write_text("TRAINER: {BMIP: {N_CTX: 3}}\n")
    (tmp_path / "mine_joint.yaml").write_text("TRAINER: {BMIP: {N_CTX: 5}}\n")
    (tmp_path / "top.yaml").write_text("_BASE_: mine_addition.yaml\n")

    def read(name):
        bmip = load("BMIP", tmp_path / f"{name}.yaml").TRAINER.BMIP
        return bmip.N_CTX, bmip.AGGREGATION

    assert read("mine_addition") == read("top") == (3, "addition")
    assert read("mine_joint") == (5, read("mine")[1])
    with pytest.raises(InputError, match=r"self_regulation\.yaml.*OPTIM\.MAX_EPOCH.*a number in .*mine\.yaml"):
        read("mine_self_regulation")


@pytest.mark.parametrize("text", ["{SEED: 0.75}", "{SEED: [15, 0, OPTIM.MAX_EPOCH]}", "[1, 2, SEED]"])
def test_a_variant_with_wrong_shares_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "CONFIGS", tmp_path)
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants" / "odd.yaml").write_text(f"_SHARES_: {text}\n")
    (tmp_path / "mine.yaml").write_text("OPTIM: {MAX_EPOCH: 3}\n")
    with pytest.raises(InputError, match="_SHARES_ of .*odd.yaml is .*KEY: "):
        recipes.read_files(tmp_path / "mine_odd.yaml")


@pytest.mark.parametrize(
    "trainer, name", [("BMIP", "vit_b16_c2_ep10_batch4_2ctx_addition"), ("CoOp", "rn50_ep50"), ("IVLP", "tiny")]
)
def test_a_recipe_by_name_has_the_values_that_train_py_reads(trainer, name):
    cfg, recipe = load(trainer, CONFIGS / f"trainers/{trainer}/{name}.yaml"), recipes.read_recipe(trainer, name)
    with_recipe = cfg.clone()
    with_recipe.defrost()
    with_recipe.merge_from_other_cfg(CfgNode(recipe))
    assert with_recipe == cfg
    assert recipe["OPTIM"]["WARMUP_CONS_LR"] == 1e-5 and isinstance(recipe["INPUT"]["SIZE"], tuple)


def test_recipes_are_read_without_torch_dassl_and_yacs():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'clip', 'yacs', 'dassl', 'minidassl'))); "
        "from trainers.prompting.recipes import read_recipe; print(read_recipe('BMIP', 'tiny_l2v')['TRAINER']['BMIP'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.parent, capture_output=True, text=True)
    assert done.stdout == "{'PREC': 'fp32', 'PROMPT_DEPTH': 3, 'AGGREGATION': 'l2v'}\n", done.stderr
