"""The interface of prompt-learning methods: the prompt tokens that enter layer i of each tower."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SettingError
from .adapters import BlockAdapters


@dataclass(frozen=True)
class Readout:
    """The attention that the prompt slots of the current layer receive, for learners that ask for it.

    Attributes:
        measure: called with the arguments of a readout.
        samples: `[batch]`, labels of the batch's classes; None for all classes, in order. Classes may come in several
            batches, and a batch comes again when activations are recomputed.
        total: number of all classes or images.
        left: computes the previous layer's output in the slots, `[1 or batch, b, width]`, for tokens that are mixed
            with it; None in the first layer that prompts enter.
    """

    measure: Callable[[Tensor | None, bool], Tensor]
    samples: Tensor | None
    total: int
    left: Callable[[], Tensor] | None = None

    def __call__(self, tokens: Tensor | None = None, *, relative: bool = False) -> Tensor:
        """Read before the slots are replaced.

        Args:
            tokens: content of the slots, `[b, width]` or `[batch, b, width]`; None: the previous layer's output. The
                first layer that prompts enter has none, so it needs tokens; in layer 0 the core adds the positional
                embedding (text) or applies `ln_pre` (vision), as for prompts that enter there.
            relative: see `interaction.attention_readout`.

        Returns:
            `[batch, b]` in fp32, with gradient if the tokens have one.
        """
        return self.measure(tokens, relative)


@dataclass(frozen=True)
class TowerPrompts:
    """The prompts of one tower in one forward pass.

    Attributes:
        length: number of prompt slots.
        depth: prompts enter layers first ... depth - 1; in later layers the slots are ordinary tokens.
        at: `at(layer, readout)` returns the tokens that enter that layer, `[length, width]` (the same for the whole
            batch) or `[batch, length, width]`; None keeps the previous layer's output in the slots (never in the first
            of these layers).
        reads: whether layers call their readout; decides only how the tower cuts its work.
        first: before this layer there are no slots. Prompts of layer 0 replace tokens of the sentence, and get a
            positional embedding (text) or pass `ln_pre` (vision); those that come later are inserted as they are.
    """

    length: int
    depth: int
    at: Callable[[int, Readout], Tensor | None]
    reads: bool = False
    first: int = 0


# Computed beside a block, token by token: from its input after its `ln_1`, `[rows, tokens, width]`, to what is added
# to its output.
Beside = Callable[[Tensor], Tensor]


class PromptLearner(nn.Module):
    """Base of all methods' learners. Only its parameters train, and only its state is in a checkpoint.

    Nothing in it depends on the class names, so a state dict loads on any class set unless it is class-specific.

    Attributes:
        template: the sentence of a class, with `{}` for its name.
        text_slots: number of tokens after SOS that text prompts replace; 0: none.
        position: place of the class name among the prompts, one of `class_tokens.POSITIONS`; prompts beyond the first
            layer need "end".
        conditional: the text prompts depend on the image.
        class_specific: each class has prompts of its own.
        renormalised: the mean of the normalised features of several sentences is normalised.
        recordable: each step runs the same operations and changes nothing but gradients, without random numbers and
            values of the host that change; a recorded step (`cuda_graph`) would repeat those of its recording. False
            unless the class itself says so.
        adapters: `FeatureAdapter` of the "text" and the "image" tower; None: no adapters.
        block_adapters: modules beside the blocks; None: none.
        anchors: gives the frozen CLIP's normalised features of some classes, `[classes, embed]` in fp32. They are
            added to the classes' prompted features, and the frozen CLIP's features of an image to its prompted ones.
            None: features are those of the prompts alone.
        class_sentence: with `{}` for the name, a sentence whose features of the frozen CLIP the prompts depend on;
            empty: they depend on none.
        class_features: those of the current classes, normalised, `[classes, embed]` in fp32; the core sets them.
        class_share: of the first feature's logits, where images have a second feature (`slot_projection`).
        fuses: which logits of a test are of both features: those of the classes of the training ("learned"), "always"
            or "never"; others are of the first alone. In training all are of both.
        inference: says how images are tested, where it takes more than a pass of each tower and a cosine, for
            `--summary`.
    """

    template: str
    text_slots: int = 0
    position: str = "end"
    conditional: bool = False
    class_specific: bool = False
    renormalised: bool = True
    recordable: bool = False
    class_sentence: str = ""
    class_features: Tensor
    class_share: float = 1.0
    fuses: str = "learned"
    inference: str = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A class says it of its own work, not of that of a class over it.
        cls.recordable = vars(cls).get("recordable", False)

    def __init__(self) -> None:
        super().__init__()
        # A class attribute would hide a module assigned under this name.
        self.adapters: nn.ModuleDict | None = None
        self.block_adapters: BlockAdapters | None = None
        self.anchors: Callable[[nn.Module, Sequence[str]], Tensor] | None = None

    @property
    def templates(self) -> tuple[str, ...]:
        """All sentences of a class; the normalised features of several are averaged."""
        return (self.template,)

    @property
    def positions(self) -> tuple[str, ...]:
        """`position` for each of the `templates`."""
        return (self.position,) * len(self.templates)

    @property
    def trains_text(self) -> bool:
        """Whether features of classes depend on the learner's tensors."""
        return self.text_slots > 0 or self.adapters is not None or self.block_adapters is not None

    @property
    def observed(self) -> MutableMapping[str, Any]:
        """What the last forward pass left to be read, with tensors that a recorded pass computes again."""
        return {}

    def set_class_count(self, number: int) -> None:
        """Called with the number of classes before any of them is encoded."""

    def text(self, image_features: Tensor | None = None) -> TowerPrompts | None:
        """Prompts of the text tower; None runs it without.

        Args:
            image_features: for a conditional learner, normalised `[images, embed]` in fp32; its prompts are
                `[images, b, width]`. None for others.
        """
        return None

    def vision(self) -> TowerPrompts | None:
        """Prompts of the vision tower; None runs it without."""
        return None

    def slot_projection(self, projection: Tensor) -> Tensor | None:
        """Maps what the last layer leaves in the slots of images, after `ln_post` and averaged, to a second feature.

        Args:
            projection: CLIP's own, `[d_v, embed]`.

        Returns:
            `[d_v, embed]`; prompts may then enter the last layer of the tower. None: images have one feature.
        """
        return None

    def router(self, prompted: Callable[..., nn.Module], classnames: Sequence[str]) -> nn.Module | None:
        """A module that classifies by more than one feature a class; None: cosines with the class features do.

        It has `class_features()`, all features of classes that it needs, `[rows, embed]`; `logits(image_features,
        class_features, scale)`, `[batch, classes]`; and `forget_class_features()`.

        Args:
            prompted: makes a `PromptedCLIP` of a learner and some classes within the same CLIP.
            classnames: of the classes to tell apart.
        """
        return None

    def beside(self, tower: str) -> Mapping[int, Beside]:
        """Modules beside blocks of the "text" or the "image" tower, by layer; they may share parts."""
        return {} if self.block_adapters is None else self.block_adapters.of(tower)

    def adapt(self, tower: str, features: Tensor) -> Tensor:
        """Adapt features `[..., embed]` of the "text" or the "image" tower, in fp32, before they are normalised."""
        return features if self.adapters is None else self.adapters[tower](features)


