"""Mean and spread of the colors of normal images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from patchscout.data.images import resize_mask
from patchscout.data.loader import ImageLoader
from patchscout.data.split import evenly_chosen
from patchscout.monitor import Monitor
from patchscout.types import Sample

STATISTICS_IMAGES = 64
"""At most so many normal images that mean and standard deviation of each color are taken from."""

DARK = 0.1
"""Three standard deviations above the mean, values of 10 or 12 bits in files of 16 are below it."""


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


def tell_if_dark(mean: Tensor, std: Tensor, monitor: Monitor) -> None:
    """Say so if the normal images hardly use the range of values that they could."""
    brightest = float((mean + 3 * std).max())
    if brightest < DARK:
        monitor.say(
            f"The images are dark: hardly a value is above {brightest:.3f} of the largest possible"
            " one. If they hold 10 or 12 bits in files of 16, scale them to all 16, or defects"
            " will be missed."
        )
