"""HiCroPL's learner: prompts of both towers, and a flow of knowledge that turns around on the way.

Zheng et al., "Hierarchical Cross-modal Prompt Learning for Vision-Language Models", ICCV 2025, arXiv 2507.14976. In
layers 0 ... k-1, text prompts refine the vision prompts; in layers k ... J-1, vision prompts refine the text prompts.
Each layer's source prompts are summed up by one token, its knowledge proxy, and the prompts that they refine attend to
the proxies of all these layers at once.

The authors' published code (`variant="released"`) differs from the paper (`variant="paper"`): it writes the refined
prompts over the prompts themselves, outside of the gradient. So proxies and mappers never train, and stay as random as
they start; each forward pass, of a test too, refines the prompts once more; and a prediction depends on the number of
passes before it.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.class_tokens import context_template, context_vectors
from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.layout import PublishedLayout
from ..core.learner import PromptLearner, TowerPrompts, check_depth, random_prompts
from ..core.openai_clip import QuickGELU
from ..declaration import MOST_TOKENS, Method, Recipes, Settings, UpstreamKey, declare, setting

HEADS = 8  # of all attention in the flow
VARIANTS = ("paper", "released")


@dataclass(frozen=True)
class HiCroPLConfig(Settings):
    """Settings of the learner; b prompt tokens per layer and modality enter the first J layers (`length`, `depth`)."""

    variant: str = setting(
        "paper", "VARIANT", "the paper's method, or what the authors' released code does", choices=VARIANTS
    )
    length: int = setting(
        2, "N_CTX", "prompt tokens per layer and modality, b", least=1, most=MOST_TOKENS, told_by="text_length"
    )
    depth: int = setting(9, "PROMPT_DEPTH", "layers that prompts enter, J", least=2, told_by="text_depth")
    cross: int = setting(
        6,
        "CROSS_LAYER",
        "layers in which text prompts refine vision prompts, k; in the others the flow is reversed",
        least=1,
        told_by=lambda state_dict: sum(key.endswith("token") for key in state_dict if key.startswith("text_proxies.")),
    )
    context: str = setting(
        "a photo of a", "CTX_INIT", "words around the prompts; the first b initialise those of text; empty: random"
    )

    def check(self) -> None:
        if self.cross >= self.depth:
            raise self.error(
                "{cross} is {} and {depth} is {}, which leaves no layer for the flow from vision to text; set {cross} "
                "to 1..{}, or {depth} to more.",
                *(self.cross, self.depth, self.depth - 1),
            )


class KnowledgeProxy(nn.Module):
    """One token that sums up a layer's prompts, by attention to them."""

    def __init__(self, width: int):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, width))
        self.attn = nn.MultiheadAttention(width, HEADS)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, prompts: Tensor) -> Tensor:
        """Map prompts `[b, width]` to `[1, width]`."""
        seen = self.ln_1(prompts)
        return self.ln_2(self.token + self.attn(self.ln_1(self.token), seen, seen, need_weights=False)[0])


class KnowledgeMapper(nn.Module):
    """Refines prompts by attention to the proxies of another modality.

    Args:
        width: of the prompts.
        source: width of the proxies.
    """

    def __init__(self, width: int, source: int):
        super().__init__()
        self.linear_q = nn.Linear(width, width)
        self.linear_k, self.linear_v = nn.Linear(source, width), nn.Linear(source, width)
        self.attn = nn.MultiheadAttention(width, HEADS)
        self.ffn = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, prompts: Tensor, proxies: Tensor) -> Tensor:
        """Map prompts `[tokens, width]` by proxies `[layers, source]` to `[tokens, width]`."""
        query, key, value = self.linear_q(prompts), self.linear_k(proxies), self.linear_v(proxies)
        query = query + self.attn(self.ln_1(query), self.ln_1(key), self.ln_1(value), need_weights=False)[0]
        return query + self.ffn(self.ln_2(query))


