"""The policy of the neural batch sampler: a window of the image in, a move out."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

STOP = 0
DIRECTIONS = ((0, 0), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""(down, right) of each action: stop, then the eight neighbors clockwise from north."""
NUM_ACTIONS = len(DIRECTIONS)

NUM_STATISTICS = 5
"""What the policy knows of a region: contrast, error, visits, structure, share outside."""


class PolicyNetwork(nn.Module):
    """What policies share: a trunk, a head of action logits and a head of values.

    `encode` shrinks an observation by fixed arithmetic to what the trunk reads, so that a rollout
    stores the small version.

    Attributes:
        relative: Which observation it reads, see `PatchEnvironment.observe`.
    """

    relative: ClassVar[bool]

    trunk: nn.Module
    action_head: nn.Module
    value_head: nn.Module

    def encode(self, observation: Float[Tensor, "walkers channels window window"]) -> Tensor:
        """Return the part of an observation that the trunk reads; nothing is learned here."""
        return observation

    def forward(
        self, encoded: Float[Tensor, "walkers ..."]
    ) -> tuple[Float[Tensor, "walkers 9"], Float[Tensor, " walkers"]]:
        """Return the action logits and the expected return of encoded observations.

        The value head sees the trunk's features but sends no gradient into it.
        """
        features = self.trunk(encoded)
        return self.action_head(features), self.value_head(features.detach()).squeeze(1)


class Policy(PolicyNetwork):
    """Rates all nine actions by one small network, each by what lies where the action leads.

    What is good to walk to is the same in every direction, so nothing has to be learned eight
    times over. Of a move the network sees the patch that it would pick and what lies beyond, as
    statistics of both: contrast, error, visits, structure, and the share outside the image, where
    there is no patch to pick. Which action it is it is told too, but at first ignores. Contrast and
    error are relative to the whole image, so that what was learned on one product holds on another.

    Args:
        window: Side of the window, in cells as all lengths.
        patch: Side of a patch, at most the window.
        stride: Length of a move.
        width: Features of the hidden layers.
    """

    relative = True
    regions: Int[Tensor, "4 18"]

    def __init__(self, window: int, patch: int, stride: int, width: int = 32) -> None:
        super().__init__()
        room = window - patch
        margin = room // 2
        starts = {step: min(max(margin + stride * step, 0), room) for step in (-1, 0, 1)}
        near = {step: (start, start + patch) for step, start in starts.items()}
        beyond = {-1: (0, margin), 0: near[0], 1: (margin + patch, window)}
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
        self, observation: Float[Tensor, "walkers 5 window window"]
    ) -> Float[Tensor, "walkers 9 inputs"]:
        """Return what each action leads to, as statistics of two regions."""
        brightness, error, visits, structure, inside = observation.split(1, dim=1)
        squared = brightness.square()
        maps = [brightness, squared, error, visits.log1p(), structure, 1 - inside]
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
    sums: Float[Tensor, "walkers 6 rows columns"], rectangles: Int[Tensor, "4 rectangles"]
) -> Float[Tensor, "walkers 5 rectangles"]:
    """Return means over rectangles, brought to like scales; of brightness, the standard deviation.

    Args:
        sums: Of all values above and left of each place.
        rectangles: The first row of each, the one after the last, and the same of columns.
    """
    top, bottom, left, right = rectangles
    above, through = (sums[..., row, right] - sums[..., row, left] for row in (top, bottom))
    means = (through - above) / ((bottom - top) * (right - left))
    brightness, squared, error, visits, structure, outside = means.split(1, dim=1)
    contrast = (squared - brightness.square()).clamp_min(0).sqrt()
    return torch.cat([contrast, error.clamp_min(0).log1p(), visits, 2 * structure, outside], dim=1)
