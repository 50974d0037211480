"""From an image of any kind and size to what was found in it, at its own size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.cuda_graphs import Recording
from patchscout.data.images import resize, resize_image
from patchscout.data.loader import to_tensor
from patchscout.devices import full_precision
from patchscout.networks.segmenter import Segmenter
from patchscout.networks.tiles import LARGEST_WHOLE_PX, segment
from patchscout.types import AnomalyMap, Image, check_probabilities

WorkingMap = Float[np.ndarray, "working_height working_width"]
"""An anomaly map at the size that the model works at."""


MAX_BATCH, BATCH_PIXELS = 16, 16 * 256**2
"""Images that a GPU scores at a time, if there are so many: no more of either, so that large ones
fit into its memory. A CPU is as fast one by one."""


class Scorer:
    """Scores images of any size with a trained model.

    On a CUDA device what is done with the first image is recorded, and replayed for the others.

    Attributes:
        image_size: Height and width in pixels that the model works at.
        batch_size: Images that are scored at a time, where there are several.

    Args:
        segmenter: The trained model, in evaluation mode.
        image_size: Height and width in pixels that it works at.
        device: Where it is.
    """

    def __init__(
        self, segmenter: Segmenter, image_size: tuple[int, int], device: torch.device
    ) -> None:
        self.image_size = image_size
        self.device = device
        self._segment = partial(segment, segmenter)
        self._records = device.type == "cuda" and max(image_size) <= LARGEST_WHOLE_PX
        self.batch_size = 1
        if self._records:
            self.batch_size = max(min(BATCH_PIXELS // math.prod(image_size), MAX_BATCH), 1)
        self._recordings: dict[int, Recording] = {}

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
        if 1 < len(batch) < self.batch_size:  # filled up, so that there are only two shapes
            filling = images.new_zeros(self.batch_size - len(batch), *images.shape[1:])
            images = torch.cat([images, filling])
        with full_precision():
            found = self._replayed(images) if self._records else self._segment(images)
        maps = found[: len(batch)].float().cpu().numpy()
        check_probabilities(maps)
        return maps

    def _replayed(self, images: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Return anomaly maps by the recording of as many images, made when first needed."""
        if len(images) not in self._recordings:
            self._recordings[len(images)] = Recording(self._segment, images)
        return self._recordings[len(images)](images)


def resize_map(anomaly_map: WorkingMap, size: tuple[int, int]) -> AnomalyMap:
    """Return an anomaly map at another size (height, width), values staying in [0, 1]."""
    if anomaly_map.shape == size:
        return anomaly_map
    return np.clip(resize(anomaly_map, size), 0.0, 1.0, dtype=np.float32)
