"""Every file that CoOp, MaPLe, PromptSRC and ProGrad publish for our methods has ours of its name, to the same effect.

CoPrompt's one file and its settings of data sets have ours for each; the files of BMIP's authors for PromptSRC_BMIP,
of which many differ in the seed alone, have ours for each recipe.

Needs checkouts of KaiyangZhou/CoOp, muzairkhattak/multimodal-prompt-learning, muzairkhattak/PromptSRC,
ShuvenduRoy/CoPrompt, htyao89/KgCoOp, cnunlp/DeKg, BeierZhu/Prompt-align, zzeoZheng/HiCroPL, LAMDASZ-ML/BMIP,
ZjjConan/VLM-MultiModalAdapter, yunncheng/MMRL and htyao89/Textual-based_Class-aware_prompt_tuning, named by the
environment variables COOP_ROOT, MAPLE_ROOT, PROMPTSRC_ROOT, COPROMPT_ROOT, KGCOOP_ROOT, DEKG_ROOT, PROGRAD_ROOT,
HICROPL_ROOT, BMIP_ROOT, MMA_ROOT, MMRL_ROOT and TCP_ROOT.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest
from helpers.upstream import root
from test_configs import CONFIGS, DATASETS, load
from yacs.config import CfgNode

from trainers.prompting.errors import InputError

# Where a method's files are published first; later repositories carry copies, of which PromptSRC's of MaPLe's
# base-to-new file has other epochs.
PUBLISHED = {
    "COOP_ROOT": ("CoOp", "CoCoOp"),
    "MAPLE_ROOT": ("CoOp", "CoCoOp", "VPT", "IVLP", "MaPLe"),
    "PROMPTSRC_ROOT": ("CoOp", "CoCoOp", "IVLP", "PromptSRC"),
    "PROGRAD_ROOT": ("ProGrad",),
}
FILES = [
    path
    for variable, methods in PUBLISHED.items()
    if os.environ.get(variable)
    for method in methods
    for path in sorted(Path(os.environ[variable]).glob(f"configs/trainers/{method}/*.yaml"))
]


@pytest.mark.parametrize("variable, methods", PUBLISHED.items(), ids=str)
def test_the_checkout_has_files_of_every_method(variable, methods):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout")
    here = [path for path in FILES if path.is_relative_to(os.environ[variable])]
    assert {path.parent.name for path in here} == set(methods)


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join([path.parts[-5], *path.parts[-2:]]))
def test_ours_has_the_effect_of_theirs(path):
    method = path.parent.name
    # All keys, so that ours sets none that theirs leaves at its default.
    assert load(method, CONFIGS / "trainers" / method / path.name) == load(method, path)


def without_names(cfg: CfgNode) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TRAINER.RECIPE = ""
    return cfg


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "ZeroshotCLIP2"])
@pytest.mark.parametrize("backbone", ["rn50", "rn101", "vit_b32", "vit_b16"])
def test_zero_shot_clip_sees_and_tests_as_with_coops_file_which_its_script_takes(trainer, backbone):
    theirs = load(trainer, root("COOP") / f"configs/trainers/CoOp/{backbone}.yaml")
    ours = load(trainer, CONFIGS / f"trainers/{trainer}/{backbone}.yaml")
    assert (ours.INPUT, ours.MODEL, ours.DATALOADER.TEST) == (theirs.INPUT, theirs.MODEL, theirs.DATALOADER.TEST)


@pytest.mark.parametrize("trainer", ["KgCoOp", "DeKg"])
def test_their_file_has_ours_but_for_words_that_are_in_their_code(tmp_path, trainer):
    name = "vit_b16_ep100_ctxv1"
    text = (root(trainer) / f"configs/trainers/{trainer}/{name}.yaml").read_text()
    # The words are those of their code wherever this is set.
    assert "CTX_INIT: True" in text
    (tmp_path / f"{name}.yaml").write_text(text.replace("CTX_INIT: True", "CTX_INIT: a photo of a"))
    ours = load(trainer, CONFIGS / f"trainers/{trainer}/{name}.yaml")
    assert ours == load(trainer, tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("dataset", ["eurosat", "imagenet", "sun397"])
def test_tcps_file_has_ours_but_for_what_is_in_their_code_script_and_readme(tmp_path, dataset):
    name = "vit_b16_ep100_ctxv1"
    text = (root("TCP") / f"configs/trainers/TCP/{name}.yaml").read_text()
    assert "CTX_INIT: False" in text
    text = text.replace("CTX_INIT: False", "N_CTX: 4").replace("LR: 0.002", "LR: 0.002\n  EPS: 1e-3")
    own = "" if dataset == "eurosat" else f"_{dataset}"
    text = text if dataset == "eurosat" else text.replace("MAX_EPOCH: 50", "MAX_EPOCH: 25")
    (tmp_path / f"{name}{own}.yaml").write_text(text)
    ours = load("TCP", CONFIGS / f"trainers/TCP/{name}{own}.yaml")
    assert ours == load("TCP", tmp_path / f"{name}{own}.yaml")


@pytest.mark.parametrize("name", ["vit_b16_ep5", "vit_b16_ep5_imnet"])
def test_mmas_files_have_ours(name):
    theirs = root("MMA") / f"configs/trainers/MultiModalAdapter/{name}.yaml"
    assert load("MMA", CONFIGS / f"trainers/MMA/{name}.yaml") == load("MMA", theirs)


@pytest.mark.parametrize("name", ["vit_b16", "vit_b16_cross_datasets", "vit_b16_few_shot", "vit_b16_imagenet"])
@pytest.mark.parametrize("trainer", ["MMRL", "MMRLpp"])
def test_mmrls_files_have_ours_with_the_settings_of_every_data_set(trainer, name):
    theirs, ours = root("MMRL") / f"configs/trainers/{trainer}/{name}.yaml", CONFIGS / f"trainers/{trainer}"
    specified = runpy.run_path(str(root("MMRL") / "trainers/config.py"))["get_dataset_specified_config"]
    task = {"vit_b16_cross_datasets": "CD", "vit_b16_few_shot": "FS"}.get(name, "B2N")
    for_imagenet = name in ("vit_b16_cross_datasets", "vit_b16_imagenet")
    compared = []
    for path in DATASETS:
        options = [str(word) for word in specified(load_name(path), trainer, task)]
        if not options or (path.stem == "imagenet") is not for_imagenet:
            continue
        if trainer == "MMRL" and task == "CD":
            options += ["TRAINER.MMRL.REG_WEIGHT", "0.2"]  # of their script
        file = ours / (f"{name}.yaml" if for_imagenet else f"{name}_{path.stem}.yaml")
        found = load(trainer, file, dataset=path)
        assert without_names(found) == without_names(load(trainer, theirs, *options, dataset=path)), path.stem
        compared.append(file)
    if not for_imagenet:
        assert len(compared) == 10
        assert load(trainer, ours / f"{name}.yaml") == load(trainer, theirs)


# What HiCroPL's Dassl does by default, in its files for other protocols than transfer.
BEST = ["TEST.NO_TEST_EARLY", "False", "TEST.FINAL_MODEL", "best_val", "TRAIN.EARLY_STOPPING", "False"]


def test_hicropls_files_have_ours_with_the_defaults_of_its_dassl():
    paths = sorted((root("HiCroPL") / "configs/trainers/HiCroPL").glob("*.yaml"))
    assert len(paths) == 4
    for path in paths:
        theirs = load("HiCroPL", path, *([] if path.stem.endswith("cross_datasets") else BEST))
        assert load("HiCroPL", CONFIGS / "trainers/HiCroPL" / path.name) == theirs, path.name


# Without effect: nothing is validated, and no base classes are mixed into the new ones.
UNSET = ["TRAIN.EARLY_STOPPING", "True", "TRAIN.PATIENT_COUNT", "3"]
UNSET += ["DATASET.USE_RATIO", "False", "DATASET.SUBSAMPLE_RATIO", "100"]


def test_upts_files_of_bmips_authors_have_ours_but_for_keys_without_effect():
    paths = sorted((root("BMIP") / "configs/trainers/UPT").glob("*.yaml"))
    assert len(paths) == 3
    for path in paths:
        assert load("UPT", CONFIGS / "trainers/UPT" / path.name) == load("UPT", path, *UNSET), path.name


# They validate whenever the best model is asked for, and ProDA's code computes in fp32 whatever its key says.
VALIDATED = [*UNSET, "TEST.NO_TEST_EARLY", "False", "TRAIN.EARLY_STOPPING", "False"]
EFFECTIVE = [*VALIDATED, "TRAINER.ProDA.PREC", "fp32"]


def test_bitps_files_of_bmips_authors_have_ours_but_for_keys_without_effect():
    paths = sorted((root("BMIP") / "configs/trainers/BITP").glob("*.yaml"))
    assert len(paths) == 2
    for path in paths:
        theirs = load("BITP", path, *VALIDATED)
        assert load("BITP", CONFIGS / "trainers/BITP" / path.name) == theirs, path.name


def test_prodas_file_of_bmips_authors_has_ours_but_for_keys_without_effect(tmp_path):
    name = "vit_b16_c2_e100_ctx16_warmup5_BZ64_ProDA.yaml"
    text = (root("BMIP") / "configs/trainers/ProDA" / name).read_text()
    for line in ("  MULTILABEL: False\n", "  STOPPING_COUNT: 3\n", '  NAME: "ProDA"\n'):
        assert line in text
        text = text.replace(line, "")
    (tmp_path / name).write_text(text)
    assert load("ProDA", CONFIGS / "trainers/ProDA" / name) == load("ProDA", tmp_path / name, *EFFECTIVE)


def test_promptsrcs_second_few_shot_setting_is_a_file_of_its_own():
    name = "vit_b16_c2_ep50_batch4_4+4ctx_few_shot"
    path = root("PROMPTSRC") / f"configs/trainers/PromptSRC/{name}.yaml"
    # There it is a comment, to be exchanged by hand.
    late = ["TRAINER.PROMPTSRC.GPA_MEAN", "45", "TRAINER.PROMPTSRC.GPA_STD", "5"]
    assert "GPA_MEAN: 45" in path.read_text() and "GPA_STD: 5" in path.read_text()
    ours = load("PromptSRC", CONFIGS / f"trainers/PromptSRC/{name}_late.yaml")
    assert without_names(ours) == without_names(load("PromptSRC", path, *late))


def overrides() -> dict[str, list[str]]:
    """CoPrompt's settings of each data set, as options of the command line."""
    names: dict = {}
    exec((root("COPROMPT") / "trainers/constants.py").read_text(), names)
    found = {path.stem: names["get_dataset_specified_config"](load_name(path)) for path in DATASETS}
    return {stem: options for stem, options in found.items() if options != [""]}


