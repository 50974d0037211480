"""The whole trained model as one module: images in, anomaly probability per pixel out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from patchscout.backbones import Backbone
from patchscout.networks.autoencoder import Level
from patchscout.networks.loss_profile import LossProfile, Profile
from patchscout.networks.unet import UNet

Images = Float[Tensor, "batch 3 height width"]
Maps = Float[Tensor, "batch channels rows columns"]
Probability = Float[Tensor, "batch height width"]
Lighting = Float[Tensor, "batch 4 1 1"]
"""Mean of red, green and blue, and spread, of each image."""

UsualErrors = Float[Tensor, "batch _rows _columns"]
"""Usual errors of one level, see `LossProfile.usual_errors`, where images are."""

IMAGE_CHANNELS = 6

SMALLEST_SPREAD = 0.02
"""A spread is taken for no less, so that noise in a flat image is not blown up."""

LEAST_PROBABILITY = 1e-6
"""The predictor is taken to be no surer than this, so that there are log-odds."""

LARGEST_NOVELTY = 14.0
"""Novelty is taken to be no larger, which is about the log-odds of `LEAST_PROBABILITY`."""


class Observation(NamedTuple):
    """What the predictor sees.

    Attributes:
        image: Standardized over the normal training images, and over the image itself.
        sides: The maps beside it, by ascending stride.
    """

    image: Float[Tensor, "batch 6 height width"]
    sides: list[Level]


class Observer(nn.Module):
    """Turns images into profiles and these into what the predictor sees.

    Args:
        backbone: Gives features; see `backbones`.
        inputs: What the predictor sees beside the image: fields of `Profile`.
        channel_mean: Mean of each color over the normal training images, (3,).
        channel_std: Standard deviation likewise.
    """

    channel_mean: Tensor
    channel_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        inputs: Sequence[str],
        channel_mean: Tensor,
        channel_std: Tensor,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.inputs = tuple(inputs)
        self.register_buffer("channel_mean", channel_mean.float())
        self.register_buffer("channel_std", channel_std.float())

    def features(self, images: Images, lighting: Lighting | None = None) -> list[Level]:
        """Return the backbone's features of images in [0, 1].

        Args:
            images: Whole images, or parts of them.
            lighting: That of the whole images, if these are parts.
        """
        return self.backbone(relit(images, lighting))

    def assemble(
        self, images: Images, profiles: Sequence[Profile], lighting: Lighting | None = None
    ) -> Observation:
        """Return what the predictor sees of images whose profiles are known."""
        mean, std = self.channel_mean[:, None, None], self.channel_std[:, None, None]
        image = torch.cat([(images - mean) / std, relit(images, lighting)], dim=1)
        if not self.inputs:
            return Observation(image, [])
        chosen = [[getattr(one, name) for name in self.inputs] for one in profiles]
        return Observation(image, [torch.cat(maps, dim=1) for maps in chosen])


def measure_lighting(images: Images) -> Lighting:
    """Return the mean of each color of each image, and the standard deviation of all its values."""
    spread = images.std(dim=(1, 2, 3), keepdim=True).clamp_min(SMALLEST_SPREAD)
    return torch.cat([images.mean(dim=(2, 3), keepdim=True), spread], dim=1)


def relit(images: Images, lighting: Lighting | None = None) -> Images:
    """Return images with mean 0 and spread 1, each over all of its values: without its lighting."""
    lighting = measure_lighting(images) if lighting is None else lighting
    return (images - lighting[:, :3]) / lighting[:, 3:]


class Segmenter(nn.Module):
    """Backbone, loss profile and predictor, joined with the novelty of the last error.

    Args:
        observer: What the predictor sees.
        profile: Makes loss profiles.
        predictor: Gives logits, from image and sides of an `Observation`.
        flip_tta: Whether the mirror image is scored too, and both averaged.
        novelty_weight: See `fuse`.
        region: What is looked at, (height, width); None for all of the image.
    """

    region: Tensor | None

    def __init__(
        self,
        observer: Observer,
        profile: LossProfile,
        predictor: UNet,
        *,
        flip_tta: bool = False,
        novelty_weight: float = 0.0,
        region: Bool[Tensor, "height width"] | None = None,
    ) -> None:
        super().__init__()
        self.observer = observer
        self.profile = profile
        self.predictor = predictor
        self.flip_tta = flip_tta
        self.novelty_weight = novelty_weight
        self.register_buffer("region", region)

    def forward(
        self, images: Images, lighting: Lighting | None = None, corner: tuple[int, int] = (0, 0)
    ) -> Probability:
        """Return the probability of being anomalous for each pixel, 0 outside of the region.

        Args:
            images: In [0, 1], whole; or parts of larger ones that `painted` gave.
            lighting: That of the whole images, if these are parts.
            corner: Their first row and column in the whole images, multiples of every stride.
        """
        if lighting is not None:
            return self._scored(images, lighting, corner)
        images = self.painted(images)
        return self.limited(self._scored(images, measure_lighting(images), corner))

    def painted(self, images: Images) -> Images:
        """Return whole images with the mean color of normal ones outside of the region."""
        if self.region is None:
            return images
        return torch.where(self.region, images, self.observer.channel_mean[:, None, None])

    def limited(self, found: Probability) -> Probability:
        """Return the probability for whole images, 0 outside of the region."""
        return found if self.region is None else torch.where(self.region, found, 0.0)

    def _scored(self, images: Images, lighting: Lighting, corner: tuple[int, int]) -> Probability:
        usual = self._usual(images, corner)
        if not self.flip_tta:
            return self._score(images, lighting, usual)
        both = torch.cat([images, images.flip(-1)])
        mirrored = [torch.cat([one, one.flip(-1)]) for one in usual]
        found = self._score(both, torch.cat([lighting, lighting]), mirrored)
        count = images.shape[0]
        return (found[:count] + found[count:].flip(-1)) / 2

    def through(self, profile: LossProfile) -> Segmenter:
        """Return the model with another loss profile."""
        return Segmenter(
            self.observer,
            profile,
            self.predictor,
            flip_tta=self.flip_tta,
            novelty_weight=self.novelty_weight,
            region=self.region,
        ).eval()

    def _usual(self, images: Images, corner: tuple[int, int]) -> list[UsualErrors]:
        """Return the usual errors of the places that images are of, for each image."""
        found = []
        for one, stride in zip(
            self.profile.usual_errors, self.observer.backbone.strides, strict=True
        ):
            rows, columns = (
                slice(first // stride, -(-(first + side) // stride))
                for first, side in zip(corner, images.shape[-2:], strict=True)
            )
            found.append(one[rows, columns].expand(images.shape[0], -1, -1))
        return found

    def _score(
        self, images: Images, lighting: Lighting, usual: Sequence[UsualErrors]
    ) -> Probability:
        features = self.profile.standardized(self.observer.features(images, lighting))
        profiles = self.profile(features)
        seen = self.observer.assemble(images, profiles, lighting)
        logits = self.predictor(*seen)
        if not self.novelty_weight:
            return logits.sigmoid()
        novelty = novelty_map(self.profile, profiles, usual, images)
        return fuse(logits, novelty, self.novelty_weight)


def novelty_map(
    profile: LossProfile,
    profiles: Sequence[Profile],
    usual: Sequence[UsualErrors],
    images: Images,
) -> Float[Tensor, "batch height width"]:
    """Return how unusual the last error of the autoencoder is at each pixel.

    In standard deviations above what is usual on normal images; the mean over 3x3 cells and over
    levels, each of which weighs as many as its channels.
    """
    levels = [_pooled(one) for one in profile.novelty(profiles, usual)]
    finest = levels[0].shape[-2:]
    total = sum(
        count / sum(profile.channels) * F.interpolate(one, size=finest, mode="bilinear")
        for count, one in zip(profile.channels, levels, strict=True)
    )
    assert isinstance(total, Tensor)
    return F.interpolate(total, size=images.shape[-2:], mode="bilinear").squeeze(1)


def _pooled(maps: Maps) -> Maps:
    """Return the mean over the 3x3 neighborhood of each cell."""
    return F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)


def fuse(
    logits: Float[Tensor, "batch height width"],
    novelty: Float[Tensor, "batch height width"],
    weight: float,
) -> Probability:
    """Return the probability from the weighted mean of the predictor's log-odds and novelty.

    The predictor knows the kinds of defects that it was shown; novelty knows what is unlike normal
    images, whatever it is.

    Args:
        logits: Of the predictor.
        novelty: See `novelty_map`.
        weight: Of novelty, where that of the logits is 1.
    """
    log_odds = torch.logit(logits.sigmoid(), LEAST_PROBABILITY)
    evidence = (novelty - USUAL).clamp(-LARGEST_NOVELTY, LARGEST_NOVELTY)
    return ((log_odds + weight * evidence) / (1 + weight)).sigmoid()


USUAL = 2.3
"""Standard deviations above the mean up to which novelty speaks for a normal place: 99 % of them,
if they were Gaussian."""
