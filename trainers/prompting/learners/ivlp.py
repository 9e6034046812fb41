"""Independent prompts in the text tower, the vision tower or both: IVLP, language prompting, VPT.

IVLP and language prompting: Khattak et al., *MaPLe* (arXiv 2210.03117), whose baselines they are. VPT: Jia et al.,
*Visual Prompt Tuning* (arXiv 2203.12119), as it is adapted to CLIP there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checkpoints.published import ReleasedLayout
from ..core.class_tokens import context_template, context_vectors
from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.learner import PromptLearner, TowerPrompts, check_depth, random_prompts
from ..errors import InputError


@dataclass(frozen=True)
class IVLPConfig:
    """Settings of the learner. A depth or length of 0 leaves a tower without prompts.

    Attributes:
        text_length, vision_length: prompt tokens per layer.
        text_depth, vision_depth: layers that prompts enter.
        context: words of the sentence; the first `text_length` initialise the text prompts of layer 0.
        head_width: hidden width of the residual heads that the prompts of each tower pass through, one for layer 0
            and one for all others; 0 for none. With them the method has as many parameters as one that projects
            prompts between the towers, and still no interaction.
        node: configuration node, for messages.
    """

    text_length: int = 2
    text_depth: int = 9
    vision_length: int = 2
    vision_depth: int = 9
    context: str = "a photo of a"
    head_width: int = 0
    node: str = "TRAINER.IVLP"

    def __post_init__(self) -> None:
        for key, value in (
            ("N_CTX_TEXT", self.text_length),
            ("PROMPT_DEPTH_TEXT", self.text_depth),
            ("N_CTX_VISION", self.vision_length),
            ("PROMPT_DEPTH_VISION", self.vision_depth),
            ("HEAD_WIDTH", self.head_width),
        ):
            if value < 0:
                raise InputError(f"{self.node}.{key} is {value}; set it to 0 or more.")
        for tower, length, depth in (
            ("TEXT", self.text_length, self.text_depth),
            ("VISION", self.vision_length, self.vision_depth),
        ):
            if (length == 0) != (depth == 0):
                raise InputError(
                    f"{self.node}.N_CTX_{tower} is {length} and {self.node}.PROMPT_DEPTH_{tower} is {depth}; set both "
                    "to 0 for a tower without prompts, or neither."
                )


class IVLPLearner(PromptLearner):
    """Each tower's own prompts, by layer from 0.

    Attributes:
        text_prompts, vision_prompts: `[b, d_t]` and `[b, d_v]` for each layer, from N(0, 0.02²) or words.
        text_heads, vision_heads: with a head width, `Linear, ReLU, Linear` for layer 0 and for all "deep" ones; what
            enters a layer is the prompt plus its head's output.

    Raises:
        InputError: a depth beyond the towers, or too few words in `context`.
    """

    def __init__(self, config: IVLPConfig, clip_model: nn.Module):
        super().__init__()
        check_depth(f"{config.node}.PROMPT_DEPTH_TEXT", config.text_depth, text_depth(clip_model))
        if config.vision_depth:
            check_depth(f"{config.node}.PROMPT_DEPTH_VISION", config.vision_depth, vision_depth(clip_model))
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
            with torch.no_grad():
                self.text_prompts["0"].copy_(
                    context_vectors(clip_model.token_embedding, config.context, config.text_length)
                )

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
RELEASED = ReleasedLayout(
    renames=(
        (r"prompt_learner\.ctx", lambda: "text_prompts.0"),
        (r"text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", lambda layer: f"text_prompts.{layer}"),
        (r"image_encoder\.VPT", lambda: "vision_prompts.0"),
        (r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", lambda layer: f"vision_prompts.{layer}"),
    ),
    marker=r"prompt_learner\.ctx|image_encoder\.VPT",
)
