"""How well anomaly maps and scores tell anomalous from normal: AUROC, AP, F1_max, AUPRO.

All figures are exact over all thresholds; `curves.PixelPool` says what memory that takes.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from patchscout.checks import InputValueError
from patchscout.curves import Curve, PixelPool, f1
from patchscout.types import NORMAL

MAX_FPR = 0.3
"""False positive rate up to which AUPRO is taken."""


class BinaryMetrics(NamedTuple):
    """Ranking figures of one set of scores; all nan where one class is absent.

    Attributes:
        auroc: Area under the ROC curve, in [0, 1].
        ap: Average precision, in [0, 1].
        f1_max: The largest F1 that any threshold reaches, in [0, 1].
    """

    auroc: float
    ap: float
    f1_max: float


class MetricAccumulator:
    """Collects test images one by one, of any sizes, and computes all figures at the end."""

    def __init__(self) -> None:
        """Start without images."""
        self._pixels: dict[str, PixelPool] = {}
        self._image_scores: dict[str, list[float]] = {}
        self._num_without_mask: Counter[str] = Counter()

    def update(
        self,
        anomaly_map: np.ndarray,
        gt_mask: np.ndarray | None,
        image_score: float,
        defect_type: str,
    ) -> None:
        """Add one image.

        Args:
            anomaly_map: (height, width) scores, higher is more anomalous.
            gt_mask: (height, width) bool, True on anomalous pixels; None where it is not known, and
                then the image counts in no figure of pixels.
            image_score: The score of the image.
            defect_type: `"good"` for a normal image; image figures go by this, not by the mask.

        Raises:
            InputValueError: If map and mask differ in size or a score is not a finite number.
        """
        if not math.isfinite(image_score):
            raise InputValueError(f"`image_score` must be a finite number; got {image_score}.")
        if gt_mask is None:
            self._num_without_mask[defect_type] += 1
        else:
            self._pixels.setdefault(defect_type, PixelPool()).add(anomaly_map, gt_mask)
        self._image_scores.setdefault(defect_type, []).append(float(image_score))

    def compute(self, threshold: float) -> dict[str, Any]:
        """Return all figures of the images so far.

        Args:
            threshold: The pixel threshold.

        Returns:
            `pixel_threshold`; `num_images` and, of these, `num_anomalous`, of which
            `num_without_mask` are in no figure of pixels; the figures `pixel_auroc`, `pixel_ap`,
            `pixel_f1_max`, `pixel_aupro`, `pixel_f1_at_threshold`, `image_auroc`, `image_ap` and
            `image_f1_max`, pooled over all images; and `per_defect_type`, which holds the same for
            the images of each type together with all normal ones. A figure that is not defined is
            None, so that the result can be written as JSON.
        """
        defect_types = sorted(self._image_scores.keys() - {NORMAL})
        return {
            "pixel_threshold": float(threshold),
            **self._figures(defect_types, threshold),
            "per_defect_type": {
                defect_type: self._figures([defect_type], threshold) for defect_type in defect_types
            },
        }

    def _figures(self, defect_types: list[str], threshold: float) -> dict[str, Any]:
        """Return the figures of some defect types against the normal images."""
        pools = [self._pixels[name] for name in [NORMAL, *defect_types] if name in self._pixels]
        curve = Curve.of_pixels(pools)
        pixel = binary_metrics(curve)
        counts = [pool.count(threshold) for pool in pools]
        num_hits = sum(hits for hits, _ in counts)
        num_predicted = num_hits + sum(false for _, false in counts)

        normal = np.array(self._image_scores.get(NORMAL, []), dtype=np.float64)
        anomalous = np.array(
            [score for name in defect_types for score in self._image_scores[name]],
            dtype=np.float64,
        )
        image = binary_metrics(Curve.of_scores(anomalous, normal))
        figures = {
            "pixel_auroc": pixel.auroc,
            "pixel_ap": pixel.ap,
            "pixel_f1_max": pixel.f1_max,
            "pixel_aupro": aupro(curve),
            "pixel_f1_at_threshold": f1(num_hits, num_predicted, curve.num_anomalous),
            "image_auroc": image.auroc,
            "image_ap": image.ap,
            "image_f1_max": image.f1_max,
        }
        return {
            "num_images": len(normal) + len(anomalous),
            "num_anomalous": len(anomalous),
            "num_without_mask": sum(self._num_without_mask[name] for name in defect_types),
            **{name: None if math.isnan(value) else value for name, value in figures.items()},
        }


def binary_metrics(curve: Curve) -> BinaryMetrics:
    """Return AUROC, AP and F1_max over all thresholds; all nan where a class is absent.

    AUROC is the share of pairs of an anomalous and a normal entry that are in the right order,
    ties counting half. AP is the sum over thresholds of (R_n - R_(n-1)) P_n without
    interpolation, as in scikit-learn.

    Example:
        >>> curve = Curve.of_scores(np.array([0.9, 0.3]), np.array([0.8, 0.1]))
        >>> binary_metrics(curve).auroc
        0.75
    """
    if not curve.is_defined:
        return BinaryMetrics(math.nan, math.nan, math.nan)
    new_hits = np.diff(curve.num_hits, prepend=0)
    num_below = curve.num_normal - (curve.num_false_above + curve.num_false) / 2
    auroc = np.dot(new_hits, num_below) / curve.num_anomalous / curve.num_normal
    num_predicted = curve.num_hits + curve.num_false
    ap = np.dot(new_hits, curve.num_hits / num_predicted) / curve.num_anomalous
    return BinaryMetrics(float(auroc), float(ap), float(curve.f1.max()))


def aupro(curve: Curve) -> float:
    """Return the area under the curve of per-region overlap up to `MAX_FPR`, divided by it.

    For each threshold, the overlap is the share of a defect's pixels that reach it, averaged
    over all defects of all images, so that small ones count as much as large ones; the false
    positive rate is the share of all normal pixels, those of defective images too, that reach
    it. Between thresholds the curve is linear. It is nan without a normal or an anomalous pixel.

    References:
        Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.2.
    """
    if not curve.is_defined:
        return math.nan
    # A point just above each threshold and one at it: between them the curve rises straight up,
    # or slants where normal pixels tie with anomalous ones; from one threshold to the next it is
    # level.
    fpr = np.stack([curve.num_false_above, curve.num_false], axis=1).ravel() / curve.num_normal
    overlap = np.stack([np.append(0.0, curve.overlap[:-1]), curve.overlap], axis=1).ravel()
    fpr = np.concatenate([[0.0], fpr, [1.0]])
    overlap = np.concatenate([[0.0], overlap, [1.0]])
    end = int(np.searchsorted(fpr, MAX_FPR))  # the first point at or past the limit
    slope = (overlap[end] - overlap[end - 1]) / (fpr[end] - fpr[end - 1])
    overlap[end] = overlap[end - 1] + slope * (MAX_FPR - fpr[end - 1])
    fpr[end] = MAX_FPR
    area = np.trapezoid(overlap[: end + 1], fpr[: end + 1])
    return min(float(area / MAX_FPR), 1.0)  # rounding of the summed weights may exceed it
