"""The observations that the predictor is trained on, replaced a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.networks.loss_profile import LossProfile
from patchscout.networks.segmenter import Observation, Observer, measure_lighting
from patchscout.training.views import View, ViewSource

CAPACITY = 160
"""Observations that are kept."""

REGION_PX = 288
"""Longest side of the part of a view that is observed, unless a crop needs a longer one."""

MARGIN_PX = 48
"""Width at the cuts of a region, left out again: what is observed there is unlike the inside."""

CELL_PX = 16
"""Crops begin and end at multiples of this, so that every level can be cut alike."""


class Entry(NamedTuple):
    """An observation in half precision, without its batch, and its mask."""

    image: Tensor
    sides: list[Tensor]
    mask: Tensor


class ProfileBuffer:
    """Observations of augmented views with their masks.

    Views are augmented before they are observed, so that labeled profiles vary as those of other
    images would. Of a large view only a region is used, half the time one with a defect in it, so
    that the cost does not grow with the image.

    Args:
        views: Where images and masks come from.
        observer: What the predictor sees of them.
        crop_px: Side of the squares that a batch is made of, a multiple of 16.
        batch_size: How many.
        seed: Seed of regions and crops.
    """

    def __init__(
        self, views: ViewSource, observer: Observer, *, crop_px: int, batch_size: int, seed: int
    ) -> None:
        self.views = views
        self.observer = observer
        self.crop_px = min(crop_px, *views.loader.image_size)
        self.region_px = max(REGION_PX, self.crop_px + 2 * MARGIN_PX)
        self.batch_size = batch_size
        self._entries: deque[Entry] = deque(maxlen=max(CAPACITY, batch_size))
        self._rng = np.random.default_rng([seed, 1])

    def refresh(self, profiles: Sequence[LossProfile]) -> None:
        """Replace the oldest entry by a new one; while there is room, add two, at first a batch.

        Args:
            profiles: One for each fold of the normal images.
        """
        is_full = len(self._entries) == self._entries.maxlen
        count = 1 if is_full else 2 if self._entries else self.batch_size
        self._entries.extend(self._observed(self.views.draw(), profiles) for _ in range(count))

    def batch(self) -> tuple[Observation, Float[Tensor, "batch crop crop"]]:
        """Return randomly cropped observations with their masks."""
        chosen = self._rng.choice(len(self._entries), self.batch_size, replace=False)
        crops = [self._crop(self._entries[number]) for number in chosen]
        images, sides, masks = zip(*crops, strict=True)
        image = torch.stack(images).float().contiguous(memory_format=torch.channels_last)
        levels = [torch.stack(level).float() for level in zip(*sides, strict=True)]
        return Observation(image, levels), torch.stack(masks).float()

    @torch.no_grad()
    def _observed(self, view: View, profiles: Sequence[LossProfile]) -> Entry:
        """Return what the predictor sees of a view, or of a region of a large one."""
        profile = profiles[view.fold]
        region, inside = self._region(view)
        image = region.image[None]
        lighting = measure_lighting(view.image[None])
        features = profile.standardized(self.observer.features(image, lighting))
        seen = self.observer.assemble(image, profile(features), lighting)
        return _cut(Entry(seen.image[0], [one[0] for one in seen.sides], region.mask), inside)

    def _region(self, view: View) -> tuple[View, tuple[slice, slice]]:
        """Cut a region from a large view; also return which part of it is clear of the cuts."""
        anomalous = view.mask.nonzero()
        has_target = len(anomalous) > 0 and self._rng.random() < 0.5
        target = anomalous[self._rng.integers(len(anomalous))].tolist() if has_target else None
        region, inside = [], []
        for axis, side in enumerate(view.mask.shape):
            size = min(side, self.region_px)
            most = side - size
            if target is not None and most:  # anywhere that has the target clear of the cuts
                start = target[axis] - int(self._rng.integers(MARGIN_PX, size - MARGIN_PX))
            else:  # the middle anywhere: a start that is drawn would seldom leave the border in
                start = int(self._rng.integers(side)) - size // 2
            start = min(max(start, 0), most)
            region.append(slice(start, start + size))
            first = MARGIN_PX if start > 0 else 0
            last = size - (MARGIN_PX if start < most else 0)
            inside.append(slice(first, last))
        return view.part(region[0], region[1]), (inside[0], inside[1])

    def _crop(self, entry: Entry) -> Entry:
        """Cut a random square, the same from every level."""
        size = entry.mask.shape
        top, left = (
            CELL_PX * int(self._rng.integers((side - self.crop_px) // CELL_PX + 1)) for side in size
        )
        return _cut(entry, (slice(top, top + self.crop_px), slice(left, left + self.crop_px)))


def _cut(entry: Entry, window: tuple[slice, slice]) -> Entry:
    """Return a part of an entry, given in pixels."""
    size = entry.mask.shape
    return Entry(
        _part(entry.image, window, size),
        [_part(level, window, size) for level in entry.sides],
        entry.mask[window].clone(),
    )


def _part(maps: Tensor, window: tuple[slice, slice], size: Sequence[int]) -> Tensor:
    """Return a part of maps that is given in pixels of the image of a size; in half precision."""
    parts = []
    for side, cells, part in zip(size, maps.shape[-2:], window, strict=True):
        stride = side // cells
        parts.append(slice(part.start // stride, part.stop // stride))
    return maps[:, parts[0], parts[1]].half().clone()
