"""The whole trained model as one module: images in, anomaly probability per pixel out."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchscout.networks.loss_profile import ProfileExtractor

Images = Float[Tensor, "batch 3 height width"]


class FeatureExtractor(nn.Module):
    """What the predictor sees of an image: its loss profile, its standardized RGB, or both.

    Args:
        profiles: Makes loss profiles; None if only the image is seen.
        inputs: `profile`, `image` or `both`.
        channel_mean: Mean of each color over the normal training images, (3,).
        channel_std: Standard deviation likewise.
    """

    channel_mean: Tensor
    channel_std: Tensor

    def __init__(
        self,
        profiles: ProfileExtractor | None,
        inputs: str,
        channel_mean: Tensor,
        channel_std: Tensor,
    ) -> None:
        super().__init__()
        self.profiles = profiles
        self.inputs = inputs
        self.register_buffer("channel_mean", channel_mean.float())
        self.register_buffer("channel_std", channel_std.float())

    def forward(self, images: Images) -> Float[Tensor, "batch channels height width"]:
        """Return the features of images in [0, 1]."""
        profiles = images[:, :0] if self.profiles is None else self.profiles(images)
        return self.assemble(images, profiles)

    def assemble(
        self, images: Images, profiles: Float[Tensor, "batch length height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the features of images whose loss profiles are known."""
        features = []
        if self.inputs != "image":
            features.append(profiles)
        if self.inputs != "profile":
            mean, std = self.channel_mean[:, None, None], self.channel_std[:, None, None]
            features.append((images - mean) / std)
        return torch.cat(features, dim=1)


def num_features(profile_length: int, inputs: str) -> int:
    """Return how many channels a `FeatureExtractor` gives."""
    return {"profile": profile_length, "image": 3, "both": profile_length + 3}[inputs]


class Segmenter(nn.Module):
    """Feature extractor and predictor."""

    def __init__(self, features: FeatureExtractor, predictor: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.predictor = predictor

    def forward(self, images: Images) -> Float[Tensor, "batch height width"]:
        """Return the probability of being anomalous for each pixel of images in [0, 1]."""
        return self.predictor(self.features(images)).sigmoid()
