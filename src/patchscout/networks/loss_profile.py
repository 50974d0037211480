"""From images to loss profiles: the errors of T autoencoders, or of one with T dropout masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from patchscout.networks.autoencoder import Autoencoder

Images = Float[Tensor, "batch 3 height width"]

LOG_FLOOR = 1e-3
"""Added to errors before the logarithm: about a quarter of a grey level of 8 bits."""
LOG_CENTER, LOG_SPREAD = -3.5, 1.2
"""Bring the logarithm of usual errors near mean 0 and spread 1."""

SIGNED_FLOOR = 0.01
"""Signed errors are in proportion below this, and logarithmic above it."""

ErrorMaps = Float[Tensor, "batch channels height width"]
"""Of one autoencoder: one channel, or with signed errors one for each color."""


def absolute_error(reconstructions: Images, images: Images) -> Float[Tensor, "batch height width"]:
    """Return each pixel's reconstruction error: the mean absolute difference over RGB."""
    return (reconstructions - images).abs().mean(dim=1)


def error_channels(reconstructions: Images, images: Images, error: str, scale: str) -> ErrorMaps:
    """Return the reconstruction error of each pixel as the predictor sees it.

    Args:
        reconstructions: What the autoencoder makes of `images`.
        images: RGB images in [0, 1].
        error: `absolute`, the mean absolute difference over RGB, or `signed`, the difference of
            each color.
        scale: `linear` or `log`, see `scale_errors`.
    """
    if error == "signed":
        return scale_errors(reconstructions - images, scale, signed=True)
    return scale_errors(absolute_error(reconstructions, images)[:, None], scale)


def scale_errors(errors: Tensor, scale: str, *, signed: bool = False) -> Tensor:
    """Return errors as they are (`linear`) or logarithmic (`log`).

    Of absolute errors this is the standardized logarithm, of signed ones the logarithm of their
    size, with the sign.
    """
    if scale == "linear":
        return errors
    if signed:
        return errors.sign() * (1 + errors.abs() / SIGNED_FLOOR).log() / 2
    return ((errors + LOG_FLOOR).log() - LOG_CENTER) / LOG_SPREAD


def num_error_channels(error: str) -> int:
    """Return how many channels each autoencoder gives."""
    return 3 if error == "signed" else 1


class ProfileExtractor(nn.Module):
    """The part of a trained model that turns an image into its loss profile.

    Args:
        autoencoders: T snapshots of the autoencoder, in the order they were taken; or a single
            one, used with each of T masks.
        masks: (T, bottleneck channels) for structured dropout, else None.
        error_scale: `log` or `linear`.
        downscale: By how much images are shrunk for the autoencoder; the error maps are enlarged
            again by as much.
        error: `absolute` or `signed`, see `error_channels`.
    """

    masks: Tensor | None

    def __init__(
        self,
        autoencoders: Sequence[Autoencoder],
        masks: Tensor | None,
        error_scale: str,
        downscale: int = 1,
        error: str = "absolute",
    ) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleList(autoencoders).eval()
        self.register_buffer("masks", masks)
        self.error_scale = error_scale
        self.downscale = downscale
        self.error = error

    @property
    def sources(self) -> list[tuple[Autoencoder, Tensor | None]]:
        """Each autoencoder and mask that an error map of the profile comes from."""
        autoencoders = cast(list[Autoencoder], list(self.autoencoders))
        if self.masks is None:
            return [(autoencoder, None) for autoencoder in autoencoders]
        return [(autoencoders[0], mask[None]) for mask in self.masks]

    @property
    def length(self) -> int:
        """T, the number of snapshots or masks in a profile."""
        return len(self.autoencoders) if self.masks is None else len(self.masks)

    @torch.no_grad()
    def forward(self, images: Images) -> Float[Tensor, "batch channels height width"]:
        """Return the loss profiles of images in [0, 1]: T channels, or 3 T if errors are signed."""
        return self.enlarge(self.small_maps(images))

    @torch.no_grad()
    def small_maps(self, images: Images) -> Float[Tensor, "batch channels small_rows small_cols"]:
        """Return the loss profiles at the autoencoder's resolution."""
        small = shrink(images, self.downscale)
        if self.masks is None:
            reconstructions = [autoencoder(small) for autoencoder, _ in self.sources]
        else:
            reconstructions = self._masked_reconstructions(small, self.masks)
        return torch.cat([self._channels(one, small) for one in reconstructions], dim=1)

    def maps_of(self, autoencoder: Autoencoder, images: Images) -> Tensor:
        """Return the channels that an autoencoder gives or would give, with a gradient."""
        small = shrink(images, self.downscale)
        return self.enlarge(self._channels(autoencoder(small), small))

    def _masked_reconstructions(
        self, small: Images, masks: Float[Tensor, "length channels"]
    ) -> list[Images]:
        """Return the reconstruction under each mask; the images are encoded only once."""
        autoencoder = self.sources[0][0]
        code, skip = autoencoder.encode(small)
        return [autoencoder.decode(code * mask[None, :, None, None], skip) for mask in masks]

    def _channels(self, reconstructions: Images, small: Images) -> ErrorMaps:
        return error_channels(reconstructions, small, self.error, self.error_scale)

    def enlarge(
        self, maps: Float[Tensor, "batch channels small_rows small_cols"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return maps of the autoencoder's resolution at that of the images."""
        if self.downscale == 1:
            return maps
        return F.interpolate(maps, scale_factor=float(self.downscale), mode="bilinear")


def shrink(images: Float[Tensor, "batch 3 height width"], factor: int) -> Tensor:
    """Return images shrunk by a whole factor; each pixel is the mean of those that it replaces."""
    if factor > 1:
        images = F.avg_pool2d(images, factor)
    return images.contiguous(memory_format=torch.channels_last)
