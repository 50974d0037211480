"""What R_pred is measured on: the surroundings of some labeled defects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.data.loader import ImageLoader
from patchscout.networks.autoencoder import Autoencoder
from patchscout.networks.loss_profile import ProfileExtractor, error_map, scale_errors
from patchscout.types import Sample

PROBE_PX = 128
"""Side of the square about each defect that is looked at; at most the image."""


class RewardProbe:
    """Squares about labeled defects, and those of their error maps that are still valid.

    Args:
        samples: Labeled images, one of each defect type in turn until there are `count`.
        count: How many of them to look at.
        loader: Reads them.
        device: Where to keep them.
    """

    def __init__(
        self, samples: Sequence[Sample], count: int, loader: ImageLoader, device: torch.device
    ) -> None:
        chosen = spread_over_types(samples, count)
        squares = [_about_defect(loader.image(s), loader.mask(s).float()) for s in chosen]
        self.images = torch.stack([image for image, _ in squares]).to(device)
        self.masks = torch.stack([mask for _, mask in squares]).to(device)
        self._known: dict[tuple[Autoencoder, int], Tensor] = {}

    @torch.no_grad()
    def profiles(
        self, extractor: ProfileExtractor, newest: tuple[int, Autoencoder] | None = None
    ) -> Float[Tensor, "count length height width"]:
        """Return the loss profiles of the squares; only autoencoders not seen before are run.

        Args:
            extractor: Makes the profiles.
            newest: An autoencoder in training, in evaluation mode, and the channel that its
                errors take the place of.
        """
        if extractor.masks is not None:  # one autoencoder, new each time
            return extractor(self.images)
        maps = {
            (source[0], index): self._known.get((source[0], index))
            for index, source in enumerate(extractor.sources)
        }
        self._known = {
            key: extractor.source_map(key[1], self.images) if known is None else known
            for key, known in maps.items()
        }
        channels = list(self._known.values())
        if newest is not None:
            index, autoencoder = newest
            errors = error_map(autoencoder, self.images)
            channels[index] = scale_errors(errors, extractor.error_scale)
        return torch.stack(channels, dim=1)


def spread_over_types(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return up to `count` samples, taking one of each defect type in turn."""
    queues: dict[str, list[Sample]] = {}
    for sample in samples:
        queues.setdefault(sample.defect_type, []).append(sample)
    turns = [
        queue[turn]
        for turn in range(max(map(len, queues.values()), default=0))
        for queue in queues.values()
        if turn < len(queue)
    ]
    return turns[:count]


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
