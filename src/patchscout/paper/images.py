"""The images of the paper: where patches are picked, and what the predictor is trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from patchscout.data.augment import Augmentation, draw_augmentation
from patchscout.data.loader import ImageLoader
from patchscout.paper import settings as numbers
from patchscout.paper.networks import Images
from patchscout.training.reward_meter import square_about
from patchscout.training.views import spread_over_types
from patchscout.types import Sample, Split

Target = Bool[Tensor, "height width"]
Profiles = Float[Tensor, "batch length height width"]


class Pool:
    """The images that patches are picked from: normal ones, and augmented copies of labeled ones.

    Each copy has one augmentation of its own for the whole training.
    """

    def __init__(self, split: Split, loader: ImageLoader, seed: int) -> None:
        self.loader = loader
        self._rng = np.random.default_rng([seed, 2])
        self._items = [(sample, Augmentation.identity()) for sample in split.train_normal]
        copies = [sample for sample in split.labeled for _ in range(numbers.LABELED_COPIES)]
        self._items += [(sample, _augmentation(self._rng)) for sample in copies]

    def __len__(self) -> int:
        return len(self._items)

    def draw(self, count: int) -> tuple[Int[Tensor, " count"], Images]:
        """Return the numbers of random images, and these."""
        chosen = self._rng.integers(len(self), size=count)
        drawn = [self._items[number] for number in chosen]
        images = torch.stack([move.apply(self.loader.image(sample)) for sample, move in drawn])
        return torch.from_numpy(chosen).to(images.device), images


class ProfileBuffer:
    """Loss profiles of augmented images with their masks; the oldest make room for new ones."""

    def __init__(self, split: Split, loader: ImageLoader, seed: int) -> None:
        self.split = split
        self.loader = loader
        self._rng = np.random.default_rng([seed, 1])
        self._entries: deque[tuple[Tensor, Target]] = deque(maxlen=numbers.NUM_PROFILES)

    def renew(self, profiles_of: Callable[[Images], Profiles]) -> None:
        """Add profiles of a few images, twice as many until there is no room for more."""
        has_room = len(self._entries) < numbers.NUM_PROFILES
        views = [self._view() for _ in range((1 + has_room) * numbers.FRESH_PROFILES)]
        profiles = profiles_of(torch.stack([image for image, _ in views])).half()
        self._entries.extend(
            (profile.clone(), mask) for profile, (_, mask) in zip(profiles, views, strict=True)
        )

    def batch(self) -> tuple[Profiles, Float[Tensor, "batch height width"]]:
        """Return a random half of a full buffer, or what there is, each flipped and turned."""
        count = min(numbers.NUM_PROFILES // numbers.UPDATES_PER_STEP, len(self._entries))
        chosen = self._rng.choice(len(self._entries), count, replace=False)
        laid = [self._laid(*self._entries[number]) for number in chosen]
        profiles, targets = (torch.stack(parts).float() for parts in zip(*laid, strict=True))
        return profiles, targets

    def _view(self) -> tuple[Float[Tensor, "3 height width"], Target]:
        """Return an augmented image with its mask, moved together."""
        is_normal = self._rng.random() < numbers.NORMAL_SHARE
        samples = self.split.train_normal if is_normal else self.split.labeled
        sample = samples[self._rng.integers(len(samples))]
        augmentation = _augmentation(self._rng)
        mask = augmentation.apply(self.loader.mask(sample)[None].float())[0] >= 0.5
        return augmentation.apply(self.loader.image(sample)), mask

    def _laid(self, profile: Tensor, mask: Target) -> tuple[Tensor, Target]:
        """Flip a profile and its mask and, if they are square, exchange rows and columns."""
        flipped = [axis for axis in (-2, -1) if self._rng.integers(2)]
        if self._rng.integers(2) and mask.shape[0] == mask.shape[1]:
            profile, mask = profile.mT, mask.mT
        return profile.flip(flipped), mask.flip(flipped)


def defects(
    labeled: Sequence[Sample], loader: ImageLoader
) -> tuple[Images, Float[Tensor, "batch height width"]]:
    """Return squares about a few labeled defects, of each type in turn, with their masks."""
    squares = []
    for sample in spread_over_types(labeled, numbers.REWARD_IMAGES):
        image, mask = loader.image(sample), loader.mask(sample)
        rows, columns = square_about(mask, numbers.REWARD_PX)
        squares.append((image[:, rows, columns], mask[rows, columns].float()))
    images, masks = (torch.stack(parts) for parts in zip(*squares, strict=True))
    return images, masks


def _augmentation(rng: np.random.Generator) -> Augmentation:
    return draw_augmentation(
        rng,
        max_rotation_deg=numbers.MAX_ROTATION_DEG,
        max_translation=numbers.MAX_TRANSLATION,
        max_shear_deg=numbers.MAX_SHEAR_DEG,
    )
