"""What the predictor is trained on: augmented normal, labeled, pasted and simulated images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from patchscout.config import ViewSettings
from patchscout.data.augment import Augmentation, change_lighting, draw_augmentation
from patchscout.data.loader import ImageLoader
from patchscout.data.simulated import Image, Mask, simulate_defect
from patchscout.types import Sample

SEAM_PX = 5
"""Width over which a pasted defect is blended into the image around it."""

KEPT_TILT = 0.25
"""Share of rotation and shear that is left where the direction of the surface is kept."""


class ViewSource:
    """Draws training views: an image with its mask, moved together by one augmentation.

    Without labeled images, simulated defects take the place of labeled and pasted ones.

    Args:
        normal: Normal images.
        labeled: Anomalous images with masks; may be empty.
        loader: Reads them.
        settings: Which views, and how far they are augmented.
        seed: Seed of every draw.
    """

    def __init__(
        self,
        normal: Sequence[Sample],
        labeled: Sequence[Sample],
        loader: ImageLoader,
        settings: ViewSettings,
        *,
        seed: int,
    ) -> None:
        self.normal = normal
        self.labeled = labeled
        self.loader = loader
        self.settings = settings
        self._rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Image, Mask]:
        """Return an image in [0, 1] and its mask."""
        kind, shares = self._rng.random(), self.settings
        simulated = shares.normal_fraction + shares.simulated_fraction
        if kind < shares.normal_fraction:
            image = self._normal()
            mask = torch.zeros(image.shape[-2:], dtype=torch.bool)
        elif kind < simulated or not self.labeled:
            image, mask = self._simulated()
        elif kind < simulated + shares.pasted_fraction:
            image, mask = self._pasted()
        else:
            image, mask = self._labeled()
        image, mask = self._augment(image, mask)
        return change_lighting(image, self._rng, self.settings.max_lighting_change), mask

    def unaugmented(self) -> Iterator[tuple[Image, Mask]]:
        """Yield every normal image and every labeled one (or as many simulated defects) once."""
        for sample in self.normal:
            image = self.loader.image(sample)
            yield image, torch.zeros(image.shape[-2:], dtype=torch.bool)
        yield from self.defects(len(self.labeled) or len(self.normal))

    def defects(self, count: int) -> list[tuple[Image, Mask]]:
        """Return labeled images, one of each type in turn; without labels, simulated defects."""
        if not self.labeled:
            return [self._visibly_simulated() for _ in range(count)]
        chosen = spread_over_types(self.labeled, count)
        return [(self.loader.image(sample), self.loader.mask(sample)) for sample in chosen]

    def _simulated(self) -> tuple[Image, Mask]:
        return simulate_defect(self._normal(), self._normal(), self._rng)

    def _visibly_simulated(self) -> tuple[Image, Mask]:
        image, mask = self._simulated()
        while not mask.any():
            image, mask = self._simulated()
        return image, mask

    def _normal(self) -> Image:
        return self.loader.image(self._any(self.normal))

    def _labeled(self) -> tuple[Image, Mask]:
        sample = self._any(self.labeled)
        return self.loader.image(sample), self.loader.mask(sample)

    def _pasted(self) -> tuple[Image, Mask]:
        """Return a normal image with a labeled defect in it."""
        background = self._normal()
        defective, mask = self._augment(*self._labeled())
        opacity = soft_edge(mask)
        return background + opacity * (defective - background), mask

    def _augment(self, image: Image, mask: Mask) -> tuple[Image, Mask]:
        augmentation = self._augmentation()
        moved_mask = augmentation.apply(mask[None].float())[0] >= 0.5
        return augmentation.apply(image), moved_mask

    def _augmentation(self) -> Augmentation:
        tilt = KEPT_TILT if self.settings.keeps_direction else 1.0
        augmentation = draw_augmentation(
            self._rng,
            max_rotation_deg=tilt * self.settings.max_rotation_deg,
            max_translation=self.settings.max_translation,
            max_shear_deg=tilt * self.settings.max_shear_deg,
        )
        resamples = self._rng.random() < self.settings.resampled_fraction
        return augmentation if resamples else augmentation.without_resampling()

    def _any(self, samples: Sequence[Sample]) -> Sample:
        return samples[int(self._rng.integers(len(samples)))]


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


def soft_edge(mask: Mask) -> Float[Tensor, "height width"]:
    """Return the opacity of a mask: 1 inside, falling to 0 over a few pixels around it."""
    margin = SEAM_PX // 2
    grown = F.max_pool2d(mask[None].float(), SEAM_PX, 1, margin)
    return F.avg_pool2d(grown, SEAM_PX, 1, margin, count_include_pad=False)[0]
