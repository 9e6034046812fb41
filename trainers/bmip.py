"""BMIP: bi-directional modality interaction prompts (IJCAI 2025, arXiv 2501.07769)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn
from yacs.config import CfgNode

from .base import PromptTrainer
from .prompting.errors import InputError
from .prompting.learners.bmip import RELEASED, BMIPConfig, BMIPLearner, from_released_layout
from .registration import register

WEIGHT_THRESHOLD = 0.0025
# The authors' CONNECT_METHOD, and the aggregation that it stands for.
CONNECT_METHODS = {"None": None, "joint": "joint"}


def config_from_cfg(cfg: CfgNode, name: str = "BMIP") -> BMIPConfig:
    """Read TRAINER.BMIP and SHARE into the learner's settings.

    Args:
        name: of the node, which is another one where a plugin found this one taken.

    Raises:
        InputError: a value that is not allowed, two keys at odds, or a key that cannot have an effect.
    """
    node = cfg.TRAINER[name]
    if node.WEIGHT_THRESHOLD != WEIGHT_THRESHOLD:
        raise InputError(
            f"TRAINER.{name}.WEIGHT_THRESHOLD is {node.WEIGHT_THRESHOLD}, but the method has no threshold: the "
            "authors' code reads this key only in a part that is switched off. Remove it; the gate is learned."
        )
    # yacs reads the authors' "None" as None.
    connect_method = str(node.CONNECT_METHOD)
    if connect_method not in CONNECT_METHODS:
        raise InputError(
            f"TRAINER.{name}.CONNECT_METHOD is {connect_method!r}; set it to one of {', '.join(CONNECT_METHODS)}, "
            f"or leave it and choose TRAINER.{name}.AGGREGATION."
        )
    connected = CONNECT_METHODS[connect_method]
    if connected and node.AGGREGATION not in ("bmip", connected):
        raise InputError(
            f"TRAINER.{name}.CONNECT_METHOD is {connect_method!r} and TRAINER.{name}.AGGREGATION is "
            f"{node.AGGREGATION!r}, which are two aggregations; set one of them only."
        )
    return BMIPConfig(
        variant=node.VARIANT,
        aggregation=connected or node.AGGREGATION,
        length=node.N_CTX,
        depth=node.PROMPT_DEPTH,
        context=node.CTX_INIT,
        share_text=cfg.SHARE.SHARE_PARAMETER_TEXT,
        share_vision=cfg.SHARE.SHARE_PARAMETER_VISUAL,
        detach=node.GATE.DETACH,
        relative=node.GATE.RELATIVE,
        readout=node.GATE.READOUT,
        node=f"TRAINER.{name}",
    )


@register
class BMIP(PromptTrainer):
    """Trains BMIP's prompts, projection heads and gates; see `prompting/learners/bmip.py` for the method."""

    node = "BMIP"
    registered_name = "MultiModalPromptLearner"  # the authors' name, hence the checkpoint folder
    released = RELEASED
    size_keys = {"N_CTX": "text_length", "PROMPT_DEPTH": "text_depth"}
    defaults = {
        "TRAINER": {
            "BMIP": {
                "VARIANT": "paper",  # paper, or released: what the authors' code does
                "N_CTX": 2,  # prompt tokens per layer and modality
                "CTX_INIT": "a photo of a",  # initial words; empty: random prompts
                "PREC": "fp16",  # fp16, fp32, bf16 or amp
                "PROMPT_DEPTH": 9,  # layers that prompts enter
                "AGGREGATION": "bmip",  # bmip, addition, attention, joint, none, l2v or v2l
                "GATE": {
                    "DETACH": True,  # no gradient through the attention readout
                    "RELATIVE": False,  # uniform attention reads as 1 instead of 1 / tokens
                    "READOUT": "attention",  # or a control: zero (a constant gate), shuffled (another sample's)
                },
                "CONNECT_METHOD": "None",  # the authors' key: joint stands for AGGREGATION joint
                "WEIGHT_THRESHOLD": WEIGHT_THRESHOLD,  # the authors' key, without effect: any other value is refused
            }
        },
        "SHARE": {
            "SHARE_PARAMETER_VISUAL": True,  # one head from vision to text for all deep layers
            "SHARE_PARAMETER_TEXT": True,  # one head from text to vision for all deep layers
        },
    }

    @classmethod
    def build_learner(cls, cfg: CfgNode, clip_model: nn.Module) -> BMIPLearner:
        return BMIPLearner(config_from_cfg(cfg, cls.node), clip_model)

    def translate_released(self, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        return from_released_layout(state_dict, self.learner)

    def build_model(self) -> None:
        self.gate_samples: dict[tuple[str, int], list[Tensor]] = {}
        # Of each epoch, the mean gate of each tower and layer in its last batch.
        self.gate_history: list[dict[str, float]] = []
        super().build_model()

    def after_epoch(self) -> None:
        gates = self.learner.last_gates
        self.gate_history.append(
            {
                f"{tower} {layer}": weights.float().mean().item()
                for tower in gates
                for layer, weights in gates[tower].items()
            }
        )
        super().after_epoch()

    def training_state(self) -> dict[str, Any]:
        return {**super().training_state(), "gate_history": self.gate_history}

    def load_training_state(self, state: dict[str, Any]) -> None:
        super().load_training_state(state)
        self.gate_history = state.get("gate_history", [])

    def test(self, split: str | None = None) -> float:
        """Evaluate, and print how the gates behave: mean and standard deviation over images or classes."""
        self.gate_samples = {}
        accuracy = super().test(split)
        if self.gate_samples:
            self._print_gates(split or self.cfg.TEST.SPLIT)
        return accuracy

    def model_inference(self, images: Tensor) -> Tensor:
        logits = super().model_inference(images)
        for tower, layers in self.learner.last_gates.items():
            for layer, weights in layers.items():
                samples = self.gate_samples.setdefault((tower, layer), [])
                # Class features are kept over the batches, so their gates are those of the first.
                if tower == "vision" or not samples:
                    samples.append(weights.reshape(-1, weights.shape[-1]).float().cpu())
        return logits

    def gate_statistics(self) -> list[dict[str, Any]]:
        """Of each tower and layer in the last test: mean, spread over images or classes, and range of the weights."""
        found = []
        for (tower, layer), samples in sorted(self.gate_samples.items()):
            weights = torch.cat(samples)
            spread = weights.std(dim=0, unbiased=False).mean().item()
            mean, low, high = weights.mean().item(), weights.min().item(), weights.max().item()
            found.append({"tower": tower, "layer": layer, "mean": mean, "std": spread, "min": low, "max": high})
        return found

    def method_results(self) -> dict[str, Any]:
        return {"gates": self.gate_statistics(), "gate_history": self.gate_history}

    def _print_gates(self, split: str) -> None:
        rows = self.gate_statistics()
        for row in rows:
            for name in ("mean", "std"):
                self.write_scalar(f"{split}/{row['tower']}_gate_{row['layer']}_{name}", row[name], self.epoch)
        print("=> gates (weight of a layer's own prompts; std over images or classes)")
        print(tabulate(rows, headers="keys", floatfmt=".4f"), flush=True)