class HiCroPLLearner(PromptLearner):
    """The prompts of both towers, by layer from 0, and the flow between them.

    Attributes:
        text_prompts, vision_prompts: `[b, d_t]` and `[b, d_v]` for each of J layers, as they are before refinement.
        text_proxies, vision_proxies: of the layers whose prompts refine the others, 0 ... k-1 and k ... J-1.
        text_to_vision, vision_to_text: the mappers.

    Raises:
        InputError: `depth` beyond the towers, or too few words in `context`.
    """

    recordable = True

    def __init__(self, config: HiCroPLConfig, clip_model: nn.Module):
        super().__init__()
        check_depth("depth", config.depth, min(text_depth(clip_model), vision_depth(clip_model)))
        self.config = config
        self.text_slots = config.length
        self.template, use_words = context_template(config.context, config.length)
        text, vision = text_width(clip_model), vision_width(clip_model)
        layers = range(config.depth)
        self.early, self.late = layers[: config.cross], layers[config.cross :]

        self.text_prompts = random_prompts(layers, config.length, text)
        self.vision_prompts = random_prompts(layers, config.length, vision)
        # In the authors' code, copies of one start: of the vision prompts, and of the proxies with their tokens.
        for prompt in self.vision_prompts.values():
            prompt.data.copy_(self.vision_prompts["0"])
        self.text_to_vision = KnowledgeMapper(vision, source=text)
        self.vision_to_text = KnowledgeMapper(text, source=vision)
        self.text_proxies = _copies(KnowledgeProxy(text), len(self.early))
        self.vision_proxies = _copies(KnowledgeProxy(vision), len(self.late))
        if use_words:
            words = context_vectors(clip_model, config.context, config.length)
            self.text_prompts["0"].data.copy_(words)

        if config.variant == "released":
            self.recordable = False  # a forward pass changes the prompts
            for part in (self.text_to_vision, self.vision_to_text, self.text_proxies, self.vision_proxies):
                part.requires_grad_(False)

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        return self._tower(
            *(self.text_prompts, self.vision_prompts),
            *(self.late, self.vision_proxies, self.vision_to_text),
        )

    def vision(self) -> TowerPrompts:
        return self._tower(
            *(self.vision_prompts, self.text_prompts),
            *(self.early, self.text_proxies, self.text_to_vision),
        )

    def _tower(
        self,
        own: nn.ParameterDict,
        other: nn.ParameterDict,
        refined: Sequence[int],
        proxies: nn.ModuleList,
        mapper: KnowledgeMapper,
    ) -> TowerPrompts:
        """A tower's prompts in one forward pass; in the layers `refined` as the mapper leaves them."""
        released = self.config.variant == "released"
        keys = [str(layer) for layer in refined]
        tokens = dict(own.items())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not released):
            summaries = torch.cat([proxy(other[key]) for proxy, key in zip(proxies, keys)])
            mapped = mapper(torch.cat([own[key] for key in keys]), summaries)
            for key, new in zip(keys, mapped.split(self.config.length)):
                tokens[key] = own[key].copy_(new) if released else new
        return TowerPrompts(self.config.length, self.config.depth, lambda layer, readout: tokens[str(layer)])


def _copies(module: nn.Module, number: int) -> nn.ModuleList:
    return nn.ModuleList(copy.deepcopy(module) for _ in range(number))


class HiCroPLLayout(PublishedLayout):
    """The authors' files hold the first text prompts twice."""

    def translate(self, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        twice = "prompt_learner.cross_prompts_text.0" if "prompt_learner.ctx" in state_dict else ""
        translated, ignored = super().translate({key: value for key, value in state_dict.items() if key != twice})
        if twice in state_dict:
            ignored["the first text prompts once more"] = 1
        return translated, ignored


LAYOUT = HiCroPLLayout(
    renames=(
        (r"prompt_learner\.ctx", lambda: "text_prompts.0"),
        (r"prompt_learner\.cross_prompts_text\.(\d+)", lambda layer: f"text_prompts.{layer}"),
        (r"prompt_learner\.cross_prompts_visual\.(\d+)", lambda layer: f"vision_prompts.{layer}"),
        (r"prompt_learner\.text_proxy_token\.(\d+)", lambda i: f"text_proxies.{i}.token"),
        (r"prompt_learner\.visual_proxy_token\.(\d+)", lambda i: f"vision_proxies.{i}.token"),
        (r"prompt_learner\.attn_pooling_text_nets\.(.+)", lambda rest: f"text_proxies.{rest}"),
        (r"prompt_learner\.attn_pooling_visual_nets\.(.+)", lambda rest: f"vision_proxies.{rest}"),
        (r"prompt_learner\.text2visual_net\.(.+)", lambda rest: f"text_to_vision.{rest}"),
        (r"prompt_learner\.visual2text_net\.(.+)", lambda rest: f"vision_to_text.{rest}"),
    ),
    marker=r"prompt_learner\.cross_prompts_text\.0",
    implies={"variant": "released"},
)

METHOD = declare(
    Method(
        "HiCroPL",
        summary="prompts of both towers: text refines vision in early layers, vision text in late ones",
        node="HICROPL",
        config=HiCroPLConfig,
        learner=HiCroPLLearner,
        recipes=Recipes(
            "vit_b16_c2_ep50_batch32_16ctx",
            base2new_imagenet="vit_b16_c2_ep40_batch128_16ctx",
            cross_dataset="vit_b16_c2_ep5_batch32_2ctx_cross_datasets",
            few_shot=lambda dataset, shots: "vit_b16_c2_ep50_batch32_16ctx_few_shot",
        ),
        objective="anchoring",
        layout=LAYOUT,
        folder="VLPromptLearner",
        upstream_keys=(
            UpstreamKey(
                "TEACHER_NAME",
                "ViT-B/16",
                "the authors' key for the image teacher, without effect: any other value is refused",
                reason="the image teacher is the backbone without prompts, as in the authors' recipes. Remove it; "
                "MODEL.BACKBONE.NAME sets both.",
            ),
        ),
        venue="ICCV 2025",
        arxiv="2507.14976",
    )
)
