"""Files of earlier versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from trainers.prompting.api.classifier import PromptClassifier


def save_as_before(classifier: PromptClassifier, folder: Path) -> None:
    """Save a classifier as `classifier.json` and `prompts.npz`, before there was one file of both."""
    folder.mkdir(parents=True, exist_ok=True)
    model = classifier.model_
    np.savez(folder / "prompts.npz", **{name: value.numpy() for name, value in model.learner.state_dict().items()})
    parameters = {**classifier.get_params(deep=False), "settings": classifier.config_.plain()}
    del parameters["device"]
    weights = hashlib.sha256((folder / "prompts.npz").read_bytes()).hexdigest()
    facts = {"clip": model.clip_model.digest, "weights": weights}
    description = {"format": 1, "classes": classifier.classes_.tolist(), "parameters": parameters, **facts}
    (folder / "classifier.json").write_text(json.dumps(description))
