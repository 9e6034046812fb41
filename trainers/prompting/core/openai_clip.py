"""The only import of OpenAI's `clip`; hides the warning that it causes.

Any package of that name with OpenAI's layout works: in a checkout of CoOp or MaPLe, the checkout's own `clip` folder
comes first on the path.
"""

from __future__ import annotations

import warnings

# Imported before the block below, which would undo their warning filters at its end.
import torch  # noqa: F401
import torchvision  # noqa: F401

with warnings.catch_warnings():
    # `clip` imports pkg_resources for a version number; users cannot change that.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from clip import clip
    from clip.model import CLIP, QuickGELU, build_model

__all__ = ["CLIP", "QuickGELU", "build_model", "clip"]
