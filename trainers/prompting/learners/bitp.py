"""BITP: prompts of both towers that are connected in one of four ways; the precursor of BMIP.

It is in the repository of BMIP's authors (arXiv 2501.07769) alone, so their code is the method. Each tower has own
prompts, and linear heads project them into the other tower. In deep layers (`connect`):

* `joint`: both stand side by side, in twice as many slots, projected first in text, own first in vision;
* `exchange`: a linear map makes each prompt of two neighbours in the list of both, in the order of `joint`;
* `atten`: own prompts attend to the projected ones, which are added;
* `add`: own prompts enter layers 1 ... J-1, and projected ones the layers after them.

Layer 0 of the text tower has own prompts alone, in `joint` with words of the sentence in the other slots. That of the
vision tower has the projected prompts in `exchange`, their sum with own ones in `add`, and else is as deep layers, in
`joint` with projected prompts first. New prompts enter one layer less of text than of vision, but for `add`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core import interaction
from ..core.class_tokens import context_template, context_vectors
from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.layout import PublishedLayout
from ..core.learner import PromptLearner, Readout, TowerPrompts, check_depth, random_prompts
from ..declaration import Method, Recipes, Settings, changed, declare, setting
from .bmip import BMIPConfig, make_heads, project

# What enters layer 0 of the vision tower, made of own and projected prompts.
FIRST: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "joint": interaction.joint,
    "exchange": lambda own, projected: projected,
    "atten": interaction.cross_attention,
    "add": interaction.addition,
}


def in_pairs(first: Tensor, second: Tensor) -> Tensor:
    """Rows of both `[b, width]`, first before second, two by two side by side: `[b, 2 width]`."""
    return torch.cat([first, second]).reshape(len(first), -1)


@dataclass(frozen=True)
class BITPConfig(Settings):
    """Settings of the learner; b prompt tokens per layer and modality, own ones in the first J layers."""

    connect: str = setting(
        "add", "CONNECT_METHOD", "how own and projected prompts become those of a layer", choices=tuple(FIRST)
    )
    length: int = changed(BMIPConfig, "length", 2)
    depth: int = changed(BMIPConfig, "depth", 9, help="layers with own prompts, J")
    context: str = changed(BMIPConfig, "context", "a photo of a")
    share_text: bool = changed(
        BMIPConfig, "share_text", True, help="one head from text to vision, and one map of text, for all deep layers"
    )
    share_vision: bool = changed(
        BMIPConfig,
        "share_vision",
        True,
        help="one head from vision to text, and one map of vision, for all deep layers",
    )

    @property
    def slots(self) -> int:
        """Prompt slots of each tower."""
        return 2 * self.length if self.connect == "joint" else self.length

    def depths(self, layers: int) -> tuple[int, int]:
        """Number of layers that new prompts enter in the text and in the vision tower, out of `layers`."""
        if self.connect == "add":
            return (min(2 * self.depth - 1, layers),) * 2
        return max(1, self.depth - 1), self.depth


class BITPLearner(PromptLearner):
    """The prompts, heads and maps of BITP; keys of the containers are layer numbers, from 0.

    In `add`, projected prompts of layer i enter layer J - 1 + i.

    Attributes:
        text_prompts, vision_prompts: own, `[b, d_t]` and `[b, d_v]`.
        text_to_vision, vision_to_text: the heads; a shared "deep" one serves all layers from 1 on.
        text_exchange, vision_exchange: of `exchange`, the maps from twice the width to the width; shared likewise.
        words: of `joint`, `[b, d_t]`: the words in the slots after the prompts of text in layer 0.

    Raises:
        InputError: `depth` beyond the towers, or too few words in `context`.
    """

    recordable = True

    words: Tensor

    def __init__(self, config: BITPConfig, clip_model: nn.Module):
        super().__init__()
        layers = min(text_depth(clip_model), vision_depth(clip_model))
        check_depth("depth", config.depth, layers)
        self.config = config
        self.text_slots = config.slots
        self.template, use_words = context_template(config.context, config.slots)
        self.depths = config.depths(layers)
        widths = text_width(clip_model), vision_width(clip_model)
        self.text_prompts = random_prompts(range(config.depth), config.length, widths[0])
        self.vision_prompts = self._vision_prompts(widths[1])
        added = config.connect == "add"
        # Layers whose prompts are projected into the text and into the vision tower.
        self.sources = [range(1, depth - (config.depth - 1 if added else 0)) for depth in self.depths]
        self.text_to_vision = make_heads([0, *self.sources[1]], *widths, config.share_text)
        self.vision_to_text = make_heads(self.sources[0], *widths[::-1], config.share_vision)
        mixed = self.sources if config.connect == "exchange" else ([], [])
        self.text_exchange = make_heads(mixed[0], 2 * widths[0], widths[0], config.share_text)
        self.vision_exchange = make_heads(mixed[1], 2 * widths[1], widths[1], config.share_vision)
        context = config.context if use_words else self.template.replace(" {}.", "")
        words = context_vectors(clip_model, context, config.slots)
        if use_words:
            self.text_prompts["0"].data.copy_(words[: config.length])
        self.register_buffer("words", words[config.length :].clone(), persistent=False)

    def _vision_prompts(self, width: int) -> nn.ParameterDict:
        """They start as copies of one, or, if their head is not shared, apart from it in VPT's bound."""
        config = self.config
        first = random_prompts([0], config.length, width)
        # The authors' bound: VPT's Xavier bound with a patch size of 16 and one channel.
        bound = None if config.share_vision else (6 / (3 * 16 + width)) ** 0.5
        prompts = random_prompts(range(1, config.depth), config.length, width, bound)
        if config.share_vision:
            for prompt in prompts.values():
                prompt.data.copy_(first["0"])
        if config.connect == "exchange":
            return prompts
        first.update(prompts)
        return first

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        return self._tower(0, self.text_prompts, project(self.vision_to_text, self.vision_prompts, self.sources[0]))

    def vision(self) -> TowerPrompts:
        sources = [0, *self.sources[1]]
        return self._tower(1, self.vision_prompts, project(self.text_to_vision, self.text_prompts, sources))

    def _tower(self, tower: int, own: nn.ParameterDict, projected: Mapping[int, Tensor]) -> TowerPrompts:
        """Of the text (0) or the vision tower (1)."""
        connect, last, maps = self.config.connect, self.config.depth - 1, (self.text_exchange, self.vision_exchange)

        def at(layer: int, readout: Readout) -> Tensor:
            if layer == 0 and tower == 0:
                return torch.cat([own["0"], self.words])
            if layer == 0:
                return FIRST[connect](own.get("0"), projected[0])
            if connect == "add":
                return own[str(layer)] if layer <= last else projected[layer - last]
            if connect == "atten":
                return interaction.cross_attention(own[str(layer)], projected[layer])
            both = [projected[layer], own[str(layer)]] if tower == 0 else [own[str(layer)], projected[layer]]
            if connect == "joint":
                return torch.cat(both)
            heads = maps[tower]
            return (heads["deep"] if "deep" in heads else heads[str(layer)])(in_pairs(*both))

        return TowerPrompts(self.text_slots, self.depths[tower], at)


