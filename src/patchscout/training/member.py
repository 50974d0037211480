"""A member of the predictor in training: logits, in mixed precision and recorded if it pays."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchscout.cuda_graphs import record_for_training
from patchscout.devices import mixed_precision
from patchscout.networks import PredictorEnsemble


class MemberInTraining(nn.Module):
    """A member of an ensemble, whose weights and statistics it shares.

    Args:
        predictor: The ensemble.
        number: Which member.
        device: Where it is.
        mixed: Whether convolutions run in bfloat16 where the hardware is faster at it.
    """

    def __init__(
        self, predictor: PredictorEnsemble, number: int, device: torch.device, *, mixed: bool
    ) -> None:
        super().__init__()
        self.alone = PredictorEnsemble([predictor.members[number]], predictor.backbone)
        self.device = device
        self.mixed = mixed
        self._is_recorded = False

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch height width"]:
        """Return the logits of whole images."""
        with mixed_precision(self.device, enabled=self.mixed):
            return self.alone(features).float()

    def record(self, features: Float[Tensor, "batch channels height width"]) -> None:
        """On a CUDA device, record what is done with a batch; all to come must have its shape."""
        if self.device.type == "cuda" and not self._is_recorded:
            record_for_training(self, features)
            self._is_recorded = True