def load_name(path: Path) -> str:
    return CfgNode.load_cfg(path.open()).DATASET.NAME


def test_coprompts_settings_of_every_data_set_are_a_file_of_its_own():
    path, known = root("COPROMPT") / "configs/trainers/coprompt.yaml", overrides()
    assert len(known) == 11
    files = {file.stem for file in (CONFIGS / "trainers/CoPrompt").glob("coprompt_*.yaml")}
    assert files == {f"coprompt_{stem}" for stem in known}
    for stem, options in known.items():
        dataset = CONFIGS / f"datasets/{stem}.yaml"
        ours = load("CoPrompt", CONFIGS / f"trainers/CoPrompt/coprompt_{stem}.yaml", dataset=dataset)
        assert without_names(ours) == without_names(load("CoPrompt", path, *options, dataset=dataset)), stem
    assert load("CoPrompt", CONFIGS / "trainers/CoPrompt/coprompt.yaml") == load("CoPrompt", path)


# Ours, and those of the authors that it stands for.
STACKED = {
    "vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets": ["vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets"],
    "vit_bitp_ctx1_ep20TT_PromptSRC": ["vit_bitp_ctx1_ep20TT_PromptSRC"],
    "vit_bitp_ctx2_ep20TT_PromptSRC_adam": ["vit_bitp_ctx2_ep20TT_PromptSRC_seed40adam"],
    "vit_bitp_ctx2_ep20TT_PromptSRC_adam_dtd": ["vit_bitp_ctx2_ep20TT_PromptSRC_seed40adam dtd"],
    "vit_bitp_ctx4_ep20TT_PromptSRC_adam": [
        "vit_bitp_ctx4_ep20TT_PromptSRC",
        "vit_bitp_ctx4_ep20TT_PromptSRCseed10adam",
    ],
    "vit_bitp_ctx4_ep20TT_PromptSRC_sgd": [
        f"vit_bitp_ctx4_ep20TT_PromptSRCseed{seed}" for seed in (4, 10, 15, 2000, 2004)
    ],
    "vit_bitp_ctx4_ep20TT_adam_PromptSRC": [
        f"vit_bitp_ctx4_ep20TT_adam_PromptSRC{seed}" for seed in ("", "seed16", "seed16dp9", "seed2024", "seed2025")
    ],
    **{
        f"vit_bitp_ctx4_ep20TT_adam_PromptSRC_lr{rate}": [f"vit_bitp_ctx4_ep20TT_adam_PromptSRCseed16dp9lr{rate}"]
        for rate in (19, 21, 25)
    },
}


