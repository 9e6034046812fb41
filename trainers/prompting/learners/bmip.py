"""BMIP's learner: prompts in both towers, mixed layer by layer with those of the other tower.

Lv et al., "BMIP: Bi-directional Modality Interaction Prompt Learning for VLM", IJCAI 2025, arXiv 2501.07769. In each
of the first `depth` layers of both encoders, a gate reads the attention that a prompt slot receives, and mixes the
modality's own prompt with the projected prompt of the other modality (Eq. 10-11).

The authors' published code (`variant="released"`) differs from the paper (`variant="paper"`):

* in layer 0 the text tower gets its own prompts and the vision tower the projected text prompts;
* text prompts are replaced in layers 1 ... depth - 2 only;
* one vision gate serves the whole batch: its readout is averaged over the images, too;
* the text readout is that of SOS, which sees only itself: it is exactly 0, and the gate is sigmoid(bias).

A plan describes either variant: a rule for each layer of each tower. Tensors that a plan does not use are not created.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core import interaction
from ..core.class_tokens import context_template, context_vectors
from ..core.clip_weights import text_depth, text_width, vision_depth, vision_width
from ..core.layout import PublishedLayout
from ..core.learner import PromptLearner, Readout, TowerPrompts, check_depth, random_prompts
from ..declaration import MOST_TOKENS, Method, Recipes, Settings, UpstreamKey, declare, setting

TEXT, VISION = "text", "vision"
OTHER = {TEXT: VISION, VISION: TEXT}

# Rules for the prompts of a layer. Without a rule, the slots keep the previous layer's output.
OWN, PROJECTED, GATED = "own", "projected", "gated"
UNGATED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "addition": interaction.addition,
    "attention": interaction.cross_attention,
    "joint": interaction.joint,
}
# Rules of the text and of the vision tower for each aggregation function (paper, Table 5, and its controls).
AGGREGATIONS = {
    "bmip": (GATED, GATED),
    **{name: (name, name) for name in UNGATED},
    "none": (OWN, OWN),
    "l2v": (OWN, PROJECTED),
    "v2l": (PROJECTED, OWN),
}
VARIANTS = ("paper", "released")
# Input of the gates: the attention that the slots receive; or, as controls, 0, which makes a gate a learned constant,
# or the attention of the previous image or class of the batch.
READOUTS = ("attention", "zero", "shuffled")
UNUSED = "takes no part in the released forward pass"


@dataclass(frozen=True)
class BMIPConfig(Settings):
    """Settings of the learner; b prompt tokens per layer and modality enter the first J layers (`length`, `depth`)."""

    variant: str = setting(
        "paper", "VARIANT", "the paper's method, or what the authors' released code does", choices=VARIANTS
    )
    aggregation: str = setting(
        "bmip",
        "AGGREGATION",
        "how own and projected prompts become those of a layer; bmip: gates, the others are ablations",
        choices=tuple(AGGREGATIONS),
    )
    length: int = setting(
        2, "N_CTX", "prompt tokens per layer and modality, b", least=1, most=MOST_TOKENS, told_by="text_length"
    )
    depth: int = setting(9, "PROMPT_DEPTH", "layers that prompts enter, J", least=1, told_by="text_depth")
    context: str = setting(
        "a photo of a", "CTX_INIT", "words around the prompts; the first b initialise those of text"
    )
    share_text: bool = setting(
        True,
        "SHARE.SHARE_PARAMETER_TEXT",
        "one head from text to vision for all deep layers",
        root=True,
        told_by=lambda state_dict: "text_to_vision.1.weight" not in state_dict,
    )
    share_vision: bool = setting(
        True,
        "SHARE.SHARE_PARAMETER_VISUAL",
        "one head from vision to text for all deep layers",
        root=True,
        told_by=lambda state_dict: "vision_to_text.1.weight" not in state_dict,
    )
    detach: bool = setting(True, "GATE.DETACH", "no gradient through the attention readout")
    relative: bool = setting(
        False, "GATE.RELATIVE", "uniform attention reads as 1 in place of 1 / tokens that the reader sees"
    )
    readout: str = setting(
        "attention",
        "GATE.READOUT",
        "what the gates read: attention, or a control: zero (a constant gate), shuffled (another sample's)",
        choices=READOUTS,
    )

    def check(self) -> None:
        if self.readout != "attention" and (self.variant, self.aggregation) != ("paper", "bmip"):
            raise self.error(
                "{readout} is {!r}, a control for the gates of {variant} paper with {aggregation} bmip, but these are "
                "{!r} and {!r}; set it to attention.",
                *(self.readout, self.variant, self.aggregation),
            )
        if self.variant == "released" and self.aggregation != "bmip":
            raise self.error(
                "{aggregation} is {!r}, but the released code only has the gate; set {variant} to paper for the "
                "ablations, or {aggregation} to bmip.",
                self.aggregation,
            )

    @property
    def slots(self) -> int:
        """Prompt slots of each tower: b, or 2b with the prompts of both modalities side by side."""
        return 2 * self.length if self.aggregation == "joint" else self.length

    def plan(self) -> dict[str, list[str | None]]:
        """For each tower the rule of each layer < depth; None keeps the previous layer's output."""
        if self.variant == "released":
            return {
                TEXT: [OWN, *[GATED] * (self.depth - 2), *[None] * (self.depth > 1)],
                VISION: [PROJECTED, *[GATED] * (self.depth - 1)],
            }
        text, vision = AGGREGATIONS[self.aggregation]
        return {TEXT: [text] * self.depth, VISION: [vision] * self.depth}


