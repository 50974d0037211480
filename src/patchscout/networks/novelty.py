"""How new each place of an image is to one who has seen normal images only.

A predictor knows the kinds of defects that it was shown. What it was not shown it may well take for
normal, and be sure of it. What a backbone finds in normal images is the other half of knowledge: it
lies near a subspace, and what leaves that is new, whatever it is.

References:
    Subspaces of a pretrained network's features: Rippel, Mertens and Merhof, ICPR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from patchscout.networks.backbone import STRIDES_PX, Backbone
from patchscout.networks.normality import Cells, Subspace
from patchscout.networks.resampling import resized_to

POOLED = 3
"""Features are averaged over so many places a side, so that a small shift changes little."""

LEAST_PROBABILITY = 1e-6
"""No predictor is taken to be surer than this, so that there are log-odds."""

LARGEST = 14.0
"""Novelty is no larger, about the log-odds of that; 7 on images of real defects."""


class Level(NamedTuple):
    """A level of the backbone that is looked at.

    Attributes:
        number: Among those that the backbone gives.
        max_cells: Features of larger images are averaged until they are no more than about these.
    """

    number: int
    max_cells: int


LEVELS = (Level(1, 2048), Level(2, 512))


class NoveltyModel(nn.Module):
    """The subspace of normal images on each level, and what is usual beside it.

    Args:
        subspaces: One of each level, with one rank.
        limits: Deviation that 99 % of the places of normal images stay below, one of each level.
        spreads: Standard deviation of the deviations, likewise.
        weight: Of novelty, where that of the predictor's log-odds is 1.
    """

    limits: Float[Tensor, " levels"]
    spreads: Float[Tensor, " levels"]
    weight: Float[Tensor, ""]

    def __init__(
        self, subspaces: Sequence[Subspace], limits: Tensor, spreads: Tensor, weight: float
    ) -> None:
        super().__init__()
        self.subspaces = nn.ModuleList(subspaces)
        self.register_buffer("limits", limits)
        self.register_buffer("spreads", spreads)
        self.register_buffer("weight", torch.tensor(weight))

    def forward(
        self, general: Sequence[Tensor], size: tuple[int, int]
    ) -> Float[Tensor, "batch height width"]:
        """Return how new each pixel is: 0 where 99 % of normal places are less so.

        Args:
            general: What the backbone finds in whole images.
            size: Height and width of the images.

        Returns:
            The mean over levels, in standard deviations of normal images.
        """
        seen = look_at(general, self._grids)
        maps = [
            resized_to((subspace(cells) - limit) / spread, size)
            for subspace, cells, limit, spread in zip(
                self.subspaces, seen, self.limits, self.spreads, strict=True
            )
        ]
        return torch.stack(maps).mean(dim=0).squeeze(1).clamp(-LARGEST, LARGEST)

    def joined(
        self, probability: Float[Tensor, "batch height width"], general: Sequence[Tensor]
    ) -> Float[Tensor, "batch height width"]:
        """Return a predictor's probability of being anomalous, joined with novelty.

        It is the weighted mean of both, as log-odds.
        """
        novelty = self(general, (probability.shape[-2], probability.shape[-1]))
        log_odds = torch.logit(probability, LEAST_PROBABILITY) + self.weight * novelty
        return (log_odds / (1 + self.weight)).sigmoid()

    @property
    def _grids(self) -> list[tuple[int, int]]:
        return [cast(Subspace, subspace).grid for subspace in self.subspaces]

    @classmethod
    def blank(cls, image_size: tuple[int, int], rank: int) -> NoveltyModel:
        """Return one of nothing, for the buffers of a trained one to be loaded into."""
        subspaces = [
            Subspace.blank((Backbone.channels[level.number], *grid), (rank,))
            for level, grid in zip(LEVELS, feature_grids(image_size), strict=True)
        ]
        return cls(subspaces, torch.zeros(len(LEVELS)), torch.ones(len(LEVELS)), 0.0)


def feature_grids(image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return rows and columns of what is looked at on each level, for images of one size."""
    found = []
    for level in LEVELS:
        rows, columns = (-(-side // STRIDES_PX[level.number]) for side in image_size)
        shrinking = min(1.0, (level.max_cells / (rows * columns)) ** 0.5)
        found.append((max(round(rows * shrinking), 1), max(round(columns * shrinking), 1)))
    return found


def look_at(general: Sequence[Tensor], grids: Sequence[tuple[int, int]]) -> list[Cells]:
    """Return what novelty is measured on: a backbone's features, averaged over neighbors.

    Args:
        general: What the backbone finds in whole images.
        grids: Rows and columns for each level.
    """
    described = []
    for level, grid in zip(LEVELS, grids, strict=True):
        found = general[level.number].float()
        pooled = F.avg_pool2d(found, POOLED, 1, POOLED // 2, count_include_pad=False)
        described.append(pooled if pooled.shape[-2:] == grid else resized_to(pooled, grid))
    return described
