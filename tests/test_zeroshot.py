"""Zero-shot CLIP is CLIP with the data set's sentence, and trains nothing."""

from __future__ import annotations

import torch

from trainers.config import default_cfg
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.openai_clip import clip
from trainers.zsclip import ZeroshotCLIP


def test_its_logits_are_those_of_the_unmodified_clip(run_train, monkeypatch):
    batches = []

    def model_inference(trainer, images):
        batches.append((images, trainer.model(images)))
        return batches[-1][1]

    monkeypatch.setattr(ZeroshotCLIP, "model_inference", model_inference)
    assert run_train("--eval-only", trainer="ZeroshotCLIP").status == 0
    ((images, logits),) = batches
    tokens = clip.tokenize([f"a photo of a {name}." for name in ("zero", "one", "two", "three", "four")])
    with torch.no_grad():
        torch.testing.assert_close(logits, load_clip("tiny")(images, tokens)[0], rtol=1e-4, atol=1e-4)


def test_a_data_set_has_its_own_sentence():
    cfg = default_cfg()
    cfg.DATASET.NAME = "EuroSAT"
    assert ZeroshotCLIP.settings(cfg).templates == ("a centered satellite photo of {}.",)


def test_training_it_only_tests(run_train):
    run = run_train(trainer="ZeroshotCLIP")
    assert run.status == 0 and "nothing to train" in run.output and "* accuracy" in run.output
    assert not list(run.folder.glob("*/model*"))
