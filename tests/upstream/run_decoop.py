"""Run the training and test of DeCoOp's authors in a process of its own: python run_decoop.py CHECKOUT INPUT OUTPUT.

INPUT is a torch file with the `sizes` and the `clip` (a state dict) of a CLIP, `classnames` and `base` among them,
`training`, batches of images and labels among the base classes, `test`, batches of all classes, `contexts` of the
`detectors` and the `classifiers` to start from, `settings` of their method, and the `epochs` of both stages.

OUTPUT gets, of each epoch, the losses and the gradients of its last step; the contexts at the end of each stage; the
scores of the training images, the thresholds and the smallest one; and of the test probabilities, scores and AUROC.
Where scikit-image is not installed, its threshold is that of `naive_objectives.py`.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import torch

checkout, given, answer = sys.argv[1:]
sys.path.insert(0, checkout)
sys.modules["gdown"] = types.ModuleType("gdown")
if importlib.util.find_spec("skimage") is None:
    sys.path.append(str(Path(__file__).parents[1]))
    from naive_objectives import otsu

    sys.modules["skimage"], filters = types.ModuleType("skimage"), types.ModuleType("skimage.filters")
    filters.threshold_otsu = lambda scores: otsu(scores.flatten().tolist())
    sys.modules["skimage.filters"] = filters

from clip.model import CLIP  # noqa: E402
from models import DeCoOpLearner  # noqa: E402

SELECTED = (
    "itap_of_a_{}. a_bad_photo_of_the_{}. a_origami_{}. a_photo_of_the_large_{}. a_{}_in_a_video_game. art_of_the_{}. "
    "a_photo_of_the_small_{}."
)


class Loader(list):
    """Batches, with the names of their classes."""

    def __init__(self, batches, classnames):
        super().__init__((images, labels, [classnames[i] for i in labels]) for images, labels in batches)
        self.dataset = SimpleNamespace(classnames=classnames)


def contexts(prompters) -> list[torch.Tensor]:
    return [one.ctx.detach().clone() for one in prompters]


def gradients(prompters) -> list[torch.Tensor]:
    return [one.ctx.grad.clone() for one in prompters]


data = torch.load(given, weights_only=True)
clip_model = CLIP(**data["sizes"]).eval()
clip_model.load_state_dict(data["clip"])
method = {**data["settings"], "ctx_init": SELECTED, "eval_batch_size": 4, "train_batch_size": 4}
method["train_ood_epoch"], method["train_epoch"] = data["epochs"]
cfg = {"method": method, "log": {"model": "", "prediction": ""}, "dataset": {}}
log = logging.getLogger()
training = Loader(data["training"], data["base"])
test = Loader(data["test"], data["classnames"])
learner = DeCoOpLearner(None, cfg, log, "cpu", clip_model, training.dataset)
learner.freeze_encoder(log)
for prompters, starts in ((learner.ood_prompter, "detectors"), (learner.coop_prompter, "classifiers")):
    for prompter, start in zip(prompters, data["contexts"][starts]):
        prompter.ctx.data.copy_(start)

found = {"detector_losses": [], "detector_gradients": [], "classifier_losses": [], "classifier_gradients": []}
for _ in range(method["train_ood_epoch"]):
    found["detector_losses"].append([float(value) for value in learner.train_ood_epoch(cfg, log, training)[:2]])
    found["detector_gradients"].append(gradients(learner.ood_prompter))
found["detectors"] = contexts(learner.ood_prompter)
scores, thresholds, threshold = learner.estimate_ood_epoch(cfg, log, training)
found |= {"scores": scores, "thresholds": [float(one) for one in thresholds], "threshold": float(threshold)}
# What they cache for each image, in the order of the batches.
learner.evaluate_OOD_stage(cfg, log, training)
cached = [(*batch, *rest) for *rest, batch in zip(learner.CLIP_logits, learner.OOD_scores, training)]
rebuilt = Loader([], data["base"])
rebuilt.extend(cached)
for _ in range(method["train_epoch"]):
    found["classifier_losses"].append(float(learner.train_iid_epoch(cfg, log, rebuilt)))
    found["classifier_gradients"].append(gradients(learner.coop_prompter))
found["classifiers"] = contexts(learner.coop_prompter)
probabilities, _, _, scores, auroc = learner.evaluate(cfg, log, test, data["base"])
found |= {"probabilities": torch.tensor(probabilities), "test_scores": torch.tensor(scores).amax(dim=1)}
torch.save({**found, "auroc": float(auroc)}, answer)
