"""Which patches help the predictor: the part of R_pred that differs between walkers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

Weights = Mapping[str, Tensor]

STEP = 1e-2
"""Length of the trial step, as a share of the length of all weights."""

LEAST_SPREAD = 1e-5
"""Patches differ if their changes of loss spread by more than this share of their losses: a hundred
times what float32 rounds, and a fraction of what patches of the faintest texture have."""


@torch.no_grad()
def patch_credit(
    losses: Callable[[Weights], Float[Tensor, " patches"]], weights: Weights, gradient: Weights
) -> Float[Tensor, " patches"]:
    """Return how much an autoencoder step on each patch would lower the predictor's loss.

    To first order, a step of gradient descent on patch i, whose reconstruction loss has gradient
    g_i, changes the predictor's loss by a negative multiple of g_i . g, where g is the gradient of
    the predictor's loss with respect to the autoencoder's weights. The product is the slope of the
    patch's loss along g, measured here for all patches at once by a trial step along g.

    Args:
        losses: The reconstruction loss of each patch under given weights, such as by
            `torch.func.functional_call` of the autoencoder in evaluation mode.
        weights: The weights as they are, by name.
        gradient: g, by the same names.

    Returns:
        g_i . g, less its mean over the patches and over its standard deviation; 0 if they
        differ by rounding alone.

    References:
        TracIn (Pruthi et al., NeurIPS 2020) traces the influence of a training example likewise.
    """
    before = losses(weights)
    length = torch.stack([weight.norm() for weight in weights.values()]).norm()
    slope = torch.stack([part.norm() for part in gradient.values()]).norm()
    if not slope > 0 or not len(before):
        return torch.zeros_like(before)
    scale = STEP * length / slope
    after = losses({name: weight + scale * gradient[name] for name, weight in weights.items()})
    change = after - before
    change = change - change.mean()
    spread = change.std(correction=0)
    differs = spread > LEAST_SPREAD * (before + after).mean()
    return (change / spread).where(differs, 0.0)
