"""Defect-free surfaces of the embedded sample: parts of a photograph in changing light.

The photograph is `skimage.data.brick`, which scikit-image ships under CC0.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from skimage import data

from patchscout.types import Image

_COLOR = np.array((1.16, 0.98, 0.86), np.float32)


def brick_wall(size_px: int, rng: np.random.Generator) -> Image:
    """Return a random part of a brick wall, flipped at random, before light falls on it."""
    grey = _photograph()
    side = int(rng.integers(220, 300))
    top, left = (rng.integers(0, length - side) for length in grey.shape)
    part = grey[top : top + side, left : left + side]
    part = part[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])].astype(np.float32) / 255
    part = cv2.resize(part, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    return part[:, :, None] * _COLOR


def light(image: Image, rng: np.random.Generator) -> Image:
    """Return a surface as a camera sees it: uneven light, dust, slight blur and sensor noise.

    These differ between normal images by more than many defects differ from their surroundings.
    """
    size_px = len(image)
    ramp = np.linspace(-1, 1, size_px)
    slope_x, slope_y = rng.uniform(-0.14, 0.14, 2)
    lightness = 1 + slope_x * ramp[None, :] + slope_y * ramp[:, None]
    lightness += 0.05 * noise(size_px, rng, finest_px=size_px // 4)
    lightness *= rng.uniform(0.82, 1.18)
    tint = rng.uniform(0.975, 1.025, 3)
    dust = np.zeros((size_px, size_px), np.float32)
    for _ in range(rng.integers(0, 8)):
        x, y = rng.integers(0, size_px, 2).tolist()
        cv2.circle(dust, (x, y), int(rng.integers(0, 2)), rng.uniform(-0.2, 0.2), -1, cv2.LINE_AA)
    seen = (image * lightness[:, :, None] + dust[:, :, None]) * tint
    seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 0.7))
    seen += 0.012 * rng.standard_normal(seen.shape, np.float32)
    return np.clip(seen, 0, 1).astype(np.float32)


def noise(size_px: int, rng: np.random.Generator, *, finest_px: int) -> np.ndarray:
    """Return smooth noise of several scales, like clouds.

    Args:
        size_px: Side length in pixels.
        rng: Where the randomness comes from.
        finest_px: The smallest scale in pixels; the largest is half the image.

    Returns:
        (size_px, size_px) with mean 0 and standard deviation 1.
    """
    total = np.zeros((size_px, size_px), np.float32)
    cells = 2
    while cells * finest_px <= size_px:
        # Two cells more than needed, cut off again: interpolation is flat at the border.
        side = round(size_px * (cells + 2) / cells)
        grid = rng.standard_normal((cells + 2, cells + 2), np.float32)
        first = round(size_px / cells)
        layer = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        total += layer[first : first + size_px, first : first + size_px] / cells
        cells *= 2
    return (total - total.mean()) / total.std()


@cache
def _photograph() -> np.ndarray:
    return data.brick()
