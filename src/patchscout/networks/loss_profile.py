"""From features to loss profiles: the errors of T snapshots of the autoencoder, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchscout.networks.autoencoder import FeatureAutoencoder, Level, cosine_error, level_of

ERROR_FLOOR = 0.01
"""Added to errors before the logarithm, so that those near 0 don't stand out."""

LARGEST = 100.0
"""Features and residuals are cut off at so many spreads: a channel that hardly varies over normal
images may be thousands off elsewhere, more than half precision holds."""

Maps = Float[Tensor, "batch channels rows columns"]


class Profile(NamedTuple):
    """What the autoencoder makes of the features of one level.

    Attributes:
        features: Standardized by channel over normal images, (batch, channels, rows, columns).
        residual: Feature minus reconstruction of the last snapshot, each channel divided by its
            spread on normal images that the autoencoder had not seen; likewise.
        errors: Logarithm of the cosine error at each snapshot, (batch, T, rows, columns).
    """

    features: Maps
    residual: Maps
    errors: Maps


class LossProfile(nn.Module):
    """The part of a trained model that turns a backbone's features into loss profiles.

    Args:
        snapshots: T states of the autoencoder, in the order they were taken.
        channels: Of each level of the backbone.
    """

    def __init__(self, snapshots: Sequence[FeatureAutoencoder], channels: Sequence[int]) -> None:
        super().__init__()
        self.snapshots = nn.ModuleList(snapshots)
        self.channels = tuple(channels)
        for name in ("mean", "spread", "residual_spread"):
            for level, count in enumerate(channels):
                fill = torch.zeros if name == "mean" else torch.ones
                self.register_buffer(f"{name}_{level}", fill(count))
        self.register_buffer("usual_error", torch.zeros(len(channels), 2))

    @property
    def states(self) -> list[FeatureAutoencoder]:
        """The snapshots, in the order they were taken."""
        return cast(list[FeatureAutoencoder], list(self.snapshots))

    def standardized(self, features: Sequence[Level]) -> list[Level]:
        """Return features as the autoencoder sees them: mean 0 and spread 1 a channel."""
        return [
            ((one - self._of("mean", level)) / self._of("spread", level)).clamp(-LARGEST, LARGEST)
            for level, one in enumerate(features)
        ]

    def forward(self, features: Sequence[Level]) -> list[Profile]:
        """Return the profile of each level.

        Args:
            features: What `standardized` gives.
        """
        found = []
        for level, one in enumerate(features):
            errors, residual = [], one
            for snapshot in self.states:
                reconstruction = level_of(snapshot, level)(one)
                errors.append(cosine_error(one, reconstruction))
                residual = one - reconstruction
            residual = (residual / self._of("residual_spread", level)).clamp(-LARGEST, LARGEST)
            found.append(Profile(one, residual, log_error(torch.stack(errors, dim=1))))
        return found

    def novelty(self, profiles: Sequence[Profile]) -> list[Level]:
        """Return how unusual the last error of each cell is, one channel a level.

        In standard deviations above the mean, of the logarithm, on normal images.
        """
        mean, spread = self.usual_error.unbind(dim=1)
        return [
            (profile.errors[:, -1:] - mean[level]) / spread[level]
            for level, profile in enumerate(profiles)
        ]

    usual_error: Float[Tensor, "levels 2"]

    def _of(self, name: str, level: int) -> Float[Tensor, "channels 1 1"]:
        return getattr(self, f"{name}_{level}")[:, None, None]


def log_error(error: Float[Tensor, "*_"]) -> Float[Tensor, "*_"]:
    """Return the logarithm of errors, 0 where the error is 0."""
    return (1 + error / ERROR_FLOOR).log()