class BMIPLearner(PromptLearner):
    """The prompts, projection heads and gates of BMIP; keys of the containers are layer numbers, from 0.

    Attributes:
        text_prompts, vision_prompts: P_l^i `[b, d_l]`, P_v^i `[b, d_v]`.
        text_to_vision, vision_to_text: the heads F_lv^i and F_vl^i; a shared "deep" head serves all layers from 1 on.
        text_gate, vision_gate: L_l^i and L_v^i, one scale and one bias each.
        last_gates: {"text" or "vision": {layer: w}} of the last forward pass, w `[batch, b]` detached (`[b]` for the
            common gates of `released`).

    Raises:
        InputError: `depth` beyond the towers, or too few words in `context`.
    """

    recordable = True

    def __init__(self, config: BMIPConfig, clip_model: nn.Module):
        super().__init__()
        check_depth("depth", config.depth, min(text_depth(clip_model), vision_depth(clip_model)))
        self.config = config
        self.text_slots = config.slots
        self.template, use_words = context_template(config.context, config.slots)
        self.plan = config.plan()
        self.last_gates: dict[str, dict[int, Tensor]] = {TEXT: {}, VISION: {}}

        width = {TEXT: text_width(clip_model), VISION: vision_width(clip_model)}
        self.text_prompts = self._make_prompts(TEXT, width[TEXT])
        self.vision_prompts = self._make_prompts(VISION, width[VISION])
        self.text_to_vision = self._make_heads(VISION, width, config.share_text)
        self.vision_to_text = self._make_heads(TEXT, width, config.share_vision)
        self.text_gate = self._make_gates(TEXT)
        self.vision_gate = self._make_gates(VISION)
        if use_words:
            # Checked even if no prompt starts from them: with fewer words than slots, prompts would replace the name.
            words = context_vectors(clip_model, config.context, config.slots)
            if "0" in self.text_prompts:
                self.text_prompts["0"].data.copy_(words[: config.length])

    def _receiving(self, tower: str) -> list[int]:
        """Layers of a tower into which prompts of the other one are projected."""
        return [layer for layer, rule in enumerate(self.plan[tower]) if rule not in (OWN, None)]

    def _make_prompts(self, tower: str, width: int) -> nn.ParameterDict:
        own = [layer for layer, rule in enumerate(self.plan[tower]) if rule not in (PROJECTED, None)]
        layers = sorted({*own, *self._receiving(OTHER[tower])})
        if self.config.variant == "paper" or tower == TEXT:
            return random_prompts(layers, self.config.length, width)
        if not self.config.share_vision:
            # The authors' bound: VPT's Xavier bound with a patch size of 16 and one channel.
            return random_prompts(layers, self.config.length, width, bound=(6 / (3 * 16 + width)) ** 0.5)
        prompts = random_prompts(layers, self.config.length, width)
        # The authors' shared vision prompts all start as copies of the first.
        for prompt in prompts.values():
            prompt.data.copy_(next(iter(prompts.values())))
        return prompts

    def _make_heads(self, tower: str, width: dict[str, int], share: bool) -> nn.ModuleDict:
        """Heads into `tower`."""
        return make_heads(self._receiving(tower), width[OTHER[tower]], width[tower], share)

    def _make_gates(self, tower: str) -> nn.ModuleDict:
        return nn.ModuleDict(
            {str(layer): nn.Linear(1, 1) for layer, rule in enumerate(self.plan[tower]) if rule == GATED}
        )

    @property
    def observed(self) -> dict[str, dict[int, Tensor]]:
        return self.last_gates

    def text(self, image_features: Tensor | None = None) -> TowerPrompts:
        return self._tower(TEXT)

    def vision(self) -> TowerPrompts:
        return self._tower(VISION)

    def _tower(self, tower: str) -> TowerPrompts:
        own_prompts, other_prompts, heads, gates = {
            TEXT: (self.text_prompts, self.vision_prompts, self.vision_to_text, self.text_gate),
            VISION: (self.vision_prompts, self.text_prompts, self.text_to_vision, self.vision_gate),
        }[tower]
        rules = self.plan[tower]
        gates_by_layer = self.last_gates[tower] = {}
        projected = project(heads, other_prompts, self._receiving(tower))
        differences = _differences(
            own_prompts, projected, [layer for layer, rule in enumerate(rules) if rule == GATED]
        )

        def at(layer: int, readout: Readout) -> Tensor | None:
            rule, key = rules[layer], str(layer)
            if rule is None:
                return None
            own = own_prompts.get(key)
            if rule == OWN:
                return own
            if rule == PROJECTED:
                return projected[layer]
            if rule in UNGATED:
                return UNGATED[rule](own, projected[layer])
            received = self._read(tower, own if layer == 0 else None, readout)
            weights = interaction.gate(received, gates[key].weight, gates[key].bias)
            _keep_gates(gates_by_layer, layer, weights.detach()[..., 0], readout)
            return interaction.substitute(projected[layer], differences[layer], weights)

        reads = GATED in rules and not self._reads_nothing(tower)
        return TowerPrompts(length=self.text_slots, depth=len(rules), at=at, reads=reads)

    def _reads_nothing(self, tower: str) -> bool:
        # `released` reads the attention of SOS, which sees no prompt under the causal mask.
        return self.config.readout == "zero" or (self.config.variant == "released" and tower == TEXT)

    def _read(self, tower: str, tokens: Tensor | None, readout: Readout) -> Tensor:
        """The variant's readout: `[batch, b]`, or `[b]` for `released`."""
        if self._reads_nothing(tower):
            return self.text_prompts["0"].new_zeros(self.config.length)
        with torch.no_grad() if self.config.detach else contextlib.nullcontext():
            received = readout(tokens, relative=self.config.relative)
        if self.config.readout == "shuffled":
            received = received.roll(1, dims=0)
        return received.mean(dim=0) if self.config.variant == "released" else received


