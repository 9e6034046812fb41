"""Tensor names of checkpoints that the methods' authors published, and their translation to the learners' names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..errors import InputError

# Rebuilt from the class names in every method; a checkpoint has those of its training classes.
CLASS_TOKENS = r"(prompt_learner\.)?(token_prefix|token_suffix)"
# The authors save the whole model. Prompts inside the towers match `renames` first.
FROZEN_CLIP = r"(image_encoder|text_encoder)\..+|logit_scale"
# Of PromptSRC, and of CoPrompt.
FROZEN_TEACHER = r"(prompt_learner\.ZS_image_encoder|model_distill)\..+"
SHOWN_NAMES = 5


@dataclass(frozen=True)
class PublishedLayout:
    """The published names of a method's tensors.

    Attributes:
        renames: pairs of a pattern for a complete published name, and a function from its groups to the learner's
            name; the first match counts.
        marker: pattern of a name that identifies the authors' state dicts.
        unused: patterns of further names, with the reason to leave them out.
        implies: settings of all such checkpoints.
    """

    renames: tuple[tuple[str, Callable[..., str]], ...]
    marker: str
    unused: Mapping[str, str] = field(default_factory=dict)
    implies: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, state_dict: Mapping[str, Tensor]) -> bool:
        """Whether a state dict has the authors' names."""
        return any(re.fullmatch(self.marker, key) for key in state_dict)

    def translate(self, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Tensors in fp32 under the learner's names, and the number of tensors left out for each reason.

        Raises:
            InputError: a name is unknown, so the checkpoint is of another method.
        """
        reasons = {
            **self.unused,
            CLASS_TOKENS: "tokens of the class names, which are rebuilt",
            FROZEN_CLIP: "frozen CLIP",
            FROZEN_TEACHER: "the frozen teacher, which is the same CLIP",
        }
        translated: dict[str, Tensor] = {}
        ignored: dict[str, int] = {}
        unknown = []
        for key, value in state_dict.items():
            name = self._translated(key)
            if name is not None:
                translated[name] = value.float()
                continue
            reason = next((reason for pattern, reason in reasons.items() if re.fullmatch(pattern, key)), None)
            if reason is None:
                unknown.append(key)
            else:
                ignored[reason] = ignored.get(reason, 0) + 1
        if unknown:
            more = f" and {len(unknown) - SHOWN_NAMES} more" if len(unknown) > SHOWN_NAMES else ""
            raise InputError(
                f"The checkpoint has tensors that this method does not have: {', '.join(unknown[:SHOWN_NAMES])}{more}."
            )
        return translated, ignored

    def translate_for(
        self, state_dict: Mapping[str, Tensor], learner: nn.Module
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        """`translate` for a learner; also raises InputError if the checkpoint does not suit it."""
        return self.translate(state_dict)

    def _translated(self, key: str) -> str | None:
        for pattern, rename in self.renames:
            match = re.fullmatch(pattern, key)
            if match:
                return rename(*match.groups())
        return None
