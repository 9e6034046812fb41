"""The recipes of PromptSRC, CoPrompt and the authors' stack have the published values, which stand here by hand."""

from __future__ import annotations

import hashlib

import pytest
from test_configs import CONFIGS, load

from experiments.methods import recipe_for
from trainers.config import default_cfg as defaults
from trainers.prompting.core.templates import EIGHTY, SIXTY

# Data set: layers, tokens, weight, epochs (CoPrompt's constants.py).
COPROMPT = {
    "imagenet": (12, 4, 8.0, 8),
    "caltech101": (12, 4, 4.0, 8),
    "oxford_pets": (12, 2, 0.1, 8),
    "stanford_cars": (12, 4, 4.0, 8),
    "oxford_flowers": (9, 4, 8.0, 8),
    "food101": (9, 4, 0.5, 5),
    "fgvc_aircraft": (9, 4, 2.0, 8),
    "sun397": (12, 4, 8.0, 8),
    "dtd": (12, 2, 8.0, 8),
    "eurosat": (12, 2, 0.1, 8),
    "ucf101": (12, 4, 2.0, 8),
}
# Mean and standard deviation of the Gaussian over fifty epochs.
FEW_SHOT = {
    **dict.fromkeys(("imagenet", "caltech101", "oxford_pets", "food101", "ucf101", "sun397"), (30, 30)),
    **dict.fromkeys(("stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat"), (45, 5)),
}
# Recipe of the authors' stack: tokens, optimiser, learning rate, epochs of warm-up, mean and standard deviation.
STACKED = {
    "vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets": (2, "sgd", 0.0025, 1, 6, 10),
    "vit_bitp_ctx1_ep20TT_PromptSRC": (1, "sgd", 0.0025, 1, 15, 1),
    "vit_bitp_ctx2_ep20TT_PromptSRC_adam": (2, "adam", 0.0025, 1, 15, 1),
    "vit_bitp_ctx2_ep20TT_PromptSRC_adam_dtd": (2, "adam", 0.002, 5, 15, 1),
    "vit_bitp_ctx4_ep20TT_PromptSRC_adam": (4, "adam", 0.0025, 1, 15, 1),
    "vit_bitp_ctx4_ep20TT_PromptSRC_sgd": (4, "sgd", 0.0025, 1, 15, 1),
    "vit_bitp_ctx4_ep20TT_adam_PromptSRC": (4, "adam", 0.002, 5, 15, 3),
    "vit_bitp_ctx4_ep20TT_adam_PromptSRC_lr19": (4, "adam", 0.0019, 5, 15, 3),
    "vit_bitp_ctx4_ep20TT_adam_PromptSRC_lr21": (4, "adam", 0.0021, 5, 15, 3),
    "vit_bitp_ctx4_ep20TT_adam_PromptSRC_lr25": (4, "adam", 0.0025, 5, 15, 3),
}


def recipe(trainer: str, name: str):
    return load(trainer, CONFIGS / f"trainers/{trainer}/{name}.yaml")


def test_values_that_no_recipe_sets_are_the_published_ones():
    trainer = defaults().TRAINER
    assert (trainer.CoPrompt.IMAGE_ADAPTER_SHARE, trainer.CoPrompt.TEXT_ADAPTER_SHARE) == (0.1, 0.2)
    assert (trainer.W, trainer.DISTILL) == (8.0, "cosine")
    src = trainer.PROMPTSRC
    assert (src.TEXT_LOSS_WEIGHT, src.IMAGE_LOSS_WEIGHT) == (25.0, 10.0)
    assert (src.GPA_MEAN, src.GPA_STD, src.TEACHER_SENTENCES) == (15.0, 1.0, 60)


@pytest.mark.parametrize("dataset", COPROMPT)
def test_coprompt_has_its_settings_of_each_data_set(dataset):
    name = recipe_for("CoPrompt", "base2new", dataset, 16)
    cfg = recipe("CoPrompt", name)
    node = cfg.TRAINER.CoPrompt
    assert COPROMPT[dataset] == (node.PROMPT_DEPTH, node.N_CTX, cfg.TRAINER.W, cfg.OPTIM.MAX_EPOCH)


@pytest.mark.parametrize("dataset", FEW_SHOT)
def test_promptsrc_averages_over_the_published_epochs_of_each_data_set_with_few_shots(dataset):
    cfg = recipe("PromptSRC", recipe_for("PromptSRC", "few_shot", dataset, 4))
    assert FEW_SHOT[dataset] == (cfg.TRAINER.PROMPTSRC.GPA_MEAN, cfg.TRAINER.PROMPTSRC.GPA_STD)
    assert cfg.OPTIM.MAX_EPOCH == 50


@pytest.mark.parametrize("name", STACKED)
def test_the_authors_stack_has_its_settings_and_eighty_sentences(name):
    cfg = recipe("PromptSRC_BMIP", name)
    bmip, src, optim = cfg.TRAINER.BMIP, cfg.TRAINER.PROMPTSRC, cfg.OPTIM
    found = bmip.N_CTX, optim.NAME, optim.LR, optim.WARMUP_EPOCH, src.GPA_MEAN, src.GPA_STD
    assert found == STACKED[name]
    assert (bmip.VARIANT, src.TEACHER_SENTENCES, optim.MAX_EPOCH) == ("released", 80, 20)


@pytest.mark.parametrize("sentences, digest", [(SIXTY, "8f771e15e049b36e"), (EIGHTY, "a8a4822f2921936e")])
def test_the_teachers_sentences_are_letter_by_letter_those_of_the_authors_files(sentences, digest):
    # Of PromptSRC's and of BMIP's imagenet_templates.py; they are averaged, so that their order is free.
    assert hashlib.sha256("\n".join(sorted(sentences)).encode()).hexdigest()[:16] == digest
