"""The work of `scripts/tools/pretrain_tiny_clip.py`: captions, pictures, training, and the measurement."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

from minidassl.own.files import write_whole

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import normalize
from tqdm import tqdm
from yacs.config import CfgNode

from datasets.builtin.drawing import PICTURE, STYLES
from datasets.builtin.glyphs import DIGITS, OTHERS, SYMBOLS
from datasets.registry import DATASET_REGISTRY, DatasetBase, Datum
from datasets.table import ROWS
from trainers.prompting.api.images import evaluation_transform, open_image
from trainers.prompting.core.clip_weights import PIXEL_MEAN, PIXEL_STD, load_clip
from trainers.prompting.core.openai_clip import CLIP, clip

ARCHITECTURE = {
    "embed_dim": 64,
    "image_resolution": PICTURE,
    "vision_layers": 4,
    "vision_width": 128,
    "vision_patch_size": 4,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 64,
    "transformer_heads": 1,
    "transformer_layers": 4,
}

EVALUATED = "a photo of a {}."
# The longest ones reach about 25 tokens: positions after the longest caption would stay at their random start.
TEMPLATES = (
    EVALUATED,
    EVALUATED,
    "{}",
    "a {}.",
    "the {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "a sketch of the {}.",
    "a blurry photo of a {}.",
    "a small picture of the {}.",
    "an image that shows a {}.",
    "this is a photo of one {}, drawn by hand.",
    "a {}, seen on a plain background.",
    "a bad photo of a {} that is small, blurry, tilted and hard to see on a dark background.",
    "one of many pictures in a big collection of signs and letters; this one here shows a {}.",
)
# Digits and symbols are what the built-in data sets ask for; the others keep the two from being all there is.
GROUPS = ((DIGITS, 0.20), (SYMBOLS, 0.50), (OTHERS, 0.30))

STEPS, BATCH, WARM_UP = 1400, 256, 100
LEARNING_RATE, WEIGHT_DECAY = 1.4e-3, 0.1  # the rate is the peak
THREADS = 2  # another number may round differently
SEED = 1
SHOTS = 16


class DrawnBatches(Dataset):
    """Batch number `step`, freshly drawn: images uint8 [batch, 3, side, side] and class indices [batch]."""

    def __init__(self):
        self.chars = [char for group, _ in GROUPS for char in group.values()]
        self.odds = np.concatenate([np.full(len(group), share / len(group)) for group, share in GROUPS])

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.RandomState([SEED, 0, step])
        labels = rng.choice(len(self.chars), BATCH, p=self.odds)
        images = np.stack([np.asarray(STYLES["pretraining"].draw(self.chars[label], rng)) for label in labels])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def text_features(model: CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """`model.encode_text` for tokens [texts, 77], cut after the longest text: [texts, embed_dim].

    Attention is causal and the end token is what is read, so the padding changes nothing but costs two thirds
    of the time.
    """
    length = int(tokens.argmax(dim=-1).max()) + 1
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = x.permute(1, 0, 2)
    mask = model.transformer.resblocks[0].attn_mask[:length, :length].to(x.dtype)
    for block in model.transformer.resblocks:
        y = block.ln_1(x)
        x = x + block.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        x = x + block.mlp(block.ln_2(x))
    x = model.ln_final(x.permute(1, 0, 2))
    return x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ model.text_projection


def contrastive_loss(image: torch.Tensor, text: torch.Tensor, target: torch.Tensor, scale: torch.Tensor):
    """Symmetric CLIP loss where several images share one text.

    image [batch, dim], text [texts, dim], target [batch]: the row of `text` that belongs to each image; every text
    has at least one image. An image has one right text; a text's target is spread evenly over its images.
    """
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    positives = F.one_hot(target, len(text)).float()
    by_text = -(positives / positives.sum(0) * logits.log_softmax(dim=0)).sum(0).mean()
    return (F.cross_entropy(logits, target) + by_text) / 2


def learning_rate(step: int) -> float:
    """A linear warm-up, then a cosine."""
    if step < WARM_UP:
        return LEARNING_RATE * (step + 1) / WARM_UP
    return LEARNING_RATE * 0.5 * (1.0 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))


@torch.no_grad()
def zero_shot_accuracy(model: CLIP, features: torch.Tensor, labels: torch.Tensor, names: list[str]) -> float:
    """Percentage of image features whose nearest caption "a photo of a {}." is the right one."""
    text = F.normalize(model.encode_text(clip.tokenize([EVALUATED.format(name) for name in names])), dim=-1)
    return 100 * (features @ text.T).argmax(dim=-1).eq(labels).float().mean().item()


def pretrain() -> CLIP:
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    rng = np.random.RandomState(SEED)
    model = CLIP(**ARCHITECTURE)
    with torch.no_grad():
        embedding = model.token_embedding.weight
        embedding.copy_(0.02 * (2.0 * torch.randint(0, 2, embedding.shape) - 1.0))
    # CLIP's rule: no decay for gains, biases and the logit scale. Nor for embeddings, see the head of this file.
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or "embedding" in name else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
    names = [name for group, _ in GROUPS for name in group]
    tokens = torch.stack([clip.tokenize([template.format(name) for name in names]) for template in TEMPLATES])

    # The worker draws from generators of its own.
    progress = tqdm(DataLoader(DrawnBatches(), batch_size=None, num_workers=1), unit="step", mininterval=5.0)
    for step, (images, labels) in enumerate(progress):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step)
        present, target = labels.unique(return_inverse=True)
        captions = tokens[torch.from_numpy(rng.randint(len(TEMPLATES), size=len(present))), present]
        # The plain attention kernel is faster than the fused one at 65 tokens, mostly in the backward pass.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            image = model.encode_image(normalize(images / 255, PIXEL_MEAN, PIXEL_STD))
            text = text_features(model, captions)
        loss = contrastive_loss(image.float(), text.float(), target, model.logit_scale.exp())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100.0))
        progress.set_postfix(loss=f"{loss.item():.3f}", scale=f"{model.logit_scale.exp().item():.1f}", refresh=False)
    return model


def save(model: CLIP, path: Path) -> None:
    """Compressed npz with OpenAI's state-dict keys: float16, the logit scale float32. Written whole or not at all."""
    arrays = {
        key: value.numpy().astype(np.float32 if key == "logit_scale" else np.float16)
        for key, value in model.state_dict().items()
    }
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def evaluate(path: Path) -> None:
    """Print zero-shot accuracies on the built-in data sets, and what a linear probe learns from a few base shots."""
    from sklearn.linear_model import LogisticRegression

    model = load_clip(str(path))
    for name in (row.name for row in ROWS if row.write):
        results = []
        for subset in ("base", "new", "all"):
            data = built_in(name, subset)
            features, labels = features_of(model, data.test)
            results.append(f"{subset} {zero_shot_accuracy(model, features, labels, data.classnames):.1f}%")
            if subset == "base":
                probe = LogisticRegression(C=100.0, max_iter=2000).fit(*features_of(model, data.train_x))
                probe_accuracy = 100 * probe.score(features, labels)
        print(f"{name}: zero-shot {', '.join(results)}; {SHOTS}-shot linear probe on base {probe_accuracy:.1f}%")


def built_in(name: str, subset: str, root: str = "") -> DatasetBase:
    options = {"ROOT": root, "NUM_SHOTS": SHOTS, "SUBSAMPLE_CLASSES": subset}
    with contextlib.redirect_stdout(io.StringIO()):  # its lines on what it reads would tear the report apart
        return DATASET_REGISTRY.get(name)(CfgNode({"SEED": SEED, "DATASET": CfgNode(options)}))


@torch.no_grad()
def features_of(model: CLIP, items: list[Datum]) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit image features [n, embed_dim] and labels [n]."""
    transform = evaluation_transform(PICTURE)
    images = torch.stack([transform(open_image(item.impath)) for item in items])
    features = torch.cat([model.encode_image(part) for part in images.split(500)])
    return F.normalize(features, dim=-1), torch.tensor([item.label for item in items])
