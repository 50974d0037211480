"""Where walkers are and what they see: the sampler's world, all as tensor operations.

The environment works in its own unit, the cell, and knows nothing of training: it says where
patches are and what they are worth to look at. Images come at one value a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patchscout.networks.policy import DIRECTIONS, STOP
from patchscout.training.structure import (
    fused_structure_map,
    gaussian_blur,
    grey,
    local_variance,
    sobel_magnitude,
)

Images = Float[Tensor, "batch 3 rows columns"]
Maps = Float[Tensor, "batch rows columns"]
Corners = Int[Tensor, "walkers 2"]
PerWalker = Float[Tensor, " walkers"]
WhichWalkers = Bool[Tensor, " walkers"]

ErrorMaps = Callable[[Int[Tensor, " batch"], Images], Maps]
"""Gives the current reconstruction error of whole images, from their numbers and the images."""

SMALLEST_SCALE = 1e-6
"""Errors and contrast are divided by no less."""


class Channel(IntEnum):
    """The six channels of an observation as the paper has it."""

    RED = 0
    GREEN = 1
    BLUE = 2
    ERROR = 3
    VISITS = 4
    STRUCTURE = 5


@runtime_checkable
class ImageSource(Protocol):
    """The images that walkers are sent to, all of one size."""

    def __len__(self) -> int:
        """Return how many images there are."""
        ...

    def draw(self, count: int) -> tuple[Int[Tensor, " count"], Images]:
        """Return the numbers of random images, and these in [0, 1], one value a cell."""
        ...


@dataclass(frozen=True)
class Geometry:
    """How many walkers there are, how far they see and go; all lengths in cells.

    Attributes:
        num_walkers: Walkers, and so patches in a minibatch.
        window: Side of the window that the policy sees.
        patch: Side of the patch at the window's center.
        stride: Length of a move.
        max_steps_per_image: After so many steps a walker goes to a new image in any case.
        error_refresh_steps: Steps after which errors are computed anew.
    """

    num_walkers: int = 32
    window: int = 24
    patch: int = 8
    stride: int = 4
    max_steps_per_image: int = 32
    error_refresh_steps: int = 32

    @property
    def margin(self) -> int:
        """Width of the window's border around the patch."""
        return (self.window - self.patch) // 2


@dataclass(frozen=True)
class Picked:
    """The patches of one step.

    Attributes:
        numbers: The image of each walker.
        corners: Top and left cell of each patch.
        counted: Which walkers have a patch at all.
        clone: R_clone, the structure of each patch; 0 without a patch.
        cover: R_cover, minus how visited each patch was before; 0 without a patch.
        images: The colors of each patch.
    """

    numbers: Int[Tensor, " walkers"]
    corners: Corners
    counted: WhichWalkers
    clone: PerWalker
    cover: PerWalker
    images: Float[Tensor, "walkers 3 patch patch"]


