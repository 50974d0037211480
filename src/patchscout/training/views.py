"""What the predictor is trained on: augmented normal, labeled, pasted and simulated images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from patchscout.config import Change, ViewSettings
from patchscout.data.augment import Augmentation, change_lighting, draw_augmentation
from patchscout.data.loader import ImageLoader
from patchscout.data.simulated import Image, Mask, simulate_defect
from patchscout.types import Sample

Stack = Float[Tensor, "channels height width"]
"""An image, or one and maps over it."""

Item = TypeVar("Item")
Number = TypeVar("Number", int, Tensor)

NUM_FOLDS = 2
"""Parts of the normal images; profiles of each come from autoencoders that did not see it."""

FEWEST_SIMULATED = 20
"""Simulated defects that take the place of labeled images at the least: one alone says little."""

SEAM_PX = 5
"""Width over which a pasted defect is blended into the image around it."""

NORMAL_SHARE = 0.3
"""Share of views that are normal images as they are."""

PASTED_SHARE = 0.2
"""Share of views that are normal images with a labeled defect pasted in."""

SIMULATED_SHARE = 0.2
"""Share of views that are normal images with a simulated defect."""

RESAMPLED_SHARE = 0.5
"""Share of views that are rotated, shifted and sheared, which blurs them; others are flipped."""

MAX_TRANSLATION = 0.1
"""Largest shift either way, as a fraction of width and height."""

MAX_SHEAR_DEG = 20.0

LIMITED_SHARE = 0.25
"""Share of rotation, shift and shear that is left where they are limited."""


class View(NamedTuple):
    """An image to train on.

    Attributes:
        image: In [0, 1].
        mask: What is anomalous in it.
        fold: Of the normal image that it was made of, or the one that a labeled image is shown
            through.
    """

    image: Image
    mask: Mask
    fold: int

    def part(self, rows: slice, columns: slice) -> View:
        """Return a part of it."""
        return View(self.image[..., rows, columns], self.mask[rows, columns], self.fold)


class ViewSource:
    """Draws training views: an image with its mask, moved together by one augmentation.

    Without labeled images, simulated defects take the place of labeled and pasted ones.

    Args:
        normal: Normal images.
        numbers: Which of them are drawn.
        labeled: Anomalous images with masks; may be empty.
        loader: Reads them.
        settings: Which views, and how far they are augmented.
        seed: Seed of every draw.
    """

    def __init__(
        self,
        normal: Sequence[Sample],
        numbers: Sequence[int],
        labeled: Sequence[Sample],
        loader: ImageLoader,
        settings: ViewSettings,
        *,
        seed: int,
    ) -> None:
        self.normal = normal
        self.numbers = numbers
        self.labeled = labeled
        self.loader = loader
        self.settings = settings
        self._rng = np.random.default_rng(seed)

    def draw(self) -> View:
        """Return an augmented view."""
        kind = self._rng.random()
        simulated = NORMAL_SHARE + SIMULATED_SHARE
        number = self._draw(self.numbers)
        if kind < NORMAL_SHARE:
            image, mask = self._normal(number)
        elif kind < simulated or not self.labeled:
            image, mask = self._simulated(number)
        elif kind < simulated + PASTED_SHARE:
            image, mask = self._pasted(number)
        else:  # no autoencoder has seen it: any fold will do
            image, mask = self._labeled()
        image, mask = self._augment(image, mask)
        image = change_lighting(image, self._rng, self.settings.max_lighting_change)
        return View(image, mask, fold_of(number))

    @property
    def num_defects(self) -> int:
        """How many labeled images there are, or simulated defects that take their place."""
        return len(self.labeled) or max(len(self.numbers), FEWEST_SIMULATED)

    @property
    def num_unaugmented(self) -> int:
        """How many images `unaugmented` yields."""
        return len(self.numbers) + self.num_defects

    def unaugmented(self) -> Iterator[View]:
        """Yield every normal image and every labeled one, or as many simulated defects, once."""
        for number in self.numbers:
            yield View(*self._normal(number), fold_of(number))
        for count, sample in enumerate(self.labeled):
            yield View(self.loader.image(sample), self.loader.mask(sample), fold_of(count))
        if not self.labeled:
            for _ in range(self.num_defects):
                yield self._visibly_simulated()

    def defects(self, count: int) -> list[tuple[Image, Mask]]:
        """Return labeled images, one of each type in turn; without labels, simulated defects."""
        if not self.labeled:
            return [self._visibly_simulated()[:2] for _ in range(count)]
        chosen = spread_over_types(self.labeled, count)
        return [(self.loader.image(sample), self.loader.mask(sample)) for sample in chosen]

    def _normal(self, number: int) -> tuple[Image, Mask]:
        image = self.loader.image(self.normal[number])
        return image, torch.zeros_like(image[0], dtype=torch.bool)

    def _simulated(self, number: int) -> tuple[Image, Mask]:
        image = self.loader.image(self.normal[number])
        other = self.loader.image(self.normal[self._draw(self.numbers)])
        return self.loader.limited(*simulate_defect(image, other, self._rng))

    def _visibly_simulated(self) -> View:
        number = self._draw(self.numbers)
        image, mask = self._simulated(number)
        while not mask.any():
            image, mask = self._simulated(number)
        return View(image, mask, fold_of(number))

    def _labeled(self) -> tuple[Image, Mask]:
        sample = self._draw(self.labeled)
        return self.loader.image(sample), self.loader.mask(sample)

    def _pasted(self, number: int) -> tuple[Image, Mask]:
        """Return a normal image with a labeled defect in it."""
        background = self.loader.image(self.normal[number])
        defective, mask = self._augment(*self._labeled())
        opacity = soft_edge(mask)
        return self.loader.limited(background + opacity * (defective - background), mask)

    def _augment(self, stack: Stack, mask: Mask) -> tuple[Stack, Mask]:
        augmentation = self._augmentation()
        moved_mask = augmentation.apply(mask[None].float())[0] >= 0.5
        return augmentation.apply(stack), moved_mask

    def _augmentation(self) -> Augmentation:
        limited = self.settings.limited or ()

        def most(change: Change, usual: float) -> float:
            return LIMITED_SHARE * usual if change in limited else usual

        augmentation = draw_augmentation(
            self._rng,
            flips_horizontally="horizontal_flip" not in limited,
            flips_vertically="vertical_flip" not in limited,
            max_rotation_deg=most("rotation", self.settings.max_rotation_deg),
            max_translation=most("translation", MAX_TRANSLATION),
            max_shear_deg=most("shear", MAX_SHEAR_DEG),
        )
        resamples = self._rng.random() < RESAMPLED_SHARE
        return augmentation if resamples else augmentation.without_resampling()

    def _draw(self, values: Sequence[Item]) -> Item:
        return values[int(self._rng.integers(len(values)))]


def fold_of(number: Number) -> Number:
    """Return the fold of a normal image, or of each of several, by its number."""
    return number % NUM_FOLDS


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
