"""What the predictor is trained on: augmented normal, labeled and pasted images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from patchscout.data.augment import draw_augmentation
from patchscout.data.loader import ImageLoader
from patchscout.types import Sample

Image = Float[Tensor, "3 height width"]
Mask = Bool[Tensor, "height width"]

SEAM_PX = 5
"""Width over which a pasted defect is blended into the image around it."""


class ViewSource:
    """Draws training views: an image with its mask, moved together by one augmentation.

    Args:
        normal: Normal images.
        labeled: Anomalous images with masks.
        loader: Reads them.
        normal_fraction: Share of views that are normal.
        paste_fraction: Share of views in which the defect of a labeled image, itself augmented
            first, is pasted into a normal one at the place where it was.
        seed: Seed of every draw.
    """

    def __init__(
        self,
        normal: Sequence[Sample],
        labeled: Sequence[Sample],
        loader: ImageLoader,
        *,
        normal_fraction: float,
        paste_fraction: float,
        seed: int,
    ) -> None:
        self.normal = normal
        self.labeled = labeled
        self.loader = loader
        self.normal_fraction = normal_fraction
        self.paste_fraction = paste_fraction
        self._rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Image, Mask]:
        """Return an image in [0, 1] and its mask."""
        kind = self._rng.random()
        if kind < self.normal_fraction:
            image = self.loader.image(self._any(self.normal))
            mask = torch.zeros(image.shape[-2:], dtype=torch.bool)
        elif kind < self.normal_fraction + self.paste_fraction:
            image, mask = self._pasted()
        else:
            image, mask = self._labeled()
        return self._augment(image, mask)

    def _labeled(self) -> tuple[Image, Mask]:
        sample = self._any(self.labeled)
        return self.loader.image(sample), self.loader.mask(sample)

    def _pasted(self) -> tuple[Image, Mask]:
        """Return a normal image with a labeled defect in it."""
        background = self.loader.image(self._any(self.normal))
        defective, mask = self._augment(*self._labeled())
        opacity = soft_edge(mask)
        return background + opacity * (defective - background), mask

    def _augment(self, image: Image, mask: Mask) -> tuple[Image, Mask]:
        augmentation = draw_augmentation(self._rng)
        moved_mask = augmentation.apply(mask[None].float())[0] >= 0.5
        return augmentation.apply(image), moved_mask

    def _any(self, samples: Sequence[Sample]) -> Sample:
        return samples[int(self._rng.integers(len(samples)))]


def soft_edge(mask: Mask) -> Float[Tensor, "height width"]:
    """Return the opacity of a mask: 1 inside, falling to 0 over a few pixels around it."""
    margin = SEAM_PX // 2
    grown = F.max_pool2d(mask[None].float(), SEAM_PX, 1, margin)
    return F.avg_pool2d(grown, SEAM_PX, 1, margin, count_include_pad=False)[0]
