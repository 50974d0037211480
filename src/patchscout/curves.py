"""Counts what ROC, precision-recall and overlap curves are made of.

These curves turn only where the threshold passes the score of an anomalous entry. So those
scores are the only thresholds looked at, and of the normal entries nothing is needed but how
many reach each of them. Counts of several groups of pixels add up, so that overall figures and
those of each defect type share one sort.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float, Int

from patchscout.checks import InputValueError

Scores = Float[np.ndarray, "_"]
Shares = Float[np.ndarray, "thresholds"]
Counts = Int[np.ndarray, "thresholds"]


@dataclass(frozen=True)
class Curve:
    """How many entries of each class reach each threshold.

    Attributes:
        thresholds: (k,) the distinct scores of anomalous entries, descending.
        num_hits: (k,) anomalous entries that reach each threshold.
        num_false: (k,) normal entries that reach it.
        num_false_above: (k,) normal entries above it, without those that tie with it.
        overlap: (k,) the share of a defect that reaches it, mean over defects, in [0, 1].
        num_normal: Normal entries in all.
        num_anomalous: Anomalous entries in all.
    """

    thresholds: Shares
    num_hits: Counts
    num_false: Counts
    num_false_above: Counts
    overlap: Shares
    num_normal: int
    num_anomalous: int

    @classmethod
    def of_scores(cls, anomalous: Scores, normal: Scores) -> Curve:
        """Build the curve of scores that belong to no regions: all are of one.

        Args:
            anomalous: Scores of anomalous entries, in any order.
            normal: Scores of normal entries, likewise.
        """
        ranked = np.sort(anomalous)[::-1]
        overlap = np.arange(1, len(ranked) + 1) / max(len(ranked), 1)
        return cls._of_ranked(ranked, overlap, [np.sort(normal)])

    @classmethod
    def of_pixels(cls, pools: Sequence[PixelPool]) -> Curve:
        """Build the curve over the pixels of several pools."""
        scores = joined([scores for pool in pools for scores in pool.anomalous])
        weights = joined([weights for pool in pools for weights in pool.weights])
        num_regions = sum(pool.num_regions for pool in pools)
        order = np.argsort(scores)[::-1]
        overlap = np.cumsum(weights[order]) / max(num_regions, 1)
        return cls._of_ranked(scores[order], overlap, [pool.sorted_normal() for pool in pools])

    @classmethod
    def _of_ranked(cls, ranked: Scores, overlap: Scores, normal: Sequence[Scores]) -> Curve:
        """Build the curve from descending scores, the overlap at each, and ascending normal."""
        last_of_ties = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
        thresholds = ranked[last_of_ties]
        num_normal = sum(map(len, normal))
        num_below = np.zeros((2, len(thresholds)), dtype=np.int64)
        for scores in normal:
            num_below += [np.searchsorted(scores, thresholds, side) for side in ("left", "right")]
        return cls(
            thresholds=thresholds,
            num_hits=last_of_ties + 1,
            num_false=num_normal - num_below[0],
            num_false_above=num_normal - num_below[1],
            overlap=overlap[last_of_ties],
            num_normal=num_normal,
            num_anomalous=len(ranked),
        )

    @property
    def is_defined(self) -> bool:
        """Whether there is a curve at all: both classes are there."""
        return self.num_normal > 0 and self.num_anomalous > 0

    @property
    def f1(self) -> Shares:
        """(k,) the F1 at each threshold; there must be anomalous entries."""
        return 2 * self.num_hits / (self.num_hits + self.num_false + self.num_anomalous)


@dataclass
class PixelPool:
    """The pixels of some images: scores of the normal ones, scores and weights of the others.

    A pixel's weight is one over the size of its defect, so that the weights of the pixels that
    reach a threshold add up to the overlaps of all defects. A defect is a component of its mask
    under 8-connectivity, as in MVTec's own evaluation code. The pool keeps four bytes for each
    normal pixel, eight while they are sorted, and twelve for each anomalous one: of 500 images
    of 256 x 256 pixels 131 MB, and 262 MB for a moment.
    """

    normal: list[Scores] = field(default_factory=list)
    anomalous: list[Scores] = field(default_factory=list)
    weights: list[Scores] = field(default_factory=list)
    num_regions: int = 0

    def add(self, anomaly_map: np.ndarray, gt_mask: np.ndarray) -> None:
        """Add the pixels of one image: (height, width) scores and bool mask."""
        anomaly_map = np.asarray(anomaly_map, dtype=np.float32)
        check_scores(anomaly_map, gt_mask)
        self.normal.append(np.sort(anomaly_map[~gt_mask]))
        if gt_mask.any():
            num_labels, labels = cv2.connectedComponents(gt_mask.astype(np.uint8), connectivity=8)
            region_of_pixel = labels[gt_mask].astype(np.intp)
            self.anomalous.append(anomaly_map[gt_mask])
            self.weights.append(1.0 / np.bincount(region_of_pixel)[region_of_pixel])
            self.num_regions += num_labels - 1  # label 0 is the background

    def sorted_normal(self) -> Scores:
        """Return the scores of the normal pixels, ascending."""
        if len(self.normal) != 1:
            self.normal = [joined(self.normal)]
            self.normal[0].sort()
        return self.normal[0]

    def count(self, threshold: float) -> tuple[int, int]:
        """Return how many anomalous and how many normal pixels reach `threshold`."""
        num_hits, num_false = (
            sum(int(np.count_nonzero(scores >= threshold)) for scores in group)
            for group in (self.anomalous, self.normal)
        )
        return num_hits, num_false


def joined(arrays: Sequence[Scores]) -> Scores:
    """Return one new array of all entries."""
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.float32)


def f1(num_hits: int, num_predicted: int, num_anomalous: int) -> float:
    """Return 2 TP / (2 TP + FP + FN) in [0, 1]; nan where nothing is anomalous."""
    return 2 * num_hits / (num_predicted + num_anomalous) if num_anomalous else math.nan


def check_scores(preds: np.ndarray, target: np.ndarray) -> None:
    """Refuse scores that cannot be ranked or do not belong to `target`.

    Raises:
        InputValueError: If the sizes differ, `target` is not bool, or a score is not finite.
    """
    if preds.shape != target.shape:
        raise InputValueError(
            f"Scores and ground truth must be of one size; got {preds.shape} and {target.shape}."
        )
    if target.dtype != np.bool_:
        raise InputValueError(f"The ground truth must be of type bool; got {target.dtype}.")
    if not np.isfinite(preds).all():
        raise InputValueError("Scores must be finite numbers; got nan or infinity among them.")
