"""The loss profiles that the predictor is trained on, replaced a few at a time."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.config import MARGIN_PX, Config
from patchscout.networks.segmenter import Context, FeatureExtractor, measure_lighting
from patchscout.training.views import View, ViewSource

CHUNK = 8
"""Profiles that are made at a time; at most so many before the first update, which may therefore be
on fewer than a batch."""


class ProfileBuffer:
    """Features and masks of augmented views, in half precision on their device.

    Views are augmented before their profile is taken, so that labeled profiles vary as those of
    other images would. Of a large view only a region is used, half the time one with a defect in
    it, so that the cost of a profile does not grow with the image. Entries made by older
    autoencoders stay until their turn comes, which shows the predictor profiles of several
    autoencoders.

    Args:
        config: Capacity, batch size and crop.
        views: Where images and masks come from, and on which device features are computed and kept.
    """

    def __init__(self, config: Config, views: ViewSource) -> None:
        self.capacity = config.buffer.capacity
        self.fresh_per_update = config.buffer.fresh_per_update
        self.batch_size = config.predictor.batch_size
        self.region_px = config.buffer.region_px
        self.crop_px = min(config.predictor.crop_px, *config.data.working_size)
        self.turns = not config.views.keeps_direction
        self.views = views
        self.device = views.loader.device
        self._entries: list[tuple[Tensor, Tensor]] = []
        self._next = 0
        self._num_due = 0
        self._rng = np.random.default_rng([config.seed, 1])

    def refresh(self, extractor: FeatureExtractor) -> None:
        """Replace the oldest entries by new ones; until the buffer is full, add twice as many.

        They are made several at a time, which is faster, so most calls leave the entries alone.
        """
        if not self._entries:
            self._add(extractor, min(self.batch_size, CHUNK, self.capacity))
            return
        is_full = len(self._entries) >= self.capacity
        self._num_due += self.fresh_per_update if is_full else max(2 * self.fresh_per_update, 1)
        chunk = min(CHUNK, max(self.capacity // 2, 1))
        while self._num_due >= chunk:
            self._add(extractor, chunk)
            self._num_due -= chunk

    @torch.no_grad()
    def _add(self, extractor: FeatureExtractor, count: int) -> None:
        """Make entries, in the place of the oldest ones if there is no room."""
        views = [self.views.draw() for _ in range(count)]
        regions = [self._region(view) for view in views]
        images, masks, deviations = (
            torch.stack(parts) for parts in zip(*(region for region, _ in regions), strict=True)
        )
        lighting = measure_lighting(torch.stack([view.image for view in views]))
        features = extractor(images, Context(lighting, deviations)).half()
        for one, mask, (_, inside) in zip(features, masks, regions, strict=True):
            # A copy, not a view that keeps the whole chunk, in the order that a batch has.
            inner = one[None, :, *inside].clone(memory_format=torch.channels_last)[0]
            entry = inner, mask[inside].clone()
            if len(self._entries) < self.capacity:
                self._entries.append(entry)
            else:
                self._entries[self._next] = entry
                self._next = (self._next + 1) % self.capacity

    def batch(
        self,
    ) -> tuple[
        Float[Tensor, "batch channels crop crop"],
        Float[Tensor, "batch crop crop"],
    ]:
        """Return randomly cropped, flipped and turned features with their masks."""
        count = min(self.batch_size, len(self._entries))
        chosen = self._rng.choice(len(self._entries), count, replace=False)
        shape = count, len(self._entries[0][0]), self.crop_px, self.crop_px
        features = torch.empty(shape, device=self.device, memory_format=torch.channels_last)
        target = torch.empty(count, *shape[2:], device=self.device)
        for index, number in enumerate(chosen):
            features[index], target[index] = self._crop(*self._entries[number])
        return features, target

    def _region(self, view: View) -> tuple[View, tuple[slice, slice]]:
        """Cut a region from a large view; also return which part of it is clear of the cuts."""
        anomalous = view.mask.nonzero()
        has_target = len(anomalous) > 0 and self._rng.random() < 0.5
        target = anomalous[self._rng.integers(len(anomalous))].tolist() if has_target else None
        region, inside = [], []
        for axis, side in enumerate(view.mask.shape):
            size, most = min(side, self.region_px), side - min(side, self.region_px)
            start = int(self._rng.integers(most + 1))
            if target is not None and most:  # anywhere that has the target clear of the cuts
                place = int(self._rng.integers(MARGIN_PX, size - MARGIN_PX))
                start = min(max(target[axis] - place, 0), most)
            region.append(slice(start, start + size))
            first = MARGIN_PX if start > 0 else 0
            last = size - (MARGIN_PX if start < most else 0)
            inside.append(slice(first, last))
        return view.part(region[0], region[1]), (inside[0], inside[1])

    def _crop(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cut the same random square from features and mask, and flip and turn both alike."""
        height, width = mask.shape
        top = int(self._rng.integers(height - self.crop_px + 1))
        left = int(self._rng.integers(width - self.crop_px + 1))
        window = (..., slice(top, top + self.crop_px), slice(left, left + self.crop_px))
        flipped = [axis for axis in (-2, -1) if self._rng.integers(2)]
        # Flips with and without an exchange of the axes are all eight ways to lay a square.
        is_turned = self.turns and bool(self._rng.integers(2))

        def laid(part: Tensor) -> Tensor:
            part = part[window].transpose(-2, -1) if is_turned else part[window]
            return part.flip(flipped) if flipped else part

        return laid(features), laid(mask)
