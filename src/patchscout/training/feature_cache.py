"""Features of the normal images, computed once and kept in a bounded file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from patchscout.data.loader import ImageLoader
from patchscout.data.slots import FileSlots
from patchscout.networks.segmenter import Observer
from patchscout.types import Sample

Maps = Float[Tensor, "batch channels rows columns"]


class FeatureCache:
    """The backbone's features of images that do not change.

    They are kept in half precision in a temporary file; beyond its size they are computed again.

    Args:
        samples: The images.
        loader: Reads them.
        observer: Gives the features.
        cache_mib: Size of the file, in MiB.
    """

    def __init__(
        self, samples: Sequence[Sample], loader: ImageLoader, observer: Observer, cache_mib: int
    ) -> None:
        self.samples = samples
        self.loader = loader
        self.observer = observer
        with torch.no_grad():
            blank = observer.features(torch.zeros(1, 3, *loader.image_size, device=loader.device))
        self._shapes = [one.shape[1:] for one in blank]
        num_values = sum(math.prod(shape) for shape in self._shapes)
        self._slots = FileSlots(cache_mib * 2**20, 2 * num_values)

    def __len__(self) -> int:
        return len(self.samples)

    @torch.no_grad()
    def features(self, numbers: Int[Tensor, " batch"] | Sequence[int]) -> list[Maps]:
        """Return the features of images by their numbers, one tensor a level."""
        flat = np.stack([self._flat(int(number)) for number in numbers])
        values = torch.from_numpy(flat).to(self.loader.device).float()
        sizes = [math.prod(shape) for shape in self._shapes]
        parts = values.split(sizes, dim=1)
        return [
            part.view(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def _flat(self, number: int) -> np.ndarray:
        known = self._slots.get(number)
        if known is None:
            found = self.observer.features(self.loader.image(self.samples[number])[None])
            values = torch.cat([one.flatten() for one in found]).half().cpu()
            known = values.numpy()
            self._slots.put(number, known)
        return known
