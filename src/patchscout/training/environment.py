"""What the sampler observes, does and is paid: walkers on images, all as tensor operations."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patchscout.config import RewardSettings, SamplerSettings
from patchscout.networks.sampler import DIRECTIONS, STOP
from patchscout.training.structure import (
    fused_structure_map,
    gaussian_blur,
    grey,
    local_variance,
    sobel_magnitude,
)

Images = Float[Tensor, "batch 3 height width"]
Maps = Float[Tensor, "batch height width"]
Corners = Int[Tensor, "walkers 2"]
PerWalker = Float[Tensor, " walkers"]


class Channel(IntEnum):
    """The six channels of an observation."""

    RED = 0
    GREEN = 1
    BLUE = 2
    ERROR = 3
    VISITS = 4
    STRUCTURE = 5


IDLE_REWARD = -1.0
"""What a walker is paid for a step without a patch: less than for any patch."""

VISIT_CELL_PX = 16
"""Side of the cells in which an image's visits are remembered while no walker is on it."""


@runtime_checkable
class ImageSource(Protocol):
    """The images that walkers are sent to."""

    def __len__(self) -> int:
        """Return how many images there are."""
        ...

    def draw(self, count: int) -> tuple[Int[Tensor, " count"], Images]:
        """Return random images with their numbers."""
        ...


@runtime_checkable
class Learner(Protocol):
    """What the patches are for: the autoencoder (and the predictor behind it)."""

    def learn(self, patches: Images) -> tuple[float, Float[Tensor, " batch"]]:
        """Train on a minibatch of patches, which may be empty; return R_pred and its credits."""
        ...

    def error_maps(self, images: Images) -> Maps:
        """Return the current reconstruction error of each pixel."""
        ...


