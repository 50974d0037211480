"""The autoencoder of a backbone's features: one small network a level, errors by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.2

DROPOUT = 0.2
"""Probability by which a channel of the bottleneck is deleted."""

SMALLEST_NORM = 1e-6
"""The product of the lengths of two vectors is taken for no less."""

Maps = Float[Tensor, "batch channels rows columns"]

Level = Float[Tensor, "batch _channels _rows _columns"]
"""Maps of one level among several, whose sizes differ."""


class LevelAutoencoder(nn.Module):
    """Reconstructs the features of one level through a bottleneck of few channels.

    A 1x1 and a 3x3 convolution either way; the resolution stays. In training, channels of the
    bottleneck are deleted at random (structured dropout).

    Args:
        channels: Of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = min(max(channels, 32), 64)
        bottleneck = min(max(channels // 2, 16), 32)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(width, bottleneck, 3, padding=1),
        )
        self.dropout = nn.Dropout2d(DROPOUT)
        self.decoder = nn.Sequential(
            nn.Conv2d(bottleneck, width, 3, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(width, channels, 1),
        )

    def forward(self, features: Maps) -> Maps:
        """Return the reconstruction."""
        return self.decoder(self.dropout(self.encoder(features)))


class FeatureAutoencoder(nn.Module):
    """A `LevelAutoencoder` for each level of a backbone.

    Args:
        channels: Of each level.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(LevelAutoencoder(count) for count in channels)

    def forward(self, features: Sequence[Level]) -> list[Level]:
        """Return the reconstruction of each level; features are standardized by channel."""
        return [level(one) for level, one in zip(self.levels, features, strict=True)]

    def errors(self, features: Sequence[Level]) -> list[Float[Tensor, "batch _rows _columns"]]:
        """Return the reconstruction error of each cell of each level, see `cosine_error`."""
        return level_errors(features, self(features))


def cosine_error(features: Maps, reconstructions: Maps) -> Float[Tensor, "batch rows columns"]:
    """Return 1 - cos(feature, reconstruction) of each cell, in [0, 2].

    `torch.nn.functional.cosine_similarity` gives the same in ten times the time: its norms over
    channels are slow where these do not lie side by side in memory.
    """
    dot = (features * reconstructions).sum(dim=1)
    squares = features.square().sum(dim=1) * reconstructions.square().sum(dim=1)
    return 1 - dot / squares.clamp_min(SMALLEST_NORM**2).sqrt()


def level_errors(
    features: Sequence[Level], reconstructions: Sequence[Level]
) -> list[Float[Tensor, "batch _rows _columns"]]:
    """Return the `cosine_error` of each level."""
    return [cosine_error(one, found) for one, found in zip(features, reconstructions, strict=True)]


def level_of(autoencoder: FeatureAutoencoder, number: int) -> LevelAutoencoder:
    """Return the network of one level."""
    return cast(LevelAutoencoder, autoencoder.levels[number])


def patch_losses(
    errors: Sequence[Float[Tensor, "batch _rows _columns"]],
) -> Float[Tensor, " batch"]:
    """Return the loss of each patch: the mean error of each level, summed over levels."""
    return torch.stack([error.mean(dim=(1, 2)) for error in errors]).sum(dim=0)
