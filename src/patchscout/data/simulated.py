"""Defects simulated in normal images: for types never seen, and for people without labels.

A random shape is filled with what does not belong there: another place of another image, the same
place lighter or darker, or a color. Nothing is known of real defects; the predictor only learns
that what differs from its surroundings in an unusual way, in loss profile or color, is a defect.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Image = Float[Tensor, "3 height width"]
Mask = Bool[Tensor, "height width"]

VISIBLE = 0.03
"""Change of a pixel, as a fraction of the range, from which on it counts as anomalous."""


def simulate_defect(image: Image, other: Image, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Return a normal image with a simulated defect, and the defect's mask.

    The mask holds the pixels that were visibly changed, so it may be empty.

    Args:
        image: A normal image in [0, 1].
        other: Another one of the same size, from which texture and colors are taken.
        rng: Where the randomness comes from.

    References:
        DRAEM (Zavrtanik et al., ICCV 2021) simulates defects by textures behind Perlin noise;
        CutPaste (Li et al., CVPR 2021) by misplaced parts of the image itself.
    """
    shape = _pick(rng, SHAPES)(image, rng)
    filling = _pick(rng, FILLINGS)(image, other, rng)
    if _is_grey(image):
        filling = filling.mean(dim=0, keepdim=True).expand_as(image)
    change = (image + rng.uniform(0.25, 1.0) * (filling - image)).clamp(0, 1) - image
    mask = shape & (change.abs().amax(dim=0) > VISIBLE)
    opacity = mask[None].float()
    if rng.random() < 0.7:
        opacity = F.avg_pool2d(opacity, 3, 1, 1, count_include_pad=False)
    return (image + opacity * change).clamp(0, 1), mask


def _pick(rng: np.random.Generator, choices: list[tuple[float, Callable]]) -> Callable:
    """Return one of several functions, each with its probability."""
    return choices[rng.choice(len(choices), p=[probability for probability, _ in choices])][1]


def _is_grey(image: Image) -> bool:
    return bool((image.amax(dim=0) - image.amin(dim=0)).max() < 0.02)


def _noise(image: Image, cells: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Return smooth noise of about unit spread with about so many bumps along each side."""
    bumps = rng.standard_normal((1, 1, max(2, cells[0]), max(2, cells[1])))
    grid = torch.from_numpy(bumps).float().to(image.device)
    return F.interpolate(grid, size=image.shape[1:], mode="bicubic", align_corners=False)[0, 0]


def _spots(image: Image, rng: np.random.Generator) -> Mask:
    """Return the peaks of fine noise where coarse noise peaks too: spots, streaks, patches."""
    height, width = image.shape[1:]
    fineness = 2 ** rng.uniform(1, 5.5)
    stretch = 2 ** rng.uniform(-1, 1) if rng.random() < 0.5 else 1.0
    cells = (round(fineness * stretch), round(fineness / stretch * width / height))
    coarse = round(2 ** rng.uniform(1, 3))
    return _peaks(_noise(image, cells, rng), rng.uniform(0.5, 0.95)) & _peaks(
        _noise(image, (coarse, coarse), rng), rng.uniform(0.6, 0.95)
    )


def _peaks(noise: Tensor, quantile: float) -> Mask:
    return noise > torch.quantile(noise.flatten()[::7], quantile)


def _blobs(image: Image, rng: np.random.Generator) -> Mask:
    """Return one to three ragged blobs."""
    height, width = image.shape[1:]
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 4)):
        radius = min(height, width) * 2 ** rng.uniform(-7, -2.5)
        center = rng.uniform((0, 0), (width, height))
        angle = np.sort(rng.uniform(0, 2 * np.pi, 12))[:, None]
        distance = radius * rng.uniform(0.5, 1.3, (12, 1))
        outline = center + distance * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        cv2.fillPoly(canvas, [np.rint(outline).astype(np.int32)], 1)
    return torch.from_numpy(canvas.astype(bool)).to(image.device)


def _scratches(image: Image, rng: np.random.Generator) -> Mask:
    """Return one or two winding lines."""
    height, width = image.shape[1:]
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 3)):
        num_steps = rng.integers(4, 12)
        heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.35, (num_steps, 1)).cumsum(axis=0)
        stride = min(height, width) * rng.uniform(0.02, 0.06, (num_steps, 1))
        steps = stride * np.concatenate([np.cos(heading), np.sin(heading)], axis=1)
        path = rng.uniform((0, 0), (width, height)) + steps.cumsum(axis=0)
        thickness = int(rng.integers(1, max(2, min(height, width) // 50) + 1))
        cv2.polylines(canvas, [np.rint(path).astype(np.int32)], False, 1, thickness)
    return torch.from_numpy(canvas.astype(bool)).to(image.device)


def _misplaced(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Return another image, moved around and sometimes turned and recolored."""
    shifts = (int(rng.integers(image.shape[1])), int(rng.integers(image.shape[2])))
    filling = torch.roll(other, shifts, (1, 2))
    if rng.random() < 0.5:
        filling = filling.flip(1)
    if rng.random() < 0.5:
        is_square = image.shape[1] == image.shape[2]
        filling = torch.rot90(filling, 1, (1, 2)) if is_square else filling.flip(2)
    if rng.random() < 0.5:
        filling = filling * _tint(image, 0.5, 1.6, rng)
    return filling


def _lighter_or_darker(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Return the image, or its mean color, lighter or darker."""
    flat = image.mean(dim=(1, 2), keepdim=True).expand_as(image)
    base = image if rng.random() < 0.7 else flat
    return base * (1 + float(rng.choice([-1, 1])) * rng.uniform(0.15, 0.7))


def _own_color(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Return a slightly mottled color near one that normal images have."""
    row, column = rng.integers(other.shape[1]), rng.integers(other.shape[2])
    color = other[:, row, column, None, None] * _tint(image, 0.6, 1.4, rng)
    return _mottled(image, color, rng.uniform(0, 0.15), rng)


def _any_color(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """Return any color, or any grey, mottled."""
    color = _tint(image, 0.0, 1.0, rng)
    if rng.random() < 0.5:
        color = color.mean().expand(3, 1, 1)
    return _mottled(image, color, rng.uniform(0, 0.3), rng)


def _tint(
    image: Image, low: float, high: float, rng: np.random.Generator
) -> Float[Tensor, "3 1 1"]:
    return torch.from_numpy(rng.uniform(low, high, (3, 1, 1))).float().to(image.device)


def _mottled(
    image: Image, color: Float[Tensor, "3 1 1"], strength: float, rng: np.random.Generator
) -> Image:
    cells = math.floor(2 ** rng.uniform(2, 6))
    return (color + strength * _noise(image, (cells, cells), rng)).expand_as(image)


SHAPES = [(0.6, _spots), (0.2, _blobs), (0.2, _scratches)]
"""Shapes of defects, each with its probability."""

FILLINGS = [
    (0.35, _misplaced),
    (0.25, _lighter_or_darker),
    (0.2, _own_color),
    (0.2, _any_color),
]
"""What defects are filled with, each with its probability."""
