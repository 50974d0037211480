"""What was found in an image: its map, its mask, its regions, and whether it is defective."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from patchscout.decision import Decision
from patchscout.types import AnomalyMap, Mask, check_probabilities


class Region(NamedTuple):
    """Connected pixels of a mask, in pixels of the image.

    Attributes:
        x: Left edge of the box around it.
        y: Upper edge.
        width: Width of the box.
        height: Height of the box.
        area_px: Number of its pixels.
        length_px: Largest distance between two of its pixels, both included: a straight line of
            ten pixels is 10 long.
        peak: Largest value of the anomaly map in it.
    """

    x: int
    y: int
    width: int
    height: int
    area_px: int
    length_px: float
    peak: float


@dataclass(frozen=True)
class Prediction:
    """What was found in one image, at the image's own size.

    Attributes:
        anomaly_map: (height, width) float32 in [0, 1].
        pred_mask: (height, width) bool, where the map reaches the pixel threshold.
        image_score: See `decision.image_score`.
        decision: The thresholds and rules that were applied.
        unlike_training: What of the whole image is unlike the normal training images, see `drift`.
    """

    anomaly_map: AnomalyMap
    pred_mask: Mask
    image_score: float
    decision: Decision
    unlike_training: tuple[str, ...] = ()

    @property
    def pred_score(self) -> float:
        """The probability that the image is defective, were half of all images so."""
        return self.decision.probability(self.image_score)

    @property
    def is_anomalous(self) -> bool:
        """Whether the score reaches the image threshold, and a region is as large as the rules."""
        asked = self.decision.asked
        if self.image_score < self.decision.image_threshold:
            return False
        area_px, length_px = asked.min_area_px, asked.min_length_px
        return not asked.has_rules or any(
            region.area_px >= area_px and region.length_px >= length_px for region in self.regions
        )

    @cached_property
    def regions(self) -> list[Region]:
        """The regions of the mask, the largest first."""
        return find_regions(self.pred_mask, self.anomaly_map)


def make_prediction(
    anomaly_map: AnomalyMap,
    image_score: float,
    decision: Decision,
    unlike_training: tuple[str, ...] = (),
) -> Prediction:
    """Apply a decision to an anomaly map at the image's own size and the score of the image.

    Raises:
        InputValueError: If either has values that are not finite or outside of [0, 1].
    """
    check_probabilities(anomaly_map)
    check_probabilities(np.array([image_score]))
    pred_mask = anomaly_map >= decision.pixel_threshold
    return Prediction(anomaly_map, pred_mask, float(image_score), decision, unlike_training)


def find_regions(pred_mask: Mask, anomaly_map: AnomalyMap) -> list[Region]:
    """Return the connected regions of a mask.

    Pixels that touch at an edge or a corner belong together (8-connectivity), as in
    `metrics.aupro`. The largest region is first; those of one size are in reading order.

    Example:
        >>> mask = np.array([[True, False, False], [False, False, True]])
        >>> [region[:6] for region in find_regions(mask, mask.astype(np.float32))]
        [(0, 0, 1, 1, 1, 1.0), (2, 1, 1, 1, 1, 1.0)]
    """
    if not pred_mask.any():
        return []
    pixels = pred_mask.astype(np.uint8)
    count, found, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    labels = np.asarray(found, dtype=np.int32)
    peaks = np.zeros(count, dtype=np.float32)
    np.maximum.at(peaks, labels[pred_mask], anomaly_map[pred_mask])
    lengths = [0.0] * count
    outlines, levels = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for outline, (*_, parent) in zip(outlines, levels[0], strict=True):
        if parent < 0:  # around a region, not a hole in one
            x, y = outline[0, 0].tolist()
            lengths[int(labels[y, x])] = _length(outline)
    regions = [
        Region(x, y, width, height, area, lengths[label], float(peaks[label]))
        for label, (x, y, width, height, area) in enumerate(stats.tolist())
        if label > 0  # the background
    ]
    return sorted(regions, key=lambda region: (-region.area_px, region.y, region.x))


def _length(outline: np.ndarray) -> float:
    """Return the largest distance between two points of an outline, and 1 for their own size."""
    if len(outline) == 1:
        return 1.0
    corners = cv2.convexHull(outline)[:, 0].astype(np.float64)
    return 1 + max(float(np.linalg.norm(corners - one, axis=1).max()) for one in corners)