class PatchEnvironment:
    """Walkers that look at images through a window and pick the patch at its center.

    An episode is one autoencoder cycle, so no walker ever terminates: a stop only takes it to a new
    image and place, and is all that the walker does in that step. One step is `move` (or `place`,
    for samplers that do not walk), then training on the patches, then `renew` and
    `refresh_errors`.

    The window may reach over the border of the image, where it sees zeros; the patch may not. A
    move that would take the patch over the border ends at the border. Neither that nor a stop
    counts: it gives no patch and is no visit.

    Visits are counted for each cell of each image over a whole cycle: an image that is returned to,
    by any walker, is as visited as it was left.

    Args:
        pool: The images to walk on, augmented already: every channel belongs to the image as the
            walker sees it.
        geometry: Walkers, window, patch and stride.
        seed: Seed of the places that walkers are sent to.
        error_maps: Gives the errors of images; None for samplers that see neither errors nor
            structure: both channels stay zero.
    """

    def __init__(
        self,
        pool: ImageSource,
        geometry: Geometry,
        *,
        seed: int,
        error_maps: ErrorMaps | None = None,
    ) -> None:
        self.pool = pool
        self.geometry = geometry
        self.error_maps = error_maps
        self._rng = torch.Generator().manual_seed(seed)

    def reset(self) -> None:
        """Send every walker to a new image and place, and forget all visits: a cycle begins."""
        walkers, margin = self.geometry.num_walkers, self.geometry.margin
        numbers, images = self.pool.draw(walkers)
        device, (rows, columns) = images.device, images.shape[-2:]
        padded = rows + 2 * margin, columns + 2 * margin
        self._padded = images.new_zeros(walkers, len(Channel), *padded)
        self._maps = self._padded[:, :, margin : margin + rows, margin : margin + columns]
        inside = images.new_zeros(1, 1, *padded)
        inside[..., margin : margin + rows, margin : margin + columns] = 1
        self._inside = inside.expand(walkers, -1, -1, -1)
        self._sobel = images.new_zeros(walkers, rows, columns)
        self._variance = torch.zeros_like(self._sobel)
        self._blurred_sobel = torch.zeros_like(self._sobel)
        self._scales = images.new_zeros(walkers, 3)  # mean and spread of brightness, mean error
        self._limit = torch.tensor([rows, columns], device=device) - self.geometry.patch
        self._moves = self.geometry.stride * torch.tensor(DIRECTIONS, device=device)
        self.corners = torch.zeros(walkers, 2, dtype=torch.long, device=device)
        self.numbers = torch.zeros(walkers, dtype=torch.long, device=device)
        self.visits = torch.zeros(len(self.pool), rows, columns, dtype=torch.int16, device=device)
        self._age = torch.zeros(walkers, dtype=torch.long, device=device)
        self._steps_since_refresh = 0
        self._arrive(torch.arange(walkers, device=device), numbers, images)

    def move(self, actions: Int[Tensor, " walkers"]) -> Picked:
        """Move each walker by its action and pick the patches where they then stand."""
        target = self.corners + self._moves[actions]
        self.corners = torch.minimum(target.clamp_min(0), self._limit)
        return self._pick((actions != STOP) & (target == self.corners).all(dim=1))

    def place(self, corners: Corners) -> Picked:
        """Pick patches anywhere within the images, for samplers that do not walk."""
        self.corners = corners
        return self._pick(torch.ones_like(corners[:, 0], dtype=torch.bool))

    def renew(self, stops: WhichWalkers) -> None:
        """Take walkers that stop, or have been on their image for long, to a new one."""
        too_long = self._age >= self.geometry.max_steps_per_image
        which = (stops | too_long).nonzero().squeeze(1)
        if len(which):
            self._arrive(which, *self.pool.draw(len(which)))

    def refresh_errors(self) -> None:
        """Compute errors and structure anew if `error_refresh_steps` have passed since."""
        if self._steps_since_refresh >= self.geometry.error_refresh_steps:
            self._steps_since_refresh = 0
            self._refresh(torch.arange(len(self.numbers), device=self.numbers.device))

    def observe(self, *, relative: bool = False) -> Float[Tensor, "walkers channels window window"]:
        """Return the window of each walker.

        Args:
            relative: False gives the six channels of `Channel`. True gives what compares over all
                products: brightness and errors relative to their image, visits, structure, and 1
                inside the image.
        """
        self._maps[:, Channel.VISITS] = self._visits_of_walkers()
        window = self._cut(self._padded, self.geometry.window, offset=0)
        if not relative:
            return window
        mean, spread, usual = self._scales[:, :, None, None].clamp_min(SMALLEST_SCALE).unbind(dim=1)
        inside = self._cut(self._inside, self.geometry.window, offset=0)[:, 0]
        brightness = (grey(window[:, : Channel.ERROR]) - mean) / spread
        channels = [
            brightness * inside,
            window[:, Channel.ERROR] / usual,
            window[:, Channel.VISITS],
            window[:, Channel.STRUCTURE],
            inside,
        ]
        return torch.stack(channels, dim=1)

    def channel_maps(self, channel: Channel) -> Maps:
        """Return one channel of each walker's whole image."""
        return self._visits_of_walkers() if channel is Channel.VISITS else self._maps[:, channel]

    def _visits_of_walkers(self) -> Maps:
        return self.visits[self.numbers].to(self._maps.dtype)

    def _pick(self, counted: WhichWalkers) -> Picked:
        """Return the patches the walkers now stand on, and count the visits."""
        size = self.geometry.patch
        structure = self._cut(self._blurred_sobel[:, None], size, offset=0)
        before = self._cut(self._visits_of_walkers()[:, None], size, offset=0)
        picked = Picked(
            self.numbers.clone(),
            self.corners.clone(),
            counted,
            structure.mean(dim=(1, 2, 3)).sigmoid().where(counted, 0.0),
            -before.mean(dim=(1, 2, 3)).sigmoid().where(counted, 0.0),
            self._cut(self._maps[:, : Channel.ERROR], size, offset=0),
        )
        self.visits.index_add_(0, self.numbers, self._patch_masks(counted).to(torch.int16))
        self._age += 1
        self._steps_since_refresh += 1
        return picked

    def _patch_masks(self, counted: WhichWalkers) -> Bool[Tensor, "walkers rows columns"]:
        """Return where each counted patch lies."""
        rows, columns = (
            (cells >= start) & (cells < start + self.geometry.patch)
            for cells, start in (
                (torch.arange(side, device=counted.device), self.corners[:, axis, None])
                for axis, side in enumerate(self._maps.shape[-2:])
            )
        )
        return (rows & counted[:, None])[:, :, None] & columns[:, None, :]

    def _arrive(
        self, which: Int[Tensor, " some"], numbers: Int[Tensor, " some"], images: Images
    ) -> None:
        """Put walkers on new images at random places."""
        luma = grey(images)
        self._maps[which, : Channel.ERROR] = images
        self.numbers[which] = numbers
        self._sobel[which] = sobel_magnitude(luma)
        self._variance[which] = local_variance(luma)
        self._blurred_sobel[which] = sobel_magnitude(gaussian_blur(luma))
        self._scales[which, 0] = luma.mean(dim=(1, 2))
        self._scales[which, 1] = luma.std(dim=(1, 2))
        places = torch.rand(len(which), 2, generator=self._rng).to(images.device)
        self.corners[which] = (places * (self._limit + 1)).long()
        self._age[which] = 0
        self._refresh(which)

    def _refresh(self, which: Int[Tensor, " some"]) -> None:
        """Compute the error and structure channels of some walkers."""
        if self.error_maps is None:
            return
        error = self.error_maps(self.numbers[which], self._maps[which, : Channel.ERROR])
        self._maps[which, Channel.ERROR] = error
        self._scales[which, 2] = error.mean(dim=(1, 2))
        self._maps[which, Channel.STRUCTURE] = fused_structure_map(
            error, self._variance[which], self._sobel[which]
        )

    def _cut(self, maps: Tensor, size: int, offset: int) -> Tensor:
        """Return a square of each walker's maps, so far right of and below its corner."""
        squares = maps.unfold(2, size, 1).unfold(3, size, 1)
        rows, columns = (self.corners + offset).unbind(dim=1)
        return squares[torch.arange(len(maps), device=maps.device), :, rows, columns]
