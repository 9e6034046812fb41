"""BMIP: bi-directional modality interaction prompts (IJCAI 2025, arXiv 2501.07769)."""

from __future__ import annotations

from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from .base import PromptTrainer, register
from .prompting.learners import bmip


@register
class BMIP(PromptTrainer):
    """Trains BMIP's prompts, projection heads and gates, and reports statistics of the gates."""

    method = bmip.METHOD

    def build_model(self) -> None:
        self.gate_samples: dict[tuple[str, int], list[Tensor]] = {}
        # For each epoch, the mean gate of each tower and layer in its last batch.
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
        """Evaluate, and print `gate_statistics`."""
        self.gate_samples = {}
        accuracy = super().test(split)
        rows = self.gate_statistics()
        for row in rows:
            for name in ("mean", "std"):
                tag = f"{split or self.cfg.TEST.SPLIT}/{row['tower']}_gate_{row['layer']}_{name}"
                self.write_scalar(tag, row[name], self.epoch)
        if rows:
            print("=> gates (weight of a layer's own prompts; std over images or classes)")
            print(tabulate(rows, headers="keys", floatfmt=".4f"), flush=True)
        return accuracy

    def model_inference(self, images: Tensor) -> Tensor:
        logits = super().model_inference(images)
        for tower, layers in self.learner.last_gates.items():
            for layer, weights in layers.items():
                samples = self.gate_samples.setdefault((tower, layer), [])
                # Class features are cached over the batches, so the first batch has their gates.
                if tower == "vision" or not samples:
                    samples.append(weights.reshape(-1, weights.shape[-1]).float().cpu())
        return logits

    def gate_statistics(self) -> list[dict[str, Any]]:
        """Mean, standard deviation over images or classes, and range of the gates of each layer in the last test."""
        found = []
        for (tower, layer), samples in sorted(self.gate_samples.items()):
            weights = torch.cat(samples)
            spread = weights.std(dim=0, unbiased=False).mean().item()
            mean, low, high = weights.mean().item(), weights.min().item(), weights.max().item()
            found.append({"tower": tower, "layer": layer, "mean": mean, "std": spread, "min": low, "max": high})
        return found

    def method_results(self) -> dict[str, Any]:
        return {"gates": self.gate_statistics(), "gate_history": self.gate_history}
