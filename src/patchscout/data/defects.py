"""Defects drawn into the surfaces of the embedded sample: scratch, stain, chip, misprint."""

from __future__ import annotations

import cv2
import numpy as np

from patchscout.data.backgrounds import noise
from patchscout.types import Image, Mask

_SUPERSAMPLING = 4
_STAIN_TINTS = np.array([[0.78, 0.79, 0.80], [0.93, 0.81, 0.74], [1.20, 1.22, 1.24]], np.float32)


def scratch(surface: Image, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Return the surface with a thin, slightly curved scratch, lighter or darker than it."""
    size_px = len(surface)
    center = _center(surface, rng)
    heading = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(heading), np.sin(heading)])
    across = np.array([-along[1], along[0]])
    steps = np.linspace(-1, 1, 40)[:, None]
    length, bend, wave = rng.uniform(0.12, 0.25), rng.uniform(-0.06, 0.06), rng.uniform(-0.01, 0.01)
    path = center + size_px * (
        length * steps * along + (bend * steps**2 + wave * np.sin(5 * steps)) * across
    )
    canvas = np.zeros((size_px * _SUPERSAMPLING,) * 2, np.float32)
    for start, stop, step in zip(path[:-1], path[1:], steps[:-1, 0], strict=True):
        width = rng.uniform(0.8, 1.0) * (1 - 0.6 * step**2) * 2.2 * size_px / 256
        ends = [
            tuple(np.rint(point * _SUPERSAMPLING).astype(int).tolist()) for point in (start, stop)
        ]
        cv2.line(canvas, ends[0], ends[1], 1.0, max(round(width * _SUPERSAMPLING), 1))
    cover = cv2.resize(canvas, (size_px, size_px), interpolation=cv2.INTER_AREA)
    strength = np.clip(1 + 0.3 * noise(size_px, rng, finest_px=8), 0.4, 1.4)
    change = rng.choice([-1, 1]) * rng.uniform(1.3, 1.8) * surface.std()
    image = surface + (cover * strength * change)[:, :, None]
    return image.astype(np.float32), cover > 0.3


def stain(surface: Image, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Return the surface with an irregular, mottled stain: damp, rust or lime."""
    size_px = len(surface)
    height = _blob(surface, rng, radius=rng.uniform(0.07, 0.13), roughness=0.45, finest_px=6)
    inside = np.clip(height / 0.25 + 0.5, 0, 1)
    rim = np.exp(-(((height - 0.15) / 0.1) ** 2))
    tint = _STAIN_TINTS[rng.integers(len(_STAIN_TINTS))]
    depth = inside * (0.75 + 0.2 * noise(size_px, rng, finest_px=4) + 0.3 * rim)
    image = surface * (1 + np.clip(depth, 0, 1.3)[:, :, None] * (tint - 1))
    return image.astype(np.float32), inside > 0.5


def chip(surface: Image, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Return the surface with a piece broken out: rough and darker, one edge catching the light."""
    size_px = len(surface)
    height = _blob(surface, rng, radius=rng.uniform(0.03, 0.06), roughness=0.5, finest_px=4)
    inside = np.clip(height / 0.3 + 0.5, 0, 1)
    depth = cv2.GaussianBlur(inside, (0, 0), size_px / 256)
    slope_y, slope_x = np.gradient(depth)
    source = rng.uniform(0, 2 * np.pi)
    edge = (np.cos(source) * slope_x + np.sin(source) * slope_y) * 0.7 * size_px / 256
    rough = 1 + 0.12 * noise(size_px, rng, finest_px=2)
    inner = cv2.GaussianBlur(surface, (0, 0), 0.03 * size_px) * (0.78 * rough)[:, :, None]
    image = surface + inside[:, :, None] * (inner - surface) + edge[:, :, None]
    return image.astype(np.float32), inside > 0.3


def misprint(surface: Image, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Return the surface with a patch that is turned and of another scale, in the same colors.

    Mean and contrast are those of what was there, so that only the structure tells.
    """
    size_px = len(surface)
    height = _blob(surface, rng, radius=rng.uniform(0.08, 0.12), roughness=0.25, finest_px=16)
    inside = np.clip(height / 0.1 + 0.5, 0, 1)[:, :, None]
    mask = inside[:, :, 0] > 0.5
    rows, columns = np.nonzero(mask)
    turn = cv2.getRotationMatrix2D(
        (float(columns.mean()), float(rows.mean())), rng.choice([-90, 90]), rng.uniform(0.5, 0.6)
    )
    smooth = cv2.GaussianBlur(surface, (0, 0), 0.7)  # since it is made smaller
    other = cv2.warpAffine(smooth, turn, (size_px, size_px), borderMode=cv2.BORDER_REFLECT)
    was, now = surface[mask], other[mask]
    other = (other - now.mean(axis=0)) * (was.std(axis=0) / now.std(axis=0)) + was.mean(axis=0)
    return (surface + inside * (other - surface)).astype(np.float32), mask


def _center(surface: Image, rng: np.random.Generator) -> np.ndarray:
    """Return (x, y) in pixels of a place for a defect, away from the image's border."""
    size_px = len(surface)
    margin = size_px // 7
    row, column = divmod(rng.integers((size_px - 2 * margin) ** 2), size_px - 2 * margin)
    return np.array([column, row]) + margin


def _blob(
    surface: Image, rng: np.random.Generator, *, radius: float, roughness: float, finest_px: int
) -> np.ndarray:
    """Return a landscape that is above 0 in one irregular island, as fractions of its radius.

    Args:
        surface: Where the island may be.
        rng: Where the randomness comes from.
        radius: About that of the island, as a fraction of the image's side.
        roughness: How far the shore strays, as a fraction of the radius.
        finest_px: The smallest scale of the shore in pixels.
    """
    size_px = len(surface)
    x, y = _center(surface, rng)
    rows, columns = np.mgrid[:size_px, :size_px]
    heading, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.6)
    along = (columns - x) * np.cos(heading) + (rows - y) * np.sin(heading)
    across = (rows - y) * np.cos(heading) - (columns - x) * np.sin(heading)
    distance = np.hypot(along / stretch, across * stretch) / (radius * size_px)
    white = rng.standard_normal((size_px, size_px), np.float32)
    coast = cv2.GaussianBlur(white, (0, 0), finest_px)
    coast = coast / coast.std() + noise(size_px, rng, finest_px=max(size_px // 16, 2))
    return 1 - distance + roughness * np.clip(coast / 2, -0.9, 0.9)
