"""The policy networks of the neural batch sampler: a window of the image in, a move out."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

NUM_CHANNELS = 6
NUM_ACTIONS = 9


class PolicyNetwork(nn.Module):
    """What the two policies share: a trunk, a head of action logits and a head of values.

    `encode` shrinks an observation by fixed arithmetic to what the trunk reads, so that a rollout
    stores the small version.
    """

    trunk: nn.Module
    action_head: nn.Module
    value_head: nn.Module

    def encode(self, observation: Float[Tensor, "walkers 6 window window"]) -> Tensor:
        """Return the part of an observation that the trunk reads; nothing is learned here."""
        return observation

    def forward(
        self, encoded: Float[Tensor, "walkers 6 height width"]
    ) -> tuple[Float[Tensor, "walkers 9"], Float[Tensor, " walkers"]]:
        """Return the action logits and the expected return of encoded observations.

        The value head sees the trunk's features but sends no gradient into it.
        """
        features = self.trunk(encoded)
        return self.action_head(features), self.value_head(features.detach()).squeeze(1)


class PaperPolicy(PolicyNetwork):
    """Five 3x3 convolutions of stride 2 and two linear layers.

    Channels 6-16-32-32-64-64, batch norm, ReLU, then 1024-256-9 for a 128 px window. Softmax is
    left to the loss. The value head is this project's addition (the source has no baseline).

    Args:
        window_px: Side of the window, a multiple of 32.

    References:
        arXiv 2511.20270 and its authors' implementation.
    """

    def __init__(self, window_px: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = [NUM_CHANNELS, 16, 32, 32, 64, 64]
        for width_in, width_out in pairwise(channels):
            layers += [
                nn.Conv2d(width_in, width_out, 3, 2, 1),
                nn.BatchNorm2d(width_out),
                nn.ReLU(inplace=True),
            ]
        flat = 64 * (window_px // 32) ** 2
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 256), nn.ReLU())
        self.action_head = nn.Linear(256, NUM_ACTIONS)
        self.value_head = nn.Linear(256, 1)


class LeanPolicy(PolicyNetwork):
    """Two convolutions and a linear layer on the window averaged down to 16 x 16 cells.

    Args:
        window_px: Side of the window, a multiple of 16.
        width: Features of the last layer.
    """

    cells = 16

    def __init__(self, window_px: int = 128, width: int = 128) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(window_px // self.cells)
        self.trunk = nn.Sequential(
            nn.Conv2d(NUM_CHANNELS, 16, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(32 * (self.cells // 4) ** 2, width),
            nn.ReLU(inplace=True),
        )
        self.action_head = nn.Linear(width, NUM_ACTIONS)
        self.value_head = nn.Linear(width, 1)

    def encode(self, observation: Float[Tensor, "walkers 6 window window"]) -> Tensor:
        """Average the window down to cells and bring the channels to like scales."""
        cells = self.pool(observation)
        color, error, visits, structure = cells.split([3, 1, 1, 1], dim=1)
        return torch.cat([color - 0.5, 4 * error, visits.log1p(), 2 * structure], dim=1)
