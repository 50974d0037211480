"""What R_pred is measured on: the surroundings of some defects."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.networks.autoencoder import Autoencoder
from patchscout.networks.loss_profile import ProfileExtractor
from patchscout.networks.segmenter import measure_lighting
from patchscout.training.views import Image, Mask

PROBE_PX = 128
"""Side of the square about each defect that is looked at; at most the image."""


class RewardProbe:
    """Squares about defects, and those of their error maps that are still valid.

    Args:
        views: Images with their masks.
        device: Where to keep them.
    """

    def __init__(self, views: Iterable[tuple[Image, Mask]], device: torch.device) -> None:
        whole = list(views)
        squares = [_about_defect(image, mask.float()) for image, mask in whole]
        self.lighting = torch.cat([measure_lighting(image[None]) for image, _ in whole]).to(device)
        self.images = torch.stack([image for image, _ in squares]).to(device)
        self.masks = torch.stack([mask for _, mask in squares]).to(device)
        self._known: dict[Autoencoder, Tensor] = {}

    def profiles(
        self, extractor: ProfileExtractor, newest: tuple[int, Autoencoder] | None = None
    ) -> Float[Tensor, "count channels height width"]:
        """Return the loss profiles of the squares; only autoencoders not seen before are run.

        The profiles have a gradient with respect to the weights of the newest autoencoder.

        Args:
            extractor: Makes the profiles.
            newest: An autoencoder in training, in evaluation mode, and the number of the one whose
                place its errors take.
        """
        if extractor.masks is not None:  # one autoencoder, new each time
            return extractor(self.images)
        with torch.no_grad():
            self._known = {
                key: self._known[key] if key in self._known else extractor.maps_of(key, self.images)
                for key, _ in extractor.sources
            }
        channels = list(self._known.values())
        if newest is not None:
            index, autoencoder = newest
            channels[index] = extractor.maps_of(autoencoder, self.images)
        return torch.cat(channels, dim=1)


def _about_defect(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a square about the middle of the mask's pixels from an image and its mask."""
    rows_and_columns = mask.nonzero().float()
    middle = rows_and_columns.mean(dim=0) if len(rows_and_columns) else torch.zeros(2)
    window: list[slice] = []
    for center, side in zip(middle.tolist(), mask.shape, strict=True):
        size = min(PROBE_PX, side)
        start = min(max(round(center) - size // 2, 0), side - size)
        window.append(slice(start, start + size))
    return image[:, window[0], window[1]], mask[window[0], window[1]]
