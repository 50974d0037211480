"""From an image of any kind and size to what was found in it, at its own size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from patchscout.data.images import resize, resize_image, resize_nearest
from patchscout.data.loader import to_tensor
from patchscout.devices import full_precision
from patchscout.networks.tiles import segment
from patchscout.types import AnomalyMap, Image, WorkingMap, check_probabilities

MAX_BATCH, BATCH_PIXELS = 16, 16 * 256**2
"""Images that a GPU scores at a time, if there are so many: no more of either, so that large ones
fit into its memory. A CPU is as fast one by one."""


class Scorer:
    """Scores images of any size with a trained model.

    Attributes:
        image_size: Height and width in pixels that the model works at.
        batch_size: Images that are scored at a time, where there are several.

    Args:
        segmenter: The trained model, in evaluation mode.
        image_size: Height and width in pixels that it works at.
        device: Where it is.
    """

    def __init__(
        self, segmenter: nn.Module, image_size: tuple[int, int], device: torch.device
    ) -> None:
        self.image_size = image_size
        self.device = device
        self.segmenter = segmenter
        self.batch_size = 1
        if device.type == "cuda":
            self.batch_size = max(min(BATCH_PIXELS // math.prod(image_size), MAX_BATCH), 1)

    def __call__(self, image: Image) -> WorkingMap:
        """Return the anomaly map of an image at the working size.

        Args:
            image: (height, width, 3) float32 in [0, 1], of any size.

        Raises:
            InputValueError: If it is not finite or not in [0, 1].
        """
        return self._maps([image])[0]

    def many(self, images: Iterable[Image]) -> Iterator[WorkingMap]:
        """Yield the anomaly map of each image, see `__call__`; a batch of images is read ahead."""
        images = iter(images)
        while batch := list(islice(images, self.batch_size)):
            yield from self._maps(batch)

    @torch.no_grad()
    def _maps(
        self, batch: Sequence[Image]
    ) -> Float[np.ndarray, "batch working_height working_width"]:
        """Return the anomaly maps of one image, or of at most a batch."""
        resized = torch.stack([to_tensor(resize_image(one, self.image_size)) for one in batch])
        images = resized.to(self.device)
        with full_precision():
            maps = segment(self.segmenter, images).float().cpu().numpy()
        check_probabilities(maps)
        return maps


def resize_map(anomaly_map: WorkingMap, size: tuple[int, int]) -> AnomalyMap:
    """Return an anomaly map at another size (height, width), values staying in [0, 1].

    Exactly 0 is only what lies outside of the region of interest, and stays so.
    """
    if anomaly_map.shape == size:
        return anomaly_map
    found = np.clip(resize(anomaly_map, size), 0.0, 1.0, dtype=np.float32)
    outside = anomaly_map == 0
    if outside.any():
        found[resize_nearest(outside, size)] = 0
    return found
