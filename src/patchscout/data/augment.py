"""Augmentation: of geometry, one object by which image, mask and maps move together; of light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Mode = Literal["bilinear", "nearest"]


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

    def apply(self, stack: Tensor, mode: Mode = "bilinear") -> Tensor:
        """Move an image, or a stack of maps over one.

        Args:
            stack: (..., C, H, W); for masks and whole numbers `mode` must be `nearest`.
            mode: How values between pixels are found.

        Returns:
            The same shape and dtype.
        """
        height, width = stack.shape[-2:]
        return apply_batch([self], stack.reshape(1, -1, height, width), mode).reshape(stack.shape)

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


def apply_batch(
    augmentations: Sequence[Augmentation], stack: Tensor, mode: Mode = "bilinear"
) -> Tensor:
    """Move each item of a batch by its own augmentation.

    Args:
        augmentations: One for each item.
        stack: (B, C, H, W); for masks and whole numbers `mode` must be `nearest`.
        mode: How values between pixels are found.

    Returns:
        The same shape and dtype.
    """
    if len(augmentations) != len(stack):
        raise ValueError(f"{len(augmentations)} augmentations for a batch of {len(stack)}")
    if not stack.is_floating_point():
        if mode != "nearest":
            raise ValueError(f"{stack.dtype} can only be moved with mode 'nearest'")
        return apply_batch(augmentations, stack.float(), mode).to(stack.dtype)

    def chosen(flags: list[bool]) -> Tensor:
        return torch.tensor(flags, device=stack.device)

    moved = stack
    for dim, flags in (
        (-1, [augmentation.flip_horizontal for augmentation in augmentations]),
        (-2, [augmentation.flip_vertical for augmentation in augmentations]),
    ):
        if any(flags):
            moved = torch.where(chosen(flags)[:, None, None, None], moved.flip(dim), moved)
    resampled = chosen([augmentation.resamples for augmentation in augmentations])
    if not resampled.any():
        return moved.clone() if moved is stack else moved
    height, width = stack.shape[-2:]
    rows = [a._inverse(height, width) for a in augmentations if a.resamples]
    theta = torch.tensor(rows, dtype=stack.dtype, device=stack.device)
    items = moved[resampled]
    grid = functional.affine_grid(theta, list(items.shape), align_corners=False)
    result = moved.clone()
    result[resampled] = functional.grid_sample(
        items, grid, mode=mode, padding_mode="reflection", align_corners=False
    )
    return result


def draw_augmentation(
    rng: np.random.Generator,
    *,
    max_rotation_deg: float = 30.0,
    max_translation: float = 0.1,
    max_shear_deg: float = 20.0,
    flips: bool = True,
) -> Augmentation:
    """Draw an augmentation: each value uniformly between minus and plus its maximum.

    Args:
        rng: Where the randomness comes from.
        max_rotation_deg: In degrees, 0 or more.
        max_translation: As a fraction of width and height, 0 or more.
        max_shear_deg: In degrees, in [0, 90).
        flips: Whether each of the two flips happens with probability 1/2.
    """
    horizontal, vertical = (rng.random(2) < 0.5).tolist()
    rotation, shear, shift_x, shift_y = rng.uniform(-1, 1, 4).tolist()
    return Augmentation(
        flip_horizontal=flips and horizontal,
        flip_vertical=flips and vertical,
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
