"""The work of `scripts/tools/pretrain_tiny_clip.py`: training and the measurement."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

from minidassl.own.files import write_whole

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms.functional import normalize
from tqdm import tqdm
from yacs.config import CfgNode

from datasets.builtin.drawing import PICTURE, STYLES
from datasets.registry import DATASET_REGISTRY, DatasetBase, Datum
from datasets.table import ROWS
from experiments.tools.drawn_batches import EVALUATED_CAPTION, DrawnBatches
from trainers.prompting.api.images import evaluation_transform, open_image
from trainers.prompting.core.clip_weights import load_clip
from trainers.prompting.core.design import PIXEL_MEAN, PIXEL_STD
from trainers.prompting.core.openai_clip import CLIP, clip
from trainers.prompting.errors import InputError

ARCHITECTURE = {
    "embed_dim": 128,
    "image_resolution": PICTURE,
    "vision_layers": 4,
    "vision_width": 192,
    "vision_patch_size": 8,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 128,
    "transformer_heads": 2,
    "transformer_layers": 4,
}
STEPS, BATCH, WARM_UP = 3000, 256, 200
OTHER_NAMES = 128  # texts of further names in a step
# Icons' names in play at the start, the share of the steps until all are, and that in which captions are bare names.
FIRST_NAMES, WIDENED, BARE_UNTIL = 300, 0.5, 0.1
LEARNING_RATE, WEIGHT_DECAY = 1.4e-3, 0.1  # the rate is the peak
THREADS = 1  # beside a process that draws; another number may round differently
SEED = 1
KEEP_EVERY = 200  # steps between two writings of the state file
SHOTS = 16


def block(layer: nn.Module, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """CLIP's residual block for x [n, tokens, width]; a third faster than its module, by fewer operations."""
    heads, (n, length, width) = layer.attn.num_heads, x.shape
    y = F.layer_norm(x, (width,), layer.ln_1.weight, layer.ln_1.bias)
    y = F.linear(y, layer.attn.in_proj_weight, layer.attn.in_proj_bias)
    query, key, value = y.view(n, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    scores = (query * (width // heads) ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    y = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(n, length, width)
    x = x + F.linear(y, layer.attn.out_proj.weight, layer.attn.out_proj.bias)
    y = F.layer_norm(x, (width,), layer.ln_2.weight, layer.ln_2.bias)
    # QuickGELU is x * sigmoid(1.702 x) = SiLU(1.702 x) / 1.702; the factors go to the weights, the smaller tensors.
    first, second = layer.mlp.c_fc, layer.mlp.c_proj
    y = F.silu(F.linear(y, 1.702 * first.weight, 1.702 * first.bias))
    return x + F.linear(y, second.weight / 1.702, second.bias)


def image_features(model: CLIP, images: torch.Tensor) -> torch.Tensor:
    """`model.encode_image`: [n, embed_dim]."""
    visual, patch = model.visual, model.visual.conv1.weight
    x = F.unfold(images, patch.shape[-1], stride=patch.shape[-1]).transpose(1, 2) @ patch.flatten(1).T
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(x)
    for layer in visual.transformer.resblocks:
        x = block(layer, x)
    return visual.ln_post(x[:, 0]) @ visual.proj


def text_features(model: CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """`model.encode_text` for tokens [texts, length], which may be cut after the longest text: [texts, embed_dim].

    Attention is causal and the end token is what is read, so the padding changes nothing but costs most of the time.
    """
    length = int(tokens.argmax(dim=-1).max()) + 1
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    mask = model.transformer.resblocks[0].attn_mask[:length, :length]
    for layer in model.transformer.resblocks:
        x = block(layer, x, mask)
    return model.ln_final(x[torch.arange(len(x)), tokens.argmax(dim=-1)]) @ model.text_projection


def contrastive_loss(image: torch.Tensor, text: torch.Tensor, target: torch.Tensor, scale: torch.Tensor, shown: int):
    """Symmetric CLIP loss where several images share one text, and some texts have no image.

    image [batch, dim], text [texts, dim], target [batch]: the row of `text` that belongs to each image; each of the
    first `shown` texts has at least one image. An image has one right text; a text's target is spread evenly over its
    images.
    """
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    positives = F.one_hot(target, shown).float()
    by_text = -(positives / positives.sum(0) * logits[:, :shown].log_softmax(dim=0)).sum(0).mean()
    return (F.cross_entropy(logits, target) + by_text) / 2


def learning_rate(step: int) -> float:
    """A linear warm-up, then a cosine."""
    if step < WARM_UP:
        return LEARNING_RATE * (step + 1) / WARM_UP
    return LEARNING_RATE * 0.5 * (1.0 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))


@torch.no_grad()
def zero_shot_accuracy(model: CLIP, features: torch.Tensor, labels: torch.Tensor, names: list[str]) -> float:
    """Percentage of image features whose nearest caption "a photo of a {}." is the right one."""
    text = F.normalize(model.encode_text(clip.tokenize([EVALUATED_CAPTION.format(name) for name in names])), dim=-1)
    return 100 * (features @ text.T).argmax(dim=-1).eq(labels).float().mean().item()


def recipe() -> dict[str, object]:
    """What a state file must agree with."""
    names = ("STEPS", "BATCH", "WARM_UP", "OTHER_NAMES", "FIRST_NAMES", "WIDENED", "BARE_UNTIL", "LEARNING_RATE")
    return {**ARCHITECTURE, **{name: globals()[name] for name in (*names, "WEIGHT_DECAY", "SEED")}}


def optimiser_of(model: CLIP) -> torch.optim.Optimizer:
    # CLIP's rule: no decay for gains, biases and the logit scale. Nor for embeddings, see the head of this file.
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or "embedding" in name else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)


def pretrain(state_file: Path) -> dict[str, torch.Tensor]:
    """The trained network's state dict. `state_file` is written at times, and continued from if it is there."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    start, state = 0, None
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        if state["recipe"] != recipe():
            raise InputError(f"{state_file} belongs to another recipe; remove it to begin anew.")
        start = state["step"]
    batches = DrawnBatches(
        STYLES["pretraining"],
        seed=SEED,
        steps=STEPS,
        start=start,
        size=BATCH,
        others=OTHER_NAMES,
        first=FIRST_NAMES,
        widened=WIDENED * STEPS,
        bare_until=BARE_UNTIL * STEPS,
    )
    used = torch.from_numpy(batches.tokens.used)
    signs = 0.02 * (2.0 * torch.randint(0, 2, (ARCHITECTURE["vocab_size"], ARCHITECTURE["transformer_width"])) - 1.0)
    # Only the tokens that occur are trained: a gradient of all would be the slowest part of a step.
    model = CLIP(**{**ARCHITECTURE, "vocab_size": len(used)})
    with torch.no_grad():
        model.token_embedding.weight.copy_(signs[used])
    optimiser = optimiser_of(model)
    if state:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])

    # The worker draws from generators of its own.
    progress = tqdm(DataLoader(batches, batch_size=None, num_workers=1), initial=start, total=STEPS, mininterval=5.0)
    for step, batch in enumerate(progress, start):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step)
        with torch.autocast("cpu", torch.bfloat16):
            image = image_features(model, normalize(batch.images / 255, PIXEL_MEAN, PIXEL_STD))
            text = text_features(model, batch.captions)
        loss = contrastive_loss(image.float(), text.float(), batch.target, model.logit_scale.exp(), batch.shown)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100.0))
        progress.set_postfix(loss=f"{loss.item():.3f}", scale=f"{model.logit_scale.exp().item():.1f}", refresh=False)
        if (step + 1) % KEEP_EVERY == 0:
            kept = {"recipe": recipe(), "step": step + 1, "model": model.state_dict()}
            kept["optimiser"] = optimiser.state_dict()
            write_whole(state_file, lambda file, kept=kept: torch.save(kept, file))
    return {
        **model.state_dict(),
        "token_embedding.weight": signs.index_copy(0, used, model.token_embedding.weight.detach()),
    }


def save(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Compressed npz with OpenAI's state-dict keys: float16, the logit scale float32. Written whole or not at all."""
    arrays = {
        key: value.numpy().astype(np.float32 if key == "logit_scale" else np.float16) for key, value in weights.items()
    }
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def evaluate(path: Path, root: str = "") -> None:
    """Print zero-shot accuracies on the built-in data sets, and what a linear probe learns from a few base shots.

    Shifted sets are for tests alone, and have no probe.
    """
    from sklearn.linear_model import LogisticRegression

    model = load_clip(str(path))
    for row in (row for row in ROWS if row.write):
        data = built_in(row.name, "all", root)
        features, labels = features_of(model, data.test)
        half, results = (len(data.classnames) + 1) // 2, []
        for subset, start, end in (("base", 0, half), ("new", half, None), ("all", 0, None)):
            names = data.classnames[start:end]
            chosen = (labels >= start) & (labels < start + len(names))
            found = zero_shot_accuracy(model, features[chosen], labels[chosen] - start, names)
            results.append(f"{subset} {found:.1f}% of {len(names)}")
        line = f"{row.name}: zero-shot {', '.join(results)}"
        if not row.domain_of:
            probe = LogisticRegression(C=100.0, max_iter=2000)
            probe.fit(*features_of(model, built_in(row.name, "base", root).train_x))
            accuracy = 100 * probe.score(features[labels < half], labels[labels < half])
            line += f"; {SHOTS}-shot linear probe on base {accuracy:.1f}%"
        print(line, flush=True)


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