def make_heads(layers: Sequence[int], source: int, target: int, share: bool) -> nn.ModuleDict:
    """Linear layers between two widths: one for layer 0, and a shared one for deep layers, or copies of one start."""
    heads = {}
    if 0 in layers:
        heads["0"] = nn.Linear(source, target)
    deep = [layer for layer in layers if layer > 0]
    if deep:
        head = nn.Linear(source, target)
        heads.update({"deep": head} if share else {str(layer): copy.deepcopy(head) for layer in deep})
    return nn.ModuleDict(heads)


def project(heads: nn.ModuleDict, prompts: nn.ParameterDict, layers: Sequence[int]) -> dict[int, Tensor]:
    """The other tower's prompts through the heads of `layers`; through a shared head in one product."""
    found, shared = {}, [layer for layer in layers if str(layer) not in heads]
    if shared:
        together = heads["deep"](torch.stack([prompts[str(layer)] for layer in shared]))
        found = dict(zip(shared, together.unbind()))
    return {layer: found[layer] if layer in found else heads[str(layer)](prompts[str(layer)]) for layer in layers}


def _differences(own: nn.ParameterDict, projected: Mapping[int, Tensor], layers: Sequence[int]) -> dict[int, Tensor]:
    """Own minus projected prompts of `layers`, in one subtraction."""
    if not layers:
        return {}
    minuend, subtrahend = (
        [prompts[key] for key in layers] for prompts in ({int(k): v for k, v in own.items()}, projected)
    )
    return dict(zip(layers, (torch.stack(minuend) - torch.stack(subtrahend)).unbind()))


