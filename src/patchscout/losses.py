"""The predictor's losses."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Logits = Float[Tensor, "batch height width"]


def weighted_cross_entropy(logits: Logits, target: Logits, normal_weight: float) -> Tensor:
    """Return the mean binary cross-entropy with weight 1 on anomalous pixels, alpha on normal.

    Args:
        logits: Predicted log odds.
        target: 1 on anomalous pixels, else 0.
        normal_weight: alpha in [0, 1].

    References:
        arXiv 2511.20270, predictor loss.
    """
    weight = target + normal_weight * (1 - target)
    return F.binary_cross_entropy_with_logits(logits, target, weight)


def dice_loss(logits: Logits, target: Logits) -> Tensor:
    """Return one minus the soft Dice coefficient, pooled over the batch."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + target.sum() + 1)


def hardest_cross_entropy(logits: Logits, target: Logits, share: float) -> Tensor:
    """Return the mean binary cross-entropy of the hardest pixels of each image.

    Args:
        logits: Predicted log odds.
        target: 1 on anomalous pixels, else 0.
        share: Of the pixels of an image, in (0, 1]; one pixel at least.

    References:
        Wu, Shen and van den Hengel, arXiv 1604.04339: online bootstrapping.
    """
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1)
    return each.topk(max(1, round(share * each.shape[1])), dim=1).values.mean()
