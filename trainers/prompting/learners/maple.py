"""MaPLe: text prompts that are projected into the vision tower (Khattak et al., CVPR 2023, arXiv 2210.03117)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..core.clip_weights import text_width, vision_width
from ..core.layout import PublishedLayout
from ..declaration import MOST_TOKENS, Method, Recipes, Settings, declare, setting
from .bmip import BMIPConfig, BMIPLearner


@dataclass(frozen=True)
class MaPLeConfig(Settings):
    """Settings of the learner: b prompt tokens (`length`) enter each of the first J layers (`depth`)."""

    length: int = setting(2, "N_CTX", "prompt tokens per layer, b", least=1, most=MOST_TOKENS, told_by="text_length")
    depth: int = setting(9, "PROMPT_DEPTH", "layers that prompts enter, J", least=1, told_by="text_depth")
    context: str = setting(
        "a photo of a", "CTX_INIT", "words of the sentence; the first b initialise text prompts; empty: random"
    )


def learner(config: MaPLeConfig, clip_model: nn.Module) -> BMIPLearner:
    """BMIP's learner in one direction, without gates: a head of its own for each layer."""
    one_way = BMIPLearner(BMIPConfig(**config.plain(), aggregation="l2v", share_text=False), clip_model)
    if config.depth == 1:
        # The authors draw the start of the deep heads in any case, before all later random numbers.
        nn.Linear(text_width(clip_model), vision_width(clip_model))
    return one_way


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
        learner=learner,
        recipes=Recipes("vit_b16_c2_ep5_batch4_2ctx", cross_dataset="vit_b16_c2_ep5_batch4_2ctx_cross_datasets"),
        layout=LAYOUT,
        folder="MultiModalPromptLearner",
        venue="CVPR 2023",
        arxiv="2210.03117",
    )
)
