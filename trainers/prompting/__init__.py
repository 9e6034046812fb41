"""The core: prompt tokens entering any layer of either tower of a frozen CLIP. Needs torch and `clip` alone.

prompted_clip.py   runs an unmodified CLIP with a learner's prompts
tower.py           the driver of both towers; attention.py, class_groups.py: what it computes, and at once
learner.py         what a learner answers: which tokens enter layer i of which tower
bmip.py            BMIP's learner; interaction.py: its maths, pure functions
coop.py, cocoop.py, ivlp.py, maple.py   the baselines' learners
released.py        checkpoints that the methods' authors published
class_tokens.py    class names to token sequences
clip_io.py         weights and precision
openai_clip.py     imports `clip`
metrics.py         open-world metrics
summary.py         what a method trains
classifier.py      a prompted CLIP as a scikit-learn estimator, which this one module needs; see docs/API.md
methods.py, images.py, saved.py   the methods by name, images of any kind, and prompts on disk, for the classifier

What is listed in `__all__` can be imported from here; its module is loaded when it is asked for, so that messages and
sizes can be had without waiting for torch.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "BMIPConfig": "bmip",
    "BMIPLearner": "bmip",
    "InputError": "errors",
    "METHODS": "methods",
    "PromptClassifier": "classifier",
    "PromptedCLIP": "prompted_clip",
    "evaluation_transform": "images",
    "load_clip": "clip_io",
    "open_image": "images",
    "read_image_folder": "images",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
