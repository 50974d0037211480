"""Augmentation: of geometry, one object by which image, mask and maps move together; of light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """A flip, then a shear, a rotation and a translation about the center of the image.

    Flips alone move pixels exactly; anything else resamples, and what comes from outside the image
    is its mirror image.

    Attributes:
        flip_horizontal: Whether left and right are exchanged.
        flip_vertical: Whether top and bottom are exchanged.
        rotation_deg: Angle in degrees, counterclockwise as seen.
        translation_fraction: (x, y) shift to the right and down, as fractions of width and height.
        shear_deg: Angle in degrees by which vertical lines lean to the right, in (-90, 90).
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    rotation_deg: float = 0.0
    translation_fraction: tuple[float, float] = (0.0, 0.0)
    shear_deg: float = 0.0

    @classmethod
    def identity(cls) -> Augmentation:
        """Return the augmentation that changes nothing."""
        return cls()

    def without_resampling(self) -> Augmentation:
        """Return the flips of this augmentation alone, which move pixels exactly."""
        return Augmentation(self.flip_horizontal, self.flip_vertical)

    @property
    def resamples(self) -> bool:
        """Whether pixels move other than by flips."""
        return bool(self.rotation_deg or self.shear_deg or any(self.translation_fraction))

    def apply(self, stack: Float[Tensor, "*maps height width"]) -> Tensor:
        """Return an image, or a stack of maps over one, moved; masks are cut at one half after."""
        flipped = [
            dim for dim, flips in ((-1, self.flip_horizontal), (-2, self.flip_vertical)) if flips
        ]
        moved = stack.flip(flipped)
        if not self.resamples:
            return moved
        height, width = stack.shape[-2:]
        maps = moved.reshape(1, -1, height, width)
        theta = torch.tensor([self._inverse(height, width)], dtype=stack.dtype, device=stack.device)
        grid = functional.affine_grid(theta, list(maps.shape), align_corners=False)
        moved = functional.grid_sample(maps, grid, padding_mode="reflection", align_corners=False)
        return moved.reshape(stack.shape)

    def _inverse(self, height: int, width: int) -> list[list[float]]:
        """Return where each output position comes from: (2, 3), in `affine_grid`'s coordinates.

        With A = rotation times shear in pixels and t the translation, output = A input + t, hence
        input = A^-1 (output - t); S = diag(width, height) / 2 turns [-1, 1] into pixels.
        """
        angle = math.radians(self.rotation_deg)
        cosine, sine = math.cos(angle), math.sin(angle)
        rotation = np.array([[cosine, sine], [-sine, cosine]])
        shear = np.array([[1.0, -math.tan(math.radians(self.shear_deg))], [0.0, 1.0]])
        scale = np.diag([width / 2, height / 2])
        linear = np.linalg.inv(scale) @ np.linalg.inv(rotation @ shear) @ scale
        offset = -linear @ (2 * np.array(self.translation_fraction))
        return np.column_stack([linear, offset]).tolist()


def draw_augmentation(
    rng: np.random.Generator,
    *,
    flips_horizontally: bool = True,
    flips_vertically: bool = True,
    max_rotation_deg: float = 30.0,
    max_translation: float = 0.1,
    max_shear_deg: float = 20.0,
) -> Augmentation:
    """Draw an augmentation: each flip half the time, each value evenly up to its maximum.

    Args:
        rng: Where the randomness comes from.
        flips_horizontally: Whether left and right may be exchanged.
        flips_vertically: Whether top and bottom may be.
        max_rotation_deg: In degrees, 0 or more.
        max_translation: As a fraction of width and height, 0 or more.
        max_shear_deg: In degrees, in [0, 90).
    """
    horizontal, vertical = (rng.random(2) < 0.5).tolist()
    rotation, shear, shift_x, shift_y = rng.uniform(-1, 1, 4).tolist()
    return Augmentation(
        flip_horizontal=horizontal and flips_horizontally,
        flip_vertical=vertical and flips_vertically,
        rotation_deg=rotation * max_rotation_deg,
        translation_fraction=(shift_x * max_translation, shift_y * max_translation),
        shear_deg=shear * max_shear_deg,
    )


def change_lighting(image: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Return an image under another light: contrast, brightness and, half the time, gamma.

    Args:
        image: (3, height, width) in [0, 1].
        rng: Where the randomness comes from.
        strength: Contrast changes by up to this fraction, brightness by half of it, and the
            logarithm of gamma by as much; 0 changes nothing.
    """
    if not strength:
        return image
    contrast, brightness, gamma = (strength * rng.uniform(-1, 1, 3)).tolist()
    mean = image.mean()
    changed = (1 + contrast) * (image - mean) + math.exp(brightness / 2) * mean
    changed = changed.clamp(0, 1)
    return changed.pow(math.exp(gamma)) if rng.random() < 0.5 else changed
