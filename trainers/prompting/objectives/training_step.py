"""One step of training, which all front ends share: loss, gradients, optimiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.cuda_graph import AUTO, OFF, ON, NotRecorded, Recording
from ..core.prompted_clip import PromptedCLIP
from ..errors import InputError, SettingError
from .objective import Loss, Objective


class TrainingStep:
    """Trains a model's learner by an objective, one batch a call.

    On CUDA, loss and gradients are recorded in the first call and replayed from then on. The optimiser is not: it is
    two or three launches, which wait for nothing, and the schedule changes its learning rate, a number on the host.

    Args:
        graph: `auto` records where that works, `on` refuses to train where it does not, `off` never records.
        scaler: of the loss; None: a new one. It changes nothing where the precision needs none.

    Attributes:
        recording: of loss and gradients; None where nothing is recorded, and before the first step.

    Raises:
        SettingError: `graph` is on, but the steps cannot be recorded; so does a call.
    """

    def __init__(
        self,
        model: PromptedCLIP,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        graph: str = AUTO,
        scaler: torch.amp.GradScaler | None = None,
    ):
        self.model, self.objective, self.optimizer, self.graph = model, objective, optimizer, graph
        self.parameters = list(model.learner.parameters())
        device = self.parameters[0].device
        self.scaler = scaler or torch.amp.GradScaler(device.type, enabled=model.precision.scale_gradients)
        self.terms: list[str] = []
        self.recording: Recording | None = None
        self.recorded_ids: Tensor | None = None  # tokens of the classes that it was recorded for
        self.recorded_stage = 0  # and the objective's stage
        self.records = graph != OFF and device.type == "cuda"
        if graph == ON and not self.records:
            raise SettingError("{cuda_graph} is on, but the model is not on a CUDA device; set it to auto or off.")
        for part in (objective, model.learner):
            if self.records and not part.recordable:
                self._give_up(f"{type(part).__name__} does not say that it is recordable (docs/CONTRIBUTING.md)")

    def __call__(self, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Train on a batch.

        Args:
            views: of the images, each `[batch, 3, height, width]`, on the model's device.
            labels: `[batch]`, there.

        Returns:
            Scalars on the device: `loss`, `acc`, the accuracy in per cent, and the terms of the loss.
        """
        self.objective.before_step()
        values = self._computed(labels, *views)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # A replayed forward pass does not tell that the prompts change, nor does a fused optimiser.
        self.model.forget_class_features()
        return dict(zip(("loss", "acc", *self.terms), values))

    def _computed(self, *inputs: Tensor) -> Tensor:
        stage = self.objective.stage
        if self.records and (self.recorded_ids is not self.model.ids or self.recorded_stage != stage):
            self.recording, self.recorded_ids, self.recorded_stage = None, self.model.ids, stage
            try:
                observed = self.model.learner.observed
                self.recording = Recording(self._gradients, self.parameters, inputs, observed)
            except NotRecorded as error:
                self._give_up(str(error))
        if self.recording is not None and self.recording.fits(inputs):
            return self.recording(*inputs)
        return self._gradients(*inputs)

    def _gradients(self, labels: Tensor, *views: Tensor) -> Tensor:
        """Compute the gradients; returns loss, accuracy and terms, `[2 + terms]`."""
        found = self.objective.loss(self.model, views, labels)
        if not isinstance(found, Loss):
            raise InputError(
                f"The loss of objective {self.objective.name!r} returns a {type(found).__name__}; let it return "
                "Loss(total, logits)."
            )
        self.optimizer.zero_grad()
        self.objective.backward(found, self.parameters, self.scaler.scale)
        self.terms = list(found.terms)
        accuracy = (found.logits.argmax(dim=1) == labels).float().mean() * 100
        values = [found.total, accuracy, *found.terms.values()]
        return torch.cat([value.detach().float().view(1) for value in values])

    def _give_up(self, reason: str) -> None:
        if self.graph == ON:
            raise SettingError("{cuda_graph} is on, but {}; set it to auto or off.", reason)
        self.records = False
        print(f"Steps are not recorded as a CUDA graph: {reason}")
