"""From images to loss profiles: the errors of T autoencoders, or of one with T dropout masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchscout.networks.autoencoder import Autoencoder

LOG_FLOOR = 1e-3
"""Added to errors before the logarithm: about a quarter of a grey level of 8 bits."""
LOG_CENTER, LOG_SPREAD = -3.5, 1.2
"""Bring the logarithm of usual errors near mean 0 and spread 1."""


@torch.no_grad()
def error_map(
    autoencoder: Autoencoder,
    images: Float[Tensor, "batch 3 height width"],
    bottleneck_mask: Float[Tensor, "rows channels"] | None = None,
) -> Float[Tensor, "batch height width"]:
    """Return each pixel's reconstruction error: the mean absolute difference over RGB.

    The autoencoder must be in evaluation mode.
    """
    return reconstruction_error(autoencoder, images, bottleneck_mask)


def reconstruction_error(
    autoencoder: Autoencoder,
    images: Float[Tensor, "batch 3 height width"],
    bottleneck_mask: Float[Tensor, "rows channels"] | None = None,
) -> Float[Tensor, "batch height width"]:
    """Return what `error_map` does, with a gradient."""
    return (autoencoder(images, bottleneck_mask) - images).abs().mean(dim=1)


def scale_errors(errors: Tensor, scale: str) -> Tensor:
    """Return errors as they are (`linear`) or their standardized logarithm (`log`)."""
    if scale == "linear":
        return errors
    return ((errors + LOG_FLOOR).log() - LOG_CENTER) / LOG_SPREAD


class ProfileExtractor(nn.Module):
    """The part of a trained model that turns an image into its loss profile.

    Args:
        autoencoders: T snapshots of the autoencoder, in the order they were taken; or a single
            one, used with each of T masks.
        masks: (T, bottleneck channels) for structured dropout, else None.
        error_scale: `log` or `linear`.
    """

    masks: Tensor | None

    def __init__(
        self, autoencoders: Sequence[Autoencoder], masks: Tensor | None, error_scale: str
    ) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleList(autoencoders).eval()
        self.register_buffer("masks", masks)
        self.error_scale = error_scale

    @property
    def sources(self) -> list[tuple[Autoencoder, Tensor | None]]:
        """Each autoencoder and mask that an error map of the profile comes from."""
        autoencoders = cast(list[Autoencoder], list(self.autoencoders))
        if self.masks is None:
            return [(autoencoder, None) for autoencoder in autoencoders]
        return [(autoencoders[0], mask[None]) for mask in self.masks]

    @property
    def length(self) -> int:
        """T, the number of error maps in a profile."""
        return len(self.autoencoders) if self.masks is None else len(self.masks)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch length height width"]:
        """Return the loss profiles of images in [0, 1]."""
        if self.masks is None:
            return torch.stack([self.source_map(i, images) for i in range(self.length)], dim=1)
        return self._masked_maps(images, self.masks)

    @torch.no_grad()
    def _masked_maps(
        self, images: Float[Tensor, "batch 3 height width"], masks: Float[Tensor, "length channels"]
    ) -> Float[Tensor, "batch length height width"]:
        """Return the error maps under each mask; the images are encoded only once."""
        autoencoder = self.sources[0][0]
        images = images.contiguous(memory_format=torch.channels_last)
        code, skip = autoencoder.encode(images)
        reconstructions = [
            autoencoder.decode(code * mask[None, :, None, None], skip) for mask in masks
        ]
        errors = [(one - images).abs().mean(dim=1) for one in reconstructions]
        return scale_errors(torch.stack(errors, dim=1), self.error_scale)

    def source_map(
        self, index: int, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch height width"]:
        """Return one channel of the loss profiles."""
        autoencoder, mask = self.sources[index]
        images = images.contiguous(memory_format=torch.channels_last)
        return scale_errors(error_map(autoencoder, images, mask), self.error_scale)
