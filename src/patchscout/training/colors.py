"""Mean and spread of the colors of normal images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from patchscout.data.images import resize_mask
from patchscout.data.loader import ImageLoader
from patchscout.data.split import evenly_chosen
from patchscout.types import Sample

STATISTICS_IMAGES = 64
"""At most so many normal images that mean and standard deviation of each color are taken from."""


def color_statistics(samples: Sequence[Sample], loader: ImageLoader) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each color over evenly chosen images.

    What lies outside of their region does not count.
    """
    region = samples[0].region
    inside = ... if region is None else resize_mask(region, loader.image_size)
    pixels = torch.stack(
        [
            torch.stack([values.mean(dim=1), values.square().mean(dim=1)])
            for sample in evenly_chosen(samples, STATISTICS_IMAGES)
            for values in [loader.image(sample)[:, inside].flatten(1)]
        ]
    ).mean(dim=0)
    mean, mean_of_squares = pixels
    return mean, (mean_of_squares - mean.square()).clamp_min(1e-4).sqrt()
