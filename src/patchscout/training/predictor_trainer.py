"""Trains the predictor on observations of augmented views."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from patchscout.devices import mixed_precision
from patchscout.losses import dice_loss, hardest_cross_entropy
from patchscout.networks.loss_profile import LossProfile
from patchscout.networks.segmenter import Observation
from patchscout.networks.unet import UNet
from patchscout.training.profile_buffer import ProfileBuffer

LEARNING_RATE = 2e-3
"""The largest; it rises over the first tenth of the updates and falls to 0."""

WARM_UP = 0.1
WEIGHT_DECAY = 1e-2
DICE_WEIGHT = 0.5

HARDEST_SHARE = 0.01
HARDEST_WEIGHT = 0.2
"""Share of the pixels of each crop that count once more, and their weight: false alarms and missed
defects are few pixels of many."""

EMA_DECAY = 0.98
"""Decay of the running average of weights that is kept for scoring; less at first."""


class PredictorTrainer:
    """The predictor in training.

    Args:
        predictor: With fresh weights.
        buffer: What it is trained on.
        num_updates: How often it will be updated.
    """

    def __init__(self, predictor: UNet, buffer: ProfileBuffer, num_updates: int) -> None:
        self.predictor = predictor
        self.buffer = buffer
        self.num_updates = num_updates
        self.num_done = 0
        self.device = next(predictor.parameters()).device
        self._averaged = AveragedModel(predictor, avg_fn=_running_average, use_buffers=False)
        self._optimizer = torch.optim.AdamW(
            predictor.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        self._schedule = LambdaLR(self._optimizer, self._rate)

    @property
    def is_due(self) -> bool:
        """Whether there are updates left to do."""
        return self.num_done < self.num_updates

    def update(self, profiles: Sequence[LossProfile]) -> float:
        """Train on one batch; return its loss.

        Args:
            profiles: One for each fold of the normal images.
        """
        self.buffer.refresh(profiles)
        seen, target = self.buffer.batch()
        self.predictor.train()
        with mixed_precision(self.device):
            logits = self.predictor(*seen)
        loss = segmentation_loss(logits.float(), target)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self._averaged.update_parameters(self.predictor)
        self.num_done += 1
        return loss.item()

    def loss(self, seen: Observation, target: Float[Tensor, "batch height width"]) -> Tensor:
        """Return the loss of the predictor as it is, with a gradient to what it sees."""
        self.predictor.eval()
        return segmentation_loss(self.predictor(*seen), target)

    def averaged(self) -> UNet:
        """Return a copy of the running average, in evaluation mode."""
        return cast(UNet, copy.deepcopy(self._averaged.module).eval().requires_grad_(False))

    def _rate(self, update: int) -> float:
        """Return the share of the learning rate at an update."""
        rise = min((update + 1) / max(1, round(WARM_UP * self.num_updates)), 1.0)
        return rise * 0.5 * (1 + math.cos(math.pi * min(update / self.num_updates, 1.0)))


def _running_average(averaged: Tensor, latest: Tensor, count: Tensor | int) -> Tensor:
    """Return the exponential running average, which soon forgets the first weights."""
    decay = min(EMA_DECAY, (1 + int(count)) / (10 + int(count)))
    return averaged + (1 - decay) * (latest - averaged)


def segmentation_loss(
    logits: Float[Tensor, "batch height width"], target: Float[Tensor, "batch height width"]
) -> Float[Tensor, ""]:
    """Return cross-entropy, half of the Dice loss and a fifth of the hardest cross-entropy."""
    cross_entropy = nn.functional.binary_cross_entropy_with_logits(logits, target)
    hardest = hardest_cross_entropy(logits, target, HARDEST_SHARE)
    return cross_entropy + DICE_WEIGHT * dice_loss(logits, target) + HARDEST_WEIGHT * hardest
