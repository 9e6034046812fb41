"""OpenAI's `clip`: the only importer, and the only place that knows of the warning that importing it gives.

Any package of that name with OpenAI's layout will do: inside a checkout of CoOp or MaPLe, its own `clip` folder comes
first on the path.
"""

from __future__ import annotations

import warnings

# Before the block below, whose end takes back the warning filters that they add.
import torch  # noqa: F401
import torchvision  # noqa: F401

with warnings.catch_warnings():
    # `clip` imports pkg_resources for a version number, and users of this project can do nothing about it.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from clip import clip
    from clip.model import CLIP, QuickGELU, build_model

__all__ = ["CLIP", "QuickGELU", "build_model", "clip"]
