"""Accuracy of one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def compute_accuracy(
    output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, topk: Sequence[int] = (1,)
) -> list[torch.Tensor]:
    """Share of samples whose label is among the k highest scores.

    Upstream fails for k above 1 on current torch.

    Args:
        output: scores [batch, num_classes], or a tuple or list that begins with them.
        target: labels [batch].

    Returns:
        One tensor [1] in percent for each k.
    """
    scores = output[0] if isinstance(output, (tuple, list)) else output
    # In fp32, because older torch versions cannot sort fp16 on a CPU; the order stays the same.
    best = scores.float().topk(max(topk), dim=1).indices
    hits = best.eq(target.reshape(-1, 1))
    return [hits[:, :k].any(dim=1).float().mean().mul(100.0).reshape(1) for k in topk]
