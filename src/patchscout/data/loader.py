"""Images and masks at the working size, read when needed and kept in a bounded file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from patchscout.data.annotations import read_mask
from patchscout.data.images import read_image, resize_image, resize_mask
from patchscout.data.slots import FileSlots
from patchscout.types import Mask, Sample

CPU = torch.device("cpu")


class ImageLoader:
    """Reads images at one size and remembers the latest, up to a number of bytes.

    Args:
        image_size: Height and width in pixels that everything is resized to.
        cache_mib: Size of the file of resized images (half precision) and masks, in MiB; 0
            remembers none.
        device: Where the tensors are.
    """

    def __init__(
        self, image_size: tuple[int, int], cache_mib: int, device: torch.device = CPU
    ) -> None:
        self.image_size = image_size
        self.device = device
        half_rgb_bytes = 2 * 3 * image_size[0] * image_size[1]
        self._slots = FileSlots(cache_mib * 2**20, half_rgb_bytes)
        self.region: Bool[Tensor, "height width"] | None = None
        self._color = torch.zeros(3, 1, 1)

    def limit_to(self, region: Mask | None, color: Float[Tensor, "3"]) -> None:
        """Paint what lies outside of a region in a color from now on, as the `Segmenter` does."""
        if region is not None:
            self.region = torch.from_numpy(resize_mask(region, self.image_size)).to(self.device)
            self._color = color[:, None, None]

    def limited(
        self, image: Float[Tensor, "3 height width"], mask: Bool[Tensor, "height width"]
    ) -> tuple[Float[Tensor, "3 height width"], Bool[Tensor, "height width"]]:
        """Return an image and its mask without what lies outside of the region."""
        if self.region is None:
            return image, mask
        return torch.where(self.region, image, self._color), mask & self.region

    def image(self, sample: Sample) -> Float[Tensor, "3 height width"]:
        """Return the image of a sample, float32 in [0, 1]."""

        def read() -> np.ndarray:
            image = resize_image(read_image(sample.image_path), self.image_size)
            return image.transpose(2, 0, 1).astype(np.float16)

        image = self._tensor(("image", sample.image_path), read).float()
        return image if self.region is None else torch.where(self.region, image, self._color)

    def images(self, samples: Sequence[Sample]) -> Float[Tensor, "batch 3 height width"]:
        """Return the images of several samples."""
        return torch.stack([self.image(sample) for sample in samples])

    def mask(self, sample: Sample) -> Bool[Tensor, "height width"]:
        """Return the mask of a sample, resized with pixels set where at least half is anomalous."""

        def read() -> np.ndarray:
            return resized_mask(sample, self.image_size)

        return self._tensor(("mask", sample.image_path), read)

    def _tensor(self, key: tuple[str, Path], read: Callable[[], np.ndarray]) -> Tensor:
        """Return what is remembered under a key, else read it."""
        array = self._slots.get(key)
        if array is None:
            array = np.ascontiguousarray(read())
            self._slots.put(key, array)
        return torch.from_numpy(array).to(self.device)


def resized_mask(sample: Sample, size: tuple[int, int]) -> Mask:
    """Return the mask of a sample at `size` (height, width); empty for a normal image.

    The sample must have a mask, see `Sample.has_mask`.
    """
    if not sample.is_anomalous:
        return np.zeros(size, bool)
    return resize_mask(read_mask(sample), size)


def to_tensor(image: Float[np.ndarray, "height width 3"]) -> Float[Tensor, "3 height width"]:
    """Return an image with channels first."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
