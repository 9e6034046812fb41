"""IVLP and language prompting: independent prompts in both towers, or in the text tower alone.

Baselines of Khattak et al., *MaPLe* (arXiv 2210.03117).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..core.class_tokens import context_template, context_vectors
from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.layout import PublishedLayout
from ..core.learner import PromptLearner, TowerPrompts, check_depth, random_prompts
from ..declaration import MOST_TOKENS, Method, Recipes, Settings, declare, setting


@dataclass(frozen=True)
class IVLPConfig(Settings):
    """Settings of the learner. A vision depth and length of 0 leave that tower without prompts.

    Residual heads (`head_width`) give the method as many parameters as one that projects prompts between the towers,
    without interaction: in each tower one head serves layer 0, and one all others.
    """

    text_length: int = setting(
        2, "N_CTX_TEXT", "prompt tokens per layer of the text tower", least=1, most=MOST_TOKENS, told_by="text_length"
    )
    text_depth: int = setting(
        9, "PROMPT_DEPTH_TEXT", "layers of the text tower that prompts enter", least=1, told_by="text_depth"
    )
    vision_length: int = setting(
        2,
        "N_CTX_VISION",
        "prompt tokens per layer of the vision tower",
        least=0,
        most=MOST_TOKENS,
        told_by="vision_length",
    )
    vision_depth: int = setting(
        9,
        "PROMPT_DEPTH_VISION",
        "layers of the vision tower that prompts enter; 0, with no tokens: language prompting",
        least=0,
        told_by="vision_depth",
    )
    context: str = setting("a photo of a", "CTX_INIT", "words of the sentence; the first ones initialise text prompts")
    head_width: int = setting(
        0,
        "HEAD_WIDTH",
        "hidden width of residual heads that prompts pass through; 0: none, as published",
        least=0,
        most=10_000,
        told_by=lambda state_dict: len(state_dict.get("text_heads.0.0.weight", ())),
    )

    def check(self) -> None:
        if (self.vision_length == 0) != (self.vision_depth == 0):
            raise self.error(
                "{vision_length} is {} and {vision_depth} is {}; set both to 0 for a tower without prompts, or "
                "neither.",
                *(self.vision_length, self.vision_depth),
            )


class IVLPLearner(PromptLearner):
    """Each tower's own prompts, by layer from 0.

    Attributes:
        text_prompts, vision_prompts: `[b, d_t]` and `[b, d_v]` for each layer, from N(0, 0.02²) or words.
        text_heads, vision_heads: with a head width, `Linear, ReLU, Linear` for layer 0 and for all "deep" ones; the
            prompt plus its head's output enters a layer.

    Raises:
        InputError: a depth beyond the towers, or too few words in `context`.
    """

    recordable = True

    def __init__(self, config: IVLPConfig, clip_model: nn.Module):
        super().__init__()
        check_depth("text_depth", config.text_depth, text_depth(clip_model))
        if config.vision_depth:
            check_depth("vision_depth", config.vision_depth, vision_depth(clip_model))
        self.config = config
        self.text_slots = config.text_length
        self.template, use_words = context_template(config.context, config.text_length)
        text = text_width(clip_model)
        # A ResNet has no width, and serves language prompting alone.
        vision = vision_width(clip_model) if config.vision_depth else 0
        self.text_prompts = random_prompts(range(config.text_depth), config.text_length, text)
        self.vision_prompts = random_prompts(range(config.vision_depth), config.vision_length, vision)
        self.text_heads = _heads(config.text_depth, text, config.head_width)
        self.vision_heads = _heads(config.vision_depth, vision, config.head_width)
        if use_words and config.text_length:
            words = context_vectors(clip_model, config.context, config.text_length, "text_length")
            self.text_prompts["0"].data.copy_(words)

    def text(self, image_features: Tensor | None = None) -> TowerPrompts | None:
        return _tower(self.text_prompts, self.text_heads)

    def vision(self) -> TowerPrompts | None:
        return _tower(self.vision_prompts, self.vision_heads)


def _heads(depth: int, width: int, hidden: int) -> nn.ModuleDict:
    names = ["0", "deep"][: min(depth, 2)] if hidden else []
    return nn.ModuleDict(
        {name: nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) for name in names}
    )


def _tower(prompts: nn.ParameterDict, heads: nn.ModuleDict) -> TowerPrompts | None:
    if not len(prompts):
        return None

    def at(layer: int, readout: object) -> Tensor:
        prompt = prompts[str(layer)]
        return prompt + heads["deep" if layer else "0"](prompt) if len(heads) else prompt

    return TowerPrompts(length=len(prompts["0"]), depth=len(prompts), at=at)


# VPT's files have the vision prompts alone.
LAYOUT = PublishedLayout(
    renames=(
        (r"prompt_learner\.ctx", lambda: "text_prompts.0"),
        (r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", lambda layer: f"text_prompts.{layer}"),
        (r"image_encoder\.VPT", lambda: "vision_prompts.0"),
        (r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", lambda layer: f"vision_prompts.{layer}"),
    ),
    marker=r"prompt_learner\.ctx|image_encoder\.VPT",
)

PUBLISHED = dict(
    node="IVLP",
    config=IVLPConfig,
    learner=IVLPLearner,
    layout=LAYOUT,
    folder="VLPromptLearner",
    # Language prompting needs no ViT; the learner refuses vision prompts in a ResNet.
    needs_vit=False,
    trainer="IVLP",
    venue="CVPR 2023",
    arxiv="2210.03117",
)
LANGUAGE_PROMPTING = declare(
    Method(
        "LanguagePrompting",
        summary="text prompts in the first layers (a baseline of MaPLe's authors)",
        recipes=Recipes("vit_b16_c2_ep5_batch4_4ctx_language_only", tiny="tiny_language_only"),
        **PUBLISHED,
    )
)
METHOD = declare(
    Method(
        "IVLP",
        summary="text and vision prompts in the first layers, without interaction (a baseline of MaPLe's authors)",
        recipes=Recipes("vit_b16_c2_ep5_batch4_2+2ctx"),
        **PUBLISHED,
    )
)
# The control: BMIP's recipe and number of parameters, without interaction.
CONTROL = declare(
    Method(
        "IVLP_BMIP_size",
        summary="IVLP with residual heads that make it as large as BMIP: a control, not published",
        recipes=Recipes("vit_b16_ep10_2+2ctx_bmip_size", tiny="tiny_bmip_size"),
        **PUBLISHED,
    )
)
