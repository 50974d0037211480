"""Whether the surface in the images has a direction that augmentation should keep."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from patchscout.training.structure import gaussian_blur, grey, sobel_gradients

DIRECTED = 0.4
"""Anisotropy from which on a surface counts as directed: ground, brushed or woven one way."""


def anisotropy(images: Iterable[Float[Tensor, "3 height width"]]) -> float:
    """Return how far the gradients of images agree in direction: 0 not at all, 1 entirely.

    This is (a - b) / (a + b) with the eigenvalues a >= b of the structure tensor of the slightly
    blurred luma, averaged over all images, each of which weighs alike.

    References:
        Coherence of the structure tensor (Bigün & Granlund, ICCV 1987).
    """
    total = torch.zeros(2, 2)
    for image in images:
        gradients = sobel_gradients(gaussian_blur(grey(image[None])))[0].flatten(1)
        tensor = gradients @ gradients.T
        total += tensor / tensor.trace().clamp_min(1e-8)
    low, high = torch.linalg.eigvalsh(total).tolist()
    return (high - low) / max(high + low, 1e-8)
