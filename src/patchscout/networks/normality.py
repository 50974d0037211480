"""How far each place of an image is from what normal images look like there.

A linear autoencoder of whole images that has learned all it can keeps their principal components,
and while it learns it takes up one after the other, the strongest first. So its reconstruction
errors over training, its loss profile, are known without training it: they are what is left of an
image when more and more principal components of the normal images are taken off.

References:
    Baldi and Hornik, Neural Networks 1989: linear autoencoders and principal components. Saxe,
    McClelland and Ganguli, ICLR 2014: components are learned in the order of their strength.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from patchscout.networks.resampling import resized_to

Images = Float[Tensor, "batch 3 height width"]
Cells = Float[Tensor, "batch traits rows columns"]
Maps = Float[Tensor, "batch maps rows columns"]

NUM_TRAITS = 6
"""Of a cell: mean of each color, steepness along both axes, and contrast of finer detail."""

NUM_GRIDS = 2

CELL_PX = 8
MAX_CELLS = 2048
"""Cells are squares of about so many pixels, larger ones if there would be more of them."""

LOG_FLOOR = 0.3
LOG_SHIFT = 0.2
"""Bring the logarithm of deviations of normal images near 0."""


def grids(height: int, width: int) -> list[tuple[int, int]]:
    """Return rows and columns of the fine grid of cells and of one half as fine."""
    cell_px = max(CELL_PX, (height * width / MAX_CELLS) ** 0.5)
    return [
        (max(round(height / side), 1), max(round(width / side), 1))
        for side in (cell_px, 2 * cell_px)
    ]


def describe(images: Images, grid_sizes: Sequence[tuple[int, int]]) -> list[Cells]:
    """Return the traits of each cell of images in [0, 1], on each grid.

    Args:
        images: Whole images.
        grid_sizes: Rows and columns of the cells.
    """
    size = images.shape[-2], images.shape[-1]
    grey = images.mean(dim=1, keepdim=True)
    across = F.pad((grey[..., 1:] - grey[..., :-1]).abs(), (0, 1))
    down = F.pad((grey[..., 1:, :] - grey[..., :-1, :]).abs(), (0, 0, 0, 1))
    pixels = torch.cat([images, 4 * across, 4 * down, grey], dim=1)
    described = []
    for grid in grid_sizes:
        mean = resized_to(pixels, grid)
        detail = grey - resized_to(mean[:, 5:], size)
        contrast = 2 * (resized_to(detail.square(), grid) + 1e-5).sqrt()
        described.append(torch.cat([mean[:, :5], contrast], dim=1))
    return described


class Subspace(nn.Module):
    """The principal components of normal images on one grid of cells.

    Args:
        mean: Of the normal images.
        components: The principal components, the strongest first, orthonormal or zero.
        spread: For each rank, what is usually left of a normal image when as many components are
            taken off.
        ranks: How many components are taken off, each more than the one before.
    """

    mean: Float[Tensor, "traits rows columns"]
    components: Float[Tensor, "components size"]
    spread: Float[Tensor, "ranks traits rows columns"]

    def __init__(
        self, mean: Tensor, components: Tensor, spread: Tensor, ranks: Sequence[int]
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.register_buffer("spread", spread)
        self.ranks = tuple(ranks)

    @classmethod
    def blank(cls, shape: tuple[int, int, int], ranks: Sequence[int]) -> Subspace:
        """Return one of nothing, for the buffers of a trained one to be loaded into.

        Args:
            shape: Traits, rows and columns.
            ranks: How many components are taken off.
        """
        components = torch.zeros(max(ranks), math.prod(shape))
        return cls(torch.zeros(shape), components, torch.ones(len(ranks), *shape), ranks)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.mean.shape[1], self.mean.shape[2]

    def residuals(self, cells: Cells) -> list[Cells]:
        """Return what is left of images when each number of components is taken off."""
        left = (cells - self.mean).flatten(1)
        weights = left @ self.components.T
        found, first = [], 0
        for rank in self.ranks:
            left = left - weights[:, first:rank] @ self.components[first:rank]
            found.append(left.view(cells.shape))
            first = rank
        return found

    def forward(self, cells: Cells) -> Float[Tensor, "batch ranks rows columns"]:
        """Return how many times its usual size what is left is, as a logarithm."""
        return self.deviations(self.residuals(cells))

    def deviations(self, residuals: Sequence[Cells]) -> Float[Tensor, "batch ranks rows columns"]:
        """Return the same of what is known to be left."""
        found = [
            (residual / spread).square().mean(dim=1).sqrt()
            for residual, spread in zip(residuals, self.spread, strict=True)
        ]
        return (torch.stack(found, dim=1) + LOG_FLOOR).log() + LOG_SHIFT


class NormalityModel(nn.Module):
    """Subspaces on two grids, a fine one and a coarse one.

    Args:
        subspaces: The fine one first.
    """

    def __init__(self, subspaces: Sequence[Subspace]) -> None:
        super().__init__()
        self.subspaces = nn.ModuleList(subspaces)

    @torch.no_grad()
    def forward(self, images: Images) -> Float[Tensor, "batch maps height width"]:
        """Return the deviations of whole images in [0, 1]."""
        return resized_to(self.small_maps(images), (images.shape[-2], images.shape[-1]))

    @torch.no_grad()
    def small_maps(self, images: Images) -> Maps:
        """Return the deviations on the fine grid."""
        subspaces = cast(list[Subspace], list(self.subspaces))
        cells = describe(images, [subspace.grid for subspace in subspaces])
        maps = [subspace(one) for subspace, one in zip(subspaces, cells, strict=True)]
        return torch.cat([maps[0], *(resized_to(m, subspaces[0].grid) for m in maps[1:])], dim=1)

    @classmethod
    def blank(cls, image_size: tuple[int, int], ranks: Sequence[int]) -> NormalityModel:
        """Return one of nothing, for the buffers of a trained one to be loaded into."""
        return cls([Subspace.blank((NUM_TRAITS, *grid), ranks) for grid in grids(*image_size)])
