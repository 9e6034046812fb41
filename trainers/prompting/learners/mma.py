"""MMA: bottlenecks beside the upper blocks of both towers, which share their middles.

Yang et al., "MMA: Multi-Modal Adapter for Vision-Language Models", CVPR 2024. No token is learned; the sentence is
fixed. The authors' code can also put an adapter at the embeddings (ADAPTER_START 0), which no recipe of theirs does,
and which is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..core.adapters import BlockAdapters
from ..core.class_tokens import context_template
from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.layout import PublishedLayout
from ..core.learner import PromptLearner, check_depth
from ..declaration import Method, Recipes, Settings, declare, setting


def adapted_layers(state_dict: Mapping[str, Tensor]) -> list[int]:
    """The layers with adapters, from 0, of a learner's state dict."""
    found = (re.fullmatch(r"block_adapters\.shared\.(\d+)\.weight", key) for key in state_dict)
    return sorted(int(match[1]) for match in found if match)


def _width(state_dict: Mapping[str, Tensor]) -> int:
    layers = adapted_layers(state_dict)
    return len(state_dict[f"block_adapters.shared.{layers[0]}.weight"]) if layers else 0


@dataclass(frozen=True)
class MMAConfig(Settings):
    """Settings of the learner; layers count from 1, as in the authors' code."""

    context: str = setting("a photo of a", "TEXT_CTX_INIT", 'the sentence is "{context} {class}."')
    first: int = setting(
        5,
        "ADAPTER_START",
        "first layer with adapters, from 1",
        least=1,
        told_by=lambda state_dict: 1 + min(adapted_layers(state_dict), default=-1),
    )
    depth: int = setting(
        12,
        "ADAPTER_END",
        "last layer with adapters",
        least=1,
        told_by=lambda state_dict: 1 + max(adapted_layers(state_dict), default=-1),
    )
    hidden: int = setting(32, "ADAPTER_DIM", "width of the adapters' middles", least=1, most=1_000, told_by=_width)
    scale: float = setting(0.001, "ADAPTER_SCALE", "factor of what an adapter adds", least=0.0, most=1000.0)

    def check(self) -> None:
        if self.first > self.depth:
            raise self.error(
                "{first} is {} and {depth} is {}; set {first} to {depth} or less.", self.first, self.depth
            )


class MMALearner(PromptLearner):
    """Adapters in both towers, and a fixed sentence.

    Attributes:
        block_adapters: see `BlockAdapters`; its layers count from 0.

    Raises:
        InputError: a layer beyond the towers.
    """

    recordable = True

    def __init__(self, config: MMAConfig, clip_model: nn.Module):
        super().__init__()
        check_depth("depth", config.depth, min(text_depth(clip_model), vision_depth(clip_model)))
        self.config = config
        self.template, _ = context_template(config.context, 0)
        layers = range(config.first - 1, config.depth)
        self.block_adapters = adapters_in(clip_model, layers, config.hidden, config.scale)


def adapters_in(clip_model: nn.Module, layers: Iterable[int], hidden: int, scale: float) -> BlockAdapters:
    """Adapters beside some layers, from 0, of both towers of a CLIP."""
    widths = {"text": text_width(clip_model), "image": vision_width(clip_model)}
    return BlockAdapters(layers, widths, hidden, scale)


TOWERS = {"text": "text", "visual": "image", "shared": "shared"}


def _renamed(tower: str, layer: str, part: str, kind: str) -> str:
    place = "shared" if tower == "shared" else f"{'up' if part == 'up' else 'down'}.{TOWERS[tower]}"
    return f"block_adapters.{place}.{int(layer) - 1}.{kind}"


METHOD = declare(
    Method(
        "MMA",
        summary="adapters beside the upper blocks of both towers, whose middles are shared; the sentence is fixed",
        node="MMADAPTER",
        config=MMAConfig,
        learner=MMALearner,
        recipes=Recipes("vit_b16_ep5", base2new_imagenet="vit_b16_ep5_imnet", cross_dataset="vit_b16_ep5_imnet"),
        layout=PublishedLayout(
            renames=((r"(text|visual|shared)_adapter\.(\d+)\.(down\.0|up|0)\.(weight|bias)", _renamed),),
            marker=r"shared_adapter\..+",
            unused={"token_embedding|tokenized_prompts": "tokens of the class names, which are rebuilt"},
        ),
        folder="adapter_learner",
        precision="amp",
        venue="CVPR 2024",
    )
)
