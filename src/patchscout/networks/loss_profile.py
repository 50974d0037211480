"""From images to loss profiles: the errors of T autoencoders, or of one with T dropout masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        downscale: By how much images are shrunk for the autoencoder; the error maps are enlarged
            again by as much.
    """

    masks: Tensor | None

    def __init__(
        self,
        autoencoders: Sequence[Autoencoder],
        masks: Tensor | None,
        error_scale: str,
        downscale: int = 1,
    ) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleList(autoencoders).eval()
        self.register_buffer("masks", masks)
        self.error_scale = error_scale
        self.downscale = downscale

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

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch length height width"]:
        """Return the loss profiles of images in [0, 1]."""
        small = shrink(images, self.downscale)
        if self.masks is None:
            errors = [reconstruction_error(one, small) for one, _ in self.sources]
        else:
            errors = self._masked_errors(small, self.masks)
        return self._enlarge(scale_errors(torch.stack(errors, dim=1), self.error_scale))

    def map_of(
        self, autoencoder: Autoencoder, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch height width"]:
        """Return the channel that an autoencoder gives or would give, with a gradient."""
        errors = reconstruction_error(autoencoder, shrink(images, self.downscale))
        return self._enlarge(scale_errors(errors, self.error_scale)[:, None])[:, 0]

    def _masked_errors(
        self, small: Float[Tensor, "batch 3 height width"], masks: Float[Tensor, "length channels"]
    ) -> list[Float[Tensor, "batch height width"]]:
        """Return the error map under each mask; the images are encoded only once."""
        autoencoder = self.sources[0][0]
        code, skip = autoencoder.encode(small)
        reconstructions = [
            autoencoder.decode(code * mask[None, :, None, None], skip) for mask in masks
        ]
        return [(one - small).abs().mean(dim=1) for one in reconstructions]

    def _enlarge(self, maps: Float[Tensor, "batch length height width"]) -> Tensor:
        if self.downscale == 1:
            return maps
        return F.interpolate(maps, scale_factor=float(self.downscale), mode="bilinear")


def shrink(images: Float[Tensor, "batch 3 height width"], factor: int) -> Tensor:
    """Return images shrunk by a whole factor; each pixel is the mean of those that it replaces."""
    if factor > 1:
        images = F.avg_pool2d(images, factor)
    return images.contiguous(memory_format=torch.channels_last)
