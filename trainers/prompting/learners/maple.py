"""MaPLe: text prompts that are projected into the vision tower (Khattak et al., CVPR 2023, arXiv 2210.03117)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.class_tokens import context_template, context_vectors
from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.layout import PublishedLayout
from ..core.learner import PromptLearner, TowerPrompts, check_depth, random_prompts
from ..declaration import Method, Recipes, Settings, declare, setting


@dataclass(frozen=True)
class MaPLeConfig(Settings):
    """Settings of the learner: b prompt tokens (`length`) enter each of the first J layers (`depth`)."""

    length: int = setting(2, "N_CTX", "prompt tokens per layer, b", least=1, told_by="text_length")
    depth: int = setting(9, "PROMPT_DEPTH", "layers that prompts enter, J", least=1, told_by="text_depth")
    context: str = setting(
        "a photo of a", "CTX_INIT", "words of the sentence; the first b initialise text prompts; empty: random"
    )


class MaPLeLearner(PromptLearner):
    """Text prompts, and a linear head in each layer that projects them to vision prompts.

    Attributes:
        text_prompts: `[b, d_t]` for each layer, from N(0, 0.02²) or words.
        text_to_vision: `Linear(d_t, d_v)` for each layer; those from layer 1 on start as copies of one.

    Raises:
        InputError: `depth` beyond the towers, or too few words in `context`.
    """

    def __init__(self, config: MaPLeConfig, clip_model: nn.Module):
        super().__init__()
        check_depth("depth", config.depth, min(text_depth(clip_model), vision_depth(clip_model)))
        self.config = config
        self.text_slots = config.length
        self.template, use_words = context_template(config.context, config.length)
        widths = text_width(clip_model), vision_width(clip_model)
        self.text_prompts = random_prompts(range(config.depth), config.length, widths[0])
        heads = {"0": nn.Linear(*widths)}
        deep = nn.Linear(*widths)
        heads.update({str(layer): copy.deepcopy(deep) for layer in range(1, config.depth)})
        self.text_to_vision = nn.ModuleDict(heads)
        if use_words:
            with torch.no_grad():
                self.text_prompts["0"].copy_(
                    context_vectors(clip_model.token_embedding, config.context, config.length)
                )

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        return TowerPrompts(self.config.length, self.config.depth, lambda layer, _: self.text_prompts[str(layer)])

    def vision(self) -> TowerPrompts:
        def at(layer: int, _: object) -> Tensor:
            return self.text_to_vision[str(layer)](self.text_prompts[str(layer)])

        return TowerPrompts(self.config.length, self.config.depth, at)


LAYOUT = PublishedLayout(
    renames=(
        (r"prompt_learner\.ctx", lambda: "text_prompts.0"),
        (r"prompt_learner\.compound_prompts_text\.(\d+)", lambda i: f"text_prompts.{int(i) + 1}"),
        (r"prompt_learner\.proj\.(weight|bias)", lambda kind: f"text_to_vision.0.{kind}"),
        (
            r"prompt_learner\.compound_prompt_projections\.(\d+)\.(weight|bias)",
            lambda i, kind: f"text_to_vision.{int(i) + 1}.{kind}",
        ),
        # CoPrompt's checkpoints: MaPLe's prompts with adapters.
        (r"adapter_(image|text)\.fc\.(\d)\.weight", lambda tower, i: f"adapters.{tower}.layers.{i}.weight"),
    ),
    marker=r"prompt_learner\.ctx",
)

METHOD = declare(
    Method(
        "MaPLe",
        summary="text prompts, and a linear head in each layer that makes the vision prompts out of them",
        node="MAPLE",
        config=MaPLeConfig,
        learner=MaPLeLearner,
        recipes=Recipes("vit_b16_c2_ep5_batch4_2ctx", cross_dataset="vit_b16_c2_ep5_batch4_2ctx_cross_datasets"),
        layout=LAYOUT,
        folder="MultiModalPromptLearner",
        venue="CVPR 2023",
        arxiv="2210.03117",
    )
)
