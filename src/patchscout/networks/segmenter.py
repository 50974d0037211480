"""The whole trained model as one module: images in, anomaly probability per pixel out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchscout.networks.loss_profile import ProfileExtractor, num_error_channels
from patchscout.networks.normality import NUM_GRIDS, NormalityModel
from patchscout.networks.novelty import LEAST_PROBABILITY, NoveltyModel
from patchscout.networks.predictor import PredictorEnsemble

Images = Float[Tensor, "batch 3 height width"]
Lighting = Float[Tensor, "batch 4 1 1"]
"""Mean of red, green and blue, and spread, of each image."""

Deviations = Float[Tensor, "batch maps height width"]

SURE = 2.0
"""Log-odds, of a probability of 0.88, from which on a place is surely anomalous."""

SMALLEST_SPREAD = 0.02
"""A spread is taken for no less, so that noise in a flat image is not blown up."""


class Context(NamedTuple):
    """What the features of a part of an image need of the whole image.

    Attributes:
        lighting: That of the whole image.
        deviations: Of the part from what is normal there, as of the whole image.
    """

    lighting: Lighting
    deviations: Deviations


class FeatureExtractor(nn.Module):
    """What the predictor sees of an image: its loss profile, its RGB values, or both.

    RGB values are standardized over the normal training images and, so that lighting does not
    matter, a second time over the image itself. Deviations from what is normal come first.

    Args:
        profiles: Makes loss profiles; None if only the image is seen.
        inputs: `profile`, `image` or `both`.
        channel_mean: Mean of each color over the normal training images, (3,).
        channel_std: Standard deviation likewise.
        normality: Makes deviations; None if they are not seen.
    """

    channel_mean: Tensor
    channel_std: Tensor

    def __init__(
        self,
        profiles: ProfileExtractor | None,
        inputs: str,
        channel_mean: Tensor,
        channel_std: Tensor,
        normality: NormalityModel | None = None,
    ) -> None:
        super().__init__()
        self.profiles = profiles
        self.inputs = inputs
        self.normality = normality
        self.register_buffer("channel_mean", channel_mean.float())
        self.register_buffer("channel_std", channel_std.float())

    def forward(
        self, images: Images, context: Context | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the features of images in [0, 1].

        Args:
            images: Whole images, or parts of them.
            context: That of the whole images, if these are parts.
        """
        profiles = images[:, :0] if self.profiles is None else self.profiles(images)
        return self.assemble(images, profiles, context or self.context(images))

    def context(self, images: Images) -> Context:
        """Return what is measured over whole images."""
        deviations = images[:, :0] if self.normality is None else self.normality(images)
        return Context(measure_lighting(images), deviations)

    def assemble(
        self,
        images: Images,
        profiles: Float[Tensor, "batch profile_channels height width"],
        context: Context,
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the features of images whose loss profiles are known."""
        features = [context.deviations]
        if self.inputs != "image":
            features.append(profiles)
        if self.inputs != "profile":
            mean, std = self.channel_mean[:, None, None], self.channel_std[:, None, None]
            features.append((images - mean) / std)
            features.append(standardized(images, context.lighting))
        return torch.cat(features, dim=1)


def measure_lighting(images: Images) -> Lighting:
    """Return the mean of each color of each image, and the standard deviation of all its values."""
    spread = images.std(dim=(1, 2, 3), keepdim=True).clamp_min(SMALLEST_SPREAD)
    return torch.cat([images.mean(dim=(2, 3), keepdim=True), spread], dim=1)


def standardized(images: Images, lighting: Lighting) -> Images:
    """Return images, or parts of them, as the backbone sees them: lighting does not matter."""
    return (images - lighting[:, :3]) / lighting[:, 3:]


def num_features(
    profile_length: int, inputs: str, error: str = "absolute", num_ranks: int = 0
) -> int:
    """Return how many channels a `FeatureExtractor` gives."""
    num_profile = profile_length * num_error_channels(error)
    num_seen = {"profile": num_profile, "image": 6, "both": num_profile + 6}[inputs]
    return num_seen + NUM_GRIDS * num_ranks


class Segmenter(nn.Module):
    """Feature extractor and predictor, and what is new in the image whatever the predictor says.

    Args:
        features: What the predictor sees of an image.
        predictor: Gives logits.
        novelty: What the predictor's probability is joined with; None for nothing. Its backbone is
            the predictor's.
        mirrored: Whether the mirror image of the features is scored too, and both averaged.
        image_evidence: How much it counts that nothing in an image is surely a defect, see
            `with_image_evidence`.
    """

    def __init__(
        self,
        features: FeatureExtractor,
        predictor: PredictorEnsemble,
        novelty: NoveltyModel | None = None,
        *,
        mirrored: bool = False,
        image_evidence: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = features
        self.predictor = predictor
        self.novelty = novelty
        self.mirrored = mirrored
        self.image_evidence = image_evidence

    def forward(self, images: Images) -> Float[Tensor, "batch height width"]:
        """Return the probability of being anomalous for each pixel of images in [0, 1]."""
        profiles = self.features.profiles
        maps = images[:, :0] if profiles is None else profiles.small_maps(images)
        context = self.features.context(images)
        features = self._features(images, maps, context)
        general = self.predictor.general(features)
        probability = self.predictor(features, general=general).sigmoid()
        if self.mirrored:  # small error maps are flipped, cheaper than large ones
            flipped = Context(context.lighting, context.deviations.flip(-1))
            mirror_image = self.predictor(self._features(images.flip(-1), maps.flip(-1), flipped))
            probability = (probability + mirror_image.sigmoid().flip(-1)) / 2
        return self.concluded(probability, general)

    def concluded(
        self, probability: Float[Tensor, "batch height width"], general: Sequence[Tensor]
    ) -> Float[Tensor, "batch height width"]:
        """Return what follows from the predictor's probability: the anomaly maps.

        Args:
            probability: Of being anomalous, for each pixel of whole images.
            general: What the backbone finds in them; not looked at without novelty.
        """
        if self.novelty is not None:
            probability = self.novelty.joined(probability, general)
        return with_image_evidence(probability, self.image_evidence)

    def _features(
        self, images: Images, maps: Tensor, context: Context
    ) -> Float[Tensor, "batch channels height width"]:
        """Return what the predictor sees of images whose small error maps are known."""
        profiles = self.features.profiles
        enlarged = maps if profiles is None else profiles.enlarge(maps)
        return self.features.assemble(images, enlarged, context)


def with_image_evidence(
    probability: Float[Tensor, "batch height width"], weight: float
) -> Float[Tensor, "batch height width"]:
    """Return the probabilities of whole images, lower where nothing is surely a defect.

    Surfaces that vary look a little like a defect in many places. In an image with a defect one
    place mostly leaves no doubt, and what is doubtful beside it may belong to it; where there is
    none, what is doubtful is normal. The order within an image stays.

    Args:
        probability: Of being anomalous.
        weight: By how much all log-odds are lowered for each unit that the largest is below `SURE`.
    """
    if weight == 0:
        return probability
    largest = probability.amax(dim=(1, 2), keepdim=True)
    doubt = (SURE - torch.logit(largest, LEAST_PROBABILITY)).clamp_min(0)
    odds_factor = torch.exp(-weight * doubt)
    return odds_factor * probability / (1 - probability + odds_factor * probability)
