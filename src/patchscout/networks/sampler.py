"""The policy networks of the neural batch sampler: a window of the image in, a move out."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

NUM_CHANNELS = 6

STOP = 0
DIRECTIONS = ((0, 0), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""(down, right) of each action: stop, then the eight neighbors clockwise from north."""
NUM_ACTIONS = len(DIRECTIONS)

NUM_STATISTICS = 8
"""What the lean policy knows of a region: three colors, error, visits, structure, share outside the
image, and contrast."""


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
    """Rates all nine actions by one small network, each by what lies where the action leads.

    What is good to walk to is the same in every direction, so nothing has to be learned eight
    times over. Of a move the network sees the patch that it would pick and what lies beyond, as
    means over both: colors, contrast, error, visits, structure, and the share outside the image,
    where there is no patch to pick. Which action it is it is told too, but at first ignores.

    Args:
        window_px: Side of the window.
        patch_px: Side of a patch, at most the window.
        stride_px: Length of a move.
        width: Features of the hidden layers.
    """

    regions: Int[Tensor, "4 18"]

    def __init__(self, window_px: int, patch_px: int, stride_px: int, width: int = 32) -> None:
        super().__init__()
        room = window_px - patch_px
        margin = room // 2
        starts = {step: min(max(margin + stride_px * step, 0), room) for step in (-1, 0, 1)}
        near = {step: (start, start + patch_px) for step, start in starts.items()}
        beyond = {-1: (0, margin), 0: near[0], 1: (margin + patch_px, window_px)}
        regions = [(*near[down], *near[right]) for down, right in DIRECTIONS]
        # A window without a margin shows nothing beyond.
        spans = beyond if margin else near
        regions += [(*spans[down], *spans[right]) for down, right in DIRECTIONS]
        self.register_buffer("regions", torch.tensor(regions).T, persistent=False)
        first = nn.Linear(3 * NUM_STATISTICS + NUM_ACTIONS, width)  # there, beyond, here; which
        nn.init.zeros_(first.weight[:, -NUM_ACTIONS:])
        self.trunk = nn.Sequential(first, nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.action_head = nn.Linear(width, 1)
        self.value_head = nn.Linear(width, 1)

    def encode(
        self, observation: Float[Tensor, "walkers 6 window window"]
    ) -> Float[Tensor, "walkers 9 inputs"]:
        """Return what each action leads to, as statistics of two regions."""
        color, error, visits, structure = observation.split([3, 1, 1, 1], dim=1)
        grey = color.mean(dim=1, keepdim=True)
        outside = (observation == 0).all(dim=1, keepdim=True).to(observation.dtype)
        maps = [color, error, visits.log1p(), structure, outside, grey.square()]
        # Sums from the corner on: that of any rectangle is then a matter of four values.
        sums = torch.cat(maps, dim=1).cumsum(dim=2).cumsum(dim=3)
        sums = nn.functional.pad(sums, (1, 0, 1, 0))
        near, beyond = _statistics(sums, self.regions).mT.tensor_split(2, dim=1)
        here = near[:, [STOP]].expand_as(near)
        which = torch.eye(NUM_ACTIONS, device=near.device).expand(len(near), -1, -1)
        return torch.cat([near, beyond, here, which], dim=2)

    def forward(
        self, encoded: Float[Tensor, "walkers 9 inputs"]
    ) -> tuple[Float[Tensor, "walkers 9"], Float[Tensor, " walkers"]]:
        """See `PolicyNetwork.forward`."""
        features = self.trunk(encoded)
        values = self.value_head(features.detach().mean(dim=1))
        return self.action_head(features).squeeze(2), values.squeeze(1)


def _statistics(
    sums: Float[Tensor, "walkers 8 height width"], rectangles: Int[Tensor, "4 rectangles"]
) -> Float[Tensor, "walkers 8 rectangles"]:
    """Return means over rectangles, brought to like scales; of grey, the standard deviation.

    Args:
        sums: Of all values above and left of each place.
        rectangles: The first row of each, the one after the last, and the same of columns.
    """
    top, bottom, left, right = rectangles
    above, through = (sums[..., row, right] - sums[..., row, left] for row in (top, bottom))
    means = (through - above) / ((bottom - top) * (right - left))
    color, error, visits, structure, outside, squared = means.split([3, 1, 1, 1, 1, 1], dim=1)
    variance = squared - color.mean(dim=1, keepdim=True).square()
    contrast = variance.clamp_min(0).sqrt()
    return torch.cat([color - 0.5, 4 * error, visits, 2 * structure, outside, 4 * contrast], dim=1)