class PatchEnvironment(VectorEnv):
    """Walkers that look at images through a window and pick the patch at its center.

    One step moves every walker, hands the picked patches to the learner as one minibatch and pays
    R = beta (R_clone + R_cover) + (1 - beta) R_pred. R_pred is the predictor's success, which all
    share, and the credit of a walker's own patch for it. An episode is one autoencoder cycle, so
    no walker ever terminates: a stop only takes it to a new image and place, and is all that the
    walker does in that step.

    The window may reach over the border of the image, where it sees zeros; the patch may not. A
    move that would take the patch over the border ends at the border. Neither that nor a stop
    counts: no patch, no visit, and -1 in place of beta (R_clone + R_cover), so that bumping into
    the border never pays and leaving an image pays only once it is well visited.

    Visits are counted over a whole cycle: an image that is returned to, by any walker, is as
    visited as it was left (in cells of 16 px).

    Args:
        pool: The images to walk on, augmented already: every channel belongs to the image as the
            walker sees it.
        learner: Is trained on the patches.
        settings: Walkers, window, patch and stride.
        reward: Which terms count, and the schedule of beta.
        seed: Seed of the places that walkers are sent to.
        uses_error: Whether error and structure are kept up to date; samplers that see neither
            are spared their cost, and both channels stay zero.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (gymnasium's interface)

    def __init__(
        self,
        pool: ImageSource,
        learner: Learner,
        settings: SamplerSettings,
        reward: RewardSettings,
        *,
        seed: int = 0,
        uses_error: bool = True,
    ) -> None:
        self.pool = pool
        self.learner = learner
        self.settings = settings
        self.reward = reward
        self.uses_error = uses_error
        self.num_envs = settings.num_walkers
        self.num_steps = 0
        self.margin = (settings.window_px - settings.patch_px) // 2
        self._rng = torch.Generator().manual_seed(seed)

        window = settings.window_px
        self.single_action_space = gymnasium.spaces.Discrete(len(DIRECTIONS))
        self.single_observation_space = gymnasium.spaces.Box(
            0.0, np.inf, (len(Channel), window, window), np.float32
        )
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Send every walker to a new image and place, at the start of an autoencoder cycle."""
        if seed is not None:
            self._rng.manual_seed(seed)
        numbers, images = self.pool.draw(self.num_envs)
        device, (height, width) = images.device, images.shape[-2:]
        patch, margin = self.settings.patch_px, self.margin
        self._maps = images.new_zeros(
            self.num_envs, len(Channel), height + 2 * margin, width + 2 * margin
        )
        self._inner = self._maps[:, :, margin : margin + height, margin : margin + width]
        self._sobel = images.new_zeros(self.num_envs, height, width)
        self._variance = torch.zeros_like(self._sobel)
        self._blurred_sobel = torch.zeros_like(self._sobel)
        self._limit = torch.tensor([height - patch, width - patch], device=device)
        self._moves = self.settings.stride_px * torch.tensor(DIRECTIONS, device=device)
        self.corners = torch.zeros(self.num_envs, 2, dtype=torch.long, device=device)
        self._age = torch.zeros(self.num_envs, dtype=torch.long, device=device)
        self._numbers = torch.zeros(self.num_envs, dtype=torch.long, device=device)
        self._rows, self._columns = (_middles_of_cells(side, device) for side in (height, width))
        cells = (len(self.pool), len(self._rows), len(self._columns))
        self._remembered = torch.zeros(cells, dtype=torch.int16, device=device)
        self._arrive(torch.arange(self.num_envs, device=device), numbers, images)
        return self.observe(), {}

    def step(
        self, actions: Int[Tensor, " walkers"] | np.ndarray
    ) -> tuple[Tensor, PerWalker, Tensor, Tensor, dict[str, Any]]:
        """Move each walker by its action, train on the patches, pay the rewards.

        Returns:
            Observation, rewards, terminations and truncations (never), and the terms of the
            reward: `reward_clone`, `reward_cover` and `credit` a walker, `reward_pred`, its
            weighted part `reward_shared`, `beta`, and `counted`.
        """
        actions = torch.as_tensor(actions, device=self.corners.device)
        target = self.corners + self._moves[actions]
        self.corners = torch.minimum(target.clamp_min(0), self._limit)
        stops = actions == STOP
        counted = ~stops & (target == self.corners).all(dim=1)
        return self._pick(counted, stops)

    def place(self, corners: Corners) -> tuple[Tensor, PerWalker, Tensor, Tensor, dict[str, Any]]:
        """Put each walker's patch anywhere, for samplers that do not walk; pay as `step` does.

        Args:
            corners: Top and left pixel of each patch, within the image.
        """
        self.corners = corners
        everyone = torch.ones_like(corners[:, 0], dtype=torch.bool)
        return self._pick(everyone, ~everyone)

    def renew(self, stops: Bool[Tensor, " walkers"]) -> None:
        """Take walkers that stop, or have been on their image for long, to a new one."""
        which = (stops | (self._age >= self.settings.max_steps_per_image)).nonzero().squeeze(1)
        if len(which):
            self._arrive(which, *self.pool.draw(len(which)))

    def observe(self) -> Float[Tensor, "walkers 6 window window"]:
        """Return the window of each walker."""
        return self._cut(self._maps, self.settings.window_px, offset=0)

    @property
    def remembered_visits(self) -> Int[Tensor, "images rows columns"]:
        """How often each cell of each image was visited in this cycle."""
        return self._remembered

    @property
    def sobel_maps(self) -> Maps:
        """The Sobel magnitude of each walker's image."""
        return self._sobel

    def channel_maps(self, channel: Channel) -> Maps:
        """Return one channel of each walker's whole image."""
        return self._inner[:, channel]

    def _pick(
        self, counted: Bool[Tensor, " walkers"], stops: Bool[Tensor, " walkers"]
    ) -> tuple[Tensor, PerWalker, Tensor, Tensor, dict[str, Any]]:
        """Reward, count and learn from the patches the walkers now stand on; send some on."""
        patches = self._cut(self._maps, self.settings.patch_px, offset=self.margin)
        clone, cover = self._walker_rewards(patches[:, Channel.VISITS], counted)
        self._count_visits(counted)
        self._age += 1
        reward_pred, credits = self.learner.learn(patches[counted, : Channel.BLUE + 1])
        credit = torch.zeros_like(clone)
        credit[counted] = credits
        beta = self.reward.beta.at(self.num_steps)
        rewards = beta * (clone * self.reward.clone + cover * self.reward.cover)
        rewards = rewards + (1 - beta) * self.reward.credit * credit * self.reward.pred
        rewards = rewards.where(counted, IDLE_REWARD)
        shared = (1 - beta) * reward_pred * self.reward.pred
        self.num_steps += 1
        self.renew(stops)
        if self.uses_error and self.num_steps % self.settings.error_refresh_steps == 0:
            self._refresh(torch.arange(self.num_envs, device=counted.device))
        info = {
            "reward_clone": clone,
            "reward_cover": cover,
            "credit": credit,
            "reward_pred": reward_pred,
            "reward_shared": shared,
            "beta": beta,
            "counted": counted,
        }
        never = torch.zeros_like(counted)
        return self.observe(), rewards + shared, never, never, info

    def _walker_rewards(
        self, visits: Float[Tensor, "walkers patch patch"], counted: Bool[Tensor, " walkers"]
    ) -> tuple[PerWalker, PerWalker]:
        """Return R_clone and R_cover, 0 without a patch; visits are those before this patch."""
        structure = self._cut(self._blurred_sobel[:, None], self.settings.patch_px, offset=0)
        clone = structure.mean(dim=(1, 2, 3)).sigmoid()
        cover = -visits.mean(dim=(1, 2)).sigmoid()
        return clone.where(counted, 0.0), cover.where(counted, 0.0)

    def _count_visits(self, counted: Bool[Tensor, " walkers"]) -> None:
        """Add one visit to the pixels of each counted patch, here and in what is remembered."""
        visited = self._patch_masks(counted)
        self._inner[:, Channel.VISITS] += visited
        cells = visited[:, self._rows[:, None], self._columns].to(torch.int16)
        self._remembered.index_add_(0, self._numbers, cells)

    def _patch_masks(
        self, counted: Bool[Tensor, " walkers"]
    ) -> Bool[Tensor, "walkers height width"]:
        """Return where each counted patch lies."""
        rows, columns = (
            (pixels >= start) & (pixels < start + self.settings.patch_px)
            for pixels, start in (
                (torch.arange(side, device=counted.device), self.corners[:, axis, None])
                for axis, side in enumerate(self._inner.shape[-2:])
            )
        )
        return (rows & counted[:, None])[:, :, None] & columns[:, None, :]

    def _arrive(
        self, which: Int[Tensor, " some"], numbers: Int[Tensor, " some"], images: Images
    ) -> None:
        """Put walkers on new images at random places."""
        luma = grey(images)
        self._inner[which, : Channel.BLUE + 1] = images
        self._inner[which, Channel.ERROR :] = 0.0
        self._numbers[which] = numbers
        remembered = self._remembered[numbers].to(images.dtype)
        height, width = images.shape[-2:]
        self._inner[which, Channel.VISITS] = remembered.repeat_interleave(
            VISIT_CELL_PX, dim=1
        ).repeat_interleave(VISIT_CELL_PX, dim=2)[:, :height, :width]
        self._sobel[which] = sobel_magnitude(luma)
        self._variance[which] = local_variance(luma)
        self._blurred_sobel[which] = sobel_magnitude(gaussian_blur(luma))
        places = torch.rand(len(which), 2, generator=self._rng).to(images.device)
        self.corners[which] = (places * (self._limit + 1)).long()
        self._age[which] = 0
        if self.uses_error:
            self._refresh(which)

    def _refresh(self, which: Int[Tensor, " some"]) -> None:
        """Compute the error and structure channels anew."""
        error = self.learner.error_maps(self._inner[which, : Channel.BLUE + 1])
        self._inner[which, Channel.ERROR] = error
        self._inner[which, Channel.STRUCTURE] = fused_structure_map(
            error, self._variance[which], self._sobel[which]
        )

    def _cut(self, maps: Tensor, size_px: int, offset: int) -> Tensor:
        """Return a square of each walker's maps, `offset` px right of and below its corner."""
        squares = maps.unfold(2, size_px, 1).unfold(3, size_px, 1)
        walkers = torch.arange(self.num_envs, device=maps.device)
        rows, columns = (self.corners + offset).unbind(dim=1)
        return squares[walkers, :, rows, columns]


def _middles_of_cells(side_px: int, device: torch.device) -> Int[Tensor, " cells"]:
    """Return the middle pixel of each cell along a side; the last cell may be cut off."""
    starts = torch.arange(0, side_px, VISIT_CELL_PX, device=device)
    return (starts + VISIT_CELL_PX // 2).clamp_max(side_px - 1)