def _keep_gates(kept: dict[int, Tensor], layer: int, weights: Tensor, readout: Readout) -> None:
    if readout.samples is None or weights.dim() == 1:
        kept[layer] = weights
        return
    if layer not in kept:
        kept[layer] = weights.new_empty(readout.total, weights.shape[-1])
    kept[layer][readout.samples] = weights


class BMIPLayout(PublishedLayout):
    """Checkpoints of the authors' code, for a learner of the variant "released"."""

    def translate_for(
        self, state_dict: Mapping[str, Tensor], learner: BMIPLearner
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        """`translate`, leaving out also the gates and heads of layers that have none in the authors' forward pass.

        Raises:
            InputError: the learner has the other variant or another depth, or a key is unknown.
        """
        config = learner.config
        if config.variant != "released":
            raise config.error(
                "This checkpoint comes from the authors' released code, whose forward pass differs from the paper's; "
                "{variant} is {!r}, set it to released to load it.",
                config.variant,
            )
        depth = 1 + sum(key.startswith("prompt_learner.compound_prompts_text.") for key in state_dict)
        if depth != config.depth:
            raise config.error(
                "{depth} is {}, but the checkpoint has prompts for {} layers; set it to {}.",
                *(config.depth, depth, depth),
            )
        translated, ignored = self.translate(state_dict)
        acting = {key: value for key, value in translated.items() if key in learner.state_dict()}
        if len(acting) < len(translated):
            ignored[UNUSED] = ignored.get(UNUSED, 0) + len(translated) - len(acting)
        return acting, ignored


LAYOUT = BMIPLayout(
    renames=(
        (r"prompt_learner\.ctx_t", lambda: "text_prompts.0"),
        (r"prompt_learner\.compound_prompts_text\.(\d+)", lambda i: f"text_prompts.{int(i) + 1}"),
        (r"prompt_learner\.compound_prompts_visual\.(\d+)", lambda i: f"vision_prompts.{int(i) + 1}"),
        (r"prompt_learner\.proj_t\.(\w+)", lambda kind: f"text_to_vision.0.{kind}"),
        (r"prompt_learner\.single_layer_t\.(\w+)", lambda kind: f"text_to_vision.deep.{kind}"),
        (r"prompt_learner\.single_layer_v\.(\w+)", lambda kind: f"vision_to_text.deep.{kind}"),
        (
            r"prompt_learner\.compound_prompt_projections_t\.(\d+)\.(\w+)",
            lambda i, kind: f"text_to_vision.{int(i) + 1}.{kind}",
        ),
        (
            r"prompt_learner\.compound_prompt_projections_v\.(\d+)\.(\w+)",
            lambda i, kind: f"vision_to_text.{int(i) + 1}.{kind}",
        ),
        (
            r"image_encoder\.transformer\.resblocks\.(\d+)\.learnable_linear1\.(\w+)",
            lambda i, kind: f"vision_gate.{i}.{kind}",
        ),
        (
            r"text_encoder\.transformer\.resblocks\.(\d+)\.learnable_linear2\.(\w+)",
            lambda i, kind: f"text_gate.{i}.{kind}",
        ),
    ),
    marker=r"prompt_learner\.ctx_t",
    unused={
        r"prompt_learner\.(ctx|ctx_v|proj_v\..+|exchange_layer_.+|compound_exchange_.+)": UNUSED,
        r"(image|text)_encoder\..+\.learnable_linear\d\..+": UNUSED,
    },
    implies={"variant": "released"},
)

METHOD = declare(
    Method(
        "BMIP",
        summary="prompts of both towers, heads in both directions, and gates",
        node="BMIP",
        config=BMIPConfig,
        learner=BMIPLearner,
        recipes=Recipes("vit_b16_c2_ep10_batch4_2ctx", remote_sensing="vit_b16_c2_ep20_batch4_2ctx"),
        layout=LAYOUT,
        folder="MultiModalPromptLearner",
        upstream_keys=(
            UpstreamKey(
                "CONNECT_METHOD",
                "None",
                "the authors' key for the aggregation: joint",
                stands_for="aggregation",
                meanings={"None": None, "joint": "joint"},
            ),
            UpstreamKey(
                "WEIGHT_THRESHOLD",
                0.0025,
                "the authors' key, without effect: any other value is refused",
                reason="the method has no threshold: the authors' code reads this key only in a part that is switched "
                "off. Remove it; the gate is learned.",
            ),
        ),
        venue="IJCAI 2025",
        arxiv="2501.07769",
    )
)