class BITPLayout(PublishedLayout):
    """The authors' vision prompts of layer 0 have 77 rows, of which their code uses the first b."""

    def translate(self, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        translated, ignored = super().translate(state_dict)
        if "vision_prompts.0" in translated:
            translated["vision_prompts.0"] = translated["vision_prompts.0"][: len(translated["text_prompts.0"])]
        return translated, ignored

    def translate_for(
        self, state_dict: Mapping[str, Tensor], learner: nn.Module
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        """`translate`, leaving out what takes no part in the learner's forward pass."""
        translated, ignored = self.translate(state_dict)
        wanted = learner.state_dict()
        acting = {key: value for key, value in translated.items() if key in wanted or "prompts" in key}
        if learner.config.connect == "exchange":
            acting.pop("vision_prompts.0", None)
        if len(acting) < len(translated):
            ignored[UNUSED] = ignored.get(UNUSED, 0) + len(translated) - len(acting)
        return acting, ignored


UNUSED = "takes no part in the forward pass"
HEADS = {"single_layer_t": "text_to_vision", "single_layer_v": "vision_to_text"}
HEADS |= {"exchange_layer_t": "text_exchange", "exchange_layer_v": "vision_exchange"}
COPIES = {"compound_prompt_projections_t": "text_to_vision", "compound_prompt_projections_v": "vision_to_text"}
COPIES |= {"compound_exchange_t": "text_exchange", "compound_exchange_v": "vision_exchange"}

LAYOUT = BITPLayout(
    renames=(
        (r"prompt_learner\.ctx_t", lambda: "text_prompts.0"),
        (r"prompt_learner\.ctx_v", lambda: "vision_prompts.0"),
        (r"prompt_learner\.compound_prompts_text\.(\d+)", lambda i: f"text_prompts.{int(i) + 1}"),
        (r"prompt_learner\.compound_prompts_visual\.(\d+)", lambda i: f"vision_prompts.{int(i) + 1}"),
        (r"prompt_learner\.proj_t\.(\w+)", lambda kind: f"text_to_vision.0.{kind}"),
        (rf"prompt_learner\.({'|'.join(HEADS)})\.(\w+)", lambda head, kind: f"{HEADS[head]}.deep.{kind}"),
        (
            rf"prompt_learner\.({'|'.join(COPIES)})\.(\d+)\.(\w+)",
            lambda head, i, kind: f"{COPIES[head]}.{int(i) + 1}.{kind}",
        ),
    ),
    marker=r"prompt_learner\.ctx_t",
    unused={r"prompt_learner\.proj_v\..+": UNUSED},
)

METHOD = declare(
    Method(
        "BITP",
        summary="prompts of both towers, and heads in both directions, connected without gates (BMIP's precursor)",
        node="BITP",
        config=BITPConfig,
        learner=BITPLearner,
        recipes=Recipes("vit_b16_c2_ep20_ctx1_dp9TT", cross_dataset="vit_bitp_ctx1_ep4TT_ex_cross_dataset"),
        layout=LAYOUT,
        folder="MultiModalPromptLearner",
        venue="code of 2025",
        arxiv="2501.07769",
    )
)
