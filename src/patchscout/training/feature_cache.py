"""Features of the normal images, computed once and kept in a bounded file."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from patchscout.data.loader import ImageLoader
from patchscout.data.slots import FileSlots
from patchscout.networks.autoencoder import Level
from patchscout.networks.segmenter import Observer
from patchscout.types import Sample

KEPT_AT_HAND = 64
"""Images whose features are kept in memory: those that walkers are on, and some more."""


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
        self._latest: OrderedDict[int, list[Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Rows and columns of each level."""
        return [(rows, columns) for _, rows, columns in self._shapes]

    def windows(
        self, numbers: Int[Tensor, " batch"], places: Int[Tensor, "batch 2"], side: int
    ) -> list[Level]:
        """Return a square of each image, at each level `side` cells wide, at most the level.

        Args:
            numbers: Of the images.
            places: Middle of each square, in cells of the finest level.
            side: In cells of the level itself.
        """
        found = [
            torch.empty(len(numbers), channels, min(side, rows), min(side, columns))
            for channels, rows, columns in self._shapes
        ]
        finest = self._shapes[0][1:]
        for index, (number, place) in enumerate(
            zip(numbers.tolist(), places.tolist(), strict=True)
        ):
            for windows, level in zip(found, self._levels(number), strict=True):
                window = [slice(None)]
                for cell, finest_side, own_side in zip(place, finest, level.shape[1:], strict=True):
                    size = min(side, own_side)
                    first = cell * own_side // finest_side - size // 2
                    first = min(max(first, 0), own_side - size)
                    window.append(slice(first, first + size))
                windows[index] = level[tuple(window)]
        return [windows.to(self.loader.device) for windows in found]

    @torch.no_grad()
    def features(self, numbers: Int[Tensor, " batch"] | Sequence[int]) -> list[Level]:
        """Return the features of images by their numbers, one tensor a level."""
        levels = zip(*(self._levels(int(number)) for number in numbers), strict=True)
        return [torch.stack(level).to(self.loader.device).float() for level in levels]

    def _levels(self, number: int) -> list[Float[Tensor, "channels rows columns"]]:
        """Return the features of one image, in half precision on the CPU."""
        if number not in self._latest:
            values = torch.from_numpy(self._flat(number))
            parts = values.split([math.prod(shape) for shape in self._shapes])
            levels = [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]
            self._latest[number] = levels
            if len(self._latest) > KEPT_AT_HAND:
                self._latest.popitem(last=False)
        return self._latest[number]

    @torch.no_grad()
    def _flat(self, number: int) -> np.ndarray:
        known = self._slots.get(number)
        if known is None:
            found = self.observer.features(self.loader.image(self.samples[number])[None])
            known = torch.cat([one.flatten() for one in found]).half().cpu().numpy()
            self._slots.put(number, known)
        return known