def teacher_sentences() -> int:
    """How many sentences the authors' stacked trainer averages for its teacher: all of their file, not a key."""
    return len(runpy.run_path(str(root("BMIP") / "trainers/imagenet_templates.py"))["IMAGENET_TEMPLATES"])


def in_our_keys(cfg: CfgNode) -> CfgNode:
    """The authors' settings of the prompts, which they have in PromptSRC's node, and what their code fixes.

    Their files are read for BMIP by cross-entropy, which has no objective in whose node such keys are refused.
    """
    cfg = without_names(cfg)
    cfg.TRAINER.NAME = "PromptSRC_BMIP"
    src, bmip = cfg.TRAINER.PROMPTSRC, cfg.TRAINER.BMIP
    assert src.N_CTX_TEXT == src.N_CTX_VISION
    bmip.N_CTX, bmip.CTX_INIT, bmip.PREC, bmip.VARIANT = src.N_CTX_TEXT, src.CTX_INIT, src.PREC, "released"
    src.TEACHER_SENTENCES = teacher_sentences()
    return without_prompts(cfg)


def without_prompts(cfg: CfgNode) -> CfgNode:
    """Without what is the seed's, and PromptSRC's keys of its own prompts, which have no effect here."""
    cfg = without_names(cfg)
    cfg.MODEL.INIT_SEED = 48
    for key in ("N_CTX_TEXT", "N_CTX_VISION", "CTX_INIT", "PREC", "PROMPT_DEPTH_TEXT", "PROMPT_DEPTH_VISION"):
        del cfg.TRAINER.PROMPTSRC[key]
    return cfg


