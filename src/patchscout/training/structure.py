"""How much structure there is in an image: Sobel energy, local variance and their fusion."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Maps = Float[Tensor, "batch height width"]

LUMA = (0.299, 0.587, 0.114)
FUSION_WEIGHTS = {"error": 0.7, "variance": 0.1, "sobel": 0.2}
"""Shares of the fused structure map, from the paper."""


def grey(images: Float[Tensor, "batch 3 height width"]) -> Maps:
    """Return the luma (ITU-R BT.601) of RGB images."""
    weights = images.new_tensor(LUMA)
    return torch.einsum("bchw,c->bhw", images, weights)


def sobel_magnitude(maps: Maps) -> Maps:
    """Return the length of the Sobel gradient, borders replicated."""
    across, down = sobel_gradients(maps).unbind(dim=1)
    return torch.hypot(across, down)


def sobel_gradients(maps: Maps) -> Float[Tensor, "batch 2 height width"]:
    """Return the Sobel gradient to the right and down, borders replicated.

    The kernels have weights 1, 2, 1, so a step edge of height 1 answers with 4.
    """
    padded = _padded(maps, 1)
    smooth = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    slope = padded[:, 2:] - padded[:, :-2]
    across = smooth[:, :, 2:] - smooth[:, :, :-2]
    down = slope[:, :, :-2] + 2 * slope[:, :, 1:-1] + slope[:, :, 2:]
    return torch.stack([across, down], dim=1)


def local_variance(maps: Maps) -> Maps:
    """Return the variance of each pixel's 3x3 neighborhood, borders replicated."""
    padded = _padded(maps, 1)
    mean = _box_mean(padded)
    return (_box_mean(padded.square()) - mean.square()).clamp_min(0)


def gaussian_blur(maps: Maps, sigma_px: float = 1.0) -> Maps:
    """Return maps blurred by a Gaussian cut off at three standard deviations."""
    radius = max(1, round(3 * sigma_px))
    weights = [math.exp(-0.5 * (offset / sigma_px) ** 2) for offset in range(-radius, radius + 1)]
    weights = [weight / sum(weights) for weight in weights]
    height, width = maps.shape[-2:]
    padded = _padded(maps, radius)
    rows = _sum(weight * padded[:, i : i + height] for i, weight in enumerate(weights))
    return _sum(weight * rows[:, :, i : i + width] for i, weight in enumerate(weights))


def fused_structure_map(error: Maps, variance: Maps, sobel: Maps) -> Maps:
    """Return F = 0.7 z(error) + 0.1 z(variance) + 0.2 z(sobel), min-max scaled to [0, 1].

    z is the z-score over each image; a constant map counts as 0 everywhere.

    References:
        arXiv 2511.20270, fused structure map.
    """
    fused = (
        FUSION_WEIGHTS["error"] * _z_score(error)
        + FUSION_WEIGHTS["variance"] * _z_score(variance)
        + FUSION_WEIGHTS["sobel"] * _z_score(sobel)
    )
    low = fused.amin(dim=(1, 2), keepdim=True)
    high = fused.amax(dim=(1, 2), keepdim=True)
    return (fused - low) / (high - low).clamp_min(1e-8)


def _z_score(maps: Maps) -> Maps:
    mean = maps.mean(dim=(1, 2), keepdim=True)
    spread = maps.std(dim=(1, 2), keepdim=True)
    return (maps - mean) / spread.clamp_min(1e-8)


def _padded(maps: Maps, margin: int) -> Tensor:
    return F.pad(maps[:, None], (margin,) * 4, mode="replicate")[:, 0]


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)


def _box_mean(padded: Tensor) -> Tensor:
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9
