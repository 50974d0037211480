"""AUROC, AP, F1_max and F1 at a threshold from counts in bins, for many sets of images at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Num

BinnedCounts = Num[np.ndarray, "sets bins"]
Figures = Num[np.ndarray, "sets"]


def binned_metrics(
    normal: BinnedCounts, anomalous: BinnedCounts, threshold_bin: int
) -> dict[str, Figures]:
    """Return the figures of each set of counts.

    Within a bin, anomalous and normal entries are taken to be evenly mixed. AP is the sum over
    bins of the gain in recall times the precision in the middle of the bin, F1_max the largest F1
    at an edge, and AUROC the share of pairs in the right order, those within a bin counting half.
    All are nan where a class is absent.

    Args:
        normal: Normal entries in each bin, bins ascending.
        anomalous: Anomalous entries likewise.
        threshold_bin: The first bin at or above the decision threshold.

    Example:
        >>> figures = binned_metrics(np.array([[2, 1, 0]]), np.array([[0, 1, 1]]), 2)
        >>> {name: round(float(values[0]), 3) for name, values in figures.items()}
        {'auroc': 0.917, 'ap': 0.875, 'f1_max': 0.8, 'f1_at_threshold': 0.667}
    """
    hits = np.cumsum(anomalous[..., ::-1], axis=-1, dtype=np.float64)
    false = np.cumsum(normal[..., ::-1], axis=-1, dtype=np.float64)
    num_anomalous, num_normal = hits[..., -1], false[..., -1]
    new_hits = np.diff(hits, axis=-1, prepend=0)
    new_false = np.diff(false, axis=-1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mid_hits, mid_false = hits - new_hits / 2, false - new_false / 2
        precision = np.nan_to_num(mid_hits / (mid_hits + mid_false))
        f1 = 2 * hits / (hits + false + num_anomalous[..., None])
        num_below = num_normal[..., None] - false + new_false / 2
        defined = np.where((num_anomalous > 0) & (num_normal > 0), 1.0, np.nan)
        return {
            "auroc": defined * (new_hits * num_below).sum(axis=-1) / num_anomalous / num_normal,
            "ap": defined * (new_hits * precision).sum(axis=-1) / num_anomalous,
            "f1_max": defined * f1.max(axis=-1),
            "f1_at_threshold": defined * f1[..., f1.shape[-1] - 1 - threshold_bin],
        }


def weighted_auroc(
    scores: Num[np.ndarray, "images"],
    is_anomalous: Bool[np.ndarray, "images"],
    weights: Num[np.ndarray, "sets images"],
) -> Num[np.ndarray, "sets"]:
    """Return the image AUROC of each set, in which an image counts as often as its weight says."""
    values, place = np.unique(scores, return_inverse=True)
    one_hot = np.zeros((len(scores), len(values)))
    one_hot[np.arange(len(scores)), place] = 1
    normal = (weights * ~is_anomalous) @ one_hot
    anomalous = (weights * is_anomalous) @ one_hot
    return binned_metrics(normal, anomalous, 0)["auroc"]
