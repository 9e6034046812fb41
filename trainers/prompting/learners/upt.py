"""UPT: unified prompts, out of which a transformer layer makes the prompts of both towers.

Zang et al., "Unified Vision and Language Prompt Learning", arXiv 2210.07225, as BMIP's authors adapt it to a ViT-B/16:
a unified prompt is as wide as both towers together, and its parts enter them. Zang et al. have published no code.

The published code (`variant="released"`) differs from the method (`variant="paper"`): each tower has own prompts in
layer 0, which pass no transformer, and the text tower gets new prompts in layers 0 ... J-2 only. It also reads the
settings of another method, BITP, so that b is 2 and J is 9 whatever its recipe says.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.class_tokens import context_template, context_vectors
from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.layout import PublishedLayout
from ..core.learner import PromptLearner, TowerPrompts, check_depth, random_prompts
from ..declaration import MOST_TOKENS, Method, Recipes, Settings, declare, setting

HEADS, HIDDEN = 8, 2048  # of the transformer layers
VARIANTS = ("paper", "released")
TEXT, VISION = "text", "vision"


def _unified(state_dict: Mapping[str, Tensor]) -> dict[int, Tensor]:
    found = {key.rpartition(".")[2]: value for key, value in state_dict.items() if key.startswith("unified_prompts.")}
    return {int(layer): value for layer, value in found.items()}


def _told_length(state_dict: Mapping[str, Tensor]) -> int:
    return len(next(value for key, value in state_dict.items() if "_prompts." in key))


def _told_depth(state_dict: Mapping[str, Tensor]) -> int:
    return 1 + max(_unified(state_dict), default=0)


@dataclass(frozen=True)
class UPTConfig(Settings):
    """Settings of the learner; b unified tokens (`length`) become prompts in each of the first J layers (`depth`)."""

    variant: str = setting(
        "paper", "VARIANT", "the method in every layer, or what the authors' released code does", choices=VARIANTS
    )
    length: int = setting(
        2, "N_CTX", "prompt tokens per layer and modality, b", least=1, most=MOST_TOKENS, told_by=_told_length
    )
    depth: int = setting(9, "PROMPT_DEPTH", "layers that prompts enter, J", least=1, told_by=_told_depth)
    context: str = setting(
        "a photo of a",
        "CTX_INIT",
        "words of the sentence, whose first b are prompts; in released they initialise those of layer 0",
    )
    dropout: float = setting(0.1, "DROPOUT", "of the transformer layers, in training", least=0.0, most=0.99)


class UPTLearner(PromptLearner):
    """Unified prompts and a transformer layer for each of them; keys of the containers are layer numbers, from 0.

    Attributes:
        unified_prompts: `[b, d_t + d_v]`; in `released` not for layer 0.
        unifiers: transformer layers of PyTorch's default kind, with the same start.
        text_prompts, vision_prompts: those of layer 0 in `released`, `[b, d_t]` and `[b, d_v]`.

    Raises:
        InputError: `depth` beyond the towers, or too few words in `context`.
    """

    def __init__(self, config: UPTConfig, clip_model: nn.Module):
        super().__init__()
        check_depth("depth", config.depth, min(text_depth(clip_model), vision_depth(clip_model)))
        self.config = config
        self.text_slots = config.length
        self.template, use_words = context_template(config.context, config.length)
        self.widths = text_width(clip_model), vision_width(clip_model)
        released = config.variant == "released"
        own, layers = [0] if released else [], range(int(released), config.depth)
        self.text_prompts = random_prompts(own, config.length, self.widths[0])
        self.vision_prompts = random_prompts(own, config.length, self.widths[1])
        self.unified_prompts = random_prompts(layers, config.length, sum(self.widths))
        unifier = nn.TransformerEncoderLayer(sum(self.widths), HEADS, HIDDEN, config.dropout)
        self.unifiers = nn.ModuleDict({str(layer): copy.deepcopy(unifier) for layer in layers})
        # The tower that the last draw of dropout served, the parameters' versions, and the prompts made by it.
        self._drawn: tuple[str, list[int], dict[str, Tensor]] | None = None
        if use_words:
            words = context_vectors(clip_model, config.context, config.length)
            if released:
                self.text_prompts["0"].data.copy_(words)

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        # The authors' text tower leaves out the last layer.
        left_out = self.config.variant == "released" and self.config.depth > 1
        return self._tower(TEXT, self.text_prompts, self.config.depth - left_out)

    def vision(self) -> TowerPrompts:
        return self._tower(VISION, self.vision_prompts, self.config.depth)

    def _tower(self, tower: str, own: nn.ParameterDict, depth: int) -> TowerPrompts:
        part = [TEXT, VISION].index(tower)
        halves = {layer: both.split(self.widths, dim=1)[part] for layer, both in self._made_for(tower).items()}
        tokens = {**own, **halves}
        return TowerPrompts(self.config.length, depth, lambda layer, readout: tokens[str(layer)])

    def _made_for(self, tower: str) -> dict[str, Tensor]:
        """The unified prompts after their layers; in a training pass, both towers get those of one draw of dropout."""
        versions = [parameter._version for parameter in self.parameters()]
        drawn, self._drawn = self._drawn, None
        if drawn is not None and drawn[0] != tower and drawn[1] == versions:
            return drawn[2]
        made = {layer: self.unifiers[layer](prompts) for layer, prompts in self.unified_prompts.items()}
        if self.training and torch.is_grad_enabled():
            self._drawn = tower, versions, made
        return made


class UPTLayout(PublishedLayout):
    """The authors' vision prompts of layer 0 have 77 rows, of which their code uses the first b."""

    def translate(self, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        translated, ignored = super().translate(state_dict)
        translated["vision_prompts.0"] = translated["vision_prompts.0"][: len(translated["text_prompts.0"])]
        return translated, ignored


LAYOUT = UPTLayout(
    renames=(
        (r"prompt_learner\.ctx_t", lambda: "text_prompts.0"),
        (r"prompt_learner\.ctx_v", lambda: "vision_prompts.0"),
        (r"prompt_learner\.compound_prompts\.(\d+)", lambda i: f"unified_prompts.{int(i) + 1}"),
        (
            r"prompt_learner\.compound_prompt_projections\.(\d+)\.(.+)",
            lambda i, rest: f"unifiers.{int(i) + 1}.{rest}",
        ),
    ),
    marker=r"prompt_learner\.ctx_t",
    implies={"variant": "released"},
)

METHOD = declare(
    Method(
        "UPT",
        summary="unified prompts, and a transformer layer in each layer that makes those of both towers out of them",
        node="UPT",
        config=UPTConfig,
        learner=UPTLearner,
        recipes=Recipes("vit_b16_c2_ep5_batch4_1ctxUPT", cross_dataset="vit_b16_c2_ep5_batch4_2ctx_cross_datasets"),
        layout=LAYOUT,
        folder="MultiModalPromptLearner",
        venue="preprint 2022",
        arxiv="2210.07225",
    )
)