@pytest.mark.parametrize("name", STACKED)
def test_the_authors_stacked_recipes_have_the_effect_of_theirs_but_for_the_seed(name):
    folder = root("BMIP") / "configs/trainers/PromptSRC_BMIP"
    ours = load("PromptSRC_BMIP", CONFIGS / f"trainers/PromptSRC_BMIP/{name}.yaml")
    assert ours.MODEL.INIT_SEED == 48  # their default
    for file in STACKED[name]:
        assert without_prompts(ours) == in_our_keys(load("BMIP", folder / f"{file}.yaml")), file


def test_the_authors_own_files_are_refused_since_they_would_train_other_prompts():
    for path in sorted((root("BMIP") / "configs/trainers/PromptSRC_BMIP").glob("*.yaml")):
        with pytest.raises(InputError, match="N_CTX_TEXT.*TRAINER.BMIP"):
            load("PromptSRC_BMIP", path)


def test_every_stacked_recipe_of_the_authors_has_ours():
    folder = root("BMIP") / "configs/trainers/PromptSRC_BMIP"
    assert {path.stem for path in folder.glob("*.yaml")} == {file for files in STACKED.values() for file in files}
    ours = {path.stem for path in (CONFIGS / "trainers/PromptSRC_BMIP").glob("*.yaml")}
    assert ours > set(STACKED)