class FixedSentence(PromptLearner):
    """Zero-shot CLIP: no prompts, one or more sentences per class."""

    recordable = True

    def __init__(self, *templates: str):
        super().__init__()
        self.fixed = templates

    @property
    def templates(self) -> tuple[str, ...]:
        return self.fixed


INIT_STD = 0.02  # of random prompts, in all methods


def random_prompts(layers: Iterable[int], length: int, width: int, bound: float | None = None) -> nn.ParameterDict:
    """Trainable prompts by layer, each `[length, width]`, from N(0, 0.02²), or uniform up to a bound."""
    # ParameterDict sorts a plain dict by its keys as strings: 0, 1, 10, ...
    prompts = OrderedDict((str(layer), nn.Parameter(torch.empty(length, width))) for layer in layers)
    for prompt in prompts.values():
        if bound is None:
            nn.init.normal_(prompt, std=INIT_STD)
        else:
            nn.init.uniform_(prompt, -bound, bound)
    return nn.ParameterDict(prompts)


def check_depth(field: str, depth: int, layers: int) -> None:
    """Raises SettingError if a depth exceeds the backbone's number of layers; `field` is the setting's name."""
    if depth > layers:
        raise SettingError(
            f"{{{field}}} is {{}}, but the towers of this backbone have {{}} layers; set it to 1..{{}}.",
            *(depth, layers, layers),
        )
