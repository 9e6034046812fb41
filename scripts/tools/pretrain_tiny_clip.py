"""Pre-train the embedded `tiny` CLIP on drawn glyphs and save it as a plain state dict.

    python scripts/tools/pretrain_tiny_clip.py                 # rewrites trainers/prompting/weights/tiny_clip.npz
    python scripts/tools/pretrain_tiny_clip.py --evaluate      # only measures it on the built-in data sets

The network is OpenAI's `clip.model.CLIP` at a small size, trained with CLIP's contrastive objective. Its images are
drawn, from the DejaVu fonts that matplotlib ships (`datasets/builtin/drawing.py`, style "pretraining"); it never sees
a photograph or a handwritten digit. Same seed, threads, precision and machine give the same file, to the bit.

Differences from CLIP's own training: a caption is shared by all images of its class in a batch, so the text side of
the loss has several positives per row; token embeddings start as random signs and are not decayed, so the rows of
words that no caption uses stay two-valued and cost about two bits a number in the compressed file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from yacs.config import CfgNode

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from minidassl.own.files import write_whole  # noqa: E402

from datasets import DATASET_REGISTRY, DatasetBase, Datum  # noqa: E402
from datasets.builtin.drawing import PICTURE, STYLES  # noqa: E402
from datasets.builtin.glyphs import DIGITS, OTHERS, SYMBOLS  # noqa: E402
from datasets.table import ROWS  # noqa: E402
from trainers.prompting.api.images import evaluation_transform, open_image  # noqa: E402
from trainers.prompting.core.clip_weights import PIXEL_MEAN, PIXEL_STD, load_clip  # noqa: E402
from trainers.prompting.core.openai_clip import CLIP, clip  # noqa: E402

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

TRAINING_STREAM, HELD_OUT_STREAM = 0, 1


class DrawnBatches(Dataset):
    """Batch number `step`, freshly drawn: images uint8 [batch, 3, side, side] and class indices [batch]."""

    def __init__(self, steps: int, batch: int, seed: int):
        self.steps, self.batch, self.seed = steps, batch, seed
        self.chars = [char for group, _ in GROUPS for char in group.values()]
        self.odds = np.concatenate([np.full(len(group), share / len(group)) for group, share in GROUPS])

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.RandomState([self.seed, TRAINING_STREAM, step])
        labels = rng.choice(len(self.chars), self.batch, p=self.odds)
        return draw_batch([self.chars[label] for label in labels], rng), torch.from_numpy(labels)


def draw_batch(chars: list[str], rng: np.random.RandomState) -> torch.Tensor:
    images = np.stack([np.asarray(STYLES["pretraining"].draw(char, rng)) for char in chars])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def normalised(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return (images.float() / 255.0 - mean) / std


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


def parameter_groups(model: CLIP, weight_decay: float) -> list[dict]:
    """CLIP's rule: no decay for gains, biases and the logit scale. Nor for embeddings, see the head of this file."""
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or "embedding" in name else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.no_grad()
def image_features(model: CLIP, images: torch.Tensor) -> torch.Tensor:
    """Unit features [n, embed_dim] of normalised images [n, 3, side, side]."""
    return F.normalize(torch.cat([model.encode_image(part) for part in images.split(500)]), dim=-1)


@torch.no_grad()
def zero_shot_accuracy(model: CLIP, features: torch.Tensor, labels: torch.Tensor, names: list[str]) -> float:
    """Percentage of image features whose nearest caption "a photo of a {}." is the right one."""
    text = F.normalize(model.encode_text(clip.tokenize([EVALUATED.format(name) for name in names])), dim=-1)
    return 100 * (features @ text.T).argmax(dim=-1).eq(labels).float().mean().item()


def held_out_report(model: CLIP, seed: int, per_class: int = 10) -> str:
    """Zero-shot accuracy on drawings of the pre-training style that training does not see."""
    parts = []
    for name, group in (("digits", DIGITS), ("symbols", SYMBOLS)):
        labels = torch.arange(len(group)).repeat_interleave(per_class)
        chars = list(group.values())
        images = draw_batch([chars[i] for i in labels], np.random.RandomState([seed, HELD_OUT_STREAM]))
        accuracy = zero_shot_accuracy(model, image_features(model, normalised(images)), labels, list(group))
        parts.append(f"{name} {accuracy:.1f}%")
    return "drawn and held out: " + ", ".join(parts)


