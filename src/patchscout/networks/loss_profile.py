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
        sizes: Rows and columns of each level of a whole image, of which each cell has its usual
            error; unset: the error is as usual everywhere.

    Attributes:
        error_spread: Standard deviation of the last error about what is usual, of each level.
    """

    error_spread: Float[Tensor, " levels"]

    def __init__(
        self,
        snapshots: Sequence[FeatureAutoencoder],
        channels: Sequence[int],
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self.snapshots = nn.ModuleList(snapshots)
        self.channels = tuple(channels)
        for name in ("mean", "spread", "residual_spread"):
            for level, count in enumerate(channels):
                fill = torch.zeros if name == "mean" else torch.ones
                self.register_buffer(f"{name}_{level}", fill(count))
        for level, size in enumerate(sizes or [(1, 1)] * len(channels)):
            self.register_buffer(f"usual_error_{level}", torch.zeros(size))
        self.register_buffer("error_spread", torch.ones(len(channels)))

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

    @property
    def usual_errors(self) -> list[Float[Tensor, "_rows _columns"]]:
        """The last error that is usual at each cell of each level, as its logarithm."""
        return [getattr(self, f"usual_error_{level}") for level in range(len(self.channels))]

    def novelty(
        self,
        profiles: Sequence[Profile],
        usual: Sequence[Float[Tensor, "#batch #_rows #_columns"]],
    ) -> list[Level]:
        """Return how unusual the last error of each cell is, one channel a level.

        In standard deviations above what is usual, of the logarithm, on normal images.

        Args:
            profiles: Of each level.
            usual: `usual_errors`, or the part of them where the profiles are.
        """
        return [
            (profile.errors[:, -1:] - one[:, None]) / spread
            for profile, one, spread in zip(profiles, usual, self.error_spread, strict=True)
        ]

    def _of(self, name: str, level: int) -> Float[Tensor, "channels 1 1"]:
        return getattr(self, f"{name}_{level}")[:, None, None]


def log_error(error: Float[Tensor, "*_"]) -> Float[Tensor, "*_"]:
    """Return the logarithm of errors, 0 where the error is 0."""
    return (1 + error / ERROR_FLOOR).log()
