"""Prompt tokens in any layer of either tower of a frozen CLIP.

core/         runs an unmodified CLIP with a learner's prompts; the interface of learners
learners/     one file per method: the tokens that enter each layer of each tower
objectives/   one file per objective: the loss of a training step
checkpoints/  finds, reads and translates trained prompts
api/          `PromptClassifier`, a scikit-learn estimator; see docs/API.md

Nothing here needs Dassl or yacs. Names in `__all__` can be imported from here; their modules are imported on first
access, so that errors and declarations do not wait for torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "BMIPConfig": "learners.bmip",
    "BMIPLearner": "learners.bmip",
    "InputError": "errors",
    "METHODS": "methods",
    "PromptClassifier": "api.classifier",
    "PromptedCLIP": "core.prompted_clip",
    "evaluation_transform": "api.images",
    "load_clip": "core.clip_weights",
    "open_image": "api.images",
    "read_image_folder": "api.images",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
