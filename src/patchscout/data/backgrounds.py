"""Defect-free surfaces of the embedded sample: crops of photographs, and a drawn machined disc.

The photographs are those that scikit-image ships under CC0: `skimage.data.brick` and
`skimage.data.gravel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from skimage import data

from patchscout.types import Image


@dataclass(frozen=True)
class Surface:
    """A surface before light falls on it.

    Attributes:
        image: Its color, (size, size, 3) float32.
        texture: Its material as if it covered the whole image, without openings; same shape.
        cover: (size, size) float32 in [0, 1], how much of each pixel it covers.
    """

    image: Image
    texture: Image
    cover: np.ndarray


def brick_wall(size_px: int, rng: np.random.Generator) -> Surface:
    """Return a part of a brick wall."""
    return _photograph("brick", (1.16, 0.98, 0.86), size_px, rng)


def gravel_bed(size_px: int, rng: np.random.Generator) -> Surface:
    """Return a part of a gravel bed."""
    return _photograph("gravel", (1.03, 1.0, 0.95), size_px, rng)


def machined_disc(size_px: int, rng: np.random.Generator) -> Surface:
    """Return a turned metal disc with a bore and six holes, never quite at the same place.

    Its surface has fine concentric grooves, on which light forms two opposite bright sectors.
    """
    center = size_px * (0.5 + rng.uniform(-0.03, 0.03, 2))
    radius = size_px * 0.4 * rng.uniform(0.96, 1.04)
    turn = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:size_px, :size_px].astype(np.float32)
    distance = np.hypot(rows - center[0], columns - center[1]) / radius
    angle = np.arctan2(rows - center[0], columns - center[1])

    grooves = np.interp(distance, np.linspace(0, 2, 400), rng.normal(0, 1, 400))
    sectors = np.cos(angle - rng.uniform(0, 2 * np.pi)) ** 2
    clouds = noise(size_px, rng, finest_px=2)
    metal = 0.42 + 0.16 * sectors + 0.035 * grooves + 0.05 * clouds
    edge = 0.5 / radius  # half a pixel, over which borders run

    def within(inner: np.ndarray | float, outer: np.ndarray | float) -> np.ndarray:
        return np.clip((outer - inner) / (2 * edge) + 0.5, 0, 1)

    metal = metal * (1 - 0.25 * within(0.88, distance) * within(distance, 0.91))  # engraved line
    openings = within(distance, 0.2)
    for hole in turn + np.arange(6) * np.pi / 3:
        offset = np.hypot(
            rows - center[0] - 0.62 * radius * np.sin(hole),
            columns - center[1] - 0.62 * radius * np.cos(hole),
        )
        openings = np.maximum(openings, within(offset / radius, 0.08))
    face = within(distance, 1.0) * (1 - openings)
    grey = face * metal + (1 - face) * (0.2 + 0.05 * clouds)
    color = np.array([0.98, 1.0, 1.03], np.float32)
    image, texture = (values.astype(np.float32)[:, :, None] * color for values in (grey, metal))
    return Surface(image, texture, face.astype(np.float32))


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


def _photograph(
    name: str, color: tuple[float, float, float], size_px: int, rng: np.random.Generator
) -> Surface:
    """Return a random part of a grey photograph, flipped at random, in a color."""
    grey = _read_photograph(name)
    side = int(rng.integers(220, 300))
    top, left = (rng.integers(0, length - side) for length in grey.shape)
    part = grey[top : top + side, left : left + side]
    part = part[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])].astype(np.float32) / 255
    part = cv2.resize(part, (size_px, size_px), interpolation=cv2.INTER_LINEAR)
    image = part[:, :, None] * np.array(color, np.float32)
    return Surface(image, image, np.ones((size_px, size_px), np.float32))


@cache
def _read_photograph(name: str) -> np.ndarray:
    return getattr(data, name)()