def pretrain(args: argparse.Namespace) -> CLIP:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.RandomState(args.seed)
    model = CLIP(**ARCHITECTURE)
    with torch.no_grad():
        embedding = model.token_embedding.weight
        embedding.copy_(0.02 * (2.0 * torch.randint(0, 2, embedding.shape) - 1.0))
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.1), lr=args.lr, betas=(0.9, 0.98), eps=1e-6)
    names = [name for group, _ in GROUPS for name in group]
    tokens = torch.stack([clip.tokenize([template.format(name) for name in names]) for template in TEMPLATES])

    batches = DataLoader(DrawnBatches(args.steps, args.batch, args.seed), batch_size=None, num_workers=args.workers)
    progress = tqdm(batches, total=args.steps, unit="step", mininterval=5.0)
    for step, (images, labels) in enumerate(progress):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr, args.warmup)
        present, target = labels.unique(return_inverse=True)
        captions = tokens[torch.from_numpy(rng.randint(len(TEMPLATES), size=len(present))), present]
        # The plain attention kernel is faster than the fused one at 65 tokens, mostly in the backward pass.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
            image, text = model.encode_image(normalised(images)), text_features(model, captions)
        loss = contrastive_loss(image.float(), text.float(), target, model.logit_scale.exp())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100.0))
        progress.set_postfix(loss=f"{loss.item():.3f}", scale=f"{model.logit_scale.exp().item():.1f}", refresh=False)
        if (step + 1) % args.report_every == 0 or step + 1 == args.steps:
            tqdm.write(f"step {step + 1}: {held_out_report(model, args.seed)}")
    return model


def save(model: CLIP, path: Path) -> None:
    """Compressed npz with OpenAI's state-dict keys: float16, the logit scale float32. Written whole or not at all."""
    arrays = {
        key: value.numpy().astype(np.float32 if key == "logit_scale" else np.float16)
        for key, value in model.state_dict().items()
    }
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def evaluate(path: Path, root: str, seed: int, shots: int = 16) -> None:
    """Print zero-shot accuracies on the built-in data sets, and what a linear probe learns from a few base shots."""
    from sklearn.linear_model import LogisticRegression

    model = load_clip(str(path))
    for name in (row.name for row in ROWS if row.write):
        results = []
        for subset in ("base", "new", "all"):
            data = built_in(name, root, subset, shots, seed)
            features, labels = features_of(model, data.test)
            results.append(f"{subset} {zero_shot_accuracy(model, features, labels, data.classnames):.1f}%")
            if subset == "base":
                probe = LogisticRegression(C=100.0, max_iter=2000).fit(*features_of(model, data.train_x))
                probe_accuracy = 100 * probe.score(features, labels)
        print(f"{name}: zero-shot {', '.join(results)}; {shots}-shot linear probe on base {probe_accuracy:.1f}%")


def built_in(name: str, root: str, subset: str, shots: int = -1, seed: int = 1) -> DatasetBase:
    options = {"ROOT": root, "NUM_SHOTS": shots, "SUBSAMPLE_CLASSES": subset}
    with contextlib.redirect_stdout(io.StringIO()):  # its lines on what it reads would tear the report apart
        return DATASET_REGISTRY.get(name)(CfgNode({"SEED": seed, "DATASET": CfgNode(options)}))


def features_of(model: CLIP, items: list[Datum]) -> tuple[torch.Tensor, torch.Tensor]:
    """Image features [n, embed_dim] and labels [n]."""
    transform = evaluation_transform(PICTURE)
    images = torch.stack([transform(open_image(item.impath)) for item in items])
    return image_features(model, images), torch.tensor([item.label for item in items])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch", type=int, default=256, help="images per step")
    parser.add_argument("--lr", type=float, default=1.4e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=100, help="steps of linear warm-up before the cosine")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="torch threads; another number may round differently")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw; no effect on the result")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--report-every", type=int, default=200, help="steps between zero-shot reports")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "trainers/prompting/weights/tiny_clip.npz")
    parser.add_argument("--evaluate", action="store_true", help="do not train, measure the file given as --out")
    parser.add_argument("--root", default="", help="where the built-in data sets are, or will be written")
    args = parser.parse_args()
    if not args.evaluate:
        start = time.time()
        save(pretrain(args), args.out)
        print(f"{args.out}: {args.out.stat().st_size / 2**20:.2f} MiB after {(time.time() - start) / 60:.1f} minutes")
    evaluate(args.out, args.root, args.seed)


if __name__ == "__main__":
    main()
