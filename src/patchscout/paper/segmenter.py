"""The trained model of the paper: images in, loss profiles inside, anomaly probability out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchscout.config import PaperSettings
from patchscout.paper.networks import (
    BOTTLENECK_CHANNELS,
    Images,
    PaperAutoencoder,
    PaperPredictor,
)
from patchscout.paper.settings import DROPOUT_RATE, PROFILE_LENGTH

Masks = Float[Tensor, "length 200"]


class PaperSegmenter(nn.Module):
    """Scores images: T error maps, then the predictor.

    Args:
        autoencoders: The T latest states of the autoencoder, folded; or one, with T masks.
        masks: Which bottleneck channels each error map does without; None for T autoencoders.
        predictor: Gives logits.
    """

    masks: Tensor | None

    def __init__(
        self,
        autoencoders: Sequence[PaperAutoencoder],
        masks: Masks | None,
        predictor: PaperPredictor,
    ) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleList(autoencoders)
        self.register_buffer("masks", masks)
        self.predictor = predictor
        self.eval()

    def forward(
        self, images: Images, lighting: Tensor | None = None
    ) -> Float[Tensor, "batch height width"]:
        """Return the probability of being anomalous for each pixel.

        Args:
            images: In [0, 1].
            lighting: Of the whole images, which this method does not look at.
        """
        del lighting
        autoencoders = cast(list[PaperAutoencoder], list(self.autoencoders))
        return self.predictor(loss_profiles(images, autoencoders, self.masks)).sigmoid()


def loss_profiles(
    images: Images, autoencoders: Sequence[PaperAutoencoder], masks: Masks | None
) -> Float[Tensor, "batch length height width"]:
    """Return the mean absolute error over RGB of each of T reconstructions.

    Args:
        images: RGB images in [0, 1].
        autoencoders: T of them; or one, which encodes once and decodes with each mask.
        masks: T masks for one autoencoder, else None.
    """
    if masks is None:
        reconstructions = [autoencoder(images) for autoencoder in autoencoders]
    else:
        code, skip = autoencoders[0].encode(images)
        masked = (code * mask[:, None, None] for mask in masks)
        reconstructions = [autoencoders[0].decode(one, skip) for one in masked]
    return torch.stack([absolute_error(one, images) for one in reconstructions], dim=1)


def absolute_error(reconstructions: Images, images: Images) -> Float[Tensor, "batch height width"]:
    """Return each pixel's reconstruction error: the mean absolute difference over RGB."""
    return (reconstructions - images).abs().mean(dim=1)


def draw_masks(seed: int) -> Masks:
    """Return T masks for one autoencoder: 0 for a deleted channel, else 1 / (1 - rate).

    The scaling keeps the expected sum over channels as it is without deletion. Each mask deletes
    the same number of channels.
    """
    generator = torch.Generator().manual_seed(seed)
    num_kept = BOTTLENECK_CHANNELS - round(DROPOUT_RATE * BOTTLENECK_CHANNELS)
    order = torch.rand(PROFILE_LENGTH, BOTTLENECK_CHANNELS, generator=generator).argsort(dim=1)
    return (order < num_kept).float() * BOTTLENECK_CHANNELS / num_kept


def blank_segmenter(settings: PaperSettings) -> PaperSegmenter:
    """Return a segmenter of the right shape for `load_state_dict`."""
    uses_dropout = settings.diversity == "dropout"
    count = 1 if uses_dropout else PROFILE_LENGTH
    autoencoders = [PaperAutoencoder().folded() for _ in range(count)]
    return PaperSegmenter(autoencoders, draw_masks(0) if uses_dropout else None, PaperPredictor())
